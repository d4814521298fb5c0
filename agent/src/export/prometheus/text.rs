//! Metrics as text: OpenMetrics 1.0 and Prometheus text 0.0.4.
//!
//! Several resources share a page, so every sample names its own by `job` (service namespace and name)
//! and `instance`; all their attributes are in `target_info`. Only cumulative metrics can be told this
//! way. Exponential histograms, for which the formats have no form, become classic ones whose bounds
//! are the powers of two: those stay the same whatever the scale becomes.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
};

use opentelemetry_semantic_conventions::SCHEMA_URL;

use super::names::{escape, label_name, metric_name, unit_name};
use crate::{
    attribute::{AttributeSink, Value},
    metrics_data::{
        Data, Exemplar, ExponentialPoint, HistogramPoint, Metric, MetricBatch, Number, Point,
        Temporality,
    },
    resource::Resource,
};

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// All points of one name: they must stand together.
struct Family<'a> {
    kind: Kind,
    unit: Option<String>,
    description: &'a str,
    members: Vec<(&'a Resource, &'a Metric)>,
}

/// The page. Metrics with delta temporality are left out, and so are those that use a name as
/// another kind than the first who did.
#[must_use]
pub fn render(batches: &[MetricBatch], format: Format) -> String {
    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    for batch in batches {
        for metric in &batch.metrics {
            let Some(kind) = kind(&metric.data) else { continue };
            let unit = unit_name(&metric.unit);
            let mut name = metric_name(&metric.name, unit.as_deref());
            if let Some(plain) = name.strip_suffix("_total").filter(|_| kind == Kind::Counter) {
                name.truncate(plain.len());
            }
            let family = families.entry(name).or_insert_with(|| Family {
                kind,
                unit,
                description: &metric.description,
                members: Vec::new(),
            });
            if family.kind == kind {
                family.members.push((&batch.resource, metric));
            }
        }
    }
    let mut page = Page { out: String::new(), format, labels: String::new() };
    page.targets(batches);
    for (name, family) in &families {
        page.family(name, family);
    }
    if format == Format::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

fn kind(data: &Data) -> Option<Kind> {
    let cumulative = |temporality: &Temporality| *temporality == Temporality::Cumulative;
    match data {
        Data::Gauge { .. } => Some(Kind::Gauge),
        Data::Sum { temporality, monotonic: true, .. } => {
            cumulative(temporality).then_some(Kind::Counter)
        }
        Data::Sum { temporality, .. } => cumulative(temporality).then_some(Kind::Gauge),
        Data::Histogram { temporality, .. } | Data::ExponentialHistogram { temporality, .. } => {
            cumulative(temporality).then_some(Kind::Histogram)
        }
    }
}

struct Page {
    out: String,
    format: Format,
    /// `a="b",c="d"` of the point at hand.
    labels: String,
}

impl Page {
    /// `target_info`, once per resource.
    fn targets(&mut self, batches: &[MetricBatch]) {
        let mut seen: HashSet<*const Resource> = HashSet::new();
        for batch in batches {
            let is_first = seen.is_empty();
            if !seen.insert(&raw const *batch.resource) {
                continue;
            }
            if is_first {
                // OpenMetrics names the family without the suffix that its samples have.
                self.out.push_str(match self.format {
                    Format::OpenMetrics => "# TYPE target info\n# HELP target Target metadata.\n",
                    Format::Prometheus => {
                        "# HELP target_info Target metadata.\n# TYPE target_info gauge\n"
                    }
                });
            }
            let mut labels = Labels::of_resource(&batch.resource);
            batch.resource.visit(&mut Except(&mut labels));
            self.labels = labels.text();
            self.sample("target", "_info", "", "1");
            self.out.push('\n');
        }
    }

    fn family(&mut self, name: &str, family: &Family<'_>) {
        let (kind, suffix) = match (family.kind, self.format) {
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Counter, Format::OpenMetrics) => ("counter", ""),
            (Kind::Counter, Format::Prometheus) => ("counter", "_total"),
            (Kind::Histogram, _) => ("histogram", ""),
        };
        if !family.description.is_empty() {
            self.write(format_args!("# HELP {name}{suffix} "));
            // OpenMetrics escapes quotes in help texts too.
            escape(&mut self.out, family.description, self.format == Format::OpenMetrics);
            self.out.push('\n');
        }
        self.write(format_args!("# TYPE {name}{suffix} {kind}\n"));
        if let (Some(unit), Format::OpenMetrics) = (&family.unit, self.format) {
            self.write(format_args!("# UNIT {name} {unit}\n"));
        }
        for (resource, metric) in &family.members {
            match &metric.data {
                Data::Gauge { points } | Data::Sum { points, .. } => {
                    let counter = family.kind == Kind::Counter;
                    for point in points {
                        self.label(resource, &point.point);
                        let suffix = if counter { "_total" } else { "" };
                        self.sample(name, suffix, "", &number(point.value));
                        if counter {
                            self.exemplar(point.point.exemplars.last());
                        }
                        self.out.push('\n');
                    }
                }
                Data::Histogram { points, .. } => {
                    points.iter().for_each(|point| self.histogram(name, resource, point));
                }
                Data::ExponentialHistogram { points, .. } => {
                    for point in points {
                        self.histogram(name, resource, &powers_of_two(point));
                    }
                }
            }
        }
    }

    fn histogram(&mut self, name: &str, resource: &Resource, point: &HistogramPoint) {
        self.label(resource, &point.point);
        let mut below = f64::NEG_INFINITY;
        let mut count = 0;
        let bounds = point.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&point.bucket_counts) {
            count += bucket;
            self.sample(name, "_bucket", &float(bound), &count.to_string());
            let within = |exemplar: &&Exemplar| {
                let value = value(exemplar.value);
                below < value && value <= bound
            };
            self.exemplar(point.point.exemplars.iter().rfind(within));
            self.out.push('\n');
            below = bound;
        }
        self.sample(name, "_count", "", &point.summary.count.to_string());
        self.out.push('\n');
        self.sample(name, "_sum", "", &float(point.summary.sum));
        self.out.push('\n');
    }

    /// The labels of a point: whose it is, which instrumentation, its own.
    fn label(&mut self, resource: &Resource, point: &Point) {
        let mut labels = Labels::of_resource(resource);
        labels.add("otel_scope_name".into(), "remora".into());
        labels.add("otel_scope_schema_url".into(), SCHEMA_URL.into());
        labels.add("otel_scope_version".into(), env!("CARGO_PKG_VERSION").into());
        point.attributes.visit(&mut Except(&mut labels));
        self.labels = labels.text();
    }

    /// A sample without its line feed.
    fn sample(&mut self, name: &str, suffix: &str, le: &str, value: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !self.labels.is_empty() || !le.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            if !le.is_empty() {
                let comma = if self.labels.is_empty() { "" } else { "," };
                self.write(format_args!("{comma}le=\"{le}\""));
            }
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(value);
    }

    fn exemplar(&mut self, exemplar: Option<&Exemplar>) {
        let (Some(exemplar), Format::OpenMetrics) = (exemplar, self.format) else { return };
        let Exemplar { trace_id, span_id, time_unix_ns, .. } = exemplar;
        let value = float(value(exemplar.value));
        let (seconds, milliseconds) =
            (time_unix_ns / 1_000_000_000, time_unix_ns % 1_000_000_000 / 1_000_000);
        self.write(format_args!(
            " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value} {seconds}.{milliseconds:03}"
        ));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a String takes everything");
    }
}

fn value(number: Number) -> f64 {
    match number {
        Number::Int(value) => value as f64,
        Number::Double(value) => value,
    }
}

fn number(number: Number) -> String {
    match number {
        Number::Int(value) => value.to_string(),
        Number::Double(value) => float(value),
    }
}

/// `0.005`, `1.0`, `+Inf`
fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.into()
    } else {
        format!("{value:?}")
    }
}

/// The same distribution with bounds at powers of two, from zero to the first that holds everything.
/// Buckets finer than that nest in them; coarser ones count at their upper bound.
fn powers_of_two(point: &ExponentialPoint) -> HistogramPoint {
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for (index, &count) in (point.positive.offset..).zip(&point.positive.counts) {
        // The bucket's upper bound is 2^((index + 1) / 2^scale): rounded up to a whole exponent.
        let exponent =
            if point.scale >= 0 { (index >> point.scale) + 1 } else { (index + 1) << -point.scale };
        *counts.entry(exponent).or_default() += count;
    }
    let (low, high) = match (counts.keys().next(), counts.keys().last()) {
        (Some(&low), Some(&high)) => (low, high),
        _ => (0, -1),
    };
    let bounds = std::iter::once(point.zero_threshold)
        .chain((low..=high).map(|exponent| f64::from(exponent).exp2()));
    let inner = (low..=high).map(|exponent| counts.get(&exponent).copied().unwrap_or_default());
    HistogramPoint {
        point: point.point.clone(),
        summary: point.summary,
        bounds: bounds.collect(),
        bucket_counts: std::iter::once(point.zero_count).chain(inner).chain([0]).collect(),
    }
}

/// Labels of one sample: sorted, each name once. Keys that become the same name share it, their values
/// joined by `;` in the order of keys.
#[derive(Default)]
struct Labels(BTreeMap<String, String>);

impl Labels {
    /// `job` and `instance`.
    fn of_resource(resource: &Resource) -> Self {
        let mut labels = Self::default();
        let name = resource.service_name();
        let job = match resource.find("service.namespace") {
            Some(Value::Str(namespace)) => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        };
        labels.add("job".into(), job);
        if let Some(Value::Str(instance)) = resource.find("service.instance.id") {
            labels.add("instance".into(), instance.to_string());
        }
        labels
    }

    fn add(&mut self, name: String, value: String) {
        self.0
            .entry(name)
            .and_modify(|known| {
                known.push(';');
                known.push_str(&value);
            })
            .or_insert(value);
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(name);
            out.push_str("=\"");
            escape(&mut out, value, true);
            out.push('"');
        }
        out
    }
}

/// Adds attributes to labels, except those that are `job` and `instance` already and those that
/// would be taken for what only the scraper sets.
struct Except<'a>(&'a mut Labels);

impl AttributeSink for Except<'_> {
    fn str(&mut self, key: &str, value: &str) {
        if matches!(key, "service.name" | "service.namespace" | "service.instance.id") {
            return;
        }
        let name = label_name(key);
        match &*name {
            "job" | "instance" | "le" => self.0.add(format!("exported_{name}"), value.into()),
            _ => self.0.add(name, value.into()),
        }
    }
    fn int(&mut self, key: &str, value: i64) {
        self.str(key, &value.to_string());
    }
    fn bool(&mut self, key: &str, value: bool) {
        self.str(key, if value { "true" } else { "false" });
    }
    fn double(&mut self, key: &str, value: f64) {
        self.str(key, &value.to_string());
    }
    fn strs(&mut self, key: &str, values: &[&str]) {
        // As non-string values of OTLP attributes: JSON.
        self.str(key, &serde_json::to_string(values).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
