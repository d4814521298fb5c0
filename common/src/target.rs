//! Which processes are captured. Two tables say so together:
//!
//! - `TARGETS`, one byte for each process id, is the filter: a single load decides for everybody who is not selected. The
//!   agent stores there whom it selects, the kernel side what a child inherits before it runs, and 0 where
//!   a process ends or a number is given to a process that nobody selected. Nobody reads, changes and writes a byte.
//! - `PROCESSES` says who was meant: a number is given again, and a byte may have been stored for a process that ended
//!   meanwhile. Only the agent writes it. Before a process moves bytes on a connection for the first time it is asked
//!   whether the process is the one that was selected.

/// Flags of the bytes in `TARGETS`: captured.
pub const SELECTED: u8 = 1 << 0;
/// Its future children are selected as it is.
pub const INHERIT: u8 = 1 << 1;

/// Bits of the number of the runtime whose contexts are followed: 0 for threads, else one of [`crate::context`]. The agent adds
/// them to the byte of a process that is selected; a new program image has none.
pub const RUNTIME: u8 = 0b1111 << RUNTIME_SHIFT;
const RUNTIME_SHIFT: u32 = 4;

/// The runtime in the byte of a process.
#[must_use]
pub const fn runtime(flags: u8) -> u8 {
    flags >> RUNTIME_SHIFT
}

/// `flags` with the number of a runtime.
#[must_use]
pub const fn with_runtime(flags: u8, runtime: u8) -> u8 {
    flags & !RUNTIME | runtime << RUNTIME_SHIFT
}

/// Processes that may be selected at once, the size of `PROCESSES`.
pub const MAX_PROCESSES: u32 = 8192;

/// Value of `PROCESSES`, by process id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// When it was started, in [`TICK_NS`] since boot: with its number its identity, as `/proc/PID/stat` has it.
    pub start_ticks: u64,
}

/// The unit in which the kernel tells user space when a process was started (`USER_HZ` is 100 on all architectures that
/// Remora runs on).
pub const TICK_NS: u64 = 10_000_000;

/// Value of `DESCENDANTS`, by process id: what the kernel side itself knows of selected processes. The agent reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// When a process that inherited its selection was started, nanoseconds since boot; 0: it did not.
    pub start_ns: u64,
    /// [`crate::record::ProcessChange::SpeaksTls`] was sent of its program image.
    pub said_tls: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_stands_beside_the_flags() {
        let selected = SELECTED | INHERIT;
        assert_eq!(runtime(selected), 0);
        let marked = with_runtime(selected, 3);
        assert_eq!((runtime(marked), marked & !RUNTIME), (3, selected));
        assert_eq!(with_runtime(marked, 0), selected);
        assert_eq!(runtime(with_runtime(marked, 1)), 1);
    }
}
