//! What proves which connection an object of rustls is of: ciphertext that both have.
//!
//! A record proves it if a send begins with it: not the last of a flight, nor a `Finished` of TLS 1.2 behind a `ChangeCipherSpec`.
//! So each record of an object may be the proof, until one is.
//!
//! What a client sends first is encrypted before anything proves its connection. It is taken from where the application has
//! it when the socket sends the record: rustls's streams write to the socket before they give the buffer back, and a
//! buffer that was changed meanwhile is only counted.

use aya_ebpf::{macros::map, maps::LruHashMap};
use remora_common::{
    connection::{Connection, NOT_COUNTED, tls},
    counter::Counter,
    policy::CIPHERTEXT,
    record::{Direction, Source},
};

use super::{RUSTLS_OBJECTS, State};
use crate::{
    connection, emit, maps,
    moved::{Layout, Moved, SOCKET},
    scan,
    tls::link::{Link, Object},
    user::{first_piece, peek, read_user},
};

/// Header of a record (RFC 8446, 5.1), and before the ciphertext that is looked at, the nonce that some records of TLS 1.2
/// begin with (RFC 5288, 3), which is no secret and may be a plain number.
pub(super) const HEADER: u64 = 5;
pub(super) const NONCE: u64 = 8;

/// Bytes of ciphertext, by process: a client and its server may be on one host.
#[repr(C)]
#[derive(Clone, Copy)]
struct Cipher {
    word: u64,
    tgid: u64,
}

/// A record that was not sent yet, of an object whose connection is not known, and its plaintext if that is the application's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Unsent {
    object: u64,
    /// Of the object: another one may get its place.
    born_ns: u64,
    base: u64,
    len: u64,
    /// Bytes of application data behind those.
    rest: u64,
    /// What stands at the beginning, in the middle and at the end.
    samples: [u64; 3],
    begin_ns: u64,
}

/// More plaintext does not wait for a socket: rustls takes 64 KiB unless it is told otherwise.
const MOST_WAITING: u64 = 1 << 20;

/// Connections by the ciphertext that was received on them.
#[map]
static RUSTLS_RECEIVED: LruHashMap<Cipher, Link> = LruHashMap::with_max_entries(2048, 0);

#[map]
static RUSTLS_UNSENT: LruHashMap<Cipher, Unsent> = LruHashMap::with_max_entries(1024, 0);

/// Processes that have called one of the functions.
#[map]
static RUSTLS_PROCESSES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1024, 0);

/// One more record of plaintext of an object for which such a record waits. `false`: none waits any more, and this one is to be the first.
#[inline(never)]
pub(super) fn wait(state: &mut State, total: u64, tgid: u32) -> bool {
    let key = Cipher { word: state.proof, tgid: tgid.into() };
    if let Some(unsent) = RUSTLS_UNSENT.get_ptr_mut(key) {
        // SAFETY: a map value; only the thread that has the object writes to it.
        let unsent = unsafe { &mut *unsent };
        if unsent.rest < MOST_WAITING {
            unsent.rest += total;
            return true;
        }
        let _ = RUSTLS_UNSENT.remove(key);
    }
    // It was sent behind something else, or forgotten among others.
    maps::count(Counter::TlsUnlinked);
    state.proof = 0;
    state.whole = 0;
    false
}

/// A record that `object` made, which begins with `record`. Of the application's plaintext it has `len` bytes at `base` and `rest` more. `false`: it
/// cannot be read.
#[inline(always)]
pub(super) fn await_proof(
    state: &mut State,
    object: &Object,
    record: u64,
    (base, len): (u64, u64),
    rest: u64,
) -> bool {
    let Some(word) = read_user::<u64>(record.wrapping_add(HEADER + NONCE)) else { return false };
    if len > 0 {
        state.proof = word;
    }
    let unsent = Unsent {
        object: object.address,
        born_ns: state.born_ns,
        base,
        len,
        rest,
        samples: samples(base, len),
        begin_ns: emit::now(),
    };
    let _ = RUSTLS_UNSENT.insert(Cipher { word, tgid: object.tgid }, unsent, 0);
    true
}

/// `object` is given a record that begins, behind its header, at `base`: if the connection that it came on is known, so is
/// the object's.
#[inline(always)]
pub(super) fn by_received(state: &mut State, object: &Object, base: u64) {
    let Some(word) = read_user::<u64>(base.wrapping_add(NONCE)) else { return };
    let key = Cipher { word, tgid: object.tgid };
    // SAFETY: the value is copied at once.
    let Some(link) = (unsafe { RUSTLS_RECEIVED.get(key) }).copied() else { return };
    let _ = RUSTLS_RECEIVED.remove(key);
    if let Some(connection) = link.connection() {
        prove(state, object, link.sk, connection);
    }
}

/// A process calls functions of rustls.
#[inline(always)]
pub(super) fn note(tgid: u64) {
    let _ = RUSTLS_PROCESSES.insert(tgid as u32, 1, 0);
}

/// The connection of `object` is known.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
fn prove(state: &mut State, object: &Object, sk: u64, connection: &mut Connection) {
    link(state, object, sk, connection);
}

#[inline(always)]
fn link(state: &mut State, object: &Object, sk: u64, connection: &mut Connection) {
    if connection.object == 0 {
        connection::becomes_plaintext(connection, object.address, state.whole != 0);
    }
    state.link = Link::to(sk, connection);
    state.proof = 0;
}

/// Bytes moved on the socket `sk`, which may be records of rustls that prove whose connection it is. Where they are the first of
/// an object, `moved` is their plaintext afterwards.
#[inline(always)]
pub fn carried(moved: &mut Moved, connection: &mut Connection, sk: u64) {
    let word = noted(moved, connection, sk);
    if word != 0 {
        sent(moved, connection, sk, word);
    }
}

/// Takes note of what was received; of what was sent it returns the ciphertext that a record waits for, 0: none does.
///
/// VERIFIER: a function of its own, so that what comes after it is verified once. It calls none, nor does it return a connection:
/// the doors' stacks are nearly full.
#[inline(never)]
fn noted(moved: &Moved, connection: &Connection, sk: u64) -> u64 {
    // SAFETY: the value is not looked at.
    if unsafe { RUSTLS_PROCESSES.get(moved.tgid) }.is_none() {
        return 0;
    }
    let (base, len) = first_piece::<SOCKET>(moved);
    if moved.direction == Direction::Rx as u32 {
        received(base, len, Link::to(sk, connection), moved.tgid);
        return 0;
    }
    let word = read_user::<u64>(base.wrapping_add(HEADER + NONCE)).unwrap_or(0);
    let key = Cipher { word, tgid: moved.tgid.into() };
    // SAFETY: the value is not looked at.
    if unsafe { RUSTLS_UNSENT.get(key) }.is_some() { word } else { 0 }
}

/// Whether [`carried`] should look at bytes of `connection`.
#[inline(always)]
pub fn may_prove(connection: &Connection, direction: u32) -> bool {
    let proved = if direction == Direction::Rx as u32 { tls::RX_PROVED } else { tls::TX_PROVED };
    (connection.object != 0 || connection.policy == CIPHERTEXT) && connection.tls & proved == 0
}

/// Takes note of the records that begin in these bytes.
#[inline(always)]
fn received(base: u64, len: u64, link: Link, tgid: u32) {
    const RECORDS: u32 = 8;
    let mut at = 0u64;
    let mut record = 0;
    while record < RECORDS && at + HEADER + NONCE + 8 <= len {
        let Some(header) = peek(base.wrapping_add(at), 8) else { return };
        if !scan::begins_tls(header) && header as u8 != 20 {
            return;
        }
        if let Some(word) = read_user::<u64>(base.wrapping_add(at + HEADER + NONCE)) {
            let _ = RUSTLS_RECEIVED.insert(Cipher { word, tgid: tgid.into() }, link, 0);
        }
        at += HEADER + (header >> 24 & 0xff) * 256 + (header >> 32 & 0xff);
        record += 1;
    }
}

/// The record with `word` is sent, which waits.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
fn sent(moved: &mut Moved, connection: &mut Connection, sk: u64, word: u64) {
    let mut key = Cipher { word, tgid: moved.tgid.into() };
    let Some(unsent) = RUSTLS_UNSENT.get_ptr_mut(key) else { return };
    // SAFETY: a map value, read at once.
    let (object, born_ns) = unsafe { ((*unsent).object, (*unsent).born_ns) };
    let object = Object { address: object, tgid: key.tgid };
    let _ = RUSTLS_UNSENT.remove(key);
    let Some(state) = RUSTLS_OBJECTS.get_ptr_mut(object) else { return };
    // SAFETY: a map value; only the thread that has the object writes to it.
    let state = unsafe { &mut *state };
    if state.born_ns != born_ns {
        return;
    }
    key.word = state.proof;
    link(state, &object, sk, connection);
    let waiting = if key.word == word { Some(unsent) } else { RUSTLS_UNSENT.get_ptr_mut(key) };
    if let Some(waiting) = waiting {
        // SAFETY: a map value. It is preallocated, so reading it after it was removed is reading memory; a record that another
        // object makes meanwhile would have to be given the same place at once.
        first_plaintext(moved, unsafe { &*waiting });
    }
    let _ = RUSTLS_UNSENT.remove(key);
}

/// What waited becomes what was moved.
#[inline(always)]
fn first_plaintext(moved: &mut Moved, unsent: &Unsent) {
    if unsent.len == 0 {
        return;
    }
    let samples = samples(unsent.base, unsent.len);
    let same = samples[0] == unsent.samples[0]
        && samples[1] == unsent.samples[1]
        && samples[2] == unsent.samples[2];
    moved.layout = if same { Layout::Flat } else { Layout::Nowhere };
    moved.base = unsent.base;
    moved.len = unsent.len;
    moved.rest = unsent.rest;
    moved.begin_ns = unsent.begin_ns;
    moved.seq = NOT_COUNTED;
    moved.source = Source::Rustls as u16;
    moved.count = 1;
}

#[inline(always)]
fn samples(base: u64, len: u64) -> [u64; 3] {
    if len < 8 {
        return [peek(base, len).unwrap_or(0), 0, 0];
    }
    let at = |at: u64| read_user::<u64>(base.wrapping_add(at)).unwrap_or(0);
    [at(0), at((len - 8) / 2), at(len - 8)]
}
