//! RED metrics of all exchanges, also of those whose spans are sampled out: histograms of durations and
//! sizes, one series per resource, role and set of conventional attributes. Which histograms an exchange
//! has and which series is its own, [`crate::semantics::metrics`] says.
//!
//! [`Aggregator::record`] is on the hot path: it hashes borrowed parts of the span and allocates only
//! for a series that it did not know. [`Aggregator::collect`] turns what was measured since the last
//! time (delta) or since each series began (cumulative) into [`MetricBatch`]es. Series are bounded: what
//! comes beyond the limit is counted in one series with `otel.metric.overflow=true`; a cumulative
//! series without measurements for a while is dropped, and begins anew with a new start time.

mod config;
mod exemplar;
mod explicit;
mod exponential;
mod series;

use std::{borrow::Cow, sync::Arc};

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
    resource: Arc<Resource>,
    /// Resources of the processes that are this instance, held so that their addresses stay their own.
    /// Several only where processes share an instance.
    held: Vec<Arc<Resource>>,
    tables: Vec<Table>,
}

impl Measurements {
    fn series_len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }
}

/// Aggregates exchanges for one reader.
#[derive(Debug)]
pub struct Aggregator {
    config: Config,
    resources: Vec<Measurements>,
    /// Address of a resource to its place in `resources`.
    places: HashMap<usize, usize, foldhash::fast::RandomState>,
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
            random: IdGenerator::from_seed(seed),
            since_unix_ns: now_unix_ns,
        }
    }

    /// Counts an exchange. Its span need not be sampled; if it is not, it is no exemplar either
    /// (unless all measurements may be).
    pub fn record(&mut self, span: &Span) {
        self.record_as(span, &Key::of(span));
    }

    /// As [`Self::record`], with attributes that were chosen, unless this aggregator keeps to those of the
    /// conventions.
    pub fn record_chosen(&mut self, span: &Span, chosen: &MetricAttributes) {
        if chosen.is_conventional() || self.config.conventional {
            return self.record(span);
        }
        let added = chosen.added(span);
        self.record_as(span, &Key::chosen(span, chosen, &added));
    }

    fn record_as(&mut self, span: &Span, key: &Key<'_>) {
        let address = Arc::as_ptr(&span.resource) as usize;
        let place = *self
            .places
            .entry(address)
            .or_insert_with(|| place_for(&mut self.resources, &span.resource));
        let tables = &mut self.resources[place].tables;
        let table = Table::among(tables, key.family(), span.exchange.role);
        let instruments = table.instruments;
        let series = table.find_or_add(key, &self.config, self.since_unix_ns);
        series.touched = true;
        let exemplar = match self.config.exemplars {
            ExemplarFilter::AlwaysOn => true,
            ExemplarFilter::AlwaysOff => false,
            ExemplarFilter::TraceBased => span.flags.is_sampled(),
        };
        for (instrument, histogram) in instruments.iter().zip(&mut series.histograms) {
            if let Some(value) = instrument.measure.of(span) {
                let measured = Measured {
                    value,
                    time_unix_ns: span.end_unix_ns,
                    trace_id: span.trace_id,
                    span_id: span.span_id,
                };
                histogram.record(&measured, exemplar, &mut self.random);
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
        self.places.clear();
        for (place, one) in self.resources.iter_mut().enumerate() {
            // Of processes that have gone. The last one stays: that of most instances is the only one.
            while one.held.len() > 1
                && let Some(gone) = one.held.iter().position(|held| Arc::strong_count(held) == 1)
            {
                one.held.swap_remove(gone);
            }
            for held in &one.held {
                self.places.insert(Arc::as_ptr(held) as usize, place);
            }
        }
        batches
    }
}

/// Where the measurements of a resource go that was not met before.
fn place_for(resources: &mut Vec<Measurements>, resource: &Arc<Resource>) -> usize {
    let instance = resource.instance();
    let same = |one: &Measurements| one.held.iter().any(|held| held.is_instance_of(resource));
    if let Some(instance) = &instance
        && let Some(place) = resources.iter().position(same)
    {
        let one = &mut resources[place];
        one.held.push(Arc::clone(resource));
        // More may be known of the instance by now.
        if *one.resource != *instance {
            one.resource = Arc::new(instance.clone());
        }
        return place;
    }
    resources.push(Measurements {
        resource: instance.map_or_else(|| Arc::clone(resource), Arc::new),
        held: vec![Arc::clone(resource)],
        tables: Vec::new(),
    });
    resources.len() - 1
}

/// The points of one instrument; `start_unix_ns` of a delta point is the last collection.
fn data(table: &mut Table, at: usize, config: &Config, since_unix_ns: u64, now: u64) -> Data {
    let temporality = config.temporality;
    let cumulative = temporality == Temporality::Cumulative;
    let point = |series: &Series, exemplars| Point {
        attributes: series.attributes.clone(),
        start_unix_ns: if cumulative { series.start_unix_ns } else { since_unix_ns },
        time_unix_ns: now,
        exemplars,
    };
    let mut explicit: Vec<HistogramPoint> = Vec::new();
    let mut exponential: Vec<ExponentialPoint> = Vec::new();
    for series in table.iter_mut() {
        let exemplars = series.histograms[at].exemplars(config.keep_exemplars);
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
