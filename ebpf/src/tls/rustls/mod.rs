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
mod versions;

pub use proof::{carried, may_prove};
use versions::{Decrypted, Plaintext, V0_22, V0_23, Version};

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
    /// Of a record of the application's plaintext that waits to be sent on a connection: the key in [`proof`]; 0: none.
    proof: u64,
    /// Objects may have had the same place before.
    born_ns: u64,
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
/// `encrypt(result, self, message, sequence number)`.
#[uprobe]
pub fn rustls_encrypt(ctx: ProbeContext) -> u32 {
    at_encrypt::<V0_23>(&ctx)
}

/// Its return.
#[uretprobe]
pub fn rustls_encrypt_return(ctx: RetProbeContext) -> u32 {
    at_encrypt_return::<V0_23>(&ctx)
}

/// `decrypt(result, self, message, sequence number)`.
#[uprobe]
pub fn rustls_decrypt(ctx: ProbeContext) -> u32 {
    at_decrypt::<V0_23>(&ctx)
}

/// Its return.
#[uretprobe]
pub fn rustls_decrypt_return(ctx: RetProbeContext) -> u32 {
    at_decrypt_return::<V0_23>(&ctx)
}

/// `encrypt(result, self, message, sequence number)` of rustls 0.21 and 0.22.
#[uprobe]
pub fn rustls_encrypt_0_22(ctx: ProbeContext) -> u32 {
    at_encrypt::<V0_22>(&ctx)
}

/// Its return.
#[uretprobe]
pub fn rustls_encrypt_return_0_22(ctx: RetProbeContext) -> u32 {
    at_encrypt_return::<V0_22>(&ctx)
}

/// `decrypt(result, self, message, sequence number)` of rustls 0.21 and 0.22.
#[uprobe]
pub fn rustls_decrypt_0_22(ctx: ProbeContext) -> u32 {
    at_decrypt::<V0_22>(&ctx)
}

/// Its return.
#[uretprobe]
pub fn rustls_decrypt_return_0_22(ctx: RetProbeContext) -> u32 {
    at_decrypt_return::<V0_22>(&ctx)
}

#[inline(always)]
fn at_encrypt<V: Version>(ctx: &ProbeContext) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 && encrypts::<V>(&arguments(ctx), tgid, tid) {
        more::jump_tls(ctx);
    }
    0
}

#[inline(always)]
fn at_encrypt_return<V: Version>(ctx: &RetProbeContext) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        encrypted::<V>(tgid, tid);
    }
    0
}

#[inline(always)]
fn at_decrypt<V: Version>(ctx: &ProbeContext) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        decrypts::<V>(&arguments(ctx), tgid, tid);
    }
    0
}

#[inline(always)]
fn at_decrypt_return<V: Version>(ctx: &RetProbeContext) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 && decrypted::<V>(tgid, tid) {
        more::jump_tls(ctx);
    }
    0
}

#[inline(always)]
fn encrypts<V: Version>(&[result, object, message, seq]: &[u64; 4], tgid: u32, tid: u32) -> bool {
    let Some(Plaintext { kind, len, single, base, count, skip }) = V::plaintext(message) else {
        return unlinked();
    };
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
    if kind == DATA && state.proof != 0 && proof::wait(state, len, tgid) {
        return false;
    }
    if kind == DATA && len > 0 && len_first == 0 {
        // Its first buffer has nothing of it: what is in others is not looked for.
        state.whole = 0;
        return unlinked();
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

#[inline(always)]
fn encrypted<V: Version>(tgid: u32, tid: u32) {
    // SAFETY: the value is copied at once.
    let Some(call) = (unsafe { RUSTLS_CALLS.get(tid) }).copied() else { return };
    let _ = RUSTLS_CALLS.remove(tid);
    if call.what == DECRYPTS {
        return;
    }
    let object = Object { address: call.object, tgid: tgid.into() };
    let data = call.what == APPLICATION;
    let plaintext = (call.base, if data { call.len } else { 0 });
    let rest = if data { call.total - call.len } else { 0 };
    let is_awaited = V::record(call.result, call.total).is_some_and(|record| {
        RUSTLS_OBJECTS.get_ptr_mut(object).is_some_and(|state| {
            // SAFETY: a map value; only the thread that has the object writes to it.
            proof::await_proof(unsafe { &mut *state }, &object, record, plaintext, rest)
        })
    });
    if !is_awaited {
        unlinked();
    }
}

#[inline(always)]
fn decrypts<V: Version>(&[result, object, message, seq]: &[u64; 4], tgid: u32, tid: u32) {
    let Some([base, len]) = V::ciphertext(message) else { return };
    let object = Object { address: object, tgid: tgid.into() };
    let Some(state) = state(&object, seq) else { return };
    if state.link.connection().is_none() {
        proof::by_received(state, &object, base);
    }
    let call = Call { object: object.address, result, base, len, total: len, what: DECRYPTS };
    let _ = RUSTLS_CALLS.insert(tid, call, 0);
}

#[inline(always)]
fn decrypted<V: Version>(tgid: u32, tid: u32) -> bool {
    // SAFETY: the value is copied at once.
    let Some(call) = (unsafe { RUSTLS_CALLS.get(tid) }).copied() else { return false };
    let _ = RUSTLS_CALLS.remove(tid);
    if call.what != DECRYPTS {
        return false;
    }
    let Some(Decrypted { base, len, kind, fits }) =
        V::decrypted(call.result, [call.base, call.len])
    else {
        return false;
    };
    if kind > LAST_TYPE || !fits {
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
        let (born_ns, whole) = (emit::now(), u64::from(seq == 0));
        let new = State { link: Link::NONE, next: seq, proof: 0, born_ns, whole };
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
