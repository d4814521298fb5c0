//! Which connection the object of a TLS library encrypts, once something told it.

use aya_ebpf::{macros::map, maps::LruHashMap};
use remora_common::{connection::Connection, counter::Counter, policy::CIPHERTEXT};

use crate::{
    connection,
    maps::{self, CONNECTIONS},
};

/// A connection as it was when something was found out about it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Link {
    /// Address of its `struct sock`; 0: no connection.
    pub sk: u64,
    id: u64,
}

impl Link {
    pub const NONE: Self = Self { sk: 0, id: 0 };

    #[inline(always)]
    pub fn to(sk: u64, connection: &Connection) -> Self {
        Self { sk, id: connection.id }
    }

    /// The connection, if it is still the same.
    #[inline(always)]
    pub fn connection(self) -> Option<&'static mut Connection> {
        if self.sk == 0 {
            return None;
        }
        let connection = CONNECTIONS.get_ptr_mut(self.sk)?;
        // SAFETY: a map value; preallocated, so never unmapped.
        let connection = unsafe { &mut *connection };
        (connection.id == self.id).then_some(connection)
    }
}

/// What a TLS library has for each connection, by its address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Object {
    pub address: u64,
    pub tgid: u64,
}

/// Connections by object. Nothing tells when an object is freed: the least recently used go. A
/// connection that carries no object yet was proposed ([`propose`]).
#[map]
static TLS_LINKS: LruHashMap<Object, Link> = LruHashMap::with_max_entries(8192, 0);

/// The socket that was found for `object` before, if its connection still carries what it encrypts; 0: none.
///
/// VERIFIER: a function of its own, for its stack, and so that the ways that lead on are one.
#[inline(never)]
pub fn known(object: &Object) -> u64 {
    // SAFETY: the value is copied at once.
    let Some(link) = unsafe { TLS_LINKS.get(object) }.copied() else { return 0 };
    let Some(connection) = link.connection() else { return 0 };
    // A closed socket may live on for a minute, when its object is freed and its address used again.
    if connection.closing != 0 {
        return 0;
    }
    if connection.object == 0 {
        connection::becomes_plaintext(connection, object.address, true);
        let _ = TLS_LINKS.insert(object, Link::to(link.sk, connection), 0);
    }
    if connection.object == object.address { link.sk } else { 0 }
}

/// The connection of the socket at `sk`, 0: none.
#[inline(always)]
pub fn carrying(sk: u64) -> Option<(u64, &'static mut Connection)> {
    if sk == 0 {
        return None;
    }
    // SAFETY: a map value; preallocated, so never unmapped.
    CONNECTIONS.get_ptr_mut(sk).map(|connection| (sk, unsafe { &mut *connection }))
}

/// `connection`, whose TLS begins, is the one of `object` if nothing else is found out until its next call.
#[inline(always)]
pub fn propose(object: &Object, sk: u64, connection: &Connection) {
    // LRU: an insert makes room.
    let _ = TLS_LINKS.insert(object, Link::to(sk, connection), 0);
}

/// From now on `connection` carries what `object` encrypts, and no other one does.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
pub fn bind(object: &Object, sk: u64, connection: &mut Connection, complete: bool) {
    // SAFETY: the value is copied at once.
    if let Some(link) = unsafe { TLS_LINKS.get(object) }.copied()
        && link.sk != sk
        && let Some(other) = link.connection()
        && other.object == object.address
    {
        maps::count(Counter::TlsMismatched);
        connection::becomes_plaintext(other, 0, false);
        other.policy = CIPHERTEXT;
    }
    connection::becomes_plaintext(connection, object.address, complete);
    let _ = TLS_LINKS.insert(object, Link::to(sk, connection), 0);
}
