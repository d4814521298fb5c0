//! From a parsed head to what an exchange keeps of it. Values that no span carries are not copied;
//! credentials are among them.

use super::{
    headers::{self, KeptHeader},
    text::{MAX_TARGET_LEN, MAX_VALUE_LEN, text, value},
};
use crate::{
    exchange::HttpExchange,
    protocol::http1::{Fields, Request},
    trace_context::{TraceContext, TraceParent, TraceState},
};

/// The request's part of an exchange.
pub(super) fn describe(
    request: &Request<'_>,
    head_len: usize,
    headers: &[KeptHeader],
) -> Box<HttpExchange> {
    let fields = &request.fields;
    let forwarded = fields.forwarded.map(Forwarded::parse).unwrap_or_default();
    Box::new(HttpExchange {
        method: text(request.method, MAX_VALUE_LEN),
        target: text(request.target, MAX_TARGET_LEN),
        version: (1, request.minor),
        host: fields.host.map(value),
        user_agent: fields.user_agent.map(value),
        forwarded_for: forwarded.r#for.or(fields.x_forwarded_for.and_then(first)).map(value),
        forwarded_proto: forwarded.proto.or(fields.x_forwarded_proto.and_then(first)).map(value),
        request_head_len: u32::try_from(head_len).unwrap_or(u32::MAX),
        request_headers: headers::kept(headers, fields),
        ..HttpExchange::default()
    })
}

/// How many of the values that [`describe`] keeps are longer than what is kept of them.
pub(super) fn cut(request: &Request<'_>) -> u64 {
    let Fields { host, user_agent, forwarded, x_forwarded_for, .. } = &request.fields;
    let values = [host, user_agent, forwarded, x_forwarded_for].into_iter().flatten();
    let long = values.filter(|value| value.len() > MAX_VALUE_LEN).count();
    long as u64 + u64::from(request.target.len() > MAX_TARGET_LEN)
}

/// What the fields `traceparent` and `tracestate` say (W3C Trace Context, section 3).
pub(super) fn trace_context(fields: &Fields<'_>) -> TraceContext {
    let parent = match (fields.traceparent, fields.traceparent_count) {
        (Some(value), 1) => TraceParent::parse(value),
        _ => None,
    };
    if parent.is_none() || fields.tracestate_count == 0 {
        return TraceContext { parent, state: TraceState::default() };
    }
    let values = fields
        .lines()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"tracestate"))
        .map(|(_, value)| value);
    TraceContext { parent, state: TraceState::parse(values).unwrap_or_default() }
}

/// `for` and `proto` of the first element of a `Forwarded` field (RFC 7239 section 4).
#[derive(Default)]
struct Forwarded<'a> {
    r#for: Option<&'a [u8]>,
    proto: Option<&'a [u8]>,
}

impl<'a> Forwarded<'a> {
    fn parse(value: &'a [u8]) -> Self {
        let mut forwarded = Self::default();
        let element = first(value).unwrap_or_default();
        for pair in element.split(|&byte| byte == b';') {
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            let name = pair[..equals].trim_ascii();
            let value = unquoted(pair[equals + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"for") {
                forwarded.r#for = Some(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                forwarded.proto = Some(value);
            }
        }
        forwarded
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// The first member of a comma-separated list.
fn first(list: &[u8]) -> Option<&[u8]> {
    let member = list.split(|&byte| byte == b',').next()?.trim_ascii();
    (!member.is_empty()).then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Parse, http1};

    fn described(fields: &str) -> Box<HttpExchange> {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let Parse::Parsed { value, used } = http1::request(head.as_bytes()) else { panic!() };
        describe(&value, used, &[])
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
            let head = format!("GET /{target} HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n");
            let Parse::Parsed { value, .. } = http1::request(head.as_bytes()) else { panic!() };
            assert_eq!(cut(&value), expected);
        }
    }

    #[test]
    fn a_second_traceparent_makes_both_invalid() {
        let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let state = "tracestate: a=1\r\nTraceState: b=2\r\n";
        let carried = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let Parse::Parsed { value, .. } = http1::request(head.as_bytes()) else { panic!() };
            trace_context(&value.fields)
        };
        let trace = carried(&format!("{parent}{state}"));
        assert!(trace.parent.is_some());
        assert_eq!(&*trace.state.0, "a=1,b=2");
        assert_eq!(carried(&format!("{parent}{parent}{state}")), TraceContext::default());
    }

    #[test]
    fn values_that_are_not_utf_8_are_told_lossily() {
        assert_eq!(&*text(b"/\xff", 9), "/\u{fffd}");
    }
}
