//! What aggregation hands over for export: finished metric points of one resource, in a shape that
//! knows neither OTLP nor Prometheus.
//!
//! ```text
//! MetricBatch { resource, metrics: [ Metric { name, unit, description, data } ] }
//! data = Gauge(points) | Sum { points, temporality, monotonic }
//!      | Histogram { points, temporality } | ExponentialHistogram { points, temporality }
//! point = attributes + start/time + value(s) + exemplars
//! ```
//! All times are `CLOCK_REALTIME` nanoseconds. The model is that of
//! `opentelemetry.proto.metrics.v1`; a batch is made once per collection interval, so it owns its data.

use std::{borrow::Cow, sync::Arc};

use crate::{
    attribute::{AttributeSink, Value},
    resource::Resource,
    trace_context::{SpanId, TraceId},
};

/// Attributes that name a series: each key once. Shared, since a series lives for many collections
/// and may have points in several metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes(pub Arc<[(Cow<'static, str>, Value)]>);

impl Attributes {
    /// The value under a key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// Hands every attribute to `sink`.
    pub fn visit(&self, sink: &mut impl AttributeSink) {
        for (key, value) in &*self.0 {
            value.visit(key, sink);
        }
    }
}

impl<K: Into<Cow<'static, str>>> FromIterator<(K, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(attributes: I) -> Self {
        Self(attributes.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

/// What one resource measured in one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricBatch {
    /// Batches of one resource share the pointer; requests are grouped by it.
    pub resource: Arc<Resource>,
    /// Each name once.
    pub metrics: Vec<Metric>,
}

/// One instrument's points.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `http.server.request.duration`
    pub name: Cow<'static, str>,
    /// UCUM: `s`, `By`, `{request}`.
    pub unit: Cow<'static, str>,
    pub description: Cow<'static, str>,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Last values.
    Gauge { points: Vec<NumberPoint> },
    /// Totals (cumulative) or increments (delta).
    Sum { points: Vec<NumberPoint>, temporality: Temporality, monotonic: bool },
    /// Distributions over fixed bounds.
    Histogram { points: Vec<HistogramPoint>, temporality: Temporality },
    /// Distributions over powers of `2^(2^-scale)`.
    ExponentialHistogram { points: Vec<ExponentialPoint>, temporality: Temporality },
}

impl Data {
    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Gauge { points } | Self::Sum { points, .. } => points.len(),
            Self::Histogram { points, .. } => points.len(),
            Self::ExponentialHistogram { points, .. } => points.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `opentelemetry.proto.metrics.v1.AggregationTemporality`; the discriminants are the numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    Delta = 1,
    Cumulative = 2,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Double(f64),
}

/// The part that every point has.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub attributes: Attributes,
    /// When the interval or the series began; for gauges 0 (absent).
    pub start_unix_ns: u64,
    /// When it was collected.
    pub time_unix_ns: u64,
    pub exemplars: Vec<Exemplar>,
}

/// A point of a gauge or a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberPoint {
    pub point: Point,
    pub value: Number,
}

/// A point of an explicit-bucket histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    pub point: Point,
    pub summary: Summary,
    /// Upper bounds, ascending, inclusive: bucket `i` is `(bounds[i-1], bounds[i]]`.
    pub bounds: Cow<'static, [f64]>,
    /// `bounds.len() + 1` counts, the last one for values above every bound; they add up to `summary.count`.
    pub bucket_counts: Vec<u64>,
}

/// A point of a base-2 exponential histogram: bucket `i` is `(base^(offset+i), base^(offset+i+1)]`
/// with `base = 2^(2^-scale)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialPoint {
    pub point: Point,
    pub summary: Summary,
    pub scale: i32,
    pub zero_count: u64,
    /// Values of at most this magnitude are in `zero_count`.
    pub zero_threshold: f64,
    pub positive: Buckets,
    pub negative: Buckets,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Buckets {
    pub offset: i32,
    pub counts: Vec<u64>,
}

/// `min` and `max` are absent where they cannot be told (cumulative series).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: f64,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// A measurement with the span that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub time_unix_ns: u64,
    pub value: Number,
    pub trace_id: TraceId,
    pub span_id: SpanId,
}
