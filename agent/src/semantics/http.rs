//! HTTP spans by the stable semantic conventions (schema 1.42, "HTTP spans"): which value each
//! attribute has and where it comes from. Values are borrowed where they can be; nothing is allocated
//! unless something had to be redacted.

pub(super) mod addressed;
pub(super) mod metrics;

use std::{borrow::Cow, sync::OnceLock};

use opentelemetry_semantic_conventions::attribute as key;

use self::addressed::Addressed;
use super::{
    authority::forwarded_node,
    network,
    outcome::{Outcome, Tone, failure_name},
    redact::{redact_path, redact_query},
    target::Form,
};
use crate::{
    attribute::AttributeSink,
    exchange::{Endpoint, Failure, HttpExchange, Role},
    span::{Span, SpanKind},
};

/// Methods that may appear as `http.request.method`: RFC 9110, RFC 5789 and QUERY.
const METHODS: &[&str] =
    &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// `http.request.method` of a method that is not known.
pub const OTHER: &str = "_OTHER";

static KNOWN_METHODS: OnceLock<Box<[&'static str]>> = OnceLock::new();

/// Replaces the list of known methods, as `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS` (case-sensitive,
/// comma-separated) has to. The first call of a process wins; returns whether this one did.
pub fn set_known_methods(list: &str) -> bool {
    let methods = list.split(',').map(str::trim).filter(|method| !method.is_empty());
    // Leaked once per process: methods are keys of series and names of spans for its whole life.
    let methods = methods.map(|method| &*Box::leak(Box::<str>::from(method))).collect();
    KNOWN_METHODS.set(methods).is_ok()
}

/// The method as `http.request.method` shows it: itself, or [`OTHER`].
#[must_use]
pub fn known_method(method: &str) -> &'static str {
    let known = KNOWN_METHODS.get().map_or(METHODS, |methods| methods);
    known.iter().find(|&&known| known == method).copied().unwrap_or(OTHER)
}

/// Whether RFC 9110 and its companions name the method.
pub(crate) fn is_common_method(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Whether the method may be the beginning of one of these.
pub(crate) fn begins_common_method(begin: &str) -> bool {
    METHODS.iter().any(|method| method.starts_with(begin))
}

/// Why an HTTP exchange is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    Status(u16),
    Failure(Failure),
}

impl ErrorType {
    /// SERVER: 5xx; CLIENT: 4xx, 5xx and what is no status code; both: a transport that failed.
    /// A status that is an error tells more than the failure that followed it.
    #[must_use]
    pub fn of(role: Role, status: u16, failure: Option<Failure>) -> Option<Self> {
        let first_error = match role {
            Role::Server => 500,
            Role::Client => 400,
        };
        if status >= first_error {
            return Some(Self::Status(status));
        }
        failure.map(Self::Failure)
    }

    /// `error.type`: the status code, or the name of the failure.
    #[must_use]
    pub fn as_str(self) -> Cow<'static, str> {
        match self {
            Self::Status(status) => Cow::Owned(status.to_string()),
            Self::Failure(failure) => Cow::Borrowed(failure_name(failure)),
        }
    }
}

pub(super) fn span_name<'a>(http: &'a HttpExchange, route: Option<&str>) -> Cow<'a, str> {
    let method = match known_method(&http.method) {
        OTHER => "HTTP",
        known => known,
    };
    match route {
        Some(route) => {
            let mut name = String::with_capacity(method.len() + 1 + route.len());
            name.push_str(method);
            name.push(' ');
            name.push_str(route);
            Cow::Owned(name)
        }
        None => Cow::Borrowed(method),
    }
}

/// `network.protocol.version`; empty if it is none of those that exist.
pub(super) const fn protocol_version(version: (u8, u8)) -> &'static str {
    match version {
        (0, 9) => "0.9",
        (1, 0) => "1.0",
        (1, 1) => "1.1",
        (2, 0) => "2",
        (3, 0) => "3",
        _ => "",
    }
}

/// `GET /users/7?q=1` of servers, `GET http://example.com/users/7?q=1` of clients.
pub(super) fn summary(span: &Span, http: &HttpExchange) -> String {
    let addressed = Addressed::of(&span.exchange, http);
    let mut text = format!("{} ", http.method);
    match span.kind() {
        SpanKind::Server => {
            if addressed.target.form != Form::Authority {
                text.push_str(&redact_path(addressed.target.path));
            }
            if let Some(query) = addressed.target.query.filter(|query| !query.is_empty()) {
                text.push('?');
                text.push_str(&redact_query(query));
            }
        }
        SpanKind::Client => addressed.write_url(&mut text),
    }
    text
}

/// The status code.
pub(super) fn outcome(http: &HttpExchange) -> Outcome {
    let tone = match http.status {
        200..300 => Tone::Good,
        400..600 => Tone::Refused,
        _ => Tone::Neutral,
    };
    let text = if http.status == 0 { "-".into() } else { http.status.to_string() };
    Outcome { text: text.into(), tone }
}

pub(super) fn visit(span: &Span, http: &HttpExchange, sink: &mut impl AttributeSink) {
    let exchange = &span.exchange;
    let addressed = Addressed::of(exchange, http);
    let kind = span.kind();

    let method = known_method(&http.method);
    sink.str(key::HTTP_REQUEST_METHOD, method);
    if method == OTHER && !http.method.is_empty() {
        sink.str(key::HTTP_REQUEST_METHOD_ORIGINAL, &http.method);
    }
    sink.str(key::URL_SCHEME, addressed.scheme);
    match kind {
        SpanKind::Server => {
            if addressed.target.form != Form::Authority && !http.target.is_empty() {
                sink.str(key::URL_PATH, &redact_path(addressed.target.path));
            }
            if let Some(query) = addressed.target.query.filter(|query| !query.is_empty()) {
                sink.str(key::URL_QUERY, &redact_query(query));
            }
            if let Some(route) = &span.route {
                sink.str(key::HTTP_ROUTE, route);
            }
        }
        SpanKind::Client if http.target.is_empty() => {} // where to is not known
        SpanKind::Client => network::compose(sink, key::URL_FULL, |out| addressed.write_url(out)),
    }

    network::server(sink, addressed.server());
    if kind == SpanKind::Server {
        client(sink, http, network::peer_and_local(exchange).0);
    }
    network::ends(sink, exchange, span.options);
    sink.str(key::NETWORK_PROTOCOL_NAME, "http");
    let version = protocol_version(http.version);
    if !version.is_empty() {
        sink.str(key::NETWORK_PROTOCOL_VERSION, version);
    }
    if let Some(user_agent) = &http.user_agent {
        sink.str(key::USER_AGENT_ORIGINAL, user_agent);
    }

    for header in http.request_headers.iter().chain(&http.response_headers) {
        let values: Vec<&str> = header.values.iter().map(|value| &**value).collect();
        sink.strs(&header.key, &values);
    }
    // Behind a cut head nobody knows where content begins.
    if !exchange.marks.request_head_cut {
        sink.count(key::HTTP_REQUEST_BODY_SIZE, http.request_content_len);
    }
    if http.status != 0 {
        sink.int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(http.status));
        if !exchange.marks.response_head_cut {
            sink.count(key::HTTP_RESPONSE_BODY_SIZE, http.response_content_len);
        }
    }
    if let Some(error) = ErrorType::of(exchange.role, http.status, exchange.failure) {
        sink.str(key::ERROR_TYPE, &error.as_str());
    }
    if exchange.first_byte_mono_ns >= exchange.start_mono_ns && exchange.first_byte_mono_ns != 0 {
        let waited_ns = exchange.first_byte_mono_ns - exchange.start_mono_ns;
        sink.int("remora.http.time_to_first_byte_ns", waited_ns.try_into().unwrap_or(i64::MAX));
    }
    if http.upgraded {
        sink.bool("remora.http.upgraded", true);
    }
}

/// `client.*`: behind a proxy as the proxy tells, else the peer.
fn client(sink: &mut impl AttributeSink, http: &HttpExchange, peer: &Endpoint) {
    match http.forwarded_for.as_deref().map(forwarded_node) {
        Some((node, port)) if !node.is_empty() => {
            sink.str(key::CLIENT_ADDRESS, node);
            if let Some(port) = port {
                sink.int(key::CLIENT_PORT, i64::from(port));
            }
        }
        _ => network::endpoint(sink, peer, key::CLIENT_ADDRESS, Some(key::CLIENT_PORT)),
    }
}
