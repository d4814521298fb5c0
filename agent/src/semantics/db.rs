//! Spans of databases by the stable semantic conventions (schema 1.42, "Database client spans"). What
//! one system does otherwise than the others is its [`System`]. There is no convention for the server's
//! side: a SERVER span has the same attributes, and `server.*` is its own end of the connection.

pub(super) mod metrics;

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    network::{self, Address},
    outcome::{Outcome, Tone, failure_name},
};
use crate::{
    attribute::AttributeSink,
    exchange::{DbExchange, Endpoint, Exchange, Failure, Role},
    span::Span,
};

/// What is told of a database system apart from the exchange.
#[derive(Debug, PartialEq, Eq)]
pub struct System {
    /// `db.system.name`.
    pub name: &'static str,
    /// Without a summary, a span's name says what the operation was on.
    pub target_in_name: bool,
}

/// Longest name of anything, bytes: what the conventions allow for `db.query.summary`.
pub const MAX_NAME: usize = 255;

/// Longest `db.query.text`, bytes.
pub const MAX_TEXT: usize = 4096;

/// At most `max` bytes of a text, whole characters.
fn within(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn name(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty()).map(|text| within(text, MAX_NAME))
}

/// Its texts as they are shown: bounded, and absent rather than empty.
impl DbExchange {
    pub(super) fn operation(&self) -> Option<&str> {
        name(Some(&self.operation))
    }

    pub(super) fn collection(&self) -> Option<&str> {
        name(self.collection.as_deref())
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        name(self.namespace.as_deref())
    }

    pub(super) fn summary(&self) -> Option<&str> {
        name(self.summary.as_deref())
    }

    pub(super) fn stored_procedure(&self) -> Option<&str> {
        name(self.stored_procedure.as_deref())
    }

    pub(super) fn status_code(&self) -> Option<&str> {
        name(self.status_code.as_deref())
    }

    pub(super) fn error_type(&self, failure: Option<Failure>) -> Option<&str> {
        error_type(self.failed, self.status_code().unwrap_or_default(), failure)
    }
}

/// `error.type`: the status code, or the name of the failure. What a server refuses is an error on both
/// sides: the conventions tell nothing else, and say so of clients only.
fn error_type(failed: bool, status_code: &str, failure: Option<Failure>) -> Option<&str> {
    match (failed, status_code) {
        (true, "") => Some("_OTHER"),
        (true, status_code) => Some(status_code),
        (false, _) => failure.map(failure_name),
    }
}

/// `SELECT orders`, `PIPELINE GET`: without the server.
fn title(
    summary: Option<&str>,
    operation: Option<&str>,
    collection: Option<&str>,
) -> Option<String> {
    match (summary, operation, collection) {
        (Some(summary), ..) => Some(summary.into()),
        (None, Some(operation), Some(collection)) => Some(format!("{operation} {collection}")),
        (None, Some(name), None) | (None, None, Some(name)) => Some(name.into()),
        (None, None, None) => None,
    }
}

/// As [`title`], or the system.
pub(super) fn summary(system: &System, db: &DbExchange) -> String {
    let title = title(db.summary(), db.operation(), db.collection());
    title.unwrap_or_else(|| system.name.into())
}

/// Whether there was an answer, and which.
pub(super) fn outcome(db: &DbExchange, failure: Option<Failure>) -> Outcome {
    let (text, tone) = match (db.failed, failure) {
        (true, _) => ("err", Tone::Refused),
        (false, Some(_)) => ("-", Tone::Neutral),
        (false, None) => ("ok", Tone::Good),
    };
    Outcome { text: text.into(), tone }
}

/// `server.address` and `server.port`: of the end that is the database's.
pub(super) fn server(exchange: &Exchange) -> (Option<Address<'_>>, Option<u16>) {
    let end = match exchange.role {
        Role::Server => &exchange.connection.local,
        Role::Client => &exchange.connection.remote,
    };
    match end {
        Endpoint::Inet { addr, port } => (Some(Address::Ip(*addr)), Some(*port)),
        Endpoint::Unix { path } if !path.is_empty() => (Some(Address::Name(path)), None),
        Endpoint::Unix { .. } | Endpoint::Unknown => (None, None),
    }
}

/// `{summary}`, else `{operation} {target}`, else what there is of these, else the system.
pub(super) fn span_name<'a>(
    system: &System,
    exchange: &'a Exchange,
    db: &'a DbExchange,
) -> Cow<'a, str> {
    if let Some(summary) = db.summary() {
        return Cow::Borrowed(summary);
    }
    let target = match db.collection().or_else(|| db.namespace()) {
        _ if !system.target_in_name => Cow::Borrowed(""),
        Some(target) => Cow::Borrowed(target),
        None => match server(exchange) {
            (Some(Address::Ip(ip)), Some(port)) => {
                Cow::Owned(std::net::SocketAddr::new(ip, port).to_string())
            }
            (Some(Address::Name(path)), _) => Cow::Borrowed(path),
            _ => Cow::Borrowed(""),
        },
    };
    match (db.operation(), target) {
        (Some(operation), target) if target.is_empty() => Cow::Borrowed(operation),
        (Some(operation), target) => Cow::Owned(format!("{operation} {target}")),
        (None, target) if target.is_empty() => Cow::Borrowed(system.name),
        (None, target) => target,
    }
}

pub(super) fn visit(system: &System, span: &Span, db: &DbExchange, sink: &mut impl AttributeSink) {
    let exchange = &span.exchange;
    sink.str(key::DB_SYSTEM_NAME, system.name);
    for (key, value) in [
        (key::DB_OPERATION_NAME, db.operation()),
        (key::DB_COLLECTION_NAME, db.collection()),
        (key::DB_NAMESPACE, db.namespace()),
        (key::DB_QUERY_SUMMARY, db.summary()),
        (key::DB_STORED_PROCEDURE_NAME, db.stored_procedure()),
        (key::DB_RESPONSE_STATUS_CODE, db.status_code()),
        (key::ERROR_TYPE, db.error_type(exchange.failure)),
    ] {
        if let Some(value) = value {
            sink.str(key, value);
        }
    }
    let text = db.query_text.as_deref().unwrap_or_default();
    if !text.is_empty() {
        sink.str(key::DB_QUERY_TEXT, within(text, MAX_TEXT));
    }
    if db.batch_size > 1 {
        sink.int(key::DB_OPERATION_BATCH_SIZE, i64::from(db.batch_size));
    }
    if let Some(rows) = db.returned_rows {
        sink.count(key::DB_RESPONSE_RETURNED_ROWS, rows);
    }
    network::server(sink, server(exchange));
    network::ends(sink, exchange, span.options);
    if db.text_unknown {
        sink.bool("remora.db.query.text.unknown", true);
    }
    if db.text_cut || text.len() > MAX_TEXT {
        sink.bool("remora.db.query.text.cut", true);
    }
}

#[cfg(test)]
mod tests;
