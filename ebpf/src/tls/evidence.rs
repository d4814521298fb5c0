//! What tells of the connection of an object that works on memory: the ciphertext that its thread moves outside of calls.
//!
//! - Read before a call of an object that is not known, and of no other connection: it is the object's, if a record of TLS
//!   stood at its beginning that the call can have understood. That is one of a handshake where the call
//!   moved no plaintext, and else one that is longer than what the call gave out.
//! - Written behind a call of an object that is not known, and of no other such object: it is the object's, if the
//!   connection's first bytes in this direction are a record of a handshake.
//! - Read before a call of an object that is known to be another connection's, on which nothing was read since the object asked for
//!   more, in a record that has exactly the length of what the call gave out: what was known was wrong.
//!
//! What is ambiguous tells nothing. Then the next exchange does, or the bytes are counted as not tied to a connection.

use remora_common::{
    connection::{Connection, tls},
    policy::CIPHERTEXT,
    record::Direction,
};

use super::link::{self, Link, Object};
use crate::{
    moved::{Moved, SOCKET},
    process, scan,
    user::first_bytes,
};

/// Content types of TLS (RFC 8446, 5.1).
const HANDSHAKE: u32 = 22;
const APPLICATION_DATA: u32 = 23;

/// What a record of TLS has beyond its content: at least the tag of an AEAD.
const LEAST_MORE: u64 = 16;
/// TLS 1.3 adds a tag and the type (RFC 8446, 5.2), TLS 1.2 a nonce and a tag (RFC 5288, 3), or the tag alone (RFC 7905, 2).
const EXACTLY_MORE: [u64; 3] = [17, 24, 16];

/// The thread's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Evidence {
    /// The connection that was read since the last call of an object that is not known; none: nothing tells.
    received: Link,
    /// Content type of the record that it began with, and what is in it by its header.
    content_type: u32,
    record_len: u32,
    /// `received` was at its first bytes.
    first: u32,
    /// So was another connection: which one is the object's, nobody knows.
    rivals: u32,
    /// A call was made since.
    over: u32,
    /// More than one object that is not known was called since bytes were written.
    objects: u32,
    /// The latest one, 0: none.
    object: u64,
}

impl Evidence {
    pub const NONE: Self = Self {
        received: Link::NONE,
        content_type: 0,
        record_len: 0,
        first: 0,
        rivals: 0,
        over: 0,
        objects: 0,
        object: 0,
    };

    /// The bytes of `moved` moved on `connection`, whose object is not known.
    #[inline(always)]
    pub fn moved(&mut self, moved: &Moved, connection: &Connection, sk: u64, first: bool) {
        let begins = first_bytes::<SOCKET>(moved);
        if !scan::begins_tls(begins) {
            return;
        }
        let content_type = begins as u32 & 0xff;
        if moved.direction != Direction::Rx as u32 {
            if first && content_type == HANDSHAKE {
                if self.objects == 1 {
                    let object = Object { address: self.object, tgid: moved.tgid.into() };
                    link::propose(&object, sk, connection);
                }
                self.objects = 0;
            }
            return;
        }
        self.rivals = u32::from(self.over == 0 && self.received.sk != 0 && self.received.sk != sk);
        self.received = Link::to(sk, connection);
        self.content_type = content_type;
        // In the order of the network: the high byte comes first.
        self.record_len = (begins >> 24 & 0xff) as u32 * 256 + (begins >> 32 & 0xff) as u32;
        self.first = u32::from(first);
        self.over = 0;
    }

    /// A call of `object`, which is not known, moved nothing on any socket.
    #[inline(always)]
    fn called(&mut self, object: &Object) {
        self.over = 1;
        if self.objects == 0 {
            self.objects = 1;
        } else if self.object != object.address {
            self.objects = 2;
        }
        self.object = object.address;
    }

    /// Whether a call that gave out `len` bytes may have understood what was received.
    #[inline(always)]
    fn agrees(&self, len: u64) -> bool {
        if len == 0 {
            self.content_type == HANDSHAKE
        } else {
            self.content_type != APPLICATION_DATA || u64::from(self.record_len) >= len + LEAST_MORE
        }
    }

    /// Whether a call that gave out `len` bytes cannot but have understood what was received.
    #[inline(always)]
    fn proves(&self, len: u64) -> bool {
        let more = u64::from(self.record_len).wrapping_sub(len);
        len > 0
            && self.content_type == APPLICATION_DATA
            && (more == EXACTLY_MORE[0] || more == EXACTLY_MORE[1] || more == EXACTLY_MORE[2])
    }
}

/// What was said of a connection: no count of bytes comes near.
const TOLD: u32 = u32::MAX;

/// The connection of `object`, a call of which has moved nothing on any socket and given out `len` bytes, if it `receives`;
/// `complete`: nothing of it was missed.
#[inline(always)]
pub fn connection_of(
    evidence: &mut Evidence,
    object: &Object,
    len: u64,
    receives: bool,
    complete: bool,
) -> Option<(u64, &'static mut Connection)> {
    let known = link::known(object);
    let agrees = if let Some((_, connection)) = link::carrying(known) {
        let read = connection.tls & tls::READ;
        if receives && len == 0 {
            connection.tls &= !tls::READ;
        }
        receives && read == 0 && evidence.received.sk != known && evidence.proves(len)
    } else {
        evidence.called(object);
        !receives || evidence.agrees(len)
    };
    let received = evidence.received;
    if agrees
        && evidence.rivals == 0
        && let Some(connection) = received.connection()
        && connection.object == 0
    {
        evidence.received = Link::NONE;
        evidence.objects = 0;
        link::bind(object, received.sk, connection, complete || evidence.first != 0);
        return Some((received.sk, connection));
    }
    link::carrying(known)
}

/// Says of a connection, once, that its process moves ciphertext outside of calls.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
pub fn tell_of_tls(connection: &mut Connection, tgid: u32) {
    if connection.policy == CIPHERTEXT && connection.undecided != TOLD {
        connection.undecided = TOLD;
        process::speaks_tls(tgid);
    }
}
