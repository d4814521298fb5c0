//! What a span is called, whether it is an error, and which attributes it has: the OpenTelemetry
//! semantic conventions, one file per protocol, and the templates that become `http.route`.
//! `docs/semantics.md` is the page for users.

mod authority;
pub mod db;
pub mod http;
pub mod network;
mod postgres;
pub mod redact;
mod redis;
pub mod route;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use crate::{
    attribute::AttributeSink,
    exchange::{DbExchange, Detail, Exchange, Failure, HttpExchange, Role},
    span::{Span, SpanKind, Status},
};

pub use self::target::{Form, Target};

/// For `fuzzing`: everything that reads an address.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_addresses(text: &str) {
    if let Some(authority) = authority::Authority::parse(text) {
        assert!(!authority.host.is_empty());
    }
    authority::forwarded_node(text);
}

/// Attributes that the conventions leave to the user's choice (opt-in) and that cost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AttributeOptions {
    /// `network.local.address` and `network.local.port`.
    pub network_local: bool,
}

/// The conventions that describe an exchange: several protocols may share them.
enum Convention<'a> {
    Http(&'a HttpExchange),
    Db(&'static db::System, &'a DbExchange),
}

impl<'a> From<&'a Detail> for Convention<'a> {
    fn from(detail: &'a Detail) -> Self {
        match detail {
            Detail::Http(http) => Self::Http(http),
            Detail::Redis(db) => Self::Db(&redis::SYSTEM, db),
            Detail::Postgres(db) => Self::Db(&postgres::SYSTEM, db),
        }
    }
}

/// Path and status that a SERVER span's route is made of, where the protocol has paths.
#[must_use]
pub fn path_to_route(exchange: &Exchange) -> Option<(&str, u16)> {
    match (exchange.role, Convention::from(&exchange.detail)) {
        (Role::Server, Convention::Http(http)) => {
            Some((Target::parse(&http.method, &http.target).path, http.status))
        }
        (Role::Client, Convention::Http(_)) | (_, Convention::Db(..)) => None,
    }
}

impl Span {
    fn convention(&self) -> Convention<'_> {
        Convention::from(&self.exchange.detail)
    }

    /// Low-cardinality name: `{method} {route}` or `{method}` for HTTP, the summary of a query or
    /// `{operation} {target}` for databases.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self.convention() {
            Convention::Http(http) => http::span_name(http, self.route.as_deref()),
            Convention::Db(system, db) => db::span_name(system, &self.exchange, db),
        }
    }

    #[must_use]
    pub const fn kind(&self) -> SpanKind {
        match self.exchange.role {
            Role::Server => SpanKind::Server,
            Role::Client => SpanKind::Client,
        }
    }

    /// Error if and only if there is an [`Self::error_type`].
    #[must_use]
    pub fn status(&self) -> Status {
        let error = match self.convention() {
            Convention::Http(http) => self.http_error(http).is_some(),
            Convention::Db(_, db) => db.error_type(self.exchange.failure).is_some(),
        };
        if error { Status::Error } else { Status::Unset }
    }

    /// `error.type`, if the exchange is an error by the conventions of its protocol.
    #[must_use]
    pub fn error_type(&self) -> Option<Cow<'_, str>> {
        match self.convention() {
            Convention::Http(http) => self.http_error(http).map(http::ErrorType::as_str),
            Convention::Db(_, db) => db.error_type(self.exchange.failure).map(Cow::Borrowed),
        }
    }

    fn http_error(&self, http: &HttpExchange) -> Option<http::ErrorType> {
        http::ErrorType::of(self.exchange.role, http.status, self.exchange.failure)
    }

    /// Hands every attribute to `sink`, without the opt-in ones of [`AttributeOptions`].
    pub fn visit_attributes(&self, sink: &mut impl AttributeSink) {
        self.visit_attributes_with(AttributeOptions::default(), sink);
    }

    /// Hands every attribute to `sink`, each key once.
    pub fn visit_attributes_with(&self, options: AttributeOptions, sink: &mut impl AttributeSink) {
        match self.convention() {
            Convention::Http(http) => http::visit(self, http, options, sink),
            Convention::Db(system, db) => db::visit(system, &self.exchange, db, options, sink),
        }
        if let Some(peer) = &self.peer {
            sink.str(key::SERVICE_PEER_NAME, &peer.name);
            sink.str(key::SERVICE_PEER_NAMESPACE, &peer.namespace);
        }
        self.visit_marks(sink);
    }

    /// What is not known for certain, and where the parent came from. Absent marks are not written.
    fn visit_marks(&self, sink: &mut impl AttributeSink) {
        sink.str("remora.parent", self.parent_from.as_str());
        let marks = self.exchange.marks;
        for (key, set) in [
            ("remora.joined", marks.joined || self.exchange.connection.joined),
            ("remora.request.head.cut", marks.request_head_cut),
            ("remora.response.head.cut", marks.response_head_cut),
            ("remora.end.inferred", marks.end_inferred),
            ("remora.request.body.size.estimated", marks.request_size_estimated),
            ("remora.response.body.size.estimated", marks.response_size_estimated),
            ("remora.gap", marks.gap),
        ] {
            if set {
                sink.bool(key, true);
            }
        }
    }
}

fn unsigned(sink: &mut impl AttributeSink, key: &str, value: u64) {
    sink.int(key, i64::try_from(value).unwrap_or(i64::MAX));
}

/// `error.type` of a transport failure: a closed set.
#[must_use]
pub const fn failure_name(failure: Failure) -> &'static str {
    match failure {
        Failure::Closed => "connection_closed",
        Failure::Reset => "connection_reset",
        Failure::TimedOut => "timeout",
        Failure::NoResponse => "no_response",
        Failure::Errno(errno) => match errno {
            libc::EHOSTUNREACH => "host_unreachable",
            libc::ENETUNREACH => "network_unreachable",
            libc::ENETDOWN => "network_down",
            libc::ECONNREFUSED => "connection_refused",
            libc::ECONNABORTED => "connection_aborted",
            libc::ENOTCONN => "not_connected",
            libc::ENOBUFS | libc::ENOMEM => "no_memory",
            libc::EPROTO => "protocol_error",
            _ => "_OTHER",
        },
    }
}
