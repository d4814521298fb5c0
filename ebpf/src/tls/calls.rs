//! Calls of TLS libraries that are in progress, and what they moved.
//!
//! A call is remembered at its entry and accounted for at its return. The connection of its object is told by
//! system calls, in this order:
//!
//! 1. The socket that the same thread reads inside of a call that reads or shakes hands, or writes inside of one that
//!    writes: the object works on the descriptor (curl, nginx, Ruby, Python's sockets).
//! 2. What was found for this object before: the call was served from a buffer.
//! 3. The socket that the thread read last, outside of any call, before a call that moved nothing on
//!    any socket: the object works on memory that an event loop fills (node, asyncio). One read tells
//!    of one object, and no connection of two.
//!
//! Bytes of an object for which none of it holds are counted and not sent: a wrong connection is worse.

use core::mem::MaybeUninit;

use aya_ebpf::{macros::map, maps::HashMap};
use remora_common::{
    connection::{Connection, NOT_COUNTED, closing},
    counter::Counter,
    policy::CIPHERTEXT,
    record::Direction,
};

use super::link::{self, Link, Object};
use crate::{
    capture, connection, emit,
    maps::{self, selection},
    more,
    moved::{Layout, Moved, Next, ON_STACK},
    process,
    user::{self, read_user},
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
    /// `received` was at its first bytes.
    received_first: u32,
    /// The call in progress moved bytes on a socket, whichever.
    touched: u32,
    unused: u32,
    /// The socket that was read last outside of a call.
    received: Link,
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
    received_first: 0,
    touched: 0,
    unused: 0,
    received: Link::NONE,
};

/// Threads by tid.
#[map]
static TLS_THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(4096, 0);

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
    // The outermost call of an object counts: it is the application's. One that lies not below the
    // call in progress shows that the return of that one was not seen.
    if thread.object != 0 && sp < thread.sp && thread.sp - sp < NESTED {
        if thread.object == call.object {
            return;
        }
        // Another object's call inside of one, from a callback or a tunnel in a tunnel: what the outer
        // one moves is not seen.
        maps::count(Counter::TlsUnlinked);
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
pub fn ends<const SOURCE: u8>(result: i32, tgid: u32, tid: u32, sp: u64) -> bool {
    let Some(thread) = TLS_THREADS.get_ptr_mut(tid) else { return false };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    let thread = unsafe { &mut *thread };
    if thread.object == 0 || thread.sp != sp {
        return false;
    }
    let more = moved::<SOURCE>(thread, result, tgid, tid);
    thread.object = 0;
    // Behind what is left of the call.
    if !more
        && let Some(connection) = thread.carrier.connection()
        && connection.closing & closing::IN_CALL != 0
    {
        connection::settle(thread.carrier.sk);
    }
    more
}

/// Whether thread `tid` is in a call of a TLS library.
#[inline(always)]
pub fn is_in_call(tid: u32) -> bool {
    // SAFETY: a map value, preallocated; only this thread touches its own.
    TLS_THREADS.get_ptr_mut(tid).is_some_and(|thread| unsafe { (*thread).object != 0 })
}

#[inline(always)]
fn moved<const SOURCE: u8>(thread: &mut Thread, result: i32, tgid: u32, tid: u32) -> bool {
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
    if len == 0 && thread.carrier.sk == 0 && thread.received.sk == 0 {
        return false;
    }
    let Some((sk, connection)) = connection_of(thread, tgid) else {
        if len > 0 {
            maps::count(Counter::TlsUnlinked);
        }
        return false;
    };
    if len == 0 || !process::may_use(connection, tgid) {
        return false;
    }
    let mut moved = Moved {
        fd: 0,
        direction: thread.direction,
        layout: Layout::Flat,
        count: 1,
        base: thread.buffer,
        len,
        rest: 0,
        begin_ns: thread.begin_ns,
        seq: NOT_COUNTED,
        tgid,
        tid,
        context: 0,
    };
    user::launder(&mut moved);
    let mut piece = MaybeUninit::uninit();
    match capture::account::<SOURCE, ON_STACK>(&moved, &mut piece, connection, sk, 0) {
        Next::Nothing | Next::Encrypted => false,
        // SAFETY: written, or there would be nothing more of it.
        Next::More => more::leave::<SOURCE>(&moved, unsafe { piece.assume_init_mut() }, sk),
    }
}

/// The connection of the call that `thread` returns from; see the module's beginning.
#[inline(always)]
fn connection_of(thread: &mut Thread, tgid: u32) -> Option<(u64, &'static mut Connection)> {
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
    if let Some(known) = link::known(&object) {
        return Some(known);
    }
    if thread.touched == 0 {
        let received = thread.received;
        thread.received = Link::NONE;
        if let Some(connection) = received.connection()
            && connection.object == 0
        {
            link::bind(
                &object,
                received.sk,
                connection,
                thread.complete | thread.received_first != 0,
            );
            return Some((received.sk, connection));
        }
    }
    None
}

/// Bytes that are not plaintext moved on `connection`: says so to the call that the thread is in.
#[inline(always)]
pub fn carried(moved: &Moved, connection: &Connection, sk: u64) {
    let receives = moved.direction == Direction::Rx as u32;
    let first = connection.pos[moved.side()] == moved.len + moved.rest;
    let Some(thread) = TLS_THREADS.get_ptr_mut(moved.tid) else {
        first_received(moved, connection, Link::to(sk, connection), first);
        return;
    };
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
    } else if receives {
        thread.received = Link::to(sk, connection);
        thread.received_first = u32::from(first);
    }
}

/// A thread that made no call of a TLS library yet, as far as was seen, moves bytes that are not plaintext.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
fn first_received(moved: &Moved, connection: &Connection, link: Link, first: bool) {
    if connection.policy == CIPHERTEXT && connection.object == 0 {
        process::speaks_tls(moved.tgid);
    }
    if moved.direction == Direction::Rx as u32
        && let Some(thread) = thread(moved.tid)
    {
        thread.received = link;
        thread.received_first = u32::from(first);
    }
}

/// A thread that ends gives its entry back.
pub fn forget(tid: u32) {
    let _ = TLS_THREADS.remove(tid);
}
