//! Requests whose both ends are watched: which SERVER exchange is the other end of which CLIENT exchange. Not a byte on the wire says
//! so; it is the same connection, by its addresses, and the same request of it, by where its bytes begin ([`At`]).
//!
//! Addresses mean one connection at a time, within a network namespace those of the loopback device, elsewhere nearly always: where
//! two namespaces have the same pair of addresses in use at once, nothing is joined.

use hashbrown::{HashMap, hash_map::Entry};

use crate::exchange::{At, Role, Started};

/// A request is received this long after it was sent at most. What is older is what was left of another connection with these
/// addresses.
const LONGEST_NS: u64 = 30_000_000_000;

/// One end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    serial: u64,
    netns: u32,
    start_mono_ns: u64,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    client: Option<End>,
    server: Option<End>,
    /// Two connections with these addresses were open at once.
    is_ambiguous: bool,
}

/// Ends that are open.
#[derive(Debug, Default)]
pub(super) struct Joins {
    ends: HashMap<At, Ends, foldhash::fast::RandomState>,
    /// Requests were seen that processes send: before that, no received one has another end.
    has_clients: bool,
}

impl Joins {
    /// An exchange began; the serial of its other end, if that is open, too.
    pub(super) fn started(&mut self, started: &Started) -> Option<u64> {
        let at = started.at?;
        self.has_clients |= started.role == Role::Client;
        if !self.has_clients {
            return None;
        }
        let end = End {
            serial: started.serial,
            netns: started.netns,
            start_mono_ns: started.start_mono_ns,
        };
        let ends = self.ends.entry(at).or_default();
        let (own, other) = match started.role {
            Role::Client => (&mut ends.client, ends.server),
            Role::Server => (&mut ends.server, ends.client),
        };
        // One of the same namespace is what was left of a connection that has ended.
        ends.is_ambiguous |= own.is_some_and(|known| known.netns != end.netns);
        *own = Some(end);
        let other = other.filter(|other| other.is_near(&end))?;
        (!ends.is_ambiguous).then_some(other.serial)
    }

    /// An exchange is not open any more.
    pub(super) fn ended(&mut self, at: At, role: Role, serial: u64) {
        let Entry::Occupied(mut entry) = self.ends.entry(at) else { return };
        let ends = entry.get_mut();
        let own = match role {
            Role::Client => &mut ends.client,
            Role::Server => &mut ends.server,
        };
        if own.is_some_and(|own| own.serial == serial) {
            *own = None;
        }
        if ends.client.is_none() && ends.server.is_none() {
            entry.remove();
        }
    }
}

#[cfg(test)]
impl Joins {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl End {
    fn is_near(&self, other: &Self) -> bool {
        self.start_mono_ns.abs_diff(other.start_mono_ns) < LONGEST_NS
    }
}
