//! What the pools are told of, and what they say.

use std::sync::Arc;

use crate::trace_context::{SpanId, TraceFlags, TraceId, TraceState};

/// Process and thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Thread {
    pub(in crate::correlate) tgid: u32,
    pub(in crate::correlate) tid: u32,
}

/// A SERVER exchange, as its children need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Server {
    pub(in crate::correlate) trace_id: TraceId,
    pub(in crate::correlate) span_id: SpanId,
    pub(in crate::correlate) flags: TraceFlags,
    pub(in crate::correlate) state: TraceState,
}

/// What came to be known of CLIENT exchanges that wait, by their serials.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) struct Verdict {
    pub(in crate::correlate) children: Vec<(u64, Arc<Server>)>,
    /// Of which nothing will come to be known.
    pub(in crate::correlate) unknown: Vec<u64>,
}
