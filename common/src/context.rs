//! Execution contexts: what [`crate::record::Data::context`] says, and how the kernel side recognises them.
//!
//! A context is a *unit* that runs (a goroutine; a task) and the *work* that it does: a unit that serves one request after the
//! other has another work for each. A unit that another one starts takes over the context of that one, so that it means
//! the request that was handled when it was started, and not those that follow on the same unit.
//!
//! Of a thread nothing is said here: the record has its number.

/// The context of `unit` while it does `work`; a work of 0 is none in particular. Of a unit's number the lower half counts:
/// two that have it in common are four billion units apart.
#[must_use]
pub const fn context(unit: u64, work: u32) -> u64 {
    unit << 32 | work as u64
}

/// The unit of a context; 0: none is known beyond the thread.
#[must_use]
pub const fn unit(context: u64) -> u32 {
    (context >> 32) as u32
}

/// The work of a context.
#[must_use]
pub const fn work(context: u64) -> u32 {
    context as u32
}

/// Where a release of Go keeps things; all are stable within a minor version. Verified with the debug information of programs
/// that each of 1.19 to 1.26 built, on amd64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Go {
    /// `runtime.g.goid`
    pub goid: u32,
    /// `runtime.m.curg`
    pub curg: u32,
}

impl Go {
    /// `runtime.g.m`
    pub const M: u64 = 48;
    /// `runtime.g.sched.pc`: of a goroutine that has not run yet, where it begins.
    pub const PC: u64 = 64;
    /// `net/http.persistConn.conn`
    pub const PERSIST_CONN: u64 = 80;
    /// `http2.serverConn.conn` and `http2.stream.id`; a `responseWriter` begins with its state, and that with its stream.
    pub const SERVER_CONN: u64 = 16;
    pub const STREAM_ID: u64 = 8;
    /// `transport.headerFrame.initStream` of grpc-go, which a client's has; it begins with the stream's identifier.
    pub const INIT_STREAM: u64 = 40;

    /// By number of the runtime in [`crate::target::runtime`], from 1 on.
    pub const ALL: [Self; 3] = [
        // 1.19 to 1.22
        Self { goid: 152, curg: 192 },
        // 1.23, 1.24: `g.syscallbp`
        Self { goid: 160, curg: 192 },
        // 1.25, 1.26: no `gobuf.ret`
        Self { goid: 152, curg: 184 },
    ];

    /// The number of the runtime of Go 1.`minor`; `None` if it is not known where that keeps things.
    #[must_use]
    pub const fn runtime(minor: u32) -> Option<u8> {
        match minor {
            19..=22 => Some(1),
            23 | 24 => Some(2),
            25 | 26 => Some(3),
            _ => None,
        }
    }
}

/// Where the tokio of a program keeps things.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokio {
    /// From a thread's pointer to the id of the task that it polls, which is 0 while it polls none.
    pub current: u64,
    /// 1: the word before it is 1 while it polls one, and the id is anything while not.
    pub flagged: u64,
    /// From what both ends of a channel share to `mpsc::chan::Chan::tx`.
    pub sender: u64,
}

impl Tokio {
    /// Its number in [`crate::target::runtime`].
    pub const RUNTIME: u8 = 4;

    /// `task::Header::vtable`; this and the next ones in tokio 1.30 to 1.54.
    pub const TABLE: u64 = 16;
    /// `task::raw::Vtable::trailer_offset`, behind which stand `scheduler_offset` and `id_offset`.
    pub const OFFSETS: u64 = 56;
    /// In `task::Header::state`, the header's first word: the task has ended.
    pub const COMPLETE: u64 = 1 << 1;
    /// There is a `JoinHandle`.
    pub const JOIN_INTEREST: u64 = 1 << 3;

    /// Whether it is the runtime in the byte of a process.
    #[must_use]
    pub const fn is_of(flags: u8) -> bool {
        crate::target::runtime(flags) == Self::RUNTIME
    }
}

/// Processes of tokio whose contexts are followed at once.
pub const MAX_TOKIO: u32 = 1024;

const _: () = assert!(Go::ALL.len() < Tokio::RUNTIME as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_says_its_unit_and_its_work() {
        for (number, part) in [(1, 1), (u64::from(u32::MAX), u32::MAX), (1 << 32 | 7, 7)] {
            for of in [0, 1, u32::MAX] {
                let both = context(number, of);
                assert_eq!((unit(both), work(both)), (part, of));
            }
        }
        assert_eq!(unit(0), 0, "nothing beyond the thread");
    }
}
