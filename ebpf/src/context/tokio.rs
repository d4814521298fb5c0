//! tokio: the unit is the task.
//!
//! A variable of each thread has the id of the task that is polled there (`tokio::runtime::context::CONTEXT`, from which
//! `tokio::task::id` tells it); a task that polls another one has its own again behind it. It is read where it is needed, and no poll costs
//! anything.
//!
//! - The task that reads a request from a connection handles it, and so do those that it starts while it does
//!   (`OwnedTasks::bind_inner`, `Spawner::spawn_task`), if somebody holds them, and if others that begin so were waited for by who has
//!   started them: what nobody waits for may work for anybody.
//! - hyper's client writes on a task of the connection. For whom, is said when a request is put into the connection's channel
//!   (`mpsc::list::Tx::push`), which takes one at a time, from whoever has the connection to itself.

use aya_ebpf::{
    helpers::generated::bpf_get_current_task,
    macros::{map, uprobe},
    maps::{HashMap, LruHashMap},
    programs::ProbeContext,
};
use remora_common::{
    connection::Connection,
    context::{MAX_TOKIO, Tokio, context},
    record::Direction,
};

use super::work::{self, Unit, Work};
use crate::{
    emit, kernel,
    maps::selection,
    moved::{Moved, SOCKET},
    offset, scan,
    tls::own_stack,
    user::{first_bytes, read_user},
};

/// Where the tokio of a process keeps things, by process id. The agent writes it before it marks the process.
#[map]
static TOKIO: HashMap<u32, Tokio> = HashMap::with_max_entries(MAX_TOKIO, 0);

/// Contexts that have put a request into a channel of hyper's client which was not written yet, by the address of the sender's end of
/// the channel.
#[map]
static ASKED: LruHashMap<Unit, u64> = LruHashMap::with_max_entries(1024, 0);

/// The channels that tasks of connections take their requests from, as they are called in [`ASKED`]. One that was forgotten is found
/// again when the task takes the next request.
#[map]
static CHANNELS: LruHashMap<Unit, u64> = LruHashMap::with_max_entries(1024, 0);

/// In [`CHANNELS`]: a task that has more than one connection.
const SEVERAL: u64 = 1;

/// Where the tokio of a process of this byte keeps things.
#[inline(always)]
fn layout(selection: u8, tgid: u32) -> Option<Tokio> {
    if !Tokio::is_of(selection) {
        return None;
    }
    // SAFETY: the value is copied at once.
    unsafe { TOKIO.get(tgid) }.copied()
}

/// The id of the task that is polled by this thread; 0: none is.
#[inline(always)]
pub fn running(selection: u8, tgid: u32) -> u64 {
    layout(selection, tgid).map_or(0, current)
}

#[inline(always)]
fn current(layout: Tokio) -> u64 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let own = kernel::read::<u64>(task, offset!(task_thread_pointer)).unwrap_or(0);
    if own == 0 {
        return 0;
    }
    let at = own.wrapping_add(layout.current);
    let Some([flag, id]) = read_user::<[u64; 2]>(at.wrapping_sub(8)) else { return 0 };
    if layout.flagged == 1 && flag != 1 { 0 } else { id }
}

/// The task whose header is at `header`, and a number of the function that it begins with.
#[inline(always)]
fn task_at(header: u64, tgid: u32) -> Option<(Unit, u64)> {
    let table = read_user::<u64>(header.wrapping_add(Tokio::TABLE))?;
    // `trailer_offset`, `scheduler_offset`, `id_offset`
    let [end, _, id_at] = read_user::<[u64; 3]>(table.wrapping_add(Tokio::OFFSETS))?;
    if id_at >= end || end > 1 << 32 {
        return None;
    }
    let id = read_user::<u64>(header.wrapping_add(id_at))?;
    // Behind the id: which state the future is in, and itself. If it is a trait object, its type is told by the table that it has.
    let mut begins = table;
    if end - id_at <= SMALL {
        begins ^= read_user::<u64>(header.wrapping_add(id_at + 24))?.rotate_left(32);
    }
    (id != 0 && id >> 32 == 0).then_some((Unit::new(id, tgid), begins))
}

/// Most bytes from its id to its end of a task whose future is a box, and whose result is nothing or an error of tokio.
const SMALL: u64 = 64;

/// The first two arguments.
#[inline(always)]
fn arguments(ctx: &ProbeContext) -> [u64; 2] {
    let regs = ctx.regs;
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        [(*regs).rdi, (*regs).rsi]
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        let regs = &(*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).regs;
        [regs[0], regs[1]]
    }
}

/// `OwnedTasks::bind_inner(self, task, ..)` and `Spawner::spawn_task(self, task, ..)`.
#[uprobe]
pub fn tokio_starts(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid), tgid) else { return 0 };
    let [_, header] = arguments(&ctx);
    if let Some(of) = work::inherited(&Unit::new(current(layout), tgid))
        && let Some((child, begins)) = task_at(header, tgid)
    {
        work::starts(&child, &Work { begins, place: header, ..of });
    }
    0
}

/// `Schedule::release(self, task)`: the task has ended.
#[uprobe]
pub fn tokio_ends(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    if !Tokio::is_of(selection(tgid)) {
        return 0;
    }
    let [_, task] = arguments(&ctx);
    // A reference to what holds the header's address; where all is optimised as one, that address. A header begins with flags and a
    // count.
    let Some(word) = read_user::<u64>(task) else { return 0 };
    let header = if word >> 32 == 0 { task } else { word };
    if let Some((task, _)) = task_at(header, tgid) {
        let _ = CHANNELS.remove(task);
        // Of one that was started and that somebody holds it is learned who that is.
        if !(is_held(header) && work::of(&task).is_some_and(|work| work.begins != 0)) {
            work::forget(&task);
        }
    }
    0
}

/// `task::raw::drop_join_handle_slow(header)`: who has held the task does not any more. If that is behind its end, and the holder works
/// for the request that the task was started for, the holder has waited for it.
#[uprobe]
pub fn tokio_joins(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid), tgid) else { return 0 };
    let [header, _] = arguments(&ctx);
    if state(header) & Tokio::COMPLETE != 0
        && let Some((task, _)) = task_at(header, tgid)
        && let Some(of) = work::of(&task)
        && of.begins != 0
    {
        let holder = work::of(&Unit::new(current(layout), tgid));
        if holder.is_some_and(|holder| holder.context == of.context) {
            work::ends(&task);
        } else {
            work::is_for_others(&task, &of);
            work::forget(&task);
        }
    }
    0
}

/// Flags and a count, of the task whose header is at `header`.
#[inline(always)]
fn state(header: u64) -> u64 {
    read_user(header).unwrap_or(0)
}

/// Whether somebody has the `JoinHandle` of a task.
#[inline(always)]
fn is_held(header: u64) -> bool {
    state(header) & Tokio::JOIN_INTEREST != 0
}

/// `mpsc::list::Tx::push(self, value)` or what it calls, of a channel of hyper's client.
#[uprobe]
pub fn hyper_asks(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid), tgid) else { return 0 };
    let [channel, _] = arguments(&ctx);
    // Also if no task does: what was there before is not for this request.
    let context = asks(current(layout), tgid);
    let _ = ASKED.insert(Unit::new(channel, tgid), context, 0);
    0
}

/// The context in which the task asks.
#[inline(always)]
fn asks(id: u64, tgid: u32) -> u64 {
    let unit = Unit::new(id, tgid);
    let context_of_work = work::asks(&unit);
    match work::of(&unit) {
        Some(work) if work.begins != 0 && !(is_at(work.place, id) && is_held(work.place)) => {
            context(id, 0)
        }
        _ => context_of_work,
    }
}

/// Whether the header of the task of this id is at `header`.
#[inline(always)]
fn is_at(header: u64, id: u64) -> bool {
    task_at(header, 0).is_some_and(|(task, _)| task.id == id)
}

/// `mpsc::chan::Rx::recv(result, self, ..)` of a channel of hyper's client.
#[uprobe]
pub fn hyper_takes(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid), tgid) else { return 0 };
    let arguments = arguments(&ctx);
    let receiver = arguments[if cfg!(bpf_target_arch = "aarch64") { 0 } else { 1 }];
    // What it refers to; where all is optimised as one, it is given by itself.
    let shared = [read_user::<u64>(receiver).unwrap_or(0), receiver];
    let asked = |shared: u64| {
        let channel = shared.wrapping_add(layout.sender);
        // SAFETY: the value is not looked at.
        unsafe { ASKED.get(Unit::new(channel, tgid)) }.map(|_| channel)
    };
    let Some(channel) = asked(shared[0]).or_else(|| asked(shared[1])) else { return 0 };
    let task = Unit::new(current(layout), tgid);
    // SAFETY: the value is copied at once.
    let known = unsafe { CHANNELS.get(task) }.copied();
    if task.id != 0 && known != Some(channel) {
        let channel = if known.is_none() { channel } else { SEVERAL };
        let _ = CHANNELS.insert(task, channel, 0);
    }
    0
}

/// For whom the task `writer` writes on a client's connection, if it is a connection's task.
#[inline(always)]
pub fn writes(writer: &Unit, moved: &Moved, connection: &Connection, sk: u64) -> Option<u64> {
    // SAFETY: the value is copied at once.
    let channel = unsafe { CHANNELS.get(writer) }.copied()?;
    let own = context(writer.id, 0);
    let channel = Unit { id: channel, tgid: writer.tgid };
    let first = first_bytes::<SOCKET>(moved);
    // With HTTP/2 a connection may have several requests at once.
    if scan::begins_message(first)
        && !scan::begins_http2(first)
        // SAFETY: the value is copied at once.
        && let Some(asked) = unsafe { ASKED.get(channel) }.copied()
    {
        let _ = ASKED.remove(channel);
        let asked = if asked == 0 { own } else { asked };
        work::tie(sk, connection.inode, asked);
        return Some(asked);
    }
    // More of the same request.
    let of = if connection.last == Direction::Tx as u8 { work::tied(sk, connection) } else { None };
    Some(of.unwrap_or(own))
}
