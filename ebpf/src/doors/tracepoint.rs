//! Per-call tracepoints (`syscalls:sys_enter_read`, `sys_exit_read` ...): arguments are remembered at
//! entry, in place, and used at exit. This door also knows when a call began.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::HashMap,
    programs::TracePointContext,
};
use remora_common::counter::Counter;

use crate::{
    emit,
    maps::{self, selection},
    more,
    moved::SOCKET,
    syscall::{self, Call},
};

/// Layout of every `sys_enter_*` and `sys_exit_*` event (tracefs `format`): number at 8, the first
/// argument or the result at 16.
const NR: usize = 8;
const FIRST: usize = 16;

/// A call in progress.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    nr: u64,
    begin_ns: u64,
    args: [u64; 4],
}

/// Calls in progress by thread; overwritten by the thread's next call.
#[map]
static ENTRIES: HashMap<u32, Entry> = HashMap::with_max_entries(8192, 0);

#[inline(always)]
fn field<T>(ctx: &TracePointContext, offset: usize) -> Option<T> {
    // SAFETY: within the event's record, which the kernel copies from.
    unsafe { ctx.read_at(offset).ok() }
}

#[tracepoint]
pub fn sys_enter(ctx: TracePointContext) -> u32 {
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let (Some(nr), Some(args)) = (field::<i32>(&ctx, NR), field(&ctx, FIRST)) else { return 0 };
    let entry = Entry { nr: nr as u64, begin_ns: emit::now(), args };
    if let Some(slot) = ENTRIES.get_ptr_mut(tid) {
        // SAFETY: only this thread writes its entry.
        unsafe { slot.write(entry) };
    } else if ENTRIES.insert(tid, entry, 0).is_err() {
        maps::count(Counter::EntriesFull);
    }
    0
}

#[tracepoint]
pub fn sys_exit(ctx: TracePointContext) -> u32 {
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let (Some(nr), Some(result)) = (field::<i32>(&ctx, NR), field::<i64>(&ctx, FIRST)) else {
        return 0;
    };
    if let Some(slot) = ENTRIES.get_ptr_mut(tid) {
        // SAFETY: only this thread writes its entry.
        let entry = unsafe { slot.read() };
        if entry.nr == nr as u64 {
            let Entry { nr, begin_ns, args } = entry;
            if syscall::finished(&Call { nr, args, result, begin_ns, tgid, tid }) {
                more::jump(&ctx);
            }
        }
    }
    0
}

/// Never attached: see [`more`].
#[tracepoint]
pub fn sys_exit_more(ctx: TracePointContext) -> u32 {
    if more::of_thread::<SOCKET>(emit::current().1) {
        more::jump(&ctx);
    }
    0
}

/// A thread that ends gives its entry back.
pub fn forget(tid: u32) {
    let _ = ENTRIES.remove(tid);
}
