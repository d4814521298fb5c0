//! How a trace went: the status of its spans, and how long it took.

use super::Trace;
use crate::{span::Status, tail::settings::StatusCode};

/// Of `status_code`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusCodes {
    error: bool,
    unset: bool,
}

impl StatusCodes {
    pub(super) fn new(codes: &[StatusCode]) -> Self {
        Self {
            error: codes.contains(&StatusCode::Error),
            unset: codes.contains(&StatusCode::Unset),
        }
    }

    /// Whether one span has one of them.
    pub(super) fn matches(self, trace: &Trace<'_>) -> bool {
        trace.spans.iter().any(|held| match held.span.status() {
            Status::Error => self.error,
            Status::Unset => self.unset,
        })
    }
}

/// Of `latency`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) threshold_ms: u32,
    /// 0: none.
    pub(super) upper_threshold_ms: u32,
}

impl Latency {
    /// Whether the trace took that long, from the first start to the last end. As in the Collector, spans are looked
    /// at in the order in which they came, and it is enough if those up to one of them did: with an
    /// upper threshold, later spans change nothing.
    pub(super) fn matches(self, trace: &Trace<'_>) -> bool {
        let (lower, upper) = (u64::from(self.threshold_ms), u64::from(self.upper_threshold_ms));
        let (mut start, mut end) = (u64::MAX, 0);
        trace.spans.iter().any(|held| {
            start = start.min(held.span.start_unix_ns);
            end = end.max(held.span.end_unix_ns);
            let took_ms = end.saturating_sub(start) / 1_000_000;
            if upper == 0 { took_ms >= lower } else { lower < took_ms && took_ms <= upper }
        })
    }
}
