//! What a span is called, whether it is an error, and which attributes it has: the OpenTelemetry
//! semantic conventions, one file per protocol, and the templates that become `http.route`.
//! `docs/semantics.md` is the page for users.

mod authority;
pub mod chosen;
mod convention;
pub mod db;
pub mod filter;
pub mod http;
mod instrument;
pub mod metrics;
mod network;
mod outcome;
mod postgres;
pub mod redact;
mod redis;
pub mod route;
mod rpc;
mod series;
pub mod sql;
mod target;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use crate::{
    attribute::AttributeSink,
    exchange::{Endpoint, Exchange, HttpExchange, Role},
    span::{Span, SpanKind, Status},
};

use self::convention::Convention;
pub use self::{
    outcome::{Outcome, Tone},
    target::{Form, Target},
};

/// For `fuzzing`: everything that reads an address.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_addresses(text: &str) {
    if let Some(authority) = authority::Authority::parse(text) {
        assert!(!authority.host.is_empty());
    }
    authority::forwarded_node(text);
}

/// Path and status that a SERVER span's route is made of, where the protocol has paths.
#[must_use]
pub fn path_to_route(exchange: &Exchange) -> Option<(&str, u16)> {
    match (exchange.role, Convention::from(&exchange.detail)) {
        (Role::Server, Convention::Http(http)) if !http.target.is_empty() => {
            Some((Target::parse(&http.method, &http.target).path, http.status))
        }
        (_, Convention::Http(_) | Convention::Rpc(_) | Convention::Db(..)) => None,
    }
}

impl Span {
    /// Low-cardinality name: `{method} {route}` or `{method}` for HTTP, `{package}.{service}/{method}` for gRPC, the summary of a query or
    /// `{operation} {target}` for databases.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match Convention::of(self) {
            Convention::Http(http) => http::span_name(http, self.route.as_deref()),
            Convention::Rpc(rpc) => Cow::Borrowed(rpc::span_name(self.exchange.role, rpc)),
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
        let error = match Convention::of(self) {
            Convention::Http(http) => self.http_error(http).is_some(),
            Convention::Rpc(rpc) => rpc::error_type(&self.exchange, rpc).is_some(),
            Convention::Db(_, db) => db.error_type(self.exchange.failure).is_some(),
        };
        if error { Status::Error } else { Status::Unset }
    }

    /// `error.type`, if the exchange is an error by the conventions of its protocol.
    #[must_use]
    pub fn error_type(&self) -> Option<Cow<'_, str>> {
        match Convention::of(self) {
            Convention::Http(http) => self.http_error(http).map(http::ErrorType::as_str),
            Convention::Rpc(rpc) => rpc::error_type(&self.exchange, rpc).map(Cow::Borrowed),
            Convention::Db(_, db) => db.error_type(self.exchange.failure).map(Cow::Borrowed),
        }
    }

    /// What a person reads of the request on one line: `GET /users/7?q=1`, `SELECT orders`. What is hidden
    /// in attributes is hidden here.
    #[must_use]
    pub fn summary(&self) -> String {
        match Convention::of(self) {
            Convention::Http(http) => http::summary(self, http),
            Convention::Rpc(rpc) => rpc::summary(rpc),
            Convention::Db(system, db) => db::summary(system, db),
        }
    }

    /// What a person reads of the response.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match Convention::of(self) {
            Convention::Http(http) => http::outcome(http),
            Convention::Rpc(rpc) => rpc::outcome(&self.exchange, rpc),
            Convention::Db(_, db) => db::outcome(db, self.exchange.failure),
        }
    }

    /// The other end of the connection, as far as it has a name: `network.peer.*`.
    #[must_use]
    pub fn other_end(&self) -> &Endpoint {
        network::peer_and_local(&self.exchange).0
    }

    fn http_error(&self, http: &HttpExchange) -> Option<http::ErrorType> {
        http::ErrorType::of(self.exchange.role, http.status, self.exchange.failure)
    }

    /// Hands every attribute to `sink`, each key once.
    pub fn visit_attributes(&self, sink: &mut impl AttributeSink) {
        match Convention::of(self) {
            Convention::Http(http) => http::visit(self, http, sink),
            Convention::Rpc(rpc) => rpc::visit(self, rpc, sink),
            Convention::Db(system, db) => db::visit(system, self, db, sink),
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
        for (key, value) in &self.exchange.trace.baggage {
            sink.str(key, value);
        }
        let marks = self.exchange.marks;
        for (key, set) in [
            ("remora.joined", marks.joined || self.exchange.connection.joined),
            ("remora.request.head.cut", marks.request_head_cut),
            ("remora.response.head.cut", marks.response_head_cut),
            ("remora.request.fields.unknown", marks.request_fields_unknown),
            ("remora.response.fields.unknown", marks.response_fields_unknown),
            ("remora.end.inferred", marks.end_inferred),
            ("remora.request.body.size.estimated", marks.request_size_estimated),
            ("remora.response.body.size.estimated", marks.response_size_estimated),
            ("remora.request.body.size.incomplete", marks.request_content_incomplete),
            ("remora.gap", marks.gap),
        ] {
            if set {
                sink.bool(key, true);
            }
        }
    }
}
