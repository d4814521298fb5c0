//! A [`Span`]: an exchange that got its place in a trace and its absolute times. Exporters read it
//! once, by [`Span::visit_attributes`], and write it straight into their format. What the attributes
//! are is the business of [`crate::semantics`].

use std::sync::Arc;

use crate::{
    attribute::AttributeOptions,
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
    /// The process at the other end of the connection is watched, too, and this is the request that it made.
    Connection,
    /// The thread or execution context was handling exactly one server request.
    Context,
    /// Several server requests were open where this one was made; no parent was chosen.
    Ambiguous,
}

impl ParentFrom {
    /// The value of `remora.parent`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "none",
            Self::Header => "header",
            Self::Connection => "connection",
            Self::Context => "context",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// `SpanKind` of OpenTelemetry, as far as exchanges have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    Server,
    Client,
}

/// Status of a span. There is never a description: `error.type` tells it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Unset,
    Error,
}

/// What the address is called that a CLIENT span talked to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// `service.peer.name`.
    pub name: Box<str>,
    /// `service.peer.namespace`.
    pub namespace: Box<str>,
    /// The name is that of one pod, which nobody has made: too many of them for metrics.
    pub is_pod: bool,
}

/// A finished exchange in its trace.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    pub parent_from: ParentFrom,
    pub flags: TraceFlags,
    /// What sampling has made of its `tracestate`; `None`: nothing.
    pub sampled_state: Option<Box<str>>,
    /// `CLOCK_REALTIME`, nanoseconds.
    pub start_unix_ns: u64,
    pub end_unix_ns: u64,
    /// Low-cardinality path template of a SERVER span, if one was found.
    pub route: Option<Arc<str>>,
    /// Whom a CLIENT span talked to, where its address has a name.
    pub peer: Option<Arc<Peer>>,
    /// What it says beyond what every span says.
    pub options: AttributeOptions,
    pub resource: Arc<Resource>,
    pub exchange: Exchange,
}

impl Span {
    /// First byte of the request to last byte of the response, nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.end_unix_ns.saturating_sub(self.start_unix_ns)
    }

    /// `tracestate` as it is exported, empty without one. What the request carried belongs to the trace that its header
    /// names, not to one begun here.
    #[must_use]
    pub fn trace_state(&self) -> &str {
        match (&self.sampled_state, self.parent_from) {
            (Some(state), _) => state,
            (None, ParentFrom::Header | ParentFrom::Connection | ParentFrom::Context) => {
                &self.exchange.trace.state.0
            }
            (None, ParentFrom::Root | ParentFrom::Ambiguous) => "",
        }
    }

    /// Whether the parent lives in another process (bits 8 and 9 of OTLP's `Span.flags`): that of a SERVER span
    /// that the request itself placed. A `traceparent` that a client sends names a span of its own process.
    #[must_use]
    pub fn parent_is_remote(&self) -> bool {
        matches!(self.parent_from, ParentFrom::Header | ParentFrom::Connection)
            && self.kind() == SpanKind::Server
    }
}
