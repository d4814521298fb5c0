//! What is measured of exchanges: which histograms there are, which series an exchange belongs to, and
//! how a table of requests calls a series. Each family of conventions says it for its exchanges; whoever
//! aggregates and shows only asks here.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
};

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    chosen::{LeftOut, MetricAttributes},
    convention::Convention,
    db::metrics as db,
    http::metrics as http,
    rpc::metrics as rpc,
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key<'a> {
    conventional: Conventional<'a>,
    left_out: LeftOut,
    /// What [`MetricAttributes::added`] says.
    added: &'a [Added],
}

/// An attribute that no convention gives to metrics.
pub type Added = (Box<str>, Value);

/// By the attributes of the conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conventional<'a> {
    Http(http::Key<'a>),
    Rpc(rpc::Key<'a>),
    Db(db::Key<'a>),
}

/// Without the variant: a table holds those of one family.
impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.conventional {
            Conventional::Http(key) => key.hash(state),
            Conventional::Rpc(key) => key.hash(state),
            Conventional::Db(key) => key.hash(state),
        }
        if self.is_conventional() {
            return;
        }
        self.left_out.hash(state);
        for (key, value) in self.added {
            key.hash(state);
            match value {
                Value::Str(text) => text.hash(state),
                Value::Int(number) => number.hash(state),
                Value::Bool(is) => is.hash(state),
                Value::Double(number) => number.to_bits().hash(state),
                Value::Strs(texts) => texts.hash(state),
            }
        }
    }
}

impl<'a> Key<'a> {
    /// By the conventions alone.
    #[inline]
    #[must_use]
    pub fn of(span: &'a Span) -> Self {
        let conventional = match Convention::of(span) {
            Convention::Http(http) => Conventional::Http(http::Key::of(span, http)),
            Convention::Rpc(rpc) => Conventional::Rpc(rpc::Key::of(span, rpc)),
            Convention::Db(system, db) => Conventional::Db(db::Key::of(system, span, db)),
        };
        Self { conventional, left_out: LeftOut::default(), added: &[] }
    }

    /// As `chosen` has it, with what it has `added`.
    #[must_use]
    pub fn chosen(span: &'a Span, chosen: &MetricAttributes, added: &'a [Added]) -> Self {
        let mut key = Self { left_out: chosen.left_out(), added, ..Self::of(span) };
        match &mut key.conventional {
            Conventional::Http(http) => http.leave_out(key.left_out),
            Conventional::Rpc(rpc) => rpc.leave_out(key.left_out),
            Conventional::Db(db) => db.leave_out(key.left_out),
        }
        key
    }

    #[inline]
    const fn is_conventional(&self) -> bool {
        self.left_out.is_empty() && self.added.is_empty()
    }

    /// Which table the series is in.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.conventional {
            Conventional::Http(_) => Family::Http,
            Conventional::Rpc(_) => Family::Rpc,
            Conventional::Db(_) => Family::Db,
        }
    }

    /// Each key once.
    #[must_use]
    pub fn attributes(&self) -> Vec<(Cow<'static, str>, Value)> {
        let conventional = match &self.conventional {
            Conventional::Http(key) => key.attributes(),
            Conventional::Rpc(key) => key.attributes(),
            Conventional::Db(key) => key.attributes(),
        };
        let mut list: Vec<(Cow<'static, str>, Value)> = conventional
            .into_iter()
            .filter(|(key, _)| !self.left_out.has_key(key))
            .map(|(key, value)| (key.into(), value))
            .collect();
        for (key, value) in self.added {
            if !list.iter().any(|(known, _)| **known == **key) {
                list.push((key.to_string().into(), value.clone()));
            }
        }
        list
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
pub struct OwnedKey {
    conventional: OwnedConventional,
    left_out: LeftOut,
    added: Box<[Added]>,
}

#[derive(Debug)]
enum OwnedConventional {
    Http(http::OwnedKey),
    Rpc(rpc::OwnedKey),
    Db(db::OwnedKey),
}

impl OwnedKey {
    #[must_use]
    pub fn of(key: &Key<'_>) -> Self {
        let conventional = match &key.conventional {
            Conventional::Http(key) => OwnedConventional::Http(http::OwnedKey::of(key)),
            Conventional::Rpc(key) => OwnedConventional::Rpc(rpc::OwnedKey::of(key)),
            Conventional::Db(key) => OwnedConventional::Db(db::OwnedKey::of(key)),
        };
        Self { conventional, left_out: key.left_out, added: key.added.into() }
    }

    /// Whether `key` is the one that this was made of.
    #[inline]
    #[must_use]
    pub fn is(&self, key: &Key<'_>) -> bool {
        let conventional = match (&self.conventional, &key.conventional) {
            (OwnedConventional::Http(own), Conventional::Http(key)) => own.is(key),
            (OwnedConventional::Rpc(own), Conventional::Rpc(key)) => own.is(key),
            (OwnedConventional::Db(own), Conventional::Db(key)) => own.is(key),
            (
                OwnedConventional::Http(_) | OwnedConventional::Rpc(_) | OwnedConventional::Db(_),
                _,
            ) => false,
        };
        conventional && self.left_out == key.left_out && *self.added == *key.added
    }

    #[must_use]
    pub fn borrow(&self) -> Key<'_> {
        let conventional = match &self.conventional {
            OwnedConventional::Http(key) => Conventional::Http(key.borrow()),
            OwnedConventional::Rpc(key) => Conventional::Rpc(key.borrow()),
            OwnedConventional::Db(key) => Conventional::Db(key.borrow()),
        };
        Key { conventional, left_out: self.left_out, added: &self.added }
    }
}
