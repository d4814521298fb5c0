//! How many spans are kept in a second: they are counted anew in each second of the clock.

use super::Trace;

/// Of `rate_limiting`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    spans_per_second: u64,
    current: Second,
}

impl RateLimit {
    pub(super) fn new(spans_per_second: u32) -> Self {
        Self { spans_per_second: spans_per_second.into(), current: Second::default() }
    }

    /// Whether there is room for all spans of the trace. As in the Collector, the limit itself is never reached.
    pub(super) fn takes(&mut self, trace: &Trace<'_>) -> bool {
        self.current.reach(trace.second);
        self.current.add_if(trace, |spans| spans < self.spans_per_second)
    }
}

/// Spans of one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    second: u64,
    spans: u64,
}

impl Second {
    /// Counts from 0 in another second.
    pub(super) const fn reach(&mut self, second: u64) {
        if self.second != second {
            *self = Self { second, spans: 0 };
        }
    }

    /// Counts the spans of a trace if `fits` takes the sum.
    pub(super) fn add_if(&mut self, trace: &Trace<'_>, fits: impl FnOnce(u64) -> bool) -> bool {
        let spans = self.spans + trace.spans.len() as u64;
        let takes = fits(spans);
        if takes {
            self.spans = spans;
        }
        takes
    }
}
