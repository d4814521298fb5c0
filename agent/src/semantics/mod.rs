//! What a span is called, whether it is an error, and which attributes it has: the OpenTelemetry
//! semantic conventions, one file per protocol, and the templates that become `http.route`.
//! `docs/semantics.md` is the page for users.

mod authority;
pub mod http;
pub mod redact;
pub mod route;
pub mod sql;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use crate::{
    attribute::AttributeSink,
    exchange::{Detail, Failure, HttpExchange, Role},
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

impl Span {
    /// Low-cardinality name: `{method} {route}` or `{method}` for HTTP.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match &self.exchange.detail {
            Detail::Http(http) => http::span_name(http, self.route.as_deref()),
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
        let error = match &self.exchange.detail {
            Detail::Http(http) => self.http_error(http).is_some(),
        };
        if error { Status::Error } else { Status::Unset }
    }

    /// `error.type`, if the exchange is an error by the conventions of its protocol.
    #[must_use]
    pub fn error_type(&self) -> Option<Cow<'static, str>> {
        match &self.exchange.detail {
            Detail::Http(http) => self.http_error(http).map(http::ErrorType::as_str),
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
        match &self.exchange.detail {
            Detail::Http(http) => http::visit(self, http, options, sink),
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
