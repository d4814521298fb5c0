//! A request that a thread has sent, and that waits for the thread's next answer.

use crate::exchange::At;

/// A CLIENT exchange that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) serial: u64,
    pub(super) at: Option<At>,
    pub(super) start_mono_ns: u64,
    /// When the response was over; 0 before.
    pub(super) end_ns: u64,
    /// Exactly one SERVER request was open when it began.
    pub(super) is_alone: bool,
}

impl Call {
    pub(super) const fn has_ended(&self) -> bool {
        self.end_ns != 0
    }

    /// Whether a request at `at` is on another connection. Where that is not known, it may be the same one (pipelining).
    pub(super) fn is_beside(&self, at: Option<At>) -> bool {
        let (Some(own), Some(at)) = (self.at, at) else { return self.at.is_some() != at.is_some() };
        (own.client, own.server) != (at.client, at.server)
    }
}
