//! Metric points as `opentelemetry.proto.metrics.v1`: in protobuf and in JSON, side by side. A metric
//! is written with a range of its points, so that one with too many of them can go in several requests.

use std::ops::Range;

use super::{
    json::Json,
    wire::{self, Attributes},
};
use crate::metrics_data::{
    Buckets, Data, Exemplar, ExponentialPoint, HistogramPoint, Metric, Number, NumberPoint, Summary,
};

/// Appends `metric` with the points in `range` as field 2 of `ScopeMetrics` (`metrics`).
pub(crate) fn protobuf(out: &mut Vec<u8>, metric: &Metric, range: Range<usize>) {
    wire::message(out, 2, |out| {
        wire::bytes(out, 1, metric.name.as_bytes());
        wire::bytes(out, 2, metric.description.as_bytes());
        wire::bytes(out, 3, metric.unit.as_bytes());
        // The oneof `data`; in each of its messages data_points = 1, aggregation_temporality = 2.
        match &metric.data {
            Data::Gauge { points } => wire::message(out, 5, |out| {
                points[range].iter().for_each(|point| number_point(out, point));
            }),
            Data::Sum { points, temporality, monotonic } => wire::message(out, 7, |out| {
                points[range].iter().for_each(|point| number_point(out, point));
                wire::uint(out, 2, *temporality as u64);
                wire::uint(out, 3, u64::from(*monotonic));
            }),
            Data::Histogram { points, temporality } => wire::message(out, 9, |out| {
                points[range].iter().for_each(|point| histogram_point(out, point));
                wire::uint(out, 2, *temporality as u64);
            }),
            Data::ExponentialHistogram { points, temporality } => wire::message(out, 10, |out| {
                points[range].iter().for_each(|point| exponential_point(out, point));
                wire::uint(out, 2, *temporality as u64);
            }),
        }
    });
}

fn number_point(out: &mut Vec<u8>, NumberPoint { point, value }: &NumberPoint) {
    wire::message(out, 1, |out| {
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.time_unix_ns);
        number(out, 4, 6, *value);
        point.exemplars.iter().for_each(|one| exemplar(out, 5, one));
        point.attributes.visit(&mut Attributes::new(out, 7));
    });
}

fn histogram_point(out: &mut Vec<u8>, data: &HistogramPoint) {
    let HistogramPoint { point, summary, bounds, bucket_counts } = data;
    wire::message(out, 1, |out| {
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.time_unix_ns);
        wire::fixed64(out, 4, summary.count);
        wire::double_present(out, 5, summary.sum);
        wire::packed_fixed64(out, 6, bucket_counts.iter().copied());
        wire::packed_fixed64(out, 7, bounds.iter().map(|bound| bound.to_bits()));
        point.exemplars.iter().for_each(|one| exemplar(out, 8, one));
        point.attributes.visit(&mut Attributes::new(out, 9));
        range_of(out, 11, 12, summary);
    });
}

fn exponential_point(out: &mut Vec<u8>, data: &ExponentialPoint) {
    let ExponentialPoint { point, summary, scale, zero_count, zero_threshold, positive, negative } =
        data;
    wire::message(out, 1, |out| {
        point.attributes.visit(&mut Attributes::new(out, 1));
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.time_unix_ns);
        wire::fixed64(out, 4, summary.count);
        wire::double_present(out, 5, summary.sum);
        wire::sint32(out, 6, *scale);
        wire::fixed64(out, 7, *zero_count);
        buckets(out, 8, positive);
        buckets(out, 9, negative);
        point.exemplars.iter().for_each(|one| exemplar(out, 11, one));
        range_of(out, 12, 13, summary);
        if *zero_threshold != 0.0 {
            wire::double_present(out, 14, *zero_threshold);
        }
    });
}

fn buckets(out: &mut Vec<u8>, field: u32, Buckets { offset, counts }: &Buckets) {
    if !counts.is_empty() {
        wire::message(out, field, |out| {
            wire::sint32(out, 1, *offset);
            wire::packed_varint(out, 2, counts);
        });
    }
}

fn range_of(out: &mut Vec<u8>, min_field: u32, max_field: u32, summary: &Summary) {
    if let Some(min) = summary.min {
        wire::double_present(out, min_field, min);
    }
    if let Some(max) = summary.max {
        wire::double_present(out, max_field, max);
    }
}

fn exemplar(out: &mut Vec<u8>, field: u32, exemplar: &Exemplar) {
    wire::message(out, field, |out| {
        wire::fixed64(out, 2, exemplar.time_unix_ns);
        number(out, 3, 6, exemplar.value);
        wire::bytes(out, 4, &exemplar.span_id.0);
        wire::bytes(out, 5, &exemplar.trace_id.0);
    });
}

/// `oneof { double as_double; sfixed64 as_int; }`
fn number(out: &mut Vec<u8>, double_field: u32, int_field: u32, value: Number) {
    match value {
        Number::Double(value) => wire::double_present(out, double_field, value),
        Number::Int(value) => wire::fixed64_present(out, int_field, value.cast_unsigned()),
    }
}

/// Appends `metric` with the points in `range` as an element of `ScopeMetrics.metrics`.
pub(crate) fn json(out: &mut Vec<u8>, metric: &Metric, range: Range<usize>) {
    Json(out).element(|json| {
        json.str("name", &metric.name);
        json.str("description", &metric.description);
        json.str("unit", &metric.unit);
        match &metric.data {
            Data::Gauge { points } => json.object("gauge", |json| {
                json_points(json, &points[range], json_number_point);
            }),
            Data::Sum { points, temporality, monotonic } => json.object("sum", |json| {
                json_points(json, &points[range], json_number_point);
                json.number("aggregationTemporality", *temporality as i64);
                json.bool("isMonotonic", *monotonic);
            }),
            Data::Histogram { points, temporality } => json.object("histogram", |json| {
                json_points(json, &points[range], json_histogram_point);
                json.number("aggregationTemporality", *temporality as i64);
            }),
            Data::ExponentialHistogram { points, temporality } => {
                json.object("exponentialHistogram", |json| {
                    json_points(json, &points[range], json_exponential_point);
                    json.number("aggregationTemporality", *temporality as i64);
                });
            }
        }
    });
}

fn json_points<P>(json: &mut Json<'_>, points: &[P], fill: impl Fn(&mut Json<'_>, &P)) {
    json.array("dataPoints", |json| {
        for point in points {
            json.element(|json| fill(json, point));
        }
    });
}

fn json_common(json: &mut Json<'_>, point: &crate::metrics_data::Point) {
    json.array("attributes", |json| point.attributes.visit(json));
    json.int64("startTimeUnixNano", point.start_unix_ns);
    json.int64("timeUnixNano", point.time_unix_ns);
    if !point.exemplars.is_empty() {
        json.array("exemplars", |json| {
            for exemplar in &point.exemplars {
                json.element(|json| {
                    json.int64("timeUnixNano", exemplar.time_unix_ns);
                    json_number(json, exemplar.value);
                    json.hex("spanId", &exemplar.span_id.0);
                    json.hex("traceId", &exemplar.trace_id.0);
                });
            }
        });
    }
}

fn json_number(json: &mut Json<'_>, value: Number) {
    match value {
        Number::Double(value) => json.double("asDouble", value),
        Number::Int(value) => json.int64("asInt", value),
    }
}

fn json_number_point(json: &mut Json<'_>, NumberPoint { point, value }: &NumberPoint) {
    json_common(json, point);
    json_number(json, *value);
}

fn json_summary(json: &mut Json<'_>, summary: &Summary) {
    json.int64("count", summary.count);
    json.double("sum", summary.sum);
    if let Some(min) = summary.min {
        json.double("min", min);
    }
    if let Some(max) = summary.max {
        json.double("max", max);
    }
}

fn json_histogram_point(json: &mut Json<'_>, data: &HistogramPoint) {
    json_common(json, &data.point);
    json_summary(json, &data.summary);
    json.int64s("bucketCounts", data.bucket_counts.iter().copied());
    json.doubles("explicitBounds", data.bounds.iter().copied());
}

fn json_exponential_point(json: &mut Json<'_>, data: &ExponentialPoint) {
    json_common(json, &data.point);
    json_summary(json, &data.summary);
    json.number("scale", data.scale.into());
    json.int64("zeroCount", data.zero_count);
    for (key, buckets) in [("positive", &data.positive), ("negative", &data.negative)] {
        if !buckets.counts.is_empty() {
            json.object(key, |json| {
                json.number("offset", buckets.offset.into());
                json.int64s("bucketCounts", buckets.counts.iter().copied());
            });
        }
    }
    if data.zero_threshold != 0.0 {
        json.double("zeroThreshold", data.zero_threshold);
    }
}
