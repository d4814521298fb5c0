//! Unix sockets whose process has ended. The kernel closes their descriptors without a call, and nothing
//! else told the programs: their entries would stay until the map of connections is full. Which those
//! are stands in one of two maps, whichever the door uses.

use std::collections::HashSet;

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use remora_common::{
    connection::{Connection, unix_key_tgid},
    record::{Close, CloseCause, Kind},
};

/// The kernel side's state of a connection as aya takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct State(Connection);

// SAFETY: `Connection` is `#[repr(C)]` with only integers: any bytes are a value. It is only read from the
// map, never written to it, so its padding is of no concern.
unsafe impl Pod for State {}

/// See the module.
pub struct Orphans {
    connections: HashMap<MapData, u64, State>,
    /// By process and descriptor.
    unix: HashMap<MapData, u64, u64>,
    /// In slots; the first counts them.
    endless: Array<MapData, u64>,
}

impl Orphans {
    pub(super) fn new(connections: Map, unix: Map, endless: Map) -> Result<Self, MapError> {
        let (connections, unix) = (HashMap::try_from(connections)?, HashMap::try_from(unix)?);
        Ok(Self { connections, unix, endless: Array::try_from(endless)? })
    }

    /// Forgets what processes that have ended have left; returns the ends of their connections, which
    /// no record will tell.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub fn forget(&mut self, ended: &HashSet<u32>, mono_ns: u64) -> Result<Vec<Close>, MapError> {
        let mut left = Vec::new();
        for entry in self.unix.iter() {
            let (key, sk) = entry?;
            if ended.contains(&unix_key_tgid(key)) {
                left.push((key, sk));
            }
        }
        for (key, _) in &left {
            // Whoever has the number by now may have closed it.
            let _ = self.unix.remove(key);
        }
        let mut sockets: Vec<u64> = left.into_iter().map(|(_, sk)| sk).collect();
        // The first slot taken is 2, slot 1 the last; then they are taken anew.
        let slots = u64::from(self.endless.len()) - 1;
        for number in 1..=self.endless.get(&0, 0)?.min(slots) {
            sockets.push(self.endless.get(&((number % slots) as u32 + 1), 0)?);
        }
        Ok(sockets.into_iter().filter_map(|sk| self.close(sk, ended, mono_ns)).collect())
    }

    /// Another socket may have the address by now: only if its process is one of `ended`.
    fn close(&mut self, sk: u64, ended: &HashSet<u32>, mono_ns: u64) -> Option<Close> {
        let State(connection) = self.connections.get(&sk, 0).ok()?;
        if !ended.contains(&connection.tgid) {
            return None;
        }
        self.connections.remove(&sk).ok()?;
        Some(Close {
            kind: Kind::Close as u8,
            cause: CloseCause::Gone as u8,
            reserved: [0; 2],
            errno: 0,
            mono_ns,
            conn_id: connection.id,
            pos_rx: connection.pos[0],
            pos_tx: connection.pos[1],
            tgid: connection.tgid,
            tid: connection.tgid,
        })
    }
}
