//! Processes and TCP states: children inherit the selection of their parent before they run, new
//! program images and listeners are told to the agent, ended processes and connections are forgotten.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use remora_common::{
    connection::closing,
    record::{CloseCause, Kind, Listen, ProcessChange},
};

use crate::{
    connection, doors, emit, kernel,
    maps::{self, CONNECTIONS, CONTROL},
    more, offset, process,
    tls::calls,
};

/// `sched_process_fork(parent, child)`: in the parent, before the child runs.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    let child: u64 = ctx.arg(1);
    let thread = |member| kernel::read::<u32>(child, member);
    let (tgid, tid) = emit::current();
    let Some(id) = kernel::thread_id(child) else { return 0 };
    // A thread's tgid is its parent's.
    if thread(offset!(task_tgid)) == thread(offset!(task_pid)) {
        process::forked(tgid, id, child);
    } else {
        process::thread(ProcessChange::ThreadStart, tgid, id, tid);
    }
    0
}

/// `sched_process_exec(task, old_pid, bprm)`: in the process, with its new image.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(_ctx: RawTracePointContext) -> i32 {
    let tgid = emit::current().0;
    let selection = maps::selection(tgid);
    // A process of another pid namespace has no number.
    if selection != 0 || tgid != 0 && control().is_some_and(|(exec, _)| exec) {
        process::became(tgid, selection);
    }
    0
}

/// `sched_process_exit(task)`: for each thread, in that thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(ctx: RawTracePointContext) -> i32 {
    let (tgid, tid) = emit::current();
    // Whether its process is selected or not: that may have ended since, and of threads that end at once the one that says
    // that all have may come before others.
    doors::tracepoint::forget(tid);
    calls::forget(tid);
    more::forget(tid);
    let selection = maps::selection(tgid);
    if selection == 0 {
        return 0;
    }
    // Threads still alive in the group; this one is no longer counted (do_exit).
    let live = kernel::read::<u64>(ctx.arg(0), offset!(task_signal))
        .and_then(|signal| kernel::read::<u32>(signal, offset!(signal_live)));
    let last = live.map_or(tgid == tid, |live| live == 0);
    if last {
        process::ended(tgid, selection);
    } else {
        process::thread(ProcessChange::ThreadExit, tgid, tid, 0);
    }
    0
}

/// What the agent wants to be told of unselected processes: exec, listen.
#[inline(always)]
fn control() -> Option<(bool, bool)> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: a map value, shared with the agent: volatile, word by word.
    unsafe {
        let exec = (&raw const (*control).watch_exec).read_volatile() != 0;
        let listen = (&raw const (*control).watch_listen).read_volatile() != 0;
        Some((exec, listen))
    }
}

/// States of `inet_sock_set_state` (include/net/tcp_states.h).
mod state {
    pub const FIN_WAIT1: u32 = 4;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
}

/// `inet_sock_set_state(sk, old, new)`: wherever it happens, also in interrupts.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn socket_state(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let state: u32 = ctx.arg(2);
    match state {
        state::FIN_WAIT1 | state::LAST_ACK => {
            if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
                // SAFETY: a map value; preallocated, so never unmapped.
                let connection = unsafe { &mut *connection };
                connection::catch_up(connection, sk, state == state::LAST_ACK);
                connection.closing |= closing::FIN;
                connection::close(connection, CloseCause::LocalFin, 0);
            }
        }
        state::CLOSE_WAIT => connection::peer_is_done(sk),
        state::CLOSE => connection::ended(sk),
        state::LISTEN => listening(sk),
        _ => {}
    }
    0
}

/// `tcp_destroy_sock(sk)`: nobody reads any more what it may still hold.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn socket_destroyed(ctx: RawTracePointContext) -> i32 {
    connection::destroyed(ctx.arg(0));
    0
}

fn listening(sk: u64) {
    let tgid = emit::current().0;
    if tgid == 0 || !control().is_some_and(|(_, listen)| listen) {
        return;
    }
    emit::urgent(&Listen {
        kind: Kind::Listen as u8,
        selection: maps::selection(tgid),
        family: kernel::read(sk, offset!(sock_family)).unwrap_or(0),
        port: kernel::read(sk, offset!(sock_num)).unwrap_or(0),
        reserved: 0,
        tgid,
        netns: kernel::netns(sk),
        mono_ns: emit::now(),
    });
}
