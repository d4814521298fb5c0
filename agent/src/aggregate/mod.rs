//! RED metrics of all exchanges, also of those whose spans are sampled out: duration and body sizes as
//! histograms, one series per resource, role and set of conventional attributes.
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
use opentelemetry_semantic_conventions::metric;

pub use self::config::{Config, ExemplarFilter, HistogramKind};
use self::{
    exemplar::Measured,
    series::{Key, Series, Table},
};
use crate::{
    attribute::Value,
    correlate::{IdGenerator, random_seed},
    exchange::Role,
    export::metrics_data::{
        Attributes, Data, ExponentialPoint, HistogramPoint, Metric, MetricBatch, Point, Temporality,
    },
    resource::Resource,
    span::Span,
};

/// The three histograms of a series, in this order wherever there are three of something.
const INSTRUMENTS: usize = 3;

struct Instrument {
    server: &'static str,
    client: &'static str,
    unit: &'static str,
    server_description: &'static str,
    client_description: &'static str,
}

const INSTRUMENT: [Instrument; INSTRUMENTS] = [
    Instrument {
        server: metric::HTTP_SERVER_REQUEST_DURATION,
        client: metric::HTTP_CLIENT_REQUEST_DURATION,
        unit: "s",
        server_description: "Duration of HTTP server requests.",
        client_description: "Duration of HTTP client requests.",
    },
    Instrument {
        server: metric::HTTP_SERVER_REQUEST_BODY_SIZE,
        client: metric::HTTP_CLIENT_REQUEST_BODY_SIZE,
        unit: "By",
        server_description: "Size of HTTP server request bodies.",
        client_description: "Size of HTTP client request bodies.",
    },
    Instrument {
        server: metric::HTTP_SERVER_RESPONSE_BODY_SIZE,
        client: metric::HTTP_CLIENT_RESPONSE_BODY_SIZE,
        unit: "By",
        server_description: "Size of HTTP server response bodies.",
        client_description: "Size of HTTP client response bodies.",
    },
];

/// What one resource measured.
#[derive(Debug)]
struct Measurements {
    resource: Arc<Resource>,
    /// Resources of the processes that are this instance, held so that their addresses stay their own.
    /// Several only where processes share an instance.
    held: Vec<Arc<Resource>>,
    server: Table,
    client: Table,
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
        let Some(http) = span.exchange.detail.http() else { return };
        let key = Key::of(span, http);
        let address = Arc::as_ptr(&span.resource) as usize;
        let place = *self
            .places
            .entry(address)
            .or_insert_with(|| place_for(&mut self.resources, &span.resource));
        let measurements = &mut self.resources[place];
        let table = match span.exchange.role {
            Role::Server => &mut measurements.server,
            Role::Client => &mut measurements.client,
        };
        let series = table.find_or_add(&key, &self.config, self.since_unix_ns);
        series.touched = true;
        let exemplar = match self.config.exemplars {
            ExemplarFilter::AlwaysOn => true,
            ExemplarFilter::AlwaysOff => false,
            ExemplarFilter::TraceBased => span.flags.is_sampled(),
        };
        let mut record = |at: usize, value: f64| {
            let measured = Measured {
                value,
                time_unix_ns: span.end_unix_ns,
                trace_id: span.trace_id,
                span_id: span.span_id,
            };
            series.histograms[at].record(&measured, exemplar, &mut self.random);
        };
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53: 104 days, 8 PiB")]
        {
            record(0, span.duration_ns() as f64 / 1e9);
            record(1, http.request_content_len as f64);
            if http.status != 0 {
                record(2, http.response_content_len as f64);
            }
        }
    }

    /// Series held now.
    #[must_use]
    pub fn series_len(&self) -> usize {
        self.resources.iter().map(|one| one.server.len() + one.client.len()).sum()
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
            for (role, table) in [(Role::Server, &mut one.server), (Role::Client, &mut one.client)]
            {
                table.evict_idle(now_unix_ns, config);
                metrics.extend(
                    (0..INSTRUMENTS).filter_map(|at| {
                        let data = data(table, at, config, since_unix_ns, now_unix_ns);
                        let Instrument {
                            server,
                            client,
                            unit,
                            server_description,
                            client_description,
                        } = INSTRUMENT[at];
                        let (name, description) = match role {
                            Role::Server => (server, server_description),
                            Role::Client => (client, client_description),
                        };
                        (!data.is_empty()).then_some(Metric {
                            name: Cow::Borrowed(name),
                            unit: Cow::Borrowed(unit),
                            description: Cow::Borrowed(description),
                            data,
                        })
                    }),
                );
                if config.temporality == Temporality::Delta {
                    table.clear();
                }
            }
            if !metrics.is_empty() {
                batches.push(MetricBatch { resource: Arc::clone(&one.resource), metrics });
            }
        }
        self.resources.retain(|one| one.server.len() + one.client.len() > 0);
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
        server: Table::default(),
        client: Table::default(),
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
                bounds: Arc::clone(&histogram.bounds),
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
        HistogramKind::Explicit { .. } => Data::Histogram { points: explicit, temporality },
        HistogramKind::Exponential { .. } => {
            Data::ExponentialHistogram { points: exponential, temporality }
        }
    }
}

/// The attributes of the series that takes what is beyond the limit.
fn overflow_attributes() -> Attributes {
    [("otel.metric.overflow", Value::Bool(true))].into_iter().collect()
}

#[cfg(test)]
pub(crate) mod tests;
