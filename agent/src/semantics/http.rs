//! HTTP spans by the stable semantic conventions (schema 1.42, "HTTP spans"): which value each
//! attribute has and where it comes from. Values are borrowed where they can be; nothing is allocated
//! unless something had to be redacted.

use std::{borrow::Cow, fmt::Write, sync::OnceLock};

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    AttributeOptions,
    authority::{Authority, forwarded_node},
    failure_name,
    network::{self, Address},
    redact::{redact_path, redact_query},
    target::{Form, Target},
    unsigned,
};
use crate::{
    attribute::AttributeSink,
    exchange::{Endpoint, Exchange, Failure, HttpExchange, Role},
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
#[must_use]
pub const fn protocol_version(version: (u8, u8)) -> &'static str {
    match version {
        (0, 9) => "0.9",
        (1, 0) => "1.0",
        (1, 1) => "1.1",
        (2, 0) => "2",
        (3, 0) => "3",
        _ => "",
    }
}

/// Scheme, server and their sources: what both spans and metrics say about whom a request was for.
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'a> {
    pub target: Target<'a>,
    /// SERVER: of the original request, as proxies tell; CLIENT: of this one.
    pub scheme: &'static str,
    /// From an absolute-form or authority-form target, else from `Host`.
    authority: Option<Authority<'a>>,
    connection_end: &'a Endpoint,
}

impl<'a> Addressed<'a> {
    /// Looks at the target, `Host`, the forwarding fields and the connection of an exchange.
    #[must_use]
    pub fn of(exchange: &'a Exchange, http: &'a HttpExchange) -> Self {
        let target = Target::parse(&http.method, &http.target);
        let connection = &*exchange.connection;
        let wire = if connection.is_tls() { "https" } else { "http" };
        let named = |text: &str| {
            // Anybody can send these fields: only names of a closed set become attributes.
            let first = text.split(',').next().unwrap_or_default().trim_matches([' ', '"']);
            ["http", "https", "ws", "wss"].into_iter().find(|s| s.eq_ignore_ascii_case(first))
        };
        let (scheme, connection_end) = match exchange.role {
            Role::Server => (http.forwarded_proto.as_deref().and_then(named), &connection.local),
            Role::Client => (target.scheme.and_then(named), &connection.remote),
        };
        let host = target.authority.or(http.host.as_deref());
        Self {
            target,
            scheme: scheme.unwrap_or(wire),
            authority: host.and_then(Authority::parse),
            connection_end,
        }
    }

    /// `server.address` and `server.port`. A name without a port means the default port of the scheme,
    /// except on a Unix socket, where there is none.
    #[must_use]
    pub fn server(&self) -> (Option<Address<'a>>, Option<u16>) {
        if let Some(authority) = self.authority {
            let port = match self.connection_end {
                Endpoint::Unix { .. } => authority.port,
                _ => authority.port.or(Some(self.default_port())),
            };
            return (Some(Address::Name(authority.host)), port);
        }
        match self.connection_end {
            Endpoint::Inet { addr, port } => (Some(Address::Ip(*addr)), Some(*port)),
            Endpoint::Unix { path } if !path.is_empty() => (Some(Address::Name(path)), None),
            _ => (None, None),
        }
    }

    fn default_port(&self) -> u16 {
        if matches!(self.scheme, "https" | "wss") { 443 } else { 80 }
    }

    /// Writes `url.full` with credentials hidden; a reference relative to an unknown host if there is
    /// neither `Host` nor an address.
    fn write_url(&self, out: &mut String) {
        let host = |out: &mut String, scheme: bool| {
            let written = match (self.authority, self.connection_end) {
                (Some(authority), _) => {
                    if scheme {
                        out.push_str(self.scheme);
                        out.push(':');
                    }
                    out.push_str("//");
                    if authority.userinfo {
                        out.push_str("REDACTED:REDACTED@");
                    }
                    let (open, close) = if authority.is_ipv6() { ("[", "]") } else { ("", "") };
                    write!(out, "{open}{}{close}", authority.host).and_then(|()| {
                        match authority.port {
                            Some(port) => write!(out, ":{port}"),
                            None => Ok(()),
                        }
                    })
                }
                (None, Endpoint::Inet { addr, port }) => {
                    let addr = std::net::SocketAddr::new(*addr, *port);
                    write!(out, "{}://{addr}", self.scheme)
                }
                _ => Ok(()),
            };
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        };
        match self.target.form {
            // A tunnel is made to a host: what it will carry is not known, so there is no scheme.
            Form::Authority => host(out, false),
            Form::Asterisk => host(out, true),
            Form::Origin | Form::Absolute | Form::Other => {
                host(out, true);
                if self.target.form == Form::Other {
                    out.push('/');
                }
                out.push_str(&redact_path(self.target.path));
                if let Some(query) = self.target.query {
                    out.push('?');
                    out.push_str(&redact_query(query));
                }
            }
        }
    }
}

pub(super) fn visit(
    span: &Span,
    http: &HttpExchange,
    options: AttributeOptions,
    sink: &mut impl AttributeSink,
) {
    let exchange = &span.exchange;
    let connection = &*exchange.connection;
    let addressed = Addressed::of(exchange, http);
    let kind = span.kind();

    let method = known_method(&http.method);
    sink.str(key::HTTP_REQUEST_METHOD, method);
    if method == OTHER {
        sink.str(key::HTTP_REQUEST_METHOD_ORIGINAL, &http.method);
    }
    sink.str(key::URL_SCHEME, addressed.scheme);
    match kind {
        SpanKind::Server => {
            if addressed.target.form != Form::Authority {
                sink.str(key::URL_PATH, &redact_path(addressed.target.path));
            }
            if let Some(query) = addressed.target.query.filter(|query| !query.is_empty()) {
                sink.str(key::URL_QUERY, &redact_query(query));
            }
            if let Some(route) = &span.route {
                sink.str(key::HTTP_ROUTE, route);
            }
        }
        SpanKind::Client => network::compose(sink, key::URL_FULL, |out| addressed.write_url(out)),
    }

    network::server(sink, addressed.server());
    if kind == SpanKind::Server {
        client(sink, http, &connection.remote);
    }
    network::ends(sink, connection, options);
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
    unsigned(sink, key::HTTP_REQUEST_BODY_SIZE, http.request_content_len);
    if http.status != 0 {
        sink.int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(http.status));
        unsigned(sink, key::HTTP_RESPONSE_BODY_SIZE, http.response_content_len);
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
