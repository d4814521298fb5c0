//! What units work for, whichever runtime has them: which request a unit has read, which one it was started for, and whose requests
//! a connection carries.
//!
//! - The unit that reads a request from a connection handles it, and so do those that it starts while it does.
//! - One that is started for a request and lives on may work for others, too: a pool's worker. Whether units end with the
//!   request that they were started for is known of the function that they begin with ([`Begun`]).
//! - A unit of its own may write for others on a client's connection. For whom, the runtime's file says of the connection ([`tie`]).

use aya_ebpf::{macros::map, maps::LruHashMap};
use remora_common::{
    connection::Connection,
    context::{context, unit},
    policy,
    record::Direction,
};

use crate::{
    emit,
    moved::{Moved, SOCKET},
    scan,
    user::first_bytes,
};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Unit {
    pub id: u64,
    pub tgid: u64,
}

impl Unit {
    #[inline(always)]
    pub fn new(id: u64, tgid: u32) -> Self {
        Self { id, tgid: tgid.into() }
    }
}

/// What a unit works for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    pub context: u64,
    /// The connection that the request came on.
    pub conn_id: u64,
    /// The function that the unit began with, if another one started it for the request; else 0.
    pub begins: u64,
    /// Where the runtime has the unit, if its file needs that again.
    pub place: u64,
}

/// A function that units begin with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Function {
    number: u64,
    tgid: u64,
}

/// What is known of the units that began with a function.
#[repr(C)]
#[derive(Clone, Copy)]
struct Begun {
    /// Context of the latest one that has ended before its request was over.
    latest: u64,
    /// For how many works such have ended, one after the other.
    works: u32,
    /// One of them has asked for something when the request that it was started for was over, or was for others in another way.
    outlived: u32,
}

impl Begun {
    /// Whether those units are known to end with the request that they were started for.
    #[inline(always)]
    fn ends_with_request(&self) -> bool {
        self.works >= WORKS && self.outlived == 0
    }
}

/// Works for which units have to end that began with a function, before others that begin so are believed to work for who has
/// started them.
const WORKS: u32 = 4;

#[map]
static FUNCTIONS: LruHashMap<Function, Begun> = LruHashMap::with_max_entries(1024, 0);

/// Units that handle a request, or were started by one that does, until they end. The least recently used go, and what they do
/// has no context any more.
#[map]
static UNITS: LruHashMap<Unit, Work> = LruHashMap::with_max_entries(4096, 0);

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
static TIES: LruHashMap<u64, Tie> = LruHashMap::with_max_entries(4096, 0);

/// Whose the connection of the socket at `sk` is now.
#[inline(always)]
pub fn tie(sk: u64, inode: u64, context: u64) {
    let _ = TIES.insert(sk, Tie { inode, context }, 0);
}

/// The context that the connection was tied to.
#[inline(always)]
pub fn tied(sk: u64, connection: &Connection) -> Option<u64> {
    let tie = TIES.get_ptr_mut(sk);
    // SAFETY: a map value, which is copied at once.
    let tie = tie.map(|tie| unsafe { *tie })?;
    (tie.inode == connection.inode).then_some(tie.context)
}

/// `reader` reads on a server's connection.
#[inline(always)]
pub fn reads_request(reader: &Unit, moved: &Moved, connection: &Connection, sk: u64) -> u64 {
    let latest = tied(sk, connection).unwrap_or(0);
    let mut reads = latest;
    if latest == 0 || begins_request(moved, connection) {
        // Who was started for a request of this connection reads ahead for the unit that handles them.
        let handler = match of(reader) {
            Some(work) if work.conn_id == connection.id => unit(work.context).into(),
            _ => reader.id,
        };
        // Microseconds: another number for each request of a unit.
        let now = (emit::now() >> 10) as u32;
        reads = context(handler, if context(handler, now) == latest { now + 1 } else { now });
        tie(sk, connection.inode, reads);
    }
    if unit(reads) == reader.id as u32 && of(reader).is_none_or(|work| work.context != reads) {
        let work = Work { context: reads, conn_id: connection.id, begins: 0, place: 0 };
        let _ = UNITS.insert(reader, work, 0);
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

/// What `unit` works for.
#[inline(always)]
pub fn of(unit: &Unit) -> Option<Work> {
    // SAFETY: the value is copied at once.
    unsafe { UNITS.get(unit) }.copied()
}

/// The context of what `writer` writes by itself. Whoever was started for a request may write for others, too: a client's own
/// writer, which the first one who asks something starts. Only the unit that has read the request is known to write for itself.
#[inline(always)]
pub fn writes(writer: &Unit) -> u64 {
    match of(writer) {
        Some(work) if unit(work.context) == writer.id as u32 => work.context,
        Some(work) if work.place == WRITER && !is_over(&work, writer.tgid) => work.context,
        _ => context(writer.id, 0),
    }
}

/// What a unit that `parent` starts works for: nothing, if `parent` may work for others than who has started it.
#[inline(always)]
pub fn inherited(parent: &Unit) -> Option<Work> {
    let work = of(parent)?;
    let believed = work.begins == 0
        || begun(&work, parent.tgid).is_some_and(|begun| begun.ends_with_request())
            && !is_over(&work, parent.tgid);
    believed.then_some(work)
}

/// `child` is started for `work`.
#[inline(always)]
pub fn starts(child: &Unit, work: &Work) {
    let _ = UNITS.insert(child, work, 0);
}

/// `unit` begins to handle a request that came on the connection `conn_id`, whoever has read it. The context of that work.
#[inline(always)]
pub fn handles(unit: &Unit, conn_id: u64) -> u64 {
    // As in `reads_request`.
    let context = context(unit.id, (emit::now() >> 10) as u32);
    let _ = UNITS.insert(unit, Work { context, conn_id, begins: 0, place: 0 }, 0);
    context
}

/// `unit` was started to write one request of who has started it.
#[inline(always)]
pub fn writes_for_starter(unit: &Unit) {
    if let Some(work) = UNITS.get_ptr_mut(unit) {
        // SAFETY: a map value; a unit is on one thread at a time.
        unsafe { (*work).place = WRITER };
    }
}

/// In [`Work::place`], of a runtime whose file does not need it: see [`writes_for_starter`].
const WRITER: u64 = 1;

/// `unit` has ended, and nothing speaks against its having worked for its request alone.
#[inline(always)]
pub fn ends(unit: &Unit) {
    let Some(work) = of(unit) else { return };
    if work.begins != 0
        && !is_over(&work, unit.tgid)
        && let Some(begun) = begun(&work, unit.tgid)
        && begun.latest != work.context
    {
        begun.latest = work.context;
        begun.works = begun.works.saturating_add(1);
    }
    forget(unit);
}

/// `unit` has ended, and nothing is to be learned from it.
#[inline(always)]
pub fn forget(unit: &Unit) {
    let _ = UNITS.remove(unit);
}

/// `unit`, which was started for `work`, turns out to be for others, too.
#[inline(always)]
pub fn is_for_others(unit: &Unit, work: &Work) {
    if let Some(begun) = begun(work, unit.tgid) {
        begun.outlived = 1;
    }
}

/// What is known of units that began with the function of the one that was started for `work`.
#[inline(always)]
fn begun(work: &Work, tgid: u64) -> Option<&'static mut Begun> {
    let function = Function { number: work.begins, tgid };
    if FUNCTIONS.get_ptr_mut(function).is_none() {
        let _ = FUNCTIONS.insert(function, Begun { latest: 0, works: 0, outlived: 0 }, 0);
    }
    // SAFETY: a map value. Two threads may count one work for two, or two for one.
    FUNCTIONS.get_ptr_mut(function).map(|begun| unsafe { &mut *begun })
}

/// Whether the unit that has read the request of `work` has ended or reads another one.
#[inline(always)]
fn is_over(work: &Work, tgid: u64) -> bool {
    let handler = Unit { id: unit(work.context).into(), tgid };
    of(&handler).is_none_or(|now| now.context != work.context)
}

/// The context in which `unit` asks.
#[inline(always)]
pub fn asks(unit: &Unit) -> u64 {
    let own = context(unit.id, 0);
    let Some(work) = of(unit) else { return own };
    if work.begins == 0 {
        return work.context;
    }
    let Some(begun) = begun(&work, unit.tgid) else { return own };
    if is_over(&work, unit.tgid) {
        begun.outlived = 1;
    }
    if begun.ends_with_request() { work.context } else { own }
}
