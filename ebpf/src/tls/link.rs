//! Which connection the object of a TLS library encrypts, once something told it.

use aya_ebpf::{macros::map, maps::LruHashMap};
use remora_common::connection::Connection;

use crate::{connection, maps::CONNECTIONS};

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

/// Connections by object. Nothing tells when an object is freed: the least recently used go.
#[map]
static TLS_LINKS: LruHashMap<Object, Link> = LruHashMap::with_max_entries(8192, 0);

/// What was found for `object` before, if its connection still carries what it encrypts.
#[inline(always)]
pub fn known(object: &Object) -> Option<(u64, &'static mut Connection)> {
    // SAFETY: the value is copied at once.
    let link = *unsafe { TLS_LINKS.get(object) }?;
    let connection = link.connection()?;
    // A closed socket may live on for a minute, when its object is freed and its address used again.
    if connection.object == object.address && connection.closing == 0 {
        Some((link.sk, connection))
    } else {
        None
    }
}

/// From now on `connection` carries what `object` encrypts.
#[inline(always)]
pub fn bind(object: &Object, sk: u64, connection: &mut Connection, complete: bool) {
    connection::becomes_plaintext(connection, object.address, complete);
    // LRU: an insert makes room.
    let _ = TLS_LINKS.insert(object, Link::to(sk, connection), 0);
}
