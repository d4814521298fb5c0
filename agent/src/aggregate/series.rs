//! The series of one resource: a bounded table of those that share instruments and role, where an
//! exchange finds its own without allocating.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::{
    Config, HistogramKind, exemplar::Measured, explicit::Explicit, exponential::Exponential,
};
use crate::{
    exchange::Role,
    ids::IdGenerator,
    metrics_data::{Attributes, Exemplar, Summary, Temporality},
    semantics::metrics::{Family, Instrument, Key, OwnedKey, overflow},
};

/// A histogram of either kind.
#[derive(Debug)]
pub(super) enum Histogram {
    Explicit(Explicit),
    Exponential(Exponential),
}

impl Histogram {
    fn new(kind: HistogramKind, instrument: &Instrument) -> Self {
        match kind {
            HistogramKind::Explicit => Self::Explicit(Explicit::new(instrument.bounds)),
            HistogramKind::Exponential => Self::Exponential(Exponential::default()),
        }
    }

    pub(super) fn record(&mut self, measured: &Measured, exemplar: bool, random: &mut IdGenerator) {
        match self {
            Self::Explicit(histogram) => histogram.record(measured, exemplar),
            Self::Exponential(histogram) => histogram.record(measured, exemplar, random),
        }
    }

    /// Offers what was recorded without an exemplar as one.
    pub(super) fn exemplify(&mut self, measured: &Measured, random: &mut IdGenerator) {
        match self {
            Self::Explicit(histogram) => histogram.exemplify(measured),
            Self::Exponential(histogram) => histogram.exemplars.offer(measured, random),
        }
    }

    pub(super) const fn summary(&self) -> Summary {
        match self {
            Self::Explicit(histogram) => histogram.summary,
            Self::Exponential(histogram) => histogram.summary,
        }
    }

    /// What is told now; those from before `since_unix_ns` for the last time.
    pub(super) fn exemplars(&mut self, since_unix_ns: u64) -> Vec<Exemplar> {
        match self {
            Self::Explicit(histogram) => histogram.exemplars.tell(since_unix_ns),
            Self::Exponential(histogram) => histogram.exemplars.tell(since_unix_ns),
        }
    }
}

/// The measurements of one set of attributes.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) attributes: Attributes,
    /// One of each instrument.
    pub(super) histograms: Box<[Histogram]>,
    /// Not after the first measurement, not before the end of an earlier series of the same key.
    pub(super) start_unix_ns: u64,
    /// There was a measurement since the last collection.
    pub(super) touched: bool,
    /// When a collection last found it touched.
    seen_unix_ns: u64,
}

impl Series {
    fn new(
        attributes: Attributes,
        instruments: &[Instrument],
        config: &Config,
        start_unix_ns: u64,
    ) -> Self {
        let new = |instrument| Histogram::new(config.histogram, instrument);
        Self {
            attributes,
            histograms: instruments.iter().map(new).collect(),
            start_unix_ns,
            touched: false,
            seen_unix_ns: start_unix_ns,
        }
    }
}

/// All series of one resource that share instruments and role.
#[derive(Debug)]
pub(super) struct Table {
    family: Family,
    role: Role,
    pub(super) instruments: &'static [Instrument],
    index: HashTable<u32>,
    /// In the order in which they were found first.
    series: Vec<(OwnedKey, Series)>,
    overflow: Option<Box<Series>>,
    hasher: foldhash::fast::FixedState,
}

impl Table {
    fn new(family: Family, role: Role) -> Self {
        Self {
            family,
            role,
            instruments: family.instruments(role),
            index: HashTable::default(),
            series: Vec::new(),
            overflow: None,
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// The one of that family and role among `tables`, which stay in order: servers before clients.
    pub(super) fn among(tables: &mut Vec<Self>, family: Family, role: Role) -> &mut Self {
        let found = tables.iter().position(|table| table.family == family && table.role == role);
        let at = found.unwrap_or_else(|| {
            let order = |family, role| (family, role == Role::Client);
            let at = tables
                .partition_point(|table| order(table.family, table.role) < order(family, role));
            tables.insert(at, Self::new(family, role));
            at
        });
        &mut tables[at]
    }

    /// And whether it is that of the key, not the one that takes what is beyond the limit.
    pub(super) fn find_or_add(
        &mut self,
        key: &Key<'_>,
        config: &Config,
        since_unix_ns: u64,
    ) -> (&mut Series, bool) {
        let Self { instruments, index, series, overflow, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        let found = index.find(hash, |&at| series[at as usize].0.is(key)).copied();
        if let Some(at) = found {
            return (&mut series[at as usize].1, true);
        }
        // The limit includes the overflow series (SDK specification, "Cardinality limits").
        if series.len() + 1 >= config.max_series {
            let overflow = overflow.get_or_insert_with(|| {
                let attributes = self::overflow().into_iter().collect();
                Box::new(Series::new(attributes, instruments, config, since_unix_ns))
            });
            return (overflow, false);
        }
        let at = u32::try_from(series.len()).expect("far fewer than the limit");
        index.insert_unique(hash, at, |&at| hasher.hash_one(series[at as usize].0.borrow()));
        let attributes = key.attributes().into_iter().collect();
        let new = Series::new(attributes, instruments, config, since_unix_ns);
        series.push((OwnedKey::of(key), new));
        (&mut series[at as usize].1, true)
    }

    /// Where what has this key was recorded, if that is known still.
    pub(super) fn find(&mut self, key: &Key<'_>) -> Option<&mut Series> {
        let Self { index, series, overflow, hasher, .. } = self;
        let found = index.find(hasher.hash_one(key), |&at| series[at as usize].0.is(key)).copied();
        match found {
            Some(at) => Some(&mut series[at as usize].1),
            None => overflow.as_deref_mut(),
        }
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
