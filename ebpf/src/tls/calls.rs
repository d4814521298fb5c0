//! Calls of TLS libraries that are in progress, and what they moved.
//!
//! A call is remembered at its entry and accounted for at its return. The connection of its object is told by
//! system calls, in this order:
//!
//! 1. The socket that the same thread reads inside of a call that reads or shakes hands, or writes inside of one that
//!    writes: the object works on the descriptor (curl, nginx, Ruby, Python's sockets).
//! 2. What was found for this object before: the call was served from a buffer.
//! 3. What the thread read and wrote outside of any call, if its bytes agree ([`evidence`]), before or behind a call that moved
//!    nothing on any socket: the object works on memory that an event loop fills (node, asyncio).
//!
//! Bytes of an object for which none of it holds are counted and not sent: a wrong connection is worse.
//!
//! An application may make calls from a callback that runs within a call: node writes its first request within the `SSL_read`
//! that ends the handshake. The call that is in progress is set aside meanwhile, one level deep.

use aya_ebpf::{macros::map, maps::HashMap};
use remora_common::{
    connection::{Connection, closing, tls},
    counter::Counter,
    record::{Direction, Source},
};

use super::{
    evidence::{self, Evidence},
    link::{self, Link, Object},
    plaintext,
};
use crate::{
    connection, emit,
    maps::{self, selection},
    moved::{LIBRARY, Moved},
    process,
    user::read_user,
};

/// What a thread does with TLS.
#[repr(C)]
#[derive(Clone, Copy)]
struct Thread {
    /// The object of the call in progress, 0 if none is.
    object: u64,
    buffer: u64,
    /// Where the call says how many bytes it moved; 0: its result does.
    done: u64,
    /// Stack pointer at the function's entry: tells the call's own return from those of nested calls.
    sp: u64,
    begin_ns: u64,
    /// [`Direction`]; a handshake receives.
    direction: u32,
    /// The call is a handshake: it moves no plaintext.
    handshake: u32,
    /// The socket that the call in progress works on.
    carrier: Link,
    /// The call in progress moved the first bytes of `carrier`, or began its TLS: nothing was missed.
    complete: u32,
    /// The call in progress moved bytes on a socket, whichever.
    touched: u32,
    /// The call in progress was made within another one, which is in [`TLS_OUTER`].
    within: u32,
    unused: u32,
    /// What was moved outside of calls.
    evidence: Evidence,
}

/// What a thread begins with. A static, for the stack is small.
static IDLE: Thread = Thread {
    object: 0,
    buffer: 0,
    done: 0,
    sp: 0,
    begin_ns: 0,
    direction: 0,
    handshake: 0,
    carrier: Link::NONE,
    complete: 0,
    touched: 0,
    within: 0,
    unused: 0,
    evidence: Evidence::NONE,
};

/// Threads by tid.
#[map]
static TLS_THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(4096, 0);

/// Calls that are in progress, and within which the application has made another one, by tid.
#[map]
static TLS_OUTER: HashMap<u32, Thread> = HashMap::with_max_entries(4096, 0);

/// Nested calls of one object lie within this many bytes of stack.
const NESTED: u64 = 64 << 10;

/// What a function was called for.
#[derive(Clone, Copy)]
pub struct Call {
    pub object: u64,
    pub buffer: u64,
    pub direction: Direction,
    /// Where it says how many bytes it moved; 0: its result does.
    pub done: u64,
    /// It moves no plaintext.
    pub handshake: bool,
}

/// Thread `tid` makes `call`, with its stack at `sp`.
#[inline(always)]
pub fn begins(call: &Call, tid: u32, sp: u64) {
    let Some(thread) = thread(tid) else {
        maps::count(Counter::EntriesFull);
        return;
    };
    // A call that lies not below the one in progress shows that the return of that one was not seen.
    if thread.object != 0 && sp < thread.sp && thread.sp - sp < NESTED {
        // The library's own: its functions call each other to move the same bytes, and to shake hands.
        let same = thread.direction == call.direction as u32 && thread.handshake == 0;
        if thread.object == call.object && (same || call.handshake) {
            return;
        }
        // The application's, from a callback, or a tunnel in a tunnel.
        if thread.within == 0 && set_aside(tid, thread) {
            thread.within = 1;
        } else {
            maps::count(Counter::TlsUnlinked);
        }
    } else {
        thread.within = 0;
    }
    thread.object = call.object;
    thread.buffer = call.buffer;
    thread.done = call.done;
    thread.sp = sp;
    thread.begin_ns = emit::now();
    thread.direction = call.direction as u32;
    thread.handshake = u32::from(call.handshake);
    thread.carrier = Link::NONE;
    thread.complete = u32::from(call.handshake);
    thread.touched = 0;
}

/// Keeps the call in progress until the one within it returns.
#[inline(always)]
fn set_aside(tid: u32, thread: &Thread) -> bool {
    TLS_OUTER.insert(tid, thread, 0).is_ok()
}

/// The state of a thread, made now if it has none.
#[inline(always)]
fn thread(tid: u32) -> Option<&'static mut Thread> {
    if TLS_THREADS.get_ptr_mut(tid).is_none() {
        #[expect(
            clippy::needless_borrows_for_generic_args,
            reason = "the value would be on the stack"
        )]
        let _ = TLS_THREADS.insert(tid, &IDLE, 0);
    }
    // SAFETY: a map value, preallocated; only this thread touches its own.
    TLS_THREADS.get_ptr_mut(tid).map(|thread| unsafe { &mut *thread })
}

/// A call of thread `tid` returns with its stack at `sp`. `true`: jump to [`more`].
#[inline(always)]
pub fn ends(result: i32, tgid: u32, tid: u32, sp: u64) -> bool {
    let Some(thread) = TLS_THREADS.get_ptr_mut(tid) else { return false };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    let thread = unsafe { &mut *thread };
    if thread.object == 0 || thread.sp != sp {
        return false;
    }
    let more = moved(thread, result, tgid, tid);
    thread.object = 0;
    let carrier = thread.carrier;
    if thread.within != 0 {
        resume(thread, tid);
    }
    // Behind what is left of the call.
    if !more
        && let Some(connection) = carrier.connection()
        && connection.closing & closing::IN_CALL != 0
    {
        connection::settle(carrier.sk);
    }
    more
}

/// The call within which another one has returned goes on.
#[inline(always)]
fn resume(thread: &mut Thread, tid: u32) {
    // SAFETY: the value is copied at once; only this thread touches its own.
    if let Some(outer) = unsafe { TLS_OUTER.get(tid) } {
        let evidence = thread.evidence;
        *thread = *outer;
        thread.evidence = evidence;
    }
    let _ = TLS_OUTER.remove(tid);
}

/// Whether thread `tid` is in a call of a TLS library.
#[inline(always)]
pub fn is_in_call(tid: u32) -> bool {
    // SAFETY: a map value, preallocated; only this thread touches its own.
    TLS_THREADS.get_ptr_mut(tid).is_some_and(|thread| unsafe { (*thread).object != 0 })
}

#[inline(always)]
fn moved(thread: &mut Thread, result: i32, tgid: u32, tid: u32) -> bool {
    if selection(tgid) == 0 {
        return false;
    }
    let len = if result <= 0 || thread.handshake != 0 {
        0
    } else if thread.done == 0 {
        result as u64
    } else {
        read_user::<u64>(thread.done).unwrap_or(0)
    };
    let Some((sk, connection)) = connection_of(thread, len, tgid) else {
        return len > 0 && plaintext::unlinked();
    };
    if len == 0 || !process::may_use(connection, tgid) {
        return false;
    }
    let bytes = (thread.buffer, len);
    let mut moved = Moved::plaintext(Source::CLibrary, thread.direction, bytes, tgid, tid);
    moved.begin_ns = thread.begin_ns;
    plaintext::account::<LIBRARY>(moved, connection, sk)
}

/// The connection of the call that `thread` returns from; see the module's beginning.
#[inline(always)]
fn connection_of(
    thread: &mut Thread,
    len: u64,
    tgid: u32,
) -> Option<(u64, &'static mut Connection)> {
    let object = Object { address: thread.object, tgid: tgid.into() };
    let receives = thread.direction == Direction::Rx as u32;
    if let Some(connection) = thread.carrier.connection() {
        if connection.object == object.address {
            return Some((thread.carrier.sk, connection));
        }
        // A program's own code may run inside a call (callbacks) and write elsewhere, but not read.
        if receives || connection.object == 0 {
            link::bind(&object, thread.carrier.sk, connection, thread.complete != 0);
            return Some((thread.carrier.sk, connection));
        }
    }
    if thread.touched == 0 {
        let complete = thread.complete != 0;
        evidence::connection_of(&mut thread.evidence, &object, len, receives, complete)
    } else {
        link::carrying(link::known(&object))
    }
}

/// Bytes that are not plaintext moved on `connection`: says so to the call that the thread is in.
#[inline(always)]
pub fn carried(moved: &Moved, connection: &mut Connection, sk: u64) {
    let first = connection.pos[moved.side()] == moved.len + moved.rest;
    if let Some(thread) = TLS_THREADS.get_ptr_mut(moved.tid) {
        // SAFETY: a map value, preallocated; only this thread touches its own.
        let thread = unsafe { &mut *thread };
        if thread.object != 0 {
            thread.touched = 1;
            if thread.direction == moved.direction {
                if thread.carrier.sk == 0 {
                    thread.complete |= u32::from(first);
                }
                thread.carrier = Link::to(sk, connection);
            }
            return;
        }
    }
    if connection.object != 0 {
        if moved.direction == Direction::Rx as u32 {
            connection.tls |= tls::READ;
        }
    } else {
        evidence::tell_of_tls(connection, moved.tgid);
        outside(moved, connection, sk, first);
    }
}

/// Bytes that are not plaintext moved outside of calls, on a connection that no object is known to encrypt.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
fn outside(moved: &Moved, connection: &Connection, sk: u64, first: bool) {
    if let Some(thread) = thread(moved.tid) {
        thread.evidence.moved(moved, connection, sk, first);
    }
}

/// A thread that ends gives its entry back.
pub fn forget(tid: u32) {
    let _ = TLS_THREADS.remove(tid);
    let _ = TLS_OUTER.remove(tid);
}
