//! The seam to the stages before: what a span must tell to be exported. Semantics (name, kind, status,
//! attributes) are decided elsewhere; encoders only ask.

use std::{borrow::Cow, sync::Arc};

use crate::{
    attribute::AttributeSink,
    resource::Resource,
    span::{self, Span, SpanKind},
    trace_context::{SpanId, TraceId},
};

/// `opentelemetry.proto.trace.v1.Span.SpanKind`; the discriminants are the numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// `opentelemetry.proto.trace.v1.Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status<'a> {
    Unset,
    /// With a description, empty if there is nothing to say that attributes do not.
    Error(Cow<'a, str>),
}

/// Bit 8 of a span's flags: whether the parent is remote is known.
const HAS_IS_REMOTE: u32 = 0x100;
/// Bit 9: the parent is remote.
const IS_REMOTE: u32 = 0x200;

/// Where a span stands: in its trace and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement<'a> {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: Option<SpanId>,
    /// As in OTLP: W3C trace flags in bits 0-7, bit 8 "parent's remoteness is known", bit 9 "parent is remote".
    pub flags: u32,
    /// W3C `tracestate`, empty without one.
    pub trace_state: &'a str,
    pub start_unix_ns: u64,
    pub end_unix_ns: u64,
}

impl<'a> From<&'a Span> for Placement<'a> {
    fn from(span: &'a Span) -> Self {
        let remote = if span.parent_is_remote() { IS_REMOTE } else { 0 };
        Self {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            flags: u32::from(span.flags.0) | HAS_IS_REMOTE | remote,
            trace_state: span.trace_state(),
            start_unix_ns: span.start_unix_ns,
            end_unix_ns: span.end_unix_ns,
        }
    }
}

/// A finished span, as encoders see it. Every method is called at most once per format.
pub trait Exportable {
    /// Usually `Placement::from(span)`.
    fn placement(&self) -> Placement<'_>;
    /// Spans are grouped by this pointer.
    fn resource(&self) -> &Arc<Resource>;
    fn name(&self) -> Cow<'_, str>;
    fn kind(&self) -> Kind;
    fn status(&self) -> Status<'_>;
    /// Hands over every attribute, each key once.
    fn visit_attributes(&self, sink: &mut impl AttributeSink);
}

impl Exportable for Span {
    fn placement(&self) -> Placement<'_> {
        self.into()
    }

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn name(&self) -> Cow<'_, str> {
        self.name()
    }

    fn kind(&self) -> Kind {
        match self.kind() {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
        }
    }

    fn status(&self) -> Status<'_> {
        match self.status() {
            span::Status::Unset => Status::Unset,
            span::Status::Error => Status::Error("".into()),
        }
    }

    fn visit_attributes(&self, sink: &mut impl AttributeSink) {
        self.visit_attributes(sink);
    }
}
