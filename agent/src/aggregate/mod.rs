//! RED metrics of all exchanges, also of those whose spans are sampled out: histograms of durations and
//! sizes, one series per resource, role and set of conventional attributes. Which histograms an exchange
//! has and which series is its own, [`crate::semantics::metrics`] says.
//!
//! [`Aggregator::record`] is on the hot path: it hashes borrowed parts of the span and allocates only
//! for a series that it did not know. [`Aggregator::collect`] turns what was measured since the last
//! time (delta) or since each series began (cumulative) into [`MetricBatch`]es. Series are bounded: what
//! comes beyond the limit is counted in one series with `otel.metric.overflow=true`; a cumulative
//! series without measurements for a while is dropped, and begins anew with a new start time. Resources
//! are bounded, too, also where nobody collects: those whose process has ended give their place.

mod config;
mod exemplar;
mod explicit;
mod exponential;
mod series;

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
};

use hashbrown::HashMap;

pub use self::config::{Config, ExemplarFilter, HistogramKind};
use self::{
    exemplar::Measured,
    series::{Series, Table},
};
use crate::{
    ids::{IdGenerator, random_seed},
    metrics_data::{
        Data, ExponentialPoint, HistogramPoint, Metric, MetricBatch, Point, Temporality,
    },
    resource::Resource,
    semantics::{chosen::MetricAttributes, metrics::Key},
    span::Span,
};

/// What one resource measured.
#[derive(Debug)]
struct Measurements {
    /// A copy: who has the others is who still runs.
    resource: Arc<Resource>,
    /// Resources of the processes that are this instance, held so that their addresses stay their own.
    /// Several where processes share an instance, and where one became another program.
    held: Vec<Weak<Resource>>,
    tables: Vec<Table>,
}

impl Measurements {
    fn series_len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Nobody knows its resources any more: its processes have ended.
    fn is_of_the_past(&self) -> bool {
        self.held.iter().all(|held| held.strong_count() == 0)
    }

    /// Lets go of the resources of processes that have ended. The last one stays: that of most instances is the only one.
    fn let_go(&mut self) -> Vec<Weak<Resource>> {
        let mut gone = Vec::new();
        while self.held.len() > 1
            && let Some(at) = self.held.iter().position(|held| held.strong_count() == 0)
        {
            gone.push(self.held.swap_remove(at));
        }
        gone
    }
}

/// What was left out to keep within bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Measurements that are in no series of their own, but in the one that takes what is beyond the limit.
    pub overflowed: u64,
    /// Series that were forgotten because others' resources had no place.
    pub forgotten: u64,
    /// Exchanges that were not measured because no resource gave its place.
    pub unmeasured: u64,
    /// Sizes that were not measured because they are not known exactly.
    pub inexact: u64,
}

impl LeftOut {
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.overflowed + self.forgotten + self.unmeasured + self.inexact
    }
}

/// Aggregates exchanges for one reader.
#[derive(Debug)]
pub struct Aggregator {
    config: Config,
    resources: Vec<Measurements>,
    /// Address of a resource to its place in `resources`.
    places: HashMap<usize, usize, foldhash::fast::RandomState>,
    /// [`Resource::identity`], likewise.
    instances: HashMap<String, usize, foldhash::fast::RandomState>,
    left_out: LeftOut,
    random: IdGenerator,
    /// When the last collection was, or the aggregator began.
    since_unix_ns: u64,
}

impl Aggregator {
    /// Begins at `now_unix_ns`.
    #[must_use]
    pub fn new(config: Config, now_unix_ns: u64) -> Self {
        Self::seeded(config, now_unix_ns, random_seed())
    }

    /// With the same choice of exemplars for the same `seed`.
    #[must_use]
    pub fn seeded(config: Config, now_unix_ns: u64, seed: [u64; 4]) -> Self {
        Self {
            config,
            resources: Vec::new(),
            places: HashMap::default(),
            instances: HashMap::default(),
            left_out: LeftOut::default(),
            random: IdGenerator::from_seed(seed),
            since_unix_ns: now_unix_ns,
        }
    }

    /// Counts an exchange. Its span need not be sampled; if it is not, it is no exemplar either
    /// (unless all measurements may be).
    pub fn record(&mut self, span: &Span) {
        self.record_as(span, &Key::of(span), self.is_exemplar(span));
    }

    fn is_exemplar(&self, span: &Span) -> bool {
        match self.config.exemplars {
            ExemplarFilter::AlwaysOn => true,
            ExemplarFilter::AlwaysOff => false,
            ExemplarFilter::TraceBased => span.flags.is_sampled(),
        }
    }

    /// As [`Self::record`], with attributes that were chosen, unless this aggregator keeps to those of the
    /// conventions.
    pub fn record_chosen(&mut self, span: &Span, chosen: &MetricAttributes) {
        self.record_with(span, chosen, self.is_exemplar(span));
    }

    /// As [`Self::record_chosen`], where it is not decided whether the span's trace is kept: until then it is no
    /// exemplar ([`Self::exemplify`]), unless all measurements may be.
    pub fn record_undecided(&mut self, span: &Span, chosen: &MetricAttributes) {
        self.record_with(span, chosen, self.config.exemplars == ExemplarFilter::AlwaysOn);
    }

    fn record_with(&mut self, span: &Span, chosen: &MetricAttributes, exemplar: bool) {
        if chosen.is_conventional() || self.config.conventional {
            return self.record_as(span, &Key::of(span), exemplar);
        }
        let added = chosen.added(span);
        self.record_as(span, &Key::chosen(span, chosen, &added), exemplar);
    }

    /// A span that was recorded before is kept: it may be an exemplar from now on. Where its series is gone, or told without
    /// it (a delta has the exemplars of its own interval), it is none.
    pub fn exemplify(&mut self, span: &Span, chosen: &MetricAttributes) {
        if self.config.exemplars != ExemplarFilter::TraceBased || !span.flags.is_sampled() {
            return;
        }
        if self.config.temporality == Temporality::Delta && span.end_unix_ns < self.since_unix_ns {
            return;
        }
        if chosen.is_conventional() || self.config.conventional {
            return self.exemplify_as(span, &Key::of(span));
        }
        let added = chosen.added(span);
        self.exemplify_as(span, &Key::chosen(span, chosen, &added));
    }

    fn exemplify_as(&mut self, span: &Span, key: &Key<'_>) {
        let address = Arc::as_ptr(&span.resource) as usize;
        let Some(&place) = self.places.get(&address) else { return };
        let tables = &mut self.resources[place].tables;
        let table = Table::among(tables, key.family(), span.exchange.role);
        let instruments = table.instruments;
        let Some(series) = table.find(key) else { return };
        for (instrument, histogram) in instruments.iter().zip(&mut series.histograms) {
            if let Some(value) = instrument.measure.of(span) {
                histogram.exemplify(&Measured::of(span, value), &mut self.random);
            }
        }
    }

    fn record_as(&mut self, span: &Span, key: &Key<'_>, exemplar: bool) {
        let address = Arc::as_ptr(&span.resource) as usize;
        let known = self.places.get(&address).copied();
        let Some(place) = known.or_else(|| self.place_for(&span.resource)) else {
            self.left_out.unmeasured += 1;
            return;
        };
        let tables = &mut self.resources[place].tables;
        let table = Table::among(tables, key.family(), span.exchange.role);
        let instruments = table.instruments;
        let (series, is_its_own) = table.find_or_add(key, &self.config, self.since_unix_ns);
        series.touched = true;
        self.left_out.overflowed += u64::from(!is_its_own);
        for (instrument, histogram) in instruments.iter().zip(&mut series.histograms) {
            if let Some(value) = instrument.measure.of(span) {
                histogram.record(&Measured::of(span, value), exemplar, &mut self.random);
            } else if instrument.measure.is_inexact(span) {
                self.left_out.inexact += 1;
            }
        }
    }

    /// What was left out so far.
    #[must_use]
    pub const fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Where the measurements of a resource go that was not met before; `None` if there is no room.
    fn place_for(&mut self, resource: &Arc<Resource>) -> Option<usize> {
        let address = Arc::as_ptr(resource) as usize;
        let identity = resource.identity();
        if let Some(&place) = identity.as_ref().and_then(|identity| self.instances.get(identity)) {
            let one = &mut self.resources[place];
            one.held.push(Arc::downgrade(resource));
            // More may be known of the instance by now, or other things are true of it.
            one.resource = told_as(resource);
            for gone in one.let_go() {
                self.places.remove(&(gone.as_ptr() as usize));
            }
            self.places.insert(address, place);
            return Some(place);
        }
        if self.resources.len() >= self.config.max_resources {
            self.forget_the_past();
        }
        if self.resources.len() >= self.config.max_resources {
            return None;
        }
        let place = self.resources.len();
        self.resources.push(Measurements {
            resource: told_as(resource),
            held: vec![Arc::downgrade(resource)],
            tables: Vec::new(),
        });
        self.places.insert(address, place);
        if let Some(identity) = identity {
            self.instances.insert(identity, place);
        }
        Some(place)
    }

    /// Makes room: the older half of those whose processes have ended are forgotten.
    fn forget_the_past(&mut self) {
        let past = self.resources.iter().filter(|one| one.is_of_the_past()).count();
        let (mut left, forgotten) = (past.div_ceil(2), &mut self.left_out.forgotten);
        self.resources.retain(|one| {
            let goes = left > 0 && one.is_of_the_past();
            if goes {
                left -= 1;
                *forgotten += one.series_len() as u64;
            }
            !goes
        });
        self.find_places();
    }

    /// Where everything is by now.
    fn find_places(&mut self) {
        self.places.clear();
        self.instances.clear();
        for (place, one) in self.resources.iter_mut().enumerate() {
            one.let_go();
            for held in &one.held {
                self.places.insert(held.as_ptr() as usize, place);
            }
            if let Some(identity) = one.resource.identity() {
                self.instances.insert(identity, place);
            }
        }
    }

    /// Series held now.
    #[must_use]
    pub fn series_len(&self) -> usize {
        self.resources.iter().map(Measurements::series_len).sum()
    }

    /// Everything there is to tell at `now_unix_ns`, a batch per resource. Delta: what was measured
    /// since the last call, after which nothing is held. Cumulative: all series, minus those idle for
    /// [`Config::idle_ns`], which have been told for the last time before.
    pub fn collect(&mut self, now_unix_ns: u64) -> Vec<MetricBatch> {
        let since_unix_ns = std::mem::replace(&mut self.since_unix_ns, now_unix_ns);
        let config = &self.config;
        let mut batches = Vec::new();
        for one in &mut self.resources {
            let mut metrics = Vec::new();
            for table in &mut one.tables {
                table.evict_idle(now_unix_ns, config);
                for (at, instrument) in table.instruments.iter().enumerate() {
                    let data = data(table, at, config, since_unix_ns, now_unix_ns);
                    if !data.is_empty() {
                        metrics.push(Metric {
                            name: Cow::Borrowed(instrument.name),
                            unit: Cow::Borrowed(instrument.unit),
                            description: Cow::Borrowed(instrument.description),
                            data,
                        });
                    }
                }
                if config.temporality == Temporality::Delta {
                    table.clear();
                }
            }
            if !metrics.is_empty() {
                batches.push(MetricBatch { resource: Arc::clone(&one.resource), metrics });
            }
        }
        self.resources.retain(|one| one.series_len() > 0);
        self.find_places();
        batches
    }
}

/// What the metrics of a resource are told under.
fn told_as(resource: &Arc<Resource>) -> Arc<Resource> {
    Arc::new(resource.instance().unwrap_or_else(|| Resource::clone(resource)))
}

/// The points of one instrument; `start_unix_ns` of a delta point is the last collection.
fn data(table: &mut Table, at: usize, config: &Config, since_unix_ns: u64, now: u64) -> Data {
    let temporality = config.temporality;
    let cumulative = temporality == Temporality::Cumulative;
    let exemplars_since_unix_ns = match config.keep_exemplars_ns {
        0 => u64::MAX,
        keep_ns => now.saturating_sub(keep_ns),
    };
    let point = |series: &Series, exemplars| Point {
        attributes: series.attributes.clone(),
        start_unix_ns: if cumulative { series.start_unix_ns } else { since_unix_ns },
        time_unix_ns: now,
        exemplars,
    };
    let mut explicit: Vec<HistogramPoint> = Vec::new();
    let mut exponential: Vec<ExponentialPoint> = Vec::new();
    for series in table.iter_mut() {
        let exemplars = series.histograms[at].exemplars(exemplars_since_unix_ns);
        let mut summary = series.histograms[at].summary();
        if summary.count == 0 {
            continue;
        }
        if cumulative {
            (summary.min, summary.max) = (None, None);
        }
        let point = point(series, exemplars);
        match &series.histograms[at] {
            series::Histogram::Explicit(histogram) => explicit.push(HistogramPoint {
                point,
                summary,
                bounds: Cow::Borrowed(histogram.bounds),
                bucket_counts: histogram.counts.to_vec(),
            }),
            series::Histogram::Exponential(histogram) => exponential.push(ExponentialPoint {
                point,
                summary,
                scale: histogram.scale,
                zero_count: histogram.zero_count,
                zero_threshold: 0.0,
                positive: histogram.buckets(),
                negative: Default::default(),
            }),
        }
    }
    match config.histogram {
        HistogramKind::Explicit => Data::Histogram { points: explicit, temporality },
        HistogramKind::Exponential => {
            Data::ExponentialHistogram { points: exponential, temporality }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
