//! Metrics of databases by the stable semantic conventions (schema 1.42, "Database client metrics"). The
//! server's side, for which there is no convention, is `db.server.operation.duration` with the same
//! attributes. `db.query.text` is opt-in on metrics, and not there.

use std::hash::{Hash, Hasher};

use opentelemetry_semantic_conventions::{attribute as key, metric};

use super::{System, error_type, server, title};
use crate::{
    exchange::{DbExchange, Failure},
    semantics::{
        chosen::{LeftOut, bit},
        instrument::{Instrument, Measure},
        series::{AttributeList, OwnedServer, Server, text},
    },
    span::Span,
};

/// Bucket bounds that the conventions advise, seconds.
const DURATION_BOUNDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

pub(crate) const CLIENT: &[Instrument] = &[Instrument {
    name: metric::DB_CLIENT_OPERATION_DURATION,
    unit: "s",
    description: "Duration of database client operations.",
    bounds: DURATION_BOUNDS,
    measure: Measure::Duration,
}];

pub(crate) const SERVER: &[Instrument] = &[Instrument {
    name: "db.server.operation.duration",
    unit: "s",
    description: "Duration of database server operations.",
    bounds: DURATION_BOUNDS,
    measure: Measure::Duration,
}];

/// What names of an operation a key has, in the order of [`Key::names`].
const NAMES: [&str; 6] = [
    key::DB_OPERATION_NAME,
    key::DB_COLLECTION_NAME,
    key::DB_NAMESPACE,
    key::DB_QUERY_SUMMARY,
    key::DB_STORED_PROCEDURE_NAME,
    key::DB_RESPONSE_STATUS_CODE,
];

/// The attributes of metrics of databases: required, conditionally required and recommended ones, but
/// `network.peer.*`, which say the same as `server.*` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    system: &'static str,
    /// By [`NAMES`]; empty where there is none.
    names: [&'a str; NAMES.len()],
    /// The status code is an error.
    failed: bool,
    failure: Option<Failure>,
    server: Server<'a>,
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for name in self.names {
            state.write(name.as_bytes());
        }
        self.server.hash_names(state);
        // Lengths, so that neighbours do not run into each other; a system has the first byte of its name.
        let lens = self.names.iter().fold(0, |word, name| word << 8 | name.len() as u64);
        let first = self.system.bytes().next().unwrap_or_default();
        state.write_u64(lens << 16 | u64::from(self.server.port.unwrap_or_default()));
        let failures = u64::from(self.failed) << 1 | u64::from(self.failure.is_some());
        state.write_u64(u64::from(first) << 8 | failures);
    }
}

impl<'a> Key<'a> {
    pub(crate) fn of(system: &'static System, span: &'a Span, db: &'a DbExchange) -> Self {
        Self {
            system: system.name,
            names: [
                db.operation(),
                db.collection(),
                db.namespace(),
                db.summary(),
                db.stored_procedure(),
                db.status_code(),
            ]
            .map(Option::unwrap_or_default),
            failed: db.failed,
            // What a failed operation has as `error.type` is its status code.
            failure: span.exchange.failure.filter(|_| !db.failed),
            server: Server::of(server(&span.exchange), span),
        }
    }

    /// Without what series do not have.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        if left_out.has(const { bit(key::DB_SYSTEM_NAME) }) {
            self.system = "";
        }
        let no_error = left_out.has(const { bit(key::ERROR_TYPE) });
        if no_error {
            self.failure = None;
        }
        for (name, value) in NAMES.into_iter().zip(&mut self.names) {
            // A status code that is an error is `error.type`, too.
            let is_error = name == key::DB_RESPONSE_STATUS_CODE && self.failed && !no_error;
            if left_out.has_key(name) && !is_error {
                *value = "";
            }
        }
        self.failed &= !no_error;
        self.server.leave_out(left_out);
    }

    pub(crate) fn attributes(&self) -> AttributeList {
        let mut list = vec![(key::DB_SYSTEM_NAME, text(self.system))];
        let names = NAMES.into_iter().zip(self.names).filter(|(_, name)| !name.is_empty());
        list.extend(names.map(|(key, name)| (key, text(name))));
        let status_code = self.names[NAMES.len() - 1];
        if let Some(error) = error_type(self.failed, status_code, self.failure) {
            list.push((key::ERROR_TYPE, text(error)));
        }
        self.server.add_to(&mut list);
        list
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
pub struct OwnedKey {
    fixed: Key<'static>,
    names: [Box<str>; NAMES.len()],
    server: OwnedServer,
}

impl OwnedKey {
    pub(crate) fn of(key: &Key<'_>) -> Self {
        Self {
            fixed: Key { names: Default::default(), server: Server::default(), ..*key },
            names: key.names.map(Into::into),
            server: OwnedServer::of(&key.server),
        }
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key<'_>) -> bool {
        self.borrow() == *key
    }

    pub(crate) fn borrow(&self) -> Key<'_> {
        let names = self.names.each_ref().map(|name| &**name);
        Key { names, server: self.server.borrow(), ..self.fixed }
    }
}

/// `SELECT orders`, `GET`: without the server, which rows of all conventions have.
pub(crate) fn row(find: &dyn Fn(&str) -> Option<String>) -> String {
    let [summary, operation, collection] =
        [key::DB_QUERY_SUMMARY, key::DB_OPERATION_NAME, key::DB_COLLECTION_NAME].map(find);
    let title = title(summary.as_deref(), operation.as_deref(), collection.as_deref());
    title.or_else(|| find(key::DB_SYSTEM_NAME)).unwrap_or_default()
}
