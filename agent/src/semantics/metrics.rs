//! What is measured of exchanges: which histograms there are, which series an exchange belongs to, and
//! how a table of requests calls a series. Each family of conventions says it for its exchanges; whoever
//! aggregates and shows only asks here.

use std::hash::{Hash, Hasher};

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    convention::Convention, db::metrics as db, http::metrics as http, rpc::metrics as rpc,
};
pub use super::{
    instrument::{Instrument, Measure},
    series::AttributeList,
};
use crate::{
    attribute::Value,
    exchange::Role,
    span::{Span, SpanKind},
};

/// Conventions that share instruments: one table of series for each, so that a name has all of its
/// points in one place whatever the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Http,
    Rpc,
    Db,
}

impl Family {
    const ALL: [Self; 3] = [Self::Http, Self::Rpc, Self::Db];

    /// The first one is the duration.
    #[must_use]
    pub const fn instruments(self, role: Role) -> &'static [Instrument] {
        match (self, role) {
            (Self::Http, Role::Server) => http::SERVER,
            (Self::Http, Role::Client) => http::CLIENT,
            (Self::Rpc, Role::Server) => rpc::SERVER,
            (Self::Rpc, Role::Client) => rpc::CLIENT,
            (Self::Db, Role::Server) => db::SERVER,
            (Self::Db, Role::Client) => db::CLIENT,
        }
    }

    /// Of the metric that counts and times requests; `None` of any other.
    #[must_use]
    pub fn of_durations(metric: &str) -> Option<(Self, SpanKind)> {
        let all = Self::ALL.into_iter().flat_map(|family| {
            [(family, Role::Server, SpanKind::Server), (family, Role::Client, SpanKind::Client)]
        });
        all.into_iter()
            .find(|(family, role, _)| family.instruments(*role)[0].name == metric)
            .map(|(family, _, kind)| (family, kind))
    }

    /// A series as a row of a table of requests; `find` looks for an attribute of it.
    pub fn row(self, kind: SpanKind, find: &dyn Fn(&str) -> Option<String>) -> Row {
        let mut request = match self {
            Self::Http => http::row(find),
            Self::Rpc => rpc::row(find),
            Self::Db => db::row(find),
        };
        if kind == SpanKind::Client
            && let Some(address) = find(key::SERVER_ADDRESS)
        {
            request.push(' ');
            request.push_str(&address);
            if let Some(port) = find(key::SERVER_PORT) {
                request.push(':');
                request.push_str(&port);
            }
        }
        let overflow = find(OVERFLOW).is_some();
        Row { request: (!overflow).then_some(request), failed: find(key::ERROR_TYPE).is_some() }
    }
}

/// What a table of requests shows of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `GET /users/{id}` of servers, `GET stock:8081` of clients; `None` of the series that took what
    /// is beyond the limit.
    pub request: Option<String>,
    /// All of its requests are errors.
    pub failed: bool,
}

const OVERFLOW: &str = "otel.metric.overflow";

/// The attributes of the series that takes what is beyond the limit (SDK specification, "Cardinality
/// limits").
#[must_use]
pub fn overflow() -> AttributeList {
    vec![(OVERFLOW, Value::Bool(true))]
}

/// Which series an exchange belongs to, in parts that are borrowed from its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Http(http::Key<'a>),
    Rpc(rpc::Key<'a>),
    Db(db::Key<'a>),
}

/// Without the variant: a table holds those of one family.
impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Http(key) => key.hash(state),
            Self::Rpc(key) => key.hash(state),
            Self::Db(key) => key.hash(state),
        }
    }
}

impl<'a> Key<'a> {
    #[inline]
    #[must_use]
    pub fn of(span: &'a Span) -> Self {
        match Convention::of(span) {
            Convention::Http(http) => Self::Http(http::Key::of(span, http)),
            Convention::Rpc(rpc) => Self::Rpc(rpc::Key::of(span, rpc)),
            Convention::Db(system, db) => Self::Db(db::Key::of(system, span, db)),
        }
    }

    /// Which table the series is in.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Http(_) => Family::Http,
            Self::Rpc(_) => Family::Rpc,
            Self::Db(_) => Family::Db,
        }
    }

    #[must_use]
    pub fn attributes(&self) -> AttributeList {
        match self {
            Self::Http(key) => key.attributes(),
            Self::Rpc(key) => key.attributes(),
            Self::Db(key) => key.attributes(),
        }
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
pub enum OwnedKey {
    Http(http::OwnedKey),
    Rpc(rpc::OwnedKey),
    Db(db::OwnedKey),
}

impl OwnedKey {
    #[must_use]
    pub fn of(key: &Key<'_>) -> Self {
        match key {
            Key::Http(key) => Self::Http(http::OwnedKey::of(key)),
            Key::Rpc(key) => Self::Rpc(rpc::OwnedKey::of(key)),
            Key::Db(key) => Self::Db(db::OwnedKey::of(key)),
        }
    }

    /// Whether `key` is the one that this was made of.
    #[inline]
    #[must_use]
    pub fn is(&self, key: &Key<'_>) -> bool {
        match (self, key) {
            (Self::Http(own), Key::Http(key)) => own.is(key),
            (Self::Rpc(own), Key::Rpc(key)) => own.is(key),
            (Self::Db(own), Key::Db(key)) => own.is(key),
            (Self::Http(_) | Self::Rpc(_) | Self::Db(_), _) => false,
        }
    }

    #[must_use]
    pub fn borrow(&self) -> Key<'_> {
        match self {
            Self::Http(key) => Key::Http(key.borrow()),
            Self::Rpc(key) => Key::Rpc(key.borrow()),
            Self::Db(key) => Key::Db(key.borrow()),
        }
    }
}
