//! Which series an exchange belongs to: keys of borrowed parts, found without allocating, and the
//! bounded table of all series of one resource and role.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use hashbrown::HashTable;
use opentelemetry_semantic_conventions::attribute as key;

use super::{
    Config, HistogramKind, INSTRUMENTS, exemplar::Measured, explicit::Explicit,
    exponential::Exponential, overflow_attributes,
};
use crate::{
    attribute::Value,
    correlate::IdGenerator,
    exchange::{HttpExchange, Role},
    export::metrics_data::{Attributes, Exemplar, Summary, Temporality},
    kubernetes::Peer,
    semantics::{
        http::{Addressed, ErrorType, known_method, protocol_version},
        network::Address,
    },
    span::Span,
};

/// The attributes of HTTP metrics (semconv, "HTTP metrics": required, conditionally required and
/// recommended ones), borrowed from a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    method: &'static str,
    scheme: &'static str,
    version: &'static str,
    status: u16,
    error: Option<ErrorType>,
    /// SERVER only.
    route: Option<&'a str>,
    /// CLIENT only: on servers it is opt-in, and anybody can write anything into `Host`.
    server: Option<Address<'a>>,
    port: Option<u16>,
    /// CLIENT only, and not those that are called like one pod.
    peer: Option<&'a Arc<Peer>>,
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.method.as_bytes());
        state.write(self.route.unwrap_or_default().as_bytes());
        match self.server {
            Some(Address::Name(name)) => state.write(name.as_bytes()),
            Some(Address::Ip(ip)) => ip.hash(state),
            None => {}
        }
        state.write(self.peer.map_or(&[], |peer| peer.name.as_bytes()));
        // What is short goes into one word; `error` follows from status and failure kind.
        let failed = matches!(self.error, Some(ErrorType::Failure(_)));
        state.write_u64(
            u64::from(self.status)
                | u64::from(self.port.unwrap_or_default()) << 16
                | (self.scheme.len() as u64) << 32
                | u64::from(self.version.bytes().last().unwrap_or_default()) << 40
                | u64::from(failed) << 48,
        );
    }
}

impl<'a> Key<'a> {
    pub(super) fn of(span: &'a Span, http: &'a HttpExchange) -> Self {
        let role = span.exchange.role;
        let addressed = Addressed::of(&span.exchange, http);
        let (server, port) = match role {
            Role::Server => (None, None),
            Role::Client => addressed.server(),
        };
        Self {
            method: known_method(&http.method),
            scheme: addressed.scheme,
            version: protocol_version(http.version),
            status: http.status,
            error: ErrorType::of(role, http.status, span.exchange.failure),
            route: span.route.as_deref(),
            server,
            port,
            peer: span.peer.as_ref().filter(|peer| !peer.is_pod),
        }
    }

    fn attributes(&self) -> Attributes {
        let text = |value: &str| Value::Str(value.into());
        let mut list = vec![
            (key::HTTP_REQUEST_METHOD, text(self.method)),
            (key::URL_SCHEME, text(self.scheme)),
            (key::NETWORK_PROTOCOL_NAME, text("http")),
        ];
        if !self.version.is_empty() {
            list.push((key::NETWORK_PROTOCOL_VERSION, text(self.version)));
        }
        if let Some(route) = self.route {
            list.push((key::HTTP_ROUTE, text(route)));
        }
        if self.status != 0 {
            list.push((key::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(self.status))));
        }
        if let Some(error) = self.error {
            list.push((key::ERROR_TYPE, text(&error.as_str())));
        }
        match self.server {
            Some(Address::Name(name)) => list.push((key::SERVER_ADDRESS, text(name))),
            Some(Address::Ip(ip)) => list.push((key::SERVER_ADDRESS, text(&ip.to_string()))),
            None => {}
        }
        if let Some(port) = self.port {
            list.push((key::SERVER_PORT, Value::Int(i64::from(port))));
        }
        if let Some(peer) = self.peer {
            list.push((key::SERVICE_PEER_NAME, text(&peer.name)));
            list.push((key::SERVICE_PEER_NAMESPACE, text(&peer.namespace)));
        }
        list.into_iter().collect()
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
struct OwnedKey {
    fixed: Key<'static>,
    route: Option<Box<str>>,
    server: Option<OwnedAddress>,
    peer: Option<Arc<Peer>>,
}

#[derive(Debug)]
enum OwnedAddress {
    Name(Box<str>),
    Ip(IpAddr),
}

impl OwnedKey {
    fn of(key: &Key<'_>) -> Self {
        Self {
            fixed: Key { route: None, server: None, peer: None, ..*key },
            route: key.route.map(Into::into),
            server: key.server.map(|server| match server {
                Address::Name(name) => OwnedAddress::Name(name.into()),
                Address::Ip(ip) => OwnedAddress::Ip(ip),
            }),
            peer: key.peer.map(Arc::clone),
        }
    }

    fn borrow(&self) -> Key<'_> {
        Key {
            route: self.route.as_deref(),
            server: self.server.as_ref().map(|server| match server {
                OwnedAddress::Name(name) => Address::Name(name),
                OwnedAddress::Ip(ip) => Address::Ip(*ip),
            }),
            peer: self.peer.as_ref(),
            ..self.fixed
        }
    }
}

/// A histogram of either kind.
#[derive(Debug)]
pub(super) enum Histogram {
    Explicit(Explicit),
    Exponential(Exponential),
}

impl Histogram {
    fn new(kind: &HistogramKind, instrument: usize) -> Self {
        match kind {
            HistogramKind::Explicit { durations, sizes } => {
                let bounds = if instrument == 0 { durations } else { sizes };
                Self::Explicit(Explicit::new(Arc::clone(bounds)))
            }
            HistogramKind::Exponential { max_size, max_scale } => {
                Self::Exponential(Exponential::new(*max_size, *max_scale))
            }
        }
    }

    pub(super) fn record(&mut self, measured: &Measured, exemplar: bool, random: &mut IdGenerator) {
        match self {
            Self::Explicit(histogram) => histogram.record(measured, exemplar),
            Self::Exponential(histogram) => histogram.record(measured, exemplar, random),
        }
    }

    pub(super) const fn summary(&self) -> Summary {
        match self {
            Self::Explicit(histogram) => histogram.summary,
            Self::Exponential(histogram) => histogram.summary,
        }
    }

    /// What may be told now; `keep` as in [`super::Config::keep_exemplars`].
    pub(super) fn exemplars(&mut self, keep: bool) -> Vec<Exemplar> {
        match self {
            Self::Explicit(histogram) if keep => histogram.exemplars.kept(),
            Self::Explicit(histogram) => histogram.exemplars.take(),
            Self::Exponential(histogram) => histogram.exemplars.take(),
        }
    }
}

/// The measurements of one set of attributes.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) attributes: Attributes,
    pub(super) histograms: [Histogram; INSTRUMENTS],
    /// Not after the first measurement, not before the end of an earlier series of the same key.
    pub(super) start_unix_ns: u64,
    /// There was a measurement since the last collection.
    pub(super) touched: bool,
    /// When a collection last found it touched.
    seen_unix_ns: u64,
}

impl Series {
    fn new(attributes: Attributes, config: &Config, start_unix_ns: u64) -> Self {
        Self {
            attributes,
            histograms: std::array::from_fn(|at| Histogram::new(&config.histogram, at)),
            start_unix_ns,
            touched: false,
            seen_unix_ns: start_unix_ns,
        }
    }
}

/// All series of one resource and role.
#[derive(Debug, Default)]
pub(super) struct Table {
    index: HashTable<u32>,
    /// In the order in which they were found first.
    series: Vec<(OwnedKey, Series)>,
    overflow: Option<Box<Series>>,
    hasher: foldhash::fast::FixedState,
}

impl Table {
    pub(super) fn find_or_add(
        &mut self,
        key: &Key<'_>,
        config: &Config,
        since_unix_ns: u64,
    ) -> &mut Series {
        let Self { index, series, overflow, hasher } = self;
        let hash = hasher.hash_one(key);
        let found = index.find(hash, |&at| series[at as usize].0.borrow() == *key).copied();
        if let Some(at) = found {
            return &mut series[at as usize].1;
        }
        // The limit includes the overflow series (SDK specification, "Cardinality limits").
        if series.len() + 1 >= config.max_series {
            let new = || Box::new(Series::new(overflow_attributes(), config, since_unix_ns));
            return overflow.get_or_insert_with(new);
        }
        let at = u32::try_from(series.len()).expect("far fewer than the limit");
        index.insert_unique(hash, at, |&at| hasher.hash_one(series[at as usize].0.borrow()));
        series.push((OwnedKey::of(key), Series::new(key.attributes(), config, since_unix_ns)));
        &mut series[at as usize].1
    }

    pub(super) fn len(&self) -> usize {
        self.series.len() + usize::from(self.overflow.is_some())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        let series = self.series.iter_mut().map(|(_, series)| series);
        series.chain(self.overflow.as_deref_mut())
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.series.clear();
        self.overflow = None;
    }

    /// Drops what had no measurement for long enough.
    pub(super) fn evict_idle(&mut self, now_unix_ns: u64, config: &Config) {
        if config.temporality == Temporality::Delta {
            return; // everything is dropped after each collection
        }
        let keep = |series: &mut Series| {
            if std::mem::take(&mut series.touched) {
                series.seen_unix_ns = now_unix_ns;
            }
            now_unix_ns.saturating_sub(series.seen_unix_ns) < config.idle_ns
        };
        let before = self.series.len();
        self.series.retain_mut(|(_, series)| keep(series));
        if self.overflow.as_deref_mut().is_some_and(|series| !keep(series)) {
            self.overflow = None;
        }
        if self.series.len() == before {
            return;
        }
        let Self { index, series, hasher, .. } = self;
        index.clear();
        for (at, (key, _)) in (0..).zip(series.iter()) {
            let hash = hasher.hash_one(key.borrow());
            index.insert_unique(hash, at, |&at| hasher.hash_one(series[at as usize].0.borrow()));
        }
    }
}
