//! Which processes are captured (see [`remora_common::target`]), and what the agent is told of them.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_comm, bpf_get_current_task},
    macros::map,
    maps::{HashMap, LruHashMap},
};
use remora_common::{
    connection::Connection,
    record::{Kind, Process as Record, ProcessChange},
    target::{Descendant, INHERIT, MAX_PROCESSES, Process, RUNTIME, TICK_NS},
};

use crate::{emit, kernel, maps};

/// Written by the agent alone.
#[map]
static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// Written by the kernel side alone. The agent hears of every descendant within milliseconds and enters it
/// in [`PROCESSES`], so those that were not used for long may go.
#[map]
static DESCENDANTS: LruHashMap<u32, Descendant> = LruHashMap::with_max_entries(1024, 0);

/// Whether the process that runs, whose number is selected, is the one that was meant. Asked once for each
/// connection that it uses.
#[inline(always)]
pub fn may_use(connection: &mut Connection, tgid: u32) -> bool {
    if connection.user == tgid {
        return true;
    }
    let meant = is_meant(tgid);
    if meant {
        connection.user = tgid;
    }
    meant
}

#[inline(never)]
fn is_meant(tgid: u32) -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let Some(start_ns) = kernel::start_of(task) else { return false };
    // SAFETY: the values are read at once.
    unsafe {
        PROCESSES.get(tgid).is_some_and(|process| process.start_ticks == start_ns / TICK_NS)
            || DESCENDANTS.get(tgid).is_some_and(|descendant| descendant.start_ns == start_ns)
    }
}

/// `parent` makes the process `child`, whose task is `task` and which does not run yet: nobody else writes what stands
/// under its number, which may be that of a process that has ended.
#[inline(always)]
pub fn forked(parent: u32, child: u32, task: u64) {
    let selection = maps::selection(parent);
    let Some(byte) = maps::target(child) else { return };
    if selection & INHERIT == 0 || !is_meant(parent) {
        // SAFETY: a byte of the table.
        unsafe {
            if byte.read_volatile() != 0 {
                byte.write_volatile(0);
            }
        }
        return;
    }
    let start_ns = kernel::start_of(task).unwrap_or(0);
    let _ = DESCENDANTS.insert(child, Descendant { start_ns, said_tls: 0 }, 0);
    // SAFETY: a byte of the table.
    unsafe { byte.write_volatile(selection) };
    report(ProcessChange::Fork, (child, 0), parent, selection, start_ns);
}

/// The thread `tid` of a selected process was started by the one that runs, or ends. Where units beyond threads are followed, nobody asks.
#[inline(always)]
pub fn thread(change: ProcessChange, tgid: u32, tid: u32, by: u32) {
    let selection = maps::selection(tgid);
    if selection != 0 && selection & RUNTIME == 0 {
        report(change, (tgid, tid), by, selection, 0);
    }
}

/// The process became another program. What was said of the old image is to be said again of the new one.
#[inline(always)]
pub fn became(tgid: u32, selection: u8) {
    let followed = selection & RUNTIME != 0;
    let selection = selection & !RUNTIME;
    if followed && let Some(byte) = maps::target(tgid) {
        // SAFETY: a byte of the table.
        unsafe { byte.write_volatile(selection) };
    }
    if selection != 0
        && let Some(descendant) = DESCENDANTS.get_ptr_mut(tgid)
    {
        // SAFETY: a map value; preallocated, so never unmapped.
        unsafe { (*descendant).said_tls = 0 };
    }
    report_current(ProcessChange::Exec, tgid, selection);
}

/// The last thread of a selected process ends.
#[inline(always)]
pub fn ended(tgid: u32, selection: u8) {
    if let Some(byte) = maps::target(tgid) {
        // SAFETY: a byte of the table.
        unsafe { byte.write_volatile(0) };
    }
    let _ = DESCENDANTS.remove(tgid);
    report_current(ProcessChange::Exit, tgid, selection);
}

/// Says, once for each program image, that a selected process moves ciphertext outside of the calls
/// that are probed: its library was mapped lately, or is not one that is read.
pub fn speaks_tls(tgid: u32) {
    if let Some(descendant) = DESCENDANTS.get_ptr_mut(tgid) {
        // SAFETY: a map value; preallocated, so never unmapped. Of two threads both may say it.
        unsafe {
            if (*descendant).said_tls != 0 {
                return;
            }
            (*descendant).said_tls = 1;
        }
    } else {
        let _ = DESCENDANTS.insert(tgid, Descendant { start_ns: 0, said_tls: 1 }, 0);
    }
    report_current(ProcessChange::SpeaksTls, tgid, maps::selection(tgid));
}

#[inline(always)]
fn report_current(change: ProcessChange, tgid: u32, selection: u8) {
    // SAFETY: the helper has no preconditions.
    let start_ns = kernel::start_of(unsafe { bpf_get_current_task() });
    report(change, (tgid, 0), 0, selection, start_ns.unwrap_or(0));
}

#[inline(always)]
fn report(
    change: ProcessChange,
    (tgid, tid): (u32, u32),
    parent_tgid: u32,
    selection: u8,
    start_ns: u64,
) {
    let Some(mut entry) = emit::reserve::<Record>() else { return };
    let process = entry.as_mut_ptr();
    // SAFETY: `process` points to reserved ring memory of the record's size; all of it is written, in
    // place: a whole record would not fit on the stack beside what the callers have there.
    unsafe {
        (*process).kind = Kind::Process as u8;
        (*process).change = change as u8;
        (*process).selection = selection;
        (*process).reserved = 0;
        (*process).tgid = tgid;
        (*process).parent_tgid = parent_tgid;
        (*process).tid = tid;
        (*process).mono_ns = emit::now();
        let comm = &raw mut (*process).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
        (*process).start_ns = start_ns;
    }
    // Threads may come and go with each connection.
    if tid == 0 { emit::submit_urgent(entry) } else { emit::submit(entry) }
}
