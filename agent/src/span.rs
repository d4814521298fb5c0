//! A [`Span`]: an exchange that got its place in a trace and its absolute times. Exporters read it
//! once, by [`Span::visit_attributes`], and write it straight into their format.

use std::sync::Arc;

use crate::{
    exchange::Exchange,
    resource::Resource,
    trace_context::{SpanId, TraceFlags, TraceId},
};

/// How a span got its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentFrom {
    /// It has none.
    Root,
    /// The request carried it (`traceparent`).
    Header,
    /// The thread or execution context was handling exactly one server request.
    Context,
    /// Several server requests were open where this one was made; no parent was chosen.
    Ambiguous,
}

/// A finished exchange in its trace.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    pub parent_from: ParentFrom,
    pub flags: TraceFlags,
    /// `CLOCK_REALTIME`, nanoseconds.
    pub start_unix_ns: u64,
    pub end_unix_ns: u64,
    /// Low-cardinality path template of a SERVER span, if one was found.
    pub route: Option<Arc<str>>,
    pub resource: Arc<Resource>,
    pub exchange: Exchange,
}
