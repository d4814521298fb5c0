//! Rate, errors, duration: the metrics of a collection as a table, for the demo and for a glance.
//!
//! ```text
//!   service   route           req/s  errors      p50      p90      p99
//! ← shop      GET /checkout    41.2   0.0 %  5.12 ms  7.90 ms  12.1 ms
//! → shop      GET stock:8081   82.4   1.2 %  1.98 ms  2.31 ms  4.70 ms
//! ```
//! Requests as [`Family::row`] calls them are rows (of clients with the server); statuses are merged. Percentiles are read from
//! histogram buckets, by interpolation: exponential ones are a few percent wide, explicit ones are coarse.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};

use super::style::{Color, Style, duration, fit, printable};
use crate::{
    attribute::Value,
    metrics_data::{Buckets, Data, ExponentialPoint, HistogramPoint, MetricBatch, Point, Summary},
    semantics::metrics::Family,
    span::SpanKind,
};

/// Counts within value bounds: what both kinds of histograms come down to.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    low: f64,
    high: f64,
    count: u64,
}

#[derive(Debug, Default)]
struct Row {
    requests: u64,
    errors: u64,
    /// Longest time that any of its points covers.
    seconds: f64,
    buckets: Vec<Bucket>,
    /// Of all points, if all have one.
    max: Option<f64>,
}

/// A table of what was measured in the time that the points cover.
#[derive(Debug)]
pub struct RedTable {
    /// By service, kind (servers first) and request.
    rows: BTreeMap<(String, u8, String), Row>,
    style: Style,
}

impl RedTable {
    /// From the batches of one [`crate::aggregate::Aggregator::collect`]: with delta temporality the
    /// last interval, with cumulative all since each series began. Anything but request durations is
    /// left out.
    #[must_use]
    pub fn new(batches: &[MetricBatch], style: Style) -> Self {
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        for batch in batches {
            for metric in &batch.metrics {
                let Some((family, kind)) = Family::of_durations(&metric.name) else { continue };
                let service = printable(batch.resource.service_name());
                let mut add = |point: &Point, summary: &Summary, buckets: Vec<Bucket>| {
                    let find = |key: &str| point.attributes.find(key).map(Value::to_string);
                    let shown = family.row(kind, &find);
                    let request =
                        shown.request.as_deref().unwrap_or("(more series than the limit)");
                    let key = (service.clone(), kind as u8, printable(request));
                    let covered = point.time_unix_ns.saturating_sub(point.start_unix_ns);
                    let row = rows.entry(key).or_default();
                    if row.requests == 0 {
                        row.max = summary.max;
                    } else {
                        row.max = row.max.zip(summary.max).map(|(a, b)| a.max(b));
                    }
                    row.requests += summary.count;
                    row.errors += if shown.failed { summary.count } else { 0 };
                    row.seconds = row.seconds.max(covered as f64 / 1e9);
                    row.buckets.extend(buckets);
                };
                match &metric.data {
                    Data::Histogram { points, .. } => {
                        points.iter().for_each(|p| add(&p.point, &p.summary, explicit(p)));
                    }
                    Data::ExponentialHistogram { points, .. } => {
                        points.iter().for_each(|p| add(&p.point, &p.summary, exponential(p)));
                    }
                    Data::Gauge { .. } | Data::Sum { .. } => {}
                }
            }
        }
        Self { rows, style }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Row {
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.requests as f64 / self.seconds } else { 0.0 }
    }

    /// The value below which a share of all values lies, seconds.
    fn quantile(&self, share: f64) -> f64 {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.high.total_cmp(&b.high));
        let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        let wanted = share * total as f64;
        let mut below = 0.0;
        for bucket in &buckets {
            let count = bucket.count as f64;
            if count > 0.0 && below + count >= wanted {
                // The last bucket of explicit bounds has no upper end: its lower one is what is known.
                let high = if bucket.high.is_finite() { bucket.high } else { bucket.low };
                let value = bucket.low + (high - bucket.low) * (wanted - below) / count;
                return self.max.map_or(value, |max| value.min(max));
            }
            below += count;
        }
        0.0
    }
}

fn explicit(point: &HistogramPoint) -> Vec<Bucket> {
    let lows = std::iter::once(0.0).chain(point.bounds.iter().copied());
    let highs = point.bounds.iter().copied().chain([f64::INFINITY]);
    lows.zip(highs)
        .zip(&point.bucket_counts)
        .map(|((low, high), &count)| Bucket { low, high, count })
        .collect()
}

fn exponential(point: &ExponentialPoint) -> Vec<Bucket> {
    let base = f64::from(-point.scale).exp2();
    let bound = |index: i32| (f64::from(index) * base).exp2();
    let Buckets { offset, counts } = &point.positive;
    let zero = Bucket { low: 0.0, high: point.zero_threshold, count: point.zero_count };
    let positive = (*offset..).zip(counts).map(|(index, &count)| Bucket {
        low: bound(index),
        high: bound(index + 1),
        count,
    });
    std::iter::once(zero).chain(positive).collect()
}

impl Display for RedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = |text: &str| text.chars().count();
        let service = self.rows.keys().map(|(service, ..)| columns(service)).max().unwrap_or(0);
        let service = service.clamp(7, 24);
        let request = self.rows.keys().map(|(_, _, request)| columns(request)).max().unwrap_or(0);
        let fixed = 2 + service + 2 + 2 + 9 + 2 + 7 + 3 * (2 + 8);
        let widest = self.style.width.map_or(60, |width| width.saturating_sub(fixed).max(12));
        let request = request.clamp(5, widest.max(5));

        let mut line = String::from("  ");
        fit(&mut line, "service", service, true);
        line.push_str("  ");
        fit(&mut line, "route", request, true);
        let _ = write!(
            line,
            "  {:>9}  {:>7}  {:>8}  {:>8}  {:>8}",
            "req/s", "errors", "p50", "p90", "p99"
        );
        let mut header = String::new();
        self.style.paint(&mut header, Color::Dim, &line);
        writeln!(f, "{header}")?;

        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|((service, kind, _), row)| (service, *kind, Reverse(row.requests)));
        for ((name, kind, text), row) in rows {
            let (arrow, color) = if *kind == SpanKind::Server as u8 {
                ("←", Color::Cyan)
            } else {
                ("→", Color::Magenta)
            };
            line.clear();
            self.style.paint(&mut line, color, arrow);
            line.push(' ');
            fit(&mut line, name, service, true);
            line.push_str("  ");
            fit(&mut line, text, request, true);
            let _ = write!(line, "  {:>9.1}  ", row.rate());
            let share = 100.0 * row.errors as f64 / row.requests.max(1) as f64;
            let color = if row.errors > 0 { Color::Red } else { Color::None };
            self.style.paint(&mut line, color, &format!("{share:>5.1} %"));
            for share in [0.5, 0.9, 0.99] {
                let ns = row.quantile(share) * 1e9;
                let _ = write!(line, "  {:>8}", duration(ns.round() as u64));
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{Aggregator, Config, HistogramKind},
        exchange::Role,
        metrics_data::Temporality,
        resource::Resource,
        semantics::tests::{exchange, http, span},
    };

    const PLAIN: Style = Style { color: false, width: Some(120) };

    /// 100 requests of 1 to 100 ms, one in ten failing, within 2 s.
    fn batches(histogram: HistogramKind) -> Vec<MetricBatch> {
        let temporality = Temporality::Delta;
        let config = Config { histogram, temporality, ..Config::default() };
        let mut aggregator = Aggregator::new(config, 0);
        let resource = std::sync::Arc::new(Resource::new([("service.name".into(), "shop".into())]));
        for i in 1..=100 {
            for role in [Role::Server, Role::Client] {
                let mut exchange = exchange(role);
                http(&mut exchange).status = if i % 10 == 0 { 500 } else { 200 };
                let mut span = span(exchange);
                span.resource = std::sync::Arc::clone(&resource);
                span.route = (role == Role::Server).then(|| "/users/{id}".into());
                span.end_unix_ns = span.start_unix_ns + i * 1_000_000;
                aggregator.record(&span);
            }
        }
        aggregator.collect(2_000_000_000)
    }

    #[test]
    fn rows_show_rate_errors_and_percentiles() {
        let table = RedTable::new(&batches(HistogramKind::Exponential), PLAIN).to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[1].starts_with("← shop     GET /users/{id}"), "{table}");
        assert!(lines[2].starts_with("→ shop     GET example.com:80"), "{table}");
        for line in &lines[1..] {
            assert!(line.contains(" 50.0 ") && line.contains(" 10.0 %"), "{table}");
        }
    }

    #[test]
    fn percentiles_are_near_the_truth() {
        for (kind, tolerance) in
            [(HistogramKind::Exponential, 0.05), (HistogramKind::Explicit, 0.3)]
        {
            let table = RedTable::new(&batches(kind), PLAIN);
            for row in table.rows.values() {
                for (share, expected) in [(0.5, 0.050), (0.9, 0.090), (0.99, 0.099)] {
                    let found = row.quantile(share);
                    assert!((found / expected - 1.0).abs() < tolerance, "{share}: {found}");
                }
            }
        }
    }

    #[test]
    fn nothing_measured_is_an_empty_table() {
        let table = RedTable::new(&[], PLAIN);
        assert!(table.is_empty());
        assert_eq!(table.to_string().lines().count(), 1);
    }
}
