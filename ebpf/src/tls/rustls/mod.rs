//! The functions of rustls that are probed, where their arguments and results stand, and whose connection it is.
//!
//! Each record of TLS passes `MessageEncrypter::encrypt` or `MessageDecrypter::decrypt`, which are called by vtable and so
//! are in every build: `(result, self, message, sequence number)`. `self` has the keys of one direction of one connection.
//!
//! - Which connection it is, ciphertext proves: 8 bytes of a record that `self` made and the socket then sent, or that the
//!   socket had received when `self` was given them.
//! - That it still is, the sequence number proves: it is one more than at the call before. A key update makes a new object, and the
//!   place of one that was freed is used again; each begins with 0, and has its connection to be proved.

use aya_ebpf::{
    macros::{map, uprobe, uretprobe},
    maps::LruHashMap,
    programs::{ProbeContext, RetProbeContext},
};
use remora_common::{
    connection::tls,
    record::{Direction, Source},
};

mod proof;

use proof::{HEADER, NONCE};
pub use proof::{carried, may_prove};

use super::{
    link::{Link, Object},
    plaintext::{self, own_stack, unlinked},
};
use crate::{
    emit,
    maps::selection,
    more,
    moved::{LIBRARY, LIBRARY_PIECES, Layout, Moved},
    process,
    user::read_user,
};

/// The object of one direction.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    link: Link,
    /// Sequence number of the next record.
    next: u64,
    /// Of a record that is to prove the connection once it is sent: the key in [`proof`]; 0: none.
    proof: u64,
    /// Every record was seen.
    whole: u64,
}

/// A call that is in progress. Neither function calls the other.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    object: u64,
    /// Where the result will stand.
    result: u64,
    /// What is given: to decrypt, the record; to encrypt, the first buffer of plaintext.
    base: u64,
    len: u64,
    /// Of plaintext, in all.
    total: u64,
    /// [`OTHER`], [`APPLICATION`] or [`DECRYPTS`].
    what: u64,
}

const OTHER: u64 = 0;
const APPLICATION: u64 = 1;
const DECRYPTS: u64 = 2;

/// Nothing tells when an object is freed, nor when a call ends in a panic: the least recently used go.
#[map]
static RUSTLS_OBJECTS: LruHashMap<Object, State> = LruHashMap::with_max_entries(8192, 0);

/// By tid.
#[map]
static RUSTLS_CALLS: LruHashMap<u32, Call> = LruHashMap::with_max_entries(2048, 0);

/// `ContentType` of rustls, in the order of its declaration.
const DATA: u8 = 3;
const LAST_TYPE: u8 = 5;
/// Most plaintext of a record (RFC 8446, 5.1).
const LONGEST: u64 = 1 << 14;
/// The variants of `Error` that the functions may give have lesser numbers, and that of `Ok` is greater: the agent looks
/// into the code of each file.
const LAST_ERROR: u8 = 0x11;

/// `encrypt(result, self, message, sequence number)`.
#[uprobe]
pub fn rustls_encrypt(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 && encrypts(&arguments(&ctx), tgid, tid) {
        more::jump_tls(&ctx);
    }
    0
}

/// Its return.
#[uretprobe]
pub fn rustls_encrypt_return(ctx: RetProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        encrypted(tgid, tid);
    }
    0
}

/// `decrypt(result, self, message, sequence number)`.
#[uprobe]
pub fn rustls_decrypt(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        decrypts(&arguments(&ctx), tgid, tid);
    }
    0
}

/// Its return.
#[uretprobe]
pub fn rustls_decrypt_return(ctx: RetProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 && decrypted(tgid, tid) {
        more::jump_tls(&ctx);
    }
    0
}

/// The message: `{0, ptr, len, .., type}` or `{ptr to (ptr, len), count, start, end, type}`.
#[inline(always)]
fn encrypts(&[result, object, message, seq]: &[u64; 4], tgid: u32, tid: u32) -> bool {
    let Some([chunks, first, second, third, kind]) = read_user::<[u64; 5]>(message) else {
        return unlinked();
    };
    let kind = kind as u8;
    let single = chunks == 0;
    let len = if single { second } else { third.wrapping_sub(second) };
    if kind > LAST_TYPE || len > LONGEST {
        return unlinked();
    }
    let object = Object { address: object, tgid: tgid.into() };
    let Some(state) = state(&object, seq) else { return false };
    if kind < DATA
        && let Some(connection) = state.link.connection()
    {
        // It may be a key update, behind which another object is used.
        connection.tls &= !tls::TX_PROVED;
    }
    let (base, count, skip) = if single { (first, 1, 0) } else { (chunks, first, second) };
    if kind == DATA
        && len > 0
        && let Some(connection) = state.link.connection()
    {
        connection.tls |= tls::TX_PROVED;
        let (layout, base) =
            if single { (Layout::Flat, base) } else { pieces(base, count, skip, len) };
        let mut moved =
            Moved::plaintext(Source::Rustls, Direction::Tx as u32, (base, len), tgid, tid);
        moved.layout = layout;
        moved.count = count as u32;
        return process::may_use(connection, tgid)
            && plaintext::account::<LIBRARY_PIECES>(moved, connection, state.link.sk);
    }
    let [base, len_first] = if single || len == 0 {
        [base, len]
    } else {
        let [base, len_first] = read_user::<[u64; 2]>(base).unwrap_or([0; 2]);
        [base.wrapping_add(skip), len_first.saturating_sub(skip)]
    };
    let len_first = if len_first > len { len } else { len_first };
    let what = if kind == DATA { APPLICATION } else { OTHER };
    if kind == DATA && state.proof != 0 {
        proof::wait(state, base, len_first, len, tgid);
        return false;
    }
    if state.link.connection().is_none() {
        let call = Call { object: object.address, result, base, len: len_first, total: len, what };
        let _ = RUSTLS_CALLS.insert(tid, call, 0);
    }
    false
}

/// Where `len` bytes of `count` buffers behind `skip` are. Those that begin within a buffer and end in another are only
/// counted.
#[inline(never)]
fn pieces(chunks: u64, count: u64, skip: u64, len: u64) -> (Layout, u64) {
    const LOOKED_AT: u64 = 16;
    if skip == 0 {
        return (Layout::Pieces, chunks);
    }
    let mut left = skip;
    let mut at = 0;
    while at < LOOKED_AT && at < count {
        let Some([base, here]) = read_user::<[u64; 2]>(chunks.wrapping_add(at * 16)) else { break };
        if left < here {
            let within = here - left >= len;
            return (if within { Layout::Flat } else { Layout::Nowhere }, base.wrapping_add(left));
        }
        left -= here;
        at += 1;
    }
    (Layout::Nowhere, 0)
}

/// The result: `{tag, capacity, ptr, len, ..}` of the record, behind room for its header.
#[inline(always)]
fn encrypted(tgid: u32, tid: u32) {
    // SAFETY: the value is copied at once.
    let Some(call) = (unsafe { RUSTLS_CALLS.get(tid) }).copied() else { return };
    let _ = RUSTLS_CALLS.remove(tid);
    if call.what == DECRYPTS {
        return;
    }
    let Some([tag, _, base, len]) = read_user::<[u64; 4]>(call.result) else { return };
    let object = Object { address: call.object, tgid: tgid.into() };
    let more = len.wrapping_sub(call.total).wrapping_sub(HEADER);
    // A tag, and a nonce, a type (TLS 1.2, 1.3) or neither.
    let as_made = tag as u8 > LAST_ERROR && (more == 16 || more == 17 || more == 24);
    let data = call.what == APPLICATION;
    let plaintext = (call.base, if data { call.len } else { 0 });
    let rest = if data { call.total - call.len } else { 0 };
    let is_awaited = as_made
        && RUSTLS_OBJECTS.get_ptr_mut(object).is_some_and(|state| {
            // SAFETY: a map value; only the thread that has the object writes to it.
            proof::await_proof(unsafe { &mut *state }, &object, base, plaintext, rest)
        });
    if !is_awaited {
        unlinked();
    }
}

/// The message: `{ptr, len, ..}`.
#[inline(always)]
fn decrypts(&[result, object, message, seq]: &[u64; 4], tgid: u32, tid: u32) {
    let Some([base, len]) = read_user::<[u64; 2]>(message) else { return };
    let object = Object { address: object, tgid: tgid.into() };
    let Some(state) = state(&object, seq) else { return };
    if state.link.connection().is_none() {
        proof::by_received(state, &object, base);
    }
    let call = Call { object: object.address, result, base, len, total: len, what: DECRYPTS };
    let _ = RUSTLS_CALLS.insert(tid, call, 0);
}

/// The result: `{tag, ptr, len, type}`, within the record.
#[inline(always)]
fn decrypted(tgid: u32, tid: u32) -> bool {
    // SAFETY: the value is copied at once.
    let Some(call) = (unsafe { RUSTLS_CALLS.get(tid) }).copied() else { return false };
    let _ = RUSTLS_CALLS.remove(tid);
    if call.what != DECRYPTS {
        return false;
    }
    let Some([tag, base, len, kind]) = read_user::<[u64; 4]>(call.result) else { return false };
    let kind = kind as u8;
    if tag as u8 <= LAST_ERROR {
        return false;
    }
    let before = base.wrapping_sub(call.base);
    if kind > LAST_TYPE || before > NONCE || before + len > call.len {
        return unlinked();
    }
    let object = Object { address: call.object, tgid: tgid.into() };
    let Some(state) = RUSTLS_OBJECTS.get_ptr_mut(object) else { return false };
    // SAFETY: a map value; only the thread that has the object writes to it.
    let link = unsafe { (*state).link };
    let Some(connection) = link.connection() else {
        return kind == DATA && len > 0 && unlinked();
    };
    if kind != DATA {
        // It may be a key update, behind which another object is used.
        connection.tls &= !tls::RX_PROVED;
        return false;
    }
    connection.tls |= tls::RX_PROVED;
    if len == 0 || !process::may_use(connection, tgid) {
        return false;
    }
    let moved = Moved::plaintext(Source::Rustls, Direction::Rx as u32, (base, len), tgid, tid);
    plaintext::account::<LIBRARY>(moved, connection, link.sk)
}

/// What is known of `object`, which is called for record `seq`: nothing, if that is not the next one.
#[inline(always)]
fn state(object: &Object, seq: u64) -> Option<&'static mut State> {
    let known = RUSTLS_OBJECTS.get_ptr_mut(object);
    // SAFETY: a map value; only the thread that has the object writes to it.
    if known.is_none_or(|known| unsafe { (*known).next } != seq) {
        let new = State { link: Link::NONE, next: seq, proof: 0, whole: u64::from(seq == 0) };
        let _ = RUSTLS_OBJECTS.insert(object, new, 0);
        proof::note(object.tgid);
    }
    // SAFETY: as above.
    let state = unsafe { &mut *RUSTLS_OBJECTS.get_ptr_mut(object)? };
    state.next = seq.wrapping_add(1);
    Some(state)
}

/// The place of the result, and the arguments.
#[inline(always)]
fn arguments(ctx: &ProbeContext) -> [u64; 4] {
    let regs = ctx.regs;
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).rcx]
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        let regs = &(*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).regs;
        [regs[8], regs[0], regs[1], regs[2]]
    }
}
