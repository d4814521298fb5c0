//! What a parsed head of this version says of an exchange.

use crate::{
    assemble::http::{Carried, RequestHead},
    protocol::http1::{Fields, Request},
    trace_context::{Propagation, TraceContext},
};

/// The head of a request, which has `len` bytes.
pub(super) fn head<'a>(request: &Request<'a>, len: usize) -> RequestHead<'a> {
    let fields = &request.fields;
    RequestHead {
        method: request.method,
        target: request.target,
        version: (1, request.minor),
        host: fields.host,
        user_agent: fields.user_agent,
        forwarded: fields.forwarded,
        x_forwarded_for: fields.x_forwarded_for,
        x_forwarded_proto: fields.x_forwarded_proto,
        len: len as u64,
    }
}

/// What the request carries.
pub(super) fn trace_context(fields: &Fields<'_>, read: &Propagation) -> TraceContext {
    let carried = Carried {
        traceparent: fields.traceparent,
        traceparent_count: fields.traceparent_count,
        has_tracestate: fields.tracestate_count > 0,
        b3: fields.b3,
        has_baggage: fields.has_baggage,
    };
    carried.read(|| fields.lines(), read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::HttpExchange;
    use crate::protocol::{Parse, http1};

    fn described(fields: &str) -> Box<HttpExchange> {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let Parse::Parsed { value, used } = http1::request(text.as_bytes()) else { panic!() };
        head(&value, used).describe()
    }

    #[test]
    fn forwarded_wins_over_x_forwarded() {
        let http = described(
            "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\n\
             Forwarded: For=\"[2001:db8::1]:4711\"; proto=https, for=10.0.0.2\r\n",
        );
        assert_eq!(http.forwarded_for.as_deref(), Some("[2001:db8::1]:4711"));
        assert_eq!(http.forwarded_proto.as_deref(), Some("https"));
    }

    #[test]
    fn a_forwarded_node_keeps_its_port() {
        let http = described("Forwarded: for=\"1.2.3.4:5\"\r\n");
        assert_eq!(http.forwarded_for.as_deref(), Some("1.2.3.4:5"));
    }

    #[test]
    fn the_first_x_forwarded_address_is_kept() {
        let http = described("X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n");
        assert_eq!(http.forwarded_for.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn values_that_are_cut_are_counted() {
        for (target, agent, expected) in
            [(9, 9, 0), (9, 1025, 1), (16_385, 9, 1), (20_000, 2000, 2)]
        {
            let (target, agent) = ("t".repeat(target), "a".repeat(agent));
            let text = format!("GET /{target} HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n");
            let Parse::Parsed { value, .. } = http1::request(text.as_bytes()) else { panic!() };
            assert_eq!(head(&value, 0).values_cut(), expected);
        }
    }

    #[test]
    fn a_second_traceparent_makes_both_invalid() {
        let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let state = "tracestate: a=1\r\nTraceState: b=2\r\n";
        let carried = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let Parse::Parsed { value, .. } = http1::request(head.as_bytes()) else { panic!() };
            trace_context(&value.fields, &Propagation::default())
        };
        let trace = carried(&format!("{parent}{state}"));
        assert!(trace.parent.is_some());
        assert_eq!(&*trace.state.0, "a=1,b=2");
        assert_eq!(carried(&format!("{parent}{parent}{state}")), TraceContext::default());
    }

    #[test]
    fn values_that_are_not_utf_8_are_told_lossily() {
        let Parse::Parsed { value, used } = http1::request(b"GET /\xff HTTP/1.1\r\n\r\n") else {
            panic!()
        };
        assert_eq!(&*head(&value, used).describe().target, "/\u{fffd}");
    }
}
