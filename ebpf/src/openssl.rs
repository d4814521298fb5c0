//! Plaintext of OpenSSL: what `SSL_read` and `SSL_write` moved, and on which connection.
//!
//! A call is remembered at its entry and accounted for at its return. The connection of an `SSL` object
//! is told by system calls, in this order:
//!
//! 1. The socket that the same thread reads inside `SSL_read` or `SSL_do_handshake`, or writes inside
//!    `SSL_write`: the object works on the descriptor (curl, nginx, Ruby, Python's sockets).
//! 2. What was found for this object before: the call was served from a buffer.
//! 3. The socket that the thread read last, outside of any call, before a call that moved nothing on
//!    any socket: the object works on memory that an event loop fills (node, asyncio). One read tells
//!    of one object, and no connection of two.
//!
//! Bytes of an object for which none of it holds are counted and not sent: a wrong connection is worse.

use aya_ebpf::{
    EbpfContext,
    macros::{map, uprobe, uretprobe},
    maps::{HashMap, LruHashMap, ProgramArray},
    programs::{ProbeContext, RetProbeContext},
};
use remora_common::{
    connection::NOT_COUNTED, counter::Counter, layout::ABSENT, policy::CIPHERTEXT,
    record::Direction,
};

use crate::{
    capture::{self, Layout, Moved},
    connection::{self, Connection},
    emit, lifecycle,
    maps::{self, CONNECTIONS, selection},
    offset,
    user::{self, read_user},
};

/// A connection as it was when something was found out about it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Link {
    /// Address of its `struct sock`; 0: no connection.
    sk: u64,
    id: u64,
}

impl Link {
    const NONE: Self = Self { sk: 0, id: 0 };

    /// The connection, if it is still the same.
    #[inline(always)]
    fn connection(self) -> Option<&'static mut Connection> {
        if self.sk == 0 {
            return None;
        }
        let connection = CONNECTIONS.get_ptr_mut(self.sk)?;
        // SAFETY: a map value; preallocated, so never unmapped.
        let connection = unsafe { &mut *connection };
        (connection.id == self.id).then_some(connection)
    }
}

/// What a thread does with TLS.
#[repr(C)]
#[derive(Clone, Copy)]
struct Thread {
    /// The `SSL` object of the call in progress, 0 if none is.
    ssl: u64,
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
    ssl: 0,
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

/// An `SSL` object.
#[repr(C)]
#[derive(Clone, Copy)]
struct Object {
    ssl: u64,
    tgid: u64,
}

/// Connections by `SSL` object. Nothing tells when an object is freed: the least recently used go.
#[map]
static TLS_LINKS: LruHashMap<Object, Link> = LruHashMap::with_max_entries(8192, 0);

/// Leads nowhere; see [`own_stack`].
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Makes the program use the stack of the thread that runs it. From 6.13 on the kernel gives programs of
/// this type a stack for each CPU unless they may jump, and does not keep those at functions of user
/// space from being entered twice on one CPU (`bpf_prog_run_array_uprobe`): a thread that is put off in one
/// would find its kernel pointers overwritten by the next.
///
/// VERIFIER: it counts the jump before it looks at any way, and knows that none leads there.
#[inline(always)]
fn own_stack(ctx: &impl EbpfContext) {
    if offset!(task_tgid) == ABSENT {
        // SAFETY: nothing here waits to be dropped.
        unsafe { NOWHERE.tail_call(ctx, 0) };
    }
}

/// Nested calls of one object lie within this many bytes of stack.
const NESTED: u64 = 64 << 10;

/// `SSL_read(ssl, buf, num)`: the result says how many bytes.
#[uprobe]
pub fn ssl_read(ctx: ProbeContext) -> u32 {
    called(&ctx, Direction::Rx, None)
}

/// `SSL_read_ex(ssl, buf, num, *readbytes)`, and OpenSSL's own function behind both.
#[uprobe]
pub fn ssl_read_ex(ctx: ProbeContext) -> u32 {
    called(&ctx, Direction::Rx, ctx.arg(3))
}

/// `SSL_write(ssl, buf, num)`: the result says how many bytes.
#[uprobe]
pub fn ssl_write(ctx: ProbeContext) -> u32 {
    called(&ctx, Direction::Tx, None)
}

/// `SSL_write_ex(ssl, buf, num, *written)`, and OpenSSL's own function behind both before 3.3.
#[uprobe]
pub fn ssl_write_ex(ctx: ProbeContext) -> u32 {
    called(&ctx, Direction::Tx, ctx.arg(3))
}

/// `SSL_write_ex2(ssl, buf, num, flags, *written)`, and OpenSSL's own function behind it since 3.3.
#[uprobe]
pub fn ssl_write_ex2(ctx: ProbeContext) -> u32 {
    called(&ctx, Direction::Tx, ctx.arg(4))
}

/// `SSL_do_handshake(ssl)`.
#[uprobe]
pub fn ssl_do_handshake(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        enter(&ctx, tid, Direction::Rx, 0, true);
    }
    0
}

#[inline(always)]
fn called(ctx: &ProbeContext, direction: Direction, done: Option<u64>) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0 {
        enter(ctx, tid, direction, done.unwrap_or(0), false);
    }
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext, tid: u32, direction: Direction, done: u64, handshake: bool) {
    let (Some(ssl), Some(buffer)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return };
    let sp = stack_pointer(ctx.regs);
    let Some(thread) = thread(tid) else {
        maps::count(Counter::EntriesFull);
        return;
    };
    // The outermost call of an object counts: it is the application's. One that lies not below the
    // call in progress shows that the return of that one was not seen.
    if thread.ssl != 0 && sp < thread.sp && thread.sp - sp < NESTED {
        if thread.ssl == ssl {
            return;
        }
        // Another object's call inside of one, from a callback or a tunnel in a tunnel: what the outer
        // one moves is not seen.
        maps::count(Counter::TlsUnlinked);
    }
    thread.ssl = ssl;
    thread.buffer = buffer;
    thread.done = done;
    thread.sp = sp;
    thread.begin_ns = emit::now();
    thread.direction = direction as u32;
    thread.handshake = u32::from(handshake);
    thread.carrier = Link::NONE;
    thread.complete = u32::from(handshake);
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

/// The return of all of them.
#[uretprobe]
pub fn ssl_return(ctx: RetProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    let Some(thread) = TLS_THREADS.get_ptr_mut(tid) else { return 0 };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    let thread = unsafe { &mut *thread };
    let sp = stack_pointer(ctx.regs).wrapping_sub(RETURN_ADDRESS);
    if thread.ssl == 0 || thread.sp != sp {
        return 0;
    }
    returned(thread, ctx.ret::<u64>() as u32 as i32, tgid, tid);
    thread.ssl = 0;
    0
}

#[inline(always)]
fn returned(thread: &mut Thread, result: i32, tgid: u32, tid: u32) {
    if selection(tgid) == 0 {
        return;
    }
    let len = if result <= 0 || thread.handshake != 0 {
        0
    } else if thread.done == 0 {
        result as u64
    } else {
        read_user::<u64>(thread.done).unwrap_or(0)
    };
    if len == 0 && thread.carrier.sk == 0 && thread.received.sk == 0 {
        return;
    }
    let Some((sk, connection)) = connection_of(thread, tgid) else {
        if len > 0 {
            maps::count(Counter::TlsUnlinked);
        }
        return;
    };
    if len == 0 {
        return;
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
    };
    user::launder(&mut moved);
    capture::plaintext(&moved, connection, sk);
}

/// The connection of the call that `thread` returns from; see the module's beginning.
#[inline(always)]
fn connection_of(thread: &mut Thread, tgid: u32) -> Option<(u64, &'static mut Connection)> {
    let ssl = thread.ssl;
    let object = Object { ssl, tgid: tgid.into() };
    let receives = thread.direction == Direction::Rx as u32;
    if let Some(connection) = thread.carrier.connection() {
        if connection.ssl == ssl {
            return Some((thread.carrier.sk, connection));
        }
        // A program's own code may run inside a call (callbacks) and write elsewhere, but not read.
        if receives || connection.ssl == 0 {
            bind(&object, thread.carrier.sk, connection, thread.complete != 0);
            return Some((thread.carrier.sk, connection));
        }
    }
    // SAFETY: the value is copied at once.
    if let Some(&link) = unsafe { TLS_LINKS.get(object) }
        && let Some(connection) = link.connection()
        && connection.ssl == ssl
        // A closed socket may live on for a minute, when its object is freed and its address used again.
        && connection.closing == 0
    {
        return Some((link.sk, connection));
    }
    if thread.touched == 0 {
        let received = thread.received;
        thread.received = Link::NONE;
        if let Some(connection) = received.connection()
            && connection.ssl == 0
        {
            bind(&object, received.sk, connection, thread.complete | thread.received_first != 0);
            return Some((received.sk, connection));
        }
    }
    None
}

/// From now on `connection` carries what `object` encrypts.
#[inline(always)]
fn bind(object: &Object, sk: u64, connection: &mut Connection, complete: bool) {
    connection::becomes_plaintext(connection, object.ssl, complete);
    // LRU: an insert makes room.
    let _ = TLS_LINKS.insert(object, Link { sk, id: connection.id }, 0);
}

/// Bytes that are not plaintext moved on `connection`: says so to the call that the thread is in.
#[inline(always)]
pub fn carried(moved: &Moved, connection: &Connection, sk: u64) {
    let receives = moved.direction == Direction::Rx as u32;
    let first = connection.pos[(moved.direction & 1) as usize] == moved.len + moved.rest;
    let Some(thread) = TLS_THREADS.get_ptr_mut(moved.tid) else {
        first_received(moved, connection, Link { sk, id: connection.id }, first);
        return;
    };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    let thread = unsafe { &mut *thread };
    if thread.ssl != 0 {
        thread.touched = 1;
        if thread.direction == moved.direction {
            if thread.carrier.sk == 0 {
                thread.complete |= u32::from(first);
            }
            thread.carrier = Link { sk, id: connection.id };
        }
    } else if receives {
        thread.received = Link { sk, id: connection.id };
        thread.received_first = u32::from(first);
    }
}

/// A thread that made no call of OpenSSL yet, as far as was seen, moves bytes that are not plaintext.
///
/// VERIFIER: a function of its own, for its stack.
#[inline(never)]
fn first_received(moved: &Moved, connection: &Connection, link: Link, first: bool) {
    if connection.policy == CIPHERTEXT && connection.ssl == 0 {
        lifecycle::speaks_tls(moved.tgid);
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

/// Bytes that a return takes off the stack.
#[cfg(bpf_target_arch = "x86_64")]
const RETURN_ADDRESS: u64 = 8;
#[cfg(bpf_target_arch = "aarch64")]
const RETURN_ADDRESS: u64 = 0;

#[inline(always)]
fn stack_pointer(regs: *mut aya_ebpf::bindings::pt_regs) -> u64 {
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        (*regs).rsp
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        (*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).sp
    }
}
