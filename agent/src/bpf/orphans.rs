//! Unix sockets whose process has ended. The kernel closes their descriptors without a call, and nothing
//! else told the programs: their entries would stay until the maps are full.

use std::collections::HashSet;

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
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
    unix: HashMap<MapData, u64, u64>,
}

impl Orphans {
    pub(super) fn new(connections: Map, unix: Map) -> Result<Self, MapError> {
        Ok(Self { connections: HashMap::try_from(connections)?, unix: HashMap::try_from(unix)? })
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
        let mut closed = Vec::new();
        for (key, sk) in left {
            let tgid = unix_key_tgid(key);
            // Whoever has the number by now may have closed it.
            let _ = self.unix.remove(&key);
            // Another socket may have the address by now.
            let Ok(State(connection)) = self.connections.get(&sk, 0) else { continue };
            if connection.tgid == tgid && self.connections.remove(&sk).is_ok() {
                closed.push(Close {
                    kind: Kind::Close as u8,
                    cause: CloseCause::Gone as u8,
                    reserved: [0; 2],
                    errno: 0,
                    mono_ns,
                    conn_id: connection.id,
                    pos_rx: connection.pos[0],
                    pos_tx: connection.pos[1],
                    tgid,
                    tid: tgid,
                });
            }
        }
        Ok(closed)
    }
}
