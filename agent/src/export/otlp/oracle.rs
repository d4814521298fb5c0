//! The encoders against `opentelemetry-proto`: what it decodes must be what went in.

use std::{borrow::Cow, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    metrics::v1 as pm,
    trace::v1 as pt,
};
use proptest::prelude::*;
use prost::Message;

use super::{
    Format, Signal, metrics,
    request::{Request, join},
    spans,
};
use crate::{
    attribute::Value,
    export::{
        exportable::Kind,
        tests::sample::{Sample, key_value, sample},
    },
    metrics_data::{
        Buckets, Data, Exemplar, ExponentialPoint, HistogramPoint, Metric, Number, NumberPoint,
        Point, Summary, Temporality,
    },
    resource::Resource,
    trace_context::{SpanId, TraceId},
};

/// Doubles that any JSON reader reads exactly; json.rs tests the others.
fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![any::<i32>().prop_map(|n| f64::from(n) / 8.0), Just(0.0), Just(1e100), Just(-0.0)]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        "[a-z]{100,400}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        doubles().prop_map(Value::Double),
        proptest::collection::vec(any::<String>().prop_map(String::into_boxed_str), 0..5)
            .prop_map(Value::Strs),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<(String, Value)>> {
    proptest::collection::vec(("\\PC{1,20}|[a-z.]{120,140}", values()), 0..12)
}

prop_compose! {
    fn samples()(
        trace_id in any::<[u8; 16]>(),
        span_id in any::<[u8; 8]>(),
        parent in proptest::option::of(any::<[u8; 8]>()),
        trace_state in "([a-z]=[a-z0-9]{1,9})?",
        flags in any::<u32>(),
        times in any::<(u64, u64)>(),
        name in any::<String>(),
        kind in prop_oneof![Just(Kind::Server), Just(Kind::Client), Just(Kind::Internal)],
        error in proptest::option::of(any::<String>()),
        attributes in attributes(),
    ) -> Sample {
        Sample {
            ids: (TraceId(trace_id), SpanId(span_id), parent.map(SpanId)),
            trace_state, flags, times, name, kind, error, attributes,
            resource: Arc::default(),
        }
    }
}

fn encode(format: Format, samples: &[Sample]) -> Vec<u8> {
    let mut request = Request::new(Signal::Traces, format, 4 << 20);
    for sample in samples {
        request.push(&sample.resource, 1, |out| match format {
            Format::Protobuf => spans::protobuf(out, sample),
            Format::Json => spans::json(out, sample),
        });
    }
    let encoded = request.seal().expect("something to seal");
    assert_eq!(encoded.items, samples.len() as u64);
    join(format, Signal::Traces, &[encoded.body]).to_vec()
}

fn decode(format: Format, bytes: &[u8]) -> ExportTraceServiceRequest {
    match format {
        Format::Protobuf => ExportTraceServiceRequest::decode(bytes).expect("protobuf"),
        Format::Json => serde_json::from_slice(bytes).expect("OTLP/JSON"),
    }
}

proptest! {
    #![proptest_config(crate::properties::config(96))]

    #[test]
    fn any_span_decodes_to_itself(sample in samples()) {
        for format in [Format::Protobuf, Format::Json] {
            let request = decode(format, &encode(format, std::slice::from_ref(&sample)));
            let mut span = request.resource_spans[0].scope_spans[0].spans[0].clone();
            // absent and empty status mean the same (unset)
            span.status = span.status.filter(|status| *status != pt::Status::default());
            prop_assert_eq!(&span, &sample.expected());
        }
    }

    #[test]
    fn protobuf_is_what_the_reference_encoder_writes(sample in samples()) {
        let ours = encode(Format::Protobuf, std::slice::from_ref(&sample));
        let reference = ExportTraceServiceRequest::decode(&*ours).expect("protobuf").encode_to_vec();
        // Fields may be ordered as one likes, lengths may not differ.
        prop_assert_eq!(ours.len(), reference.len());
    }

    #[test]
    fn any_metric_decodes_to_itself(
        attributes in attributes(),
        times in any::<(u64, u64)>(),
        count in any::<u64>(),
        sum in doubles(),
        extremes in proptest::option::of((doubles(), doubles())),
        bucket_counts in proptest::collection::vec(any::<u64>(), 1..20),
        scale in -10..=20_i32,
        offset in any::<i32>(),
        ids in any::<([u8; 16], [u8; 8])>(),
        int in any::<i64>(),
    ) {
        let point = Point {
            attributes: attributes.iter().cloned().collect(),
            start_unix_ns: times.0,
            time_unix_ns: times.1,
            exemplars: vec![Exemplar {
                time_unix_ns: times.1,
                value: Number::Double(sum),
                trace_id: TraceId(ids.0),
                span_id: SpanId(ids.1),
            }],
        };
        let summary = Summary { count, sum, min: extremes.map(|e| e.0), max: extremes.map(|e| e.1) };
        let bounds: Cow<'static, [f64]> =
            (1..bucket_counts.len()).map(|i| i as f64 / 10.0).collect();
        let metrics = [
            metric("gauge", Data::Gauge { points: vec![
                NumberPoint { point: point.clone(), value: Number::Int(int) },
                NumberPoint { point: point.clone(), value: Number::Double(sum) },
            ] }),
            metric("sum", Data::Sum {
                points: vec![NumberPoint { point: point.clone(), value: Number::Int(0) }],
                temporality: Temporality::Delta,
                monotonic: true,
            }),
            metric("histogram", Data::Histogram {
                points: vec![HistogramPoint {
                    point: point.clone(), summary, bounds: bounds.clone(), bucket_counts: bucket_counts.clone(),
                }],
                temporality: Temporality::Cumulative,
            }),
            metric("exponential", Data::ExponentialHistogram {
                points: vec![ExponentialPoint {
                    point, summary, scale, zero_count: count, zero_threshold: 1e-9,
                    positive: Buckets { offset, counts: bucket_counts.clone() },
                    negative: Buckets::default(),
                }],
                temporality: Temporality::Delta,
            }),
        ];
        for format in [Format::Protobuf, Format::Json] {
            let decoded = round_trip(format, &metrics);
            let exemplar = pm::Exemplar {
                time_unix_nano: times.1,
                trace_id: ids.0.to_vec(),
                span_id: ids.1.to_vec(),
                value: Some(pm::exemplar::Value::AsDouble(sum)),
                ..Default::default()
            };
            let attributes: Vec<_> = attributes.iter().map(|(k, v)| key_value(k, v)).collect();
            let number = |value| pm::NumberDataPoint {
                attributes: attributes.clone(),
                start_time_unix_nano: times.0,
                time_unix_nano: times.1,
                exemplars: vec![exemplar.clone()],
                value: Some(value),
                ..Default::default()
            };
            use pm::number_data_point::Value::{AsDouble, AsInt};
            let expected = [
                pm::metric::Data::Gauge(pm::Gauge { data_points: vec![number(AsInt(int)), number(AsDouble(sum))] }),
                pm::metric::Data::Sum(pm::Sum {
                    data_points: vec![number(AsInt(0))], aggregation_temporality: 1, is_monotonic: true,
                }),
                pm::metric::Data::Histogram(pm::Histogram {
                    data_points: vec![pm::HistogramDataPoint {
                        attributes: attributes.clone(),
                        start_time_unix_nano: times.0,
                        time_unix_nano: times.1,
                        count, sum: Some(sum), min: summary.min, max: summary.max,
                        bucket_counts: bucket_counts.clone(),
                        explicit_bounds: bounds.to_vec(),
                        exemplars: vec![exemplar.clone()],
                        ..Default::default()
                    }],
                    aggregation_temporality: 2,
                }),
                pm::metric::Data::ExponentialHistogram(pm::ExponentialHistogram {
                    data_points: vec![pm::ExponentialHistogramDataPoint {
                        attributes: attributes.clone(),
                        start_time_unix_nano: times.0,
                        time_unix_nano: times.1,
                        count, sum: Some(sum), min: summary.min, max: summary.max,
                        scale, zero_count: count, zero_threshold: 1e-9,
                        positive: Some(pm::exponential_histogram_data_point::Buckets {
                            offset, bucket_counts: bucket_counts.clone(),
                        }),
                        negative: None,
                        exemplars: vec![exemplar.clone()],
                        ..Default::default()
                    }],
                    aggregation_temporality: 1,
                }),
            ];
            for (metric, expected) in decoded.iter().zip(expected) {
                prop_assert_eq!(metric.data.as_ref().expect("data"), &expected, "{:?}", format);
                prop_assert_eq!((&*metric.unit, &*metric.description), ("s", "what it measures"));
            }
        }
    }
}

fn metric(name: &'static str, data: Data) -> Metric {
    Metric { name: name.into(), unit: "s".into(), description: "what it measures".into(), data }
}

fn round_trip(format: Format, all: &[Metric]) -> Vec<pm::Metric> {
    let mut request = Request::new(Signal::Metrics, format, 4 << 20);
    let resource = Arc::default();
    for one in all {
        let range = 0..one.data.len();
        request.push(&resource, range.len() as u64, |out| match format {
            Format::Protobuf => metrics::protobuf(out, one, range),
            Format::Json => metrics::json(out, one, range),
        });
    }
    let body = join(format, Signal::Metrics, &[request.seal().expect("something to seal").body]);
    let request: ExportMetricsServiceRequest = match format {
        Format::Protobuf => ExportMetricsServiceRequest::decode(&*body).expect("protobuf"),
        Format::Json => serde_json::from_slice(&body).expect("OTLP/JSON"),
    };
    let scope_metrics = &request.resource_metrics[0].scope_metrics[0];
    assert_eq!(scope_metrics.scope.as_ref().expect("a scope").name, "remora");
    scope_metrics.metrics.clone()
}

#[test]
fn spans_are_grouped_by_resource_with_scope_and_schema() {
    let resource =
        |name: &str| Arc::new(Resource::new([("service.name".into(), Value::from(name))]));
    let (a, b) = (resource("a"), resource("b"));
    let samples = [sample("1", &a), sample("2", &b), sample("3", &a)];
    for format in [Format::Protobuf, Format::Json] {
        let request = decode(format, &encode(format, &samples));
        assert_eq!(request.resource_spans.len(), 2);
        for (group, (service, names)) in
            request.resource_spans.iter().zip([("a", &["1", "3"][..]), ("b", &["2"])])
        {
            let resource = group.resource.as_ref().expect("a resource");
            assert_eq!(resource.attributes, [key_value("service.name", &Value::from(service))]);
            assert!(group.schema_url.starts_with("https://opentelemetry.io/schemas/1."));
            let [scope_spans] = &group.scope_spans[..] else { panic!("one scope") };
            assert_eq!(scope_spans.schema_url, group.schema_url);
            let scope = scope_spans.scope.as_ref().expect("a scope");
            assert_eq!((&*scope.name, &*scope.version), ("remora", env!("CARGO_PKG_VERSION")));
            assert_eq!(scope_spans.spans.iter().map(|span| &*span.name).collect::<Vec<_>>(), names);
        }
    }
}

#[test]
fn sealed_requests_join_to_one_request() {
    let resource = Arc::default();
    for format in [Format::Protobuf, Format::Json] {
        let bodies = ["1", "2", "3"].map(|name| {
            let mut request = Request::new(Signal::Traces, format, 4 << 20);
            let sample = sample(name, &resource);
            request.push(&resource, 1, |out| match format {
                Format::Protobuf => spans::protobuf(out, &sample),
                Format::Json => spans::json(out, &sample),
            });
            request.seal().expect("something to seal").body
        });
        let request = decode(format, &join(format, Signal::Traces, &bodies));
        let names: Vec<_> = request
            .resource_spans
            .iter()
            .map(|group| &*group.scope_spans[0].spans[0].name)
            .collect();
        assert_eq!(names, ["1", "2", "3"]);
    }
}

#[test]
fn json_has_the_forms_that_otlp_asks_for() {
    let resource = Arc::default();
    let text =
        String::from_utf8(encode(Format::Json, &[sample("GET /", &resource)])).expect("UTF-8");
    let expected = concat!(
        r#"{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202","flags":257,"#,
        r#""name":"GET /","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2","#,
        r#""attributes":[{"key":"http.request.method","value":{"stringValue":"GET"}}],"status":{}}"#
    );
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains('\n'));
}
