//! One span as `opentelemetry.proto.trace.v1.Span`: in protobuf and in JSON, side by side so that a
//! field added to one is not forgotten in the other.

use super::{
    json::Json,
    wire::{self, Attributes},
};
use crate::export::exportable::{Exportable, Placement, Status};

const STATUS_ERROR: u64 = 2;

/// Appends the span as field 2 of `ScopeSpans` (`spans`).
pub(crate) fn protobuf(out: &mut Vec<u8>, span: &impl Exportable) {
    let Placement {
        trace_id,
        span_id,
        parent_span_id,
        flags,
        trace_state,
        start_unix_ns,
        end_unix_ns,
    } = span.placement();
    wire::message(out, 2, |out| {
        wire::bytes(out, 1, &trace_id.0);
        wire::bytes(out, 2, &span_id.0);
        wire::bytes(out, 3, trace_state.as_bytes());
        if let Some(parent) = parent_span_id {
            wire::bytes(out, 4, &parent.0);
        }
        wire::bytes(out, 5, span.name().as_bytes());
        wire::uint(out, 6, span.kind() as u64);
        wire::fixed64(out, 7, start_unix_ns);
        wire::fixed64(out, 8, end_unix_ns);
        span.visit_attributes(&mut Attributes::new(out, 9));
        if let Status::Error(description) = span.status() {
            wire::message(out, 15, |out| {
                wire::bytes(out, 2, description.as_bytes());
                wire::uint(out, 3, STATUS_ERROR);
            });
        }
        wire::fixed32(out, 16, flags);
    });
}

/// Appends the span as an element of `ScopeSpans.spans`.
pub(crate) fn json(out: &mut Vec<u8>, span: &impl Exportable) {
    let Placement {
        trace_id,
        span_id,
        parent_span_id,
        flags,
        trace_state,
        start_unix_ns,
        end_unix_ns,
    } = span.placement();
    Json(out).element(|json| {
        json.hex("traceId", &trace_id.0);
        json.hex("spanId", &span_id.0);
        if !trace_state.is_empty() {
            json.str("traceState", trace_state);
        }
        if let Some(parent) = parent_span_id {
            json.hex("parentSpanId", &parent.0);
        }
        json.number("flags", flags.into());
        json.str("name", &span.name());
        json.number("kind", span.kind() as i64);
        json.int64("startTimeUnixNano", start_unix_ns);
        json.int64("endTimeUnixNano", end_unix_ns);
        json.array("attributes", |json| span.visit_attributes(json));
        json.object("status", |json| {
            if let Status::Error(description) = span.status() {
                if !description.is_empty() {
                    json.str("message", &description);
                }
                json.number("code", STATUS_ERROR as i64);
            }
        });
    });
}
