//! Claims about tail sampling: what each policy means, when traces are decided, and that the books close.

use std::sync::Arc;

use super::*;
use crate::{
    attribute::Value,
    exchange::Role,
    resource::Resource,
    semantics::tests::{exchange, http, span},
    trace_context::SpanId,
};

mod books;
mod combined;
mod policies;
mod probability;
mod stage;

/// Milliseconds.
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn id(number: u64) -> TraceId {
    let mut id = [0x11; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    TraceId(id)
}

/// A span of trace `number` that took from `start_ms` to `end_ms`, with this status.
fn of(number: u64, (start_ms, end_ms): (u64, u64), status: u16) -> Held {
    let mut exchange = exchange(Role::Server);
    http(&mut exchange).status = status;
    let mut span = span(exchange);
    span.trace_id = id(number);
    (span.start_unix_ns, span.end_unix_ns) = (start_ms * MS, end_ms * MS);
    Held { span, selector: None, measured: true }
}

/// One that nothing is special about.
fn plain(number: u64) -> Held {
    of(number, (1, 2), 200)
}

fn with_resource(mut held: Held, attributes: &[(&str, Value)]) -> Held {
    let attributes = attributes.iter().map(|(key, value)| ((*key).into(), value.clone()));
    held.span.resource = Arc::new(Resource::new(attributes));
    held
}

fn with_parent(mut held: Held) -> Held {
    held.span.parent_span_id = Some(SpanId([3; 8]));
    held
}

fn named(name: &str, policy: Policy) -> Definition {
    Definition { name: name.into(), policy }
}

/// Traces wait for a second.
fn settings(policies: Vec<Definition>) -> Settings {
    Settings {
        wait_ns: SECOND,
        wait_after_root_ns: 0,
        max_traces: 1000,
        max_bytes: 1 << 30,
        remembered: Remembered { sampled: 1000, not_sampled: 1000 },
        sample_on_first_match: false,
        policies,
    }
}

/// A stage that has come to a time.
fn tail(policies: Vec<Definition>) -> Tail {
    let mut tail = Tail::new(settings(policies));
    tail.reach(SECOND, ClockOffset::fixed(0));
    tail
}

fn errors() -> Definition {
    named("errors", Policy::StatusCode(vec![StatusCode::Error]))
}

/// Numbers of the traces whose spans were kept, as often as there were spans.
fn kept(tail: &mut Tail) -> Vec<u64> {
    let number = |held: Held| {
        let [.., a, b, c, d, e, f, g, h] = held.span.trace_id.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    };
    tail.take_kept().into_iter().map(number).collect()
}

/// Whether this policy keeps a trace of these spans.
fn keeps(policy: Policy, spans: Vec<Held>) -> bool {
    let mut tail = tail(vec![named("one", policy)]);
    let count = spans.len();
    spans.into_iter().for_each(|held| tail.take(held));
    while tail.decide_next() {}
    let kept = tail.take_kept().len();
    assert_eq!(kept as u64 + tail.take_left_out(), count as u64);
    assert!(kept == 0 || kept == count, "a trace is kept whole or not at all");
    kept > 0
}
