//! Go: the unit is the goroutine.
//!
//! A register has the address of its `runtime.g` (Go's internal ABI: from Go 1.17 on amd64, from 1.18 on arm64), also at a system
//! call, which is made on the goroutine's own stack.
//!
//! - The goroutine that reads a request from a connection handles it, and so do those that it starts while it does
//!   (`runtime.newproc.func1`, at the call that makes the new one runnable).
//! - One that is started for a request and lives on may work for others, too: a pool's worker. Whether goroutines end with the
//!   request that they were started for is known of the function that they begin with ([`Begun`]).
//! - `net/http`'s server has a second goroutine read ahead, one byte, to see whether the client has gone. If that is the next
//!   request's first byte, the handler may still be busy with the last one: it begins the next one when it reads itself.
//! - `net/http`'s client writes on a goroutine of the connection (`writeLoop`). For whom, is said when `roundTrip` is called
//!   with the connection, which it has for itself until the response is read.

use aya_ebpf::{
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use remora_common::{
    connection::Connection,
    context::{Go, context, unit},
    policy,
    record::{Direction, Role},
    target::runtime,
};

use super::Caller;
use crate::{
    emit,
    golang::{registers, socket_below},
    maps::selection,
    moved::{Moved, SOCKET},
    scan,
    tls::own_stack,
    user::{first_bytes, read_user},
};

#[repr(C)]
#[derive(Clone, Copy)]
struct Goroutine {
    id: u64,
    tgid: u64,
}

impl Goroutine {
    #[inline(always)]
    fn new(id: u64, tgid: u32) -> Self {
        Self { id, tgid: tgid.into() }
    }
}

/// What a goroutine works for.
#[repr(C)]
#[derive(Clone, Copy)]
struct Work {
    context: u64,
    /// The connection that the request came on.
    conn_id: u64,
    /// Address of the function that the goroutine began with, if another one started it for the request; else 0.
    begins: u64,
}

/// A function that goroutines begin with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Function {
    address: u64,
    tgid: u64,
}

/// What is known of the goroutines that began with a function.
#[repr(C)]
#[derive(Clone, Copy)]
struct Begun {
    /// Context of the latest one that has ended before its request was over.
    latest: u64,
    /// For how many works such have ended, one after the other.
    works: u32,
    /// One of them has asked for something when the request that it was started for was over.
    outlived: u32,
}

/// Works for which goroutines have to end that began with a function, before others that begin so are believed to work for who has
/// started them.
const WORKS: u32 = 4;

#[map]
static GO_FUNCTIONS: LruHashMap<Function, Begun> = LruHashMap::with_max_entries(1024, 0);

/// Goroutines that handle a request, or were started by one that does, until they end. The least recently used go, and what they do
/// has no context any more.
#[map]
static GOROUTINES: LruHashMap<Goroutine, Work> = LruHashMap::with_max_entries(4096, 0);

/// The context of what moves on a connection, whoever moves it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tie {
    /// Tells a socket from a later one at the same address.
    inode: u64,
    context: u64,
}

/// By the address of a `struct sock`: of a server's the context of the latest request, of a client's that of who asked last.
#[map]
static GO_CONNECTIONS: LruHashMap<u64, Tie> = LruHashMap::with_max_entries(4096, 0);

/// Where the Go of a process of this byte keeps things.
#[inline(always)]
pub fn layout(selection: u8) -> Option<Go> {
    // VERIFIER: no array, of which it would bound the index.
    match runtime(selection) {
        1 => Some(Go::ALL[0]),
        2 => Some(Go::ALL[1]),
        3 => Some(Go::ALL[2]),
        _ => None,
    }
}

/// The id of the goroutine that makes a call; 0: none does. C code, which may have anything in that register, runs on another stack.
#[inline(always)]
pub fn running(layout: Go, caller: Caller) -> u64 {
    // `g.stack`
    let Some([low, high]) = read_user::<[u64; 2]>(caller.register) else { return 0 };
    if caller.stack_pointer < low || caller.stack_pointer >= high {
        return 0;
    }
    id_of(layout, caller.register)
}

#[inline(always)]
fn id_of(layout: Go, g: u64) -> u64 {
    read_user(g.wrapping_add(layout.goid.into())).unwrap_or(0)
}

/// See [`super::context_of`].
///
/// VERIFIER: a function of its own, so that what comes after it is verified once.
#[inline(never)]
pub fn context_of(moved: &Moved, connection: &Connection, sk: u64) -> u64 {
    let goroutine = Goroutine::new(moved.context, moved.tgid);
    let own = context(goroutine.id, 0);
    let receives = moved.direction == Direction::Rx as u32;
    let serves = connection.role == Role::Server as u8;
    // What a TLS library encrypts is told of where the library moves it. Of answers it does not matter who moves them.
    if receives != serves || connection.object != 0 || connection.policy == policy::CIPHERTEXT {
        return own;
    }
    let tie = GO_CONNECTIONS.get_ptr_mut(sk);
    // SAFETY: a map value, which is copied at once.
    let tie = tie.map(|tie| unsafe { *tie }).filter(|tie| tie.inode == connection.inode);
    if serves {
        return reads_request(&goroutine, moved, connection, sk, tie.map_or(0, |tie| tie.context));
    }
    match tie {
        Some(tie) => tie.context,
        // Whoever was started for a request may write for others, too: a client's own writer, which the first one who asks
        // something starts. Only the goroutine that has read the request is known to write for itself.
        None => work_of(&goroutine)
            .filter(|work| unit(work.context) == goroutine.id as u32)
            .map_or(own, |work| work.context),
    }
}

/// `goroutine` reads on a server's connection, whose latest request has the context `latest`.
#[inline(always)]
fn reads_request(
    goroutine: &Goroutine,
    moved: &Moved,
    connection: &Connection,
    sk: u64,
    latest: u64,
) -> u64 {
    let mut reads = latest;
    if latest == 0 || begins_request(moved, connection) {
        // Who was started for a request of this connection reads ahead for the goroutine that handles them.
        let handler = match work_of(goroutine) {
            Some(work) if work.conn_id == connection.id => unit(work.context).into(),
            _ => goroutine.id,
        };
        // Microseconds: another number for each request of a goroutine.
        let now = (emit::now() >> 10) as u32;
        reads = context(handler, if context(handler, now) == latest { now + 1 } else { now });
        let _ = GO_CONNECTIONS.insert(sk, Tie { inode: connection.inode, context: reads }, 0);
    }
    if unit(reads) == goroutine.id as u32 && work_of(goroutine).is_none_or(|w| w.context != reads) {
        let _ = GOROUTINES.insert(
            goroutine,
            Work { context: reads, conn_id: connection.id, begins: 0 },
            0,
        );
    }
    reads
}

/// Whether these bytes may begin a request: it was the other side's turn, and they are no content that the client has held back
/// until it was asked for (`100 Continue`).
#[inline(always)]
fn begins_request(moved: &Moved, connection: &Connection) -> bool {
    connection.last != Direction::Rx as u8
        && (connection.policy != policy::HEADS
            || moved.len < 8
            || scan::begins_message(first_bytes::<SOCKET>(moved)))
}

#[inline(always)]
fn work_of(goroutine: &Goroutine) -> Option<Work> {
    // SAFETY: the value is copied at once.
    unsafe { GOROUTINES.get(goroutine) }.copied()
}

/// In `runtime.newproc.func1`, at its call of `runtime.runqput(p, new, next)`, on a thread's own stack.
#[uprobe]
pub fn go_starts(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    let [_, new, _, g0] = registers(&ctx);
    let running = || read_user::<u64>(read_user::<u64>(g0 + Go::M)? + u64::from(layout.curg));
    let Some(parent) = running() else { return 0 };
    let parent = Goroutine::new(id_of(layout, parent), tgid);
    if parent.id != 0
        && let Some(mut work) = work_of(&parent)
    {
        work.begins = read_user(new.wrapping_add(Go::PC)).unwrap_or(0);
        let child = Goroutine::new(id_of(layout, new), tgid);
        let _ = GOROUTINES.insert(child, work, 0);
    }
    0
}

/// `runtime.goexit0(goroutine)`, on a thread's own stack.
#[uprobe]
pub fn go_ends(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    let goroutine = Goroutine::new(id_of(layout, registers(&ctx)[0]), tgid);
    if let Some(work) = work_of(&goroutine) {
        if work.begins != 0 && !is_over(&work, goroutine.tgid) {
            ended(&work, goroutine.tgid);
        }
        let _ = GOROUTINES.remove(goroutine);
    }
    0
}

/// A goroutine that was started for `work` has ended before that was over.
#[inline(always)]
fn ended(work: &Work, tgid: u64) {
    let Some(begun) = begun(work, tgid) else { return };
    if begun.latest != work.context {
        begun.latest = work.context;
        begun.works = begun.works.saturating_add(1);
    }
}

/// What is known of goroutines that began with the function of the one that was started for `work`.
#[inline(always)]
fn begun(work: &Work, tgid: u64) -> Option<&'static mut Begun> {
    let function = Function { address: work.begins, tgid };
    if GO_FUNCTIONS.get_ptr_mut(function).is_none() {
        let _ = GO_FUNCTIONS.insert(function, Begun { latest: 0, works: 0, outlived: 0 }, 0);
    }
    // SAFETY: a map value. Two threads may count one work for two, or two for one.
    GO_FUNCTIONS.get_ptr_mut(function).map(|begun| unsafe { &mut *begun })
}

/// Whether the goroutine that has read the request of `work` has ended or reads another one.
#[inline(always)]
fn is_over(work: &Work, tgid: u64) -> bool {
    let handler = Goroutine { id: unit(work.context).into(), tgid };
    work_of(&handler).is_none_or(|now| now.context != work.context)
}

/// The context in which `goroutine` asks.
#[inline(always)]
fn asks(goroutine: &Goroutine) -> u64 {
    let own = context(goroutine.id, 0);
    let Some(work) = work_of(goroutine) else { return own };
    if work.begins == 0 {
        return work.context;
    }
    let Some(begun) = begun(&work, goroutine.tgid) else { return own };
    if is_over(&work, goroutine.tgid) {
        begun.outlived = 1;
    }
    if begun.works >= WORKS && begun.outlived == 0 { work.context } else { own }
}

/// `net/http.(*persistConn).roundTrip(request)`.
#[uprobe]
pub fn go_round_trip(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    let [connection, _, _, g] = registers(&ctx);
    let goroutine = Goroutine::new(id_of(layout, g), tgid);
    // An interface: its type, its value.
    let value = read_user::<u64>(connection + Go::PERSIST_CONN + 8);
    if goroutine.id != 0
        && let Some((_, socket)) = value.and_then(socket_below)
    {
        let context = asks(&goroutine);
        let _ = GO_CONNECTIONS.insert(socket.sk, Tie { inode: socket.inode, context }, 0);
    }
    0
}
