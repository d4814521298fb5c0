//! What a request carries of the trace that it belongs to, whatever the version of HTTP.

use crate::trace_context::{
    B3, Propagation, TraceContext, TraceParent, TraceState, baggage_values,
};

/// The fields that may carry it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::assemble) struct Carried<'a> {
    /// The first one.
    pub(in crate::assemble) traceparent: Option<&'a [u8]>,
    pub(in crate::assemble) traceparent_count: u8,
    pub(in crate::assemble) has_tracestate: bool,
    pub(in crate::assemble) b3: B3<'a>,
    pub(in crate::assemble) has_baggage: bool,
}

impl<'a> Carried<'a> {
    /// What of it is to be read. `lines` are all fields of the head: names, in any case, and values.
    pub(in crate::assemble) fn read<L: Iterator<Item = (&'a [u8], &'a [u8])>>(
        &self,
        lines: impl Fn() -> L,
        read: &Propagation,
    ) -> TraceContext {
        let values = |is_there: bool, name: &'static [u8]| {
            let lines = is_there.then(&lines).into_iter().flatten();
            lines.filter(move |line| line.0.eq_ignore_ascii_case(name)).map(|line| line.1)
        };
        let mut context = TraceContext::default();
        if !read.baggage.is_empty() && self.has_baggage {
            context.baggage = baggage_values(&read.baggage, values(true, b"baggage"));
        }
        // Several make it invalid (W3C Trace Context, section 3).
        let parent = match (self.traceparent, self.traceparent_count) {
            (Some(value), 1) if read.trace_context => TraceParent::parse(value),
            _ => None,
        };
        if parent.is_some() {
            let states = values(self.has_tracestate, b"tracestate");
            context.state = TraceState::parse(states).unwrap_or_default();
        }
        context.parent = parent.or_else(|| if read.b3 { self.b3.parse() } else { None });
        context
    }
}
