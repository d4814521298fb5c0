//! Calls of gRPC by the semantic conventions for RPC (release candidate; schema 1.42, "RPC spans" and "gRPC").

pub(super) mod metrics;
#[cfg(test)]
mod tests;

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    http::addressed::Addressed,
    network,
    outcome::{Outcome, Tone, failure_name},
    redact::redact_path,
};
use crate::{
    attribute::AttributeSink,
    exchange::{Exchange, Failure, Role, RpcExchange},
    span::Span,
};

/// `rpc.system.name`.
const SYSTEM: &str = "grpc";
/// How the call ended. `rpc.status_code` in a later version of the conventions.
pub(super) const STATUS_CODE: &str = key::RPC_RESPONSE_STATUS_CODE;
/// A method that is not known.
const OTHER: &str = "_OTHER";

const UNIMPLEMENTED: u32 = 12;

/// Names of codes (gRPC, "Status codes and their use in gRPC"), by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The code's name. Codes that do not exist are all one, for anybody may send any.
fn code_name(code: u32) -> &'static str {
    CODES.get(code as usize).copied().unwrap_or(OTHER)
}

/// How the call ended for whoever made or served it. Where no status came, gRPC says which one a reset or another
/// status of HTTP stands for ("gRPC over HTTP2", "HTTP2 Transport Mapping"; "HTTP to gRPC Status Code Mapping").
fn status(exchange: &Exchange, rpc: &RpcExchange) -> Option<u32> {
    if rpc.status.is_some() {
        return rpc.status;
    }
    match (exchange.failure, exchange.role, rpc.http.status) {
        (Some(Failure::StreamReset(code)), ..) => match code {
            0x0..=0x4 | 0x6 | 0x9 | 0xa => Some(13),
            0x7 => Some(14),
            0x8 => Some(1),
            0xb => Some(8),
            0xc => Some(7),
            _ => Some(2),
        },
        (Some(_), ..) | (None, _, 0 | 200) | (None, Role::Server, _) => None,
        (None, Role::Client, http) => Some(match http {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => UNIMPLEMENTED,
            429 | 502..=504 => 14,
            _ => 2,
        }),
    }
}

/// Codes that are errors of a server: its own, not those of its clients.
const fn is_error_of_server(code: u32) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15) || code >= CODES.len() as u32
}

/// `error.type`: the name of a code that is an error, or of what happened to the connection.
pub(super) fn error_type(exchange: &Exchange, rpc: &RpcExchange) -> Option<&'static str> {
    error(exchange.role, status(exchange, rpc), exchange.failure)
}

fn error(role: Role, status: Option<u32>, failure: Option<Failure>) -> Option<&'static str> {
    match (status, role) {
        (Some(0), _) => None,
        (Some(code), Role::Client) => Some(code_name(code)),
        (Some(code), Role::Server) => is_error_of_server(code).then(|| code_name(code)),
        (None, _) => failure.map(failure_name),
    }
}

/// `package.Service/Method`, as the path has it behind its first `/`; `None`: it has not that form.
fn full_name(rpc: &RpcExchange) -> Option<&str> {
    let name = rpc.http.target.strip_prefix('/')?;
    let (service, method) = name.rsplit_once('/')?;
    let fits = !service.is_empty() && !method.is_empty() && !name.contains(['?', '#']);
    fits.then_some(name)
}

/// `rpc.method`. What a server does not implement anybody may have made up: it is [`OTHER`].
fn method(role: Role, rpc: &RpcExchange) -> Option<&str> {
    if rpc.http.target.is_empty() {
        return None; // not known to us
    }
    let made_up = role == Role::Server && rpc.status == Some(UNIMPLEMENTED);
    Some(full_name(rpc).filter(|_| !made_up).unwrap_or(OTHER))
}

pub(super) fn span_name(role: Role, rpc: &RpcExchange) -> &str {
    method(role, rpc).filter(|&method| method != OTHER).unwrap_or(SYSTEM)
}

/// `shop.Stock/Count`.
pub(super) fn summary(rpc: &RpcExchange) -> String {
    full_name(rpc).unwrap_or(SYSTEM).into()
}

/// The name of the status.
pub(super) fn outcome(exchange: &Exchange, rpc: &RpcExchange) -> Outcome {
    let (text, tone) = match status(exchange, rpc) {
        Some(0) => ("OK", Tone::Good),
        Some(code) => (code_name(code), Tone::Refused),
        None => ("-", Tone::Neutral),
    };
    Outcome { text: text.into(), tone }
}

pub(super) fn visit(span: &Span, rpc: &RpcExchange, sink: &mut impl AttributeSink) {
    let exchange = &span.exchange;
    sink.str(key::RPC_SYSTEM_NAME, SYSTEM);
    if let Some(method) = method(exchange.role, rpc) {
        sink.str(key::RPC_METHOD, method);
        if method == OTHER {
            let path = rpc.http.target.split(['?', '#']).next().unwrap_or_default();
            sink.str(key::RPC_METHOD_ORIGINAL, redact_path(path).trim_start_matches('/'));
        }
    }
    if let Some(code) = status(exchange, rpc) {
        sink.str(STATUS_CODE, code_name(code));
    }
    if let Some(error) = error_type(exchange, rpc) {
        sink.str(key::ERROR_TYPE, error);
    }
    network::server(sink, Addressed::of(exchange, &rpc.http).server());
    network::ends(sink, exchange, span.options);
    for header in rpc.http.request_headers.iter().chain(&rpc.http.response_headers) {
        let values: Vec<&str> = header.values.iter().map(|value| &**value).collect();
        sink.strs(&header.key, &values);
    }
}
