//! Every protocol and compression carries every field of every span and metric.

use super::{
    collector::{Collector, Content, Script},
    *,
};
use crate::{
    export::otlp::{self, Format, Signal, request::Request},
    metrics_data::{Data, Metric, MetricBatch, Number, NumberPoint, Point, Temporality},
    trace_context::{SpanId, TraceId},
};

fn requests_batch(resource: &Arc<Resource>, points: i64) -> MetricBatch {
    let point = |value| NumberPoint {
        point: Point {
            attributes: [("http.request.method", Value::from("GET"))].into_iter().collect(),
            start_unix_ns: 1,
            time_unix_ns: 2,
            exemplars: Vec::new(),
        },
        value: Number::Int(value),
    };
    MetricBatch {
        resource: Arc::clone(resource),
        metrics: vec![Metric {
            name: "requests".into(),
            unit: "{request}".into(),
            description: "".into(),
            data: Data::Sum {
                points: (0..points).map(point).collect(),
                temporality: Temporality::Delta,
                monotonic: true,
            },
        }],
    }
}

#[tokio::test]
async fn each_protocol_with_each_compression_delivers_spans_and_metrics_exactly() {
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        for compression in ["none", "gzip", "zstd"] {
            let script = Script::answering([]);
            let collector = match protocol {
                "grpc" => Collector::grpc(&script, None, None).await,
                _ => Collector::http(&script, None, None).await,
            };
            let endpoint = format!("http://{}", collector.addr);
            let exporter = spawn(&settings(&[
                ("ENDPOINT", &endpoint),
                ("PROTOCOL", protocol),
                ("COMPRESSION", compression),
                ("HEADERS", "x-tenant=fish%20farm"),
            ]));
            let (shop, bank) = (resource("shop"), resource("bank"));
            let mut sent =
                [sample("GET /a", &shop), sample("GET /b", &bank), sample("GET /c", &shop)];
            sent[1].ids = (TraceId([9; 16]), SpanId([8; 8]), Some(SpanId([7; 8])));
            sent[1].error = Some("500".into());
            sent[1].attributes = vec![
                ("s".into(), "x".repeat(1000).into()),
                ("i".into(), Value::Int(i64::MIN)),
                ("d".into(), Value::Double(0.5)),
                ("l".into(), Value::Strs(vec!["a".into(), "".into()])),
            ];
            sent.iter().for_each(|span| exporter.span(span));
            exporter.metrics(&[requests_batch(&shop, 1), requests_batch(&bank, 2)]);
            let lane = finish(exporter, PATIENCE).await;
            assert_eq!((lane.exported, lane.dropped.total()), (3, 0), "{protocol} {compression}");

            let received = script.received();
            assert_eq!(received.len(), 2);
            for received in received {
                assert_eq!(received.headers["x-tenant"], "fish farm");
                let agent = received.headers["user-agent"].to_str().unwrap();
                assert!(agent.starts_with("OTel-OTLP-Exporter-Remora/"), "{agent}");
                let encoding =
                    if protocol == "grpc" { "grpc-encoding" } else { "content-encoding" };
                let encoding = received.headers.get(encoding).map(|value| value.to_str().unwrap());
                assert_eq!(encoding.unwrap_or("none"), compression);
                let path = &received.path;
                match received.content {
                    Content::Traces(request) => {
                        assert!(protocol == "grpc" || path == "/v1/traces", "{path}");
                        let spans: Vec<_> = request
                            .resource_spans
                            .into_iter()
                            .flat_map(|group| group.scope_spans)
                            .flat_map(|scope_spans| scope_spans.spans)
                            .map(|mut span| {
                                span.status =
                                    span.status.filter(|status| *status != Default::default());
                                span
                            })
                            .collect();
                        let expected = [0, 2, 1].map(|index: usize| sent[index].expected());
                        assert_eq!(spans, expected, "{protocol} {compression}");
                    }
                    Content::Metrics(request) => {
                        assert!(protocol == "grpc" || path == "/v1/metrics", "{path}");
                        let groups = request.resource_metrics;
                        let points = groups.iter().map(|group| {
                            let Some(data) = &group.scope_metrics[0].metrics[0].data else {
                                panic!()
                            };
                            let opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum) =
                                data
                            else {
                                panic!("a sum")
                            };
                            sum.data_points.len()
                        });
                        assert_eq!(points.collect::<Vec<_>>(), [1, 2]);
                    }
                }
            }
            collector.stop().await;
        }
    }
}

#[tokio::test]
async fn an_endpoint_of_one_signal_is_requested_as_it_is() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let endpoint = format!("http://{}/p?token=x%20y", collector.addr);
    let exporter = spawn(&settings(&[("TRACES_ENDPOINT", &endpoint)]));
    spans(&exporter, 0..1);
    finish_clean(exporter, &script, 1).await;
    assert_eq!(script.received()[0].path, "/p?token=x%20y");
}

#[tokio::test]
async fn http_bodies_are_what_the_encoder_made() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[("ENDPOINT", &endpoint), ("COMPRESSION", "zstd")]));
    let mut request = Request::new(Signal::Traces, Format::Protobuf, 4 << 20);
    let shop = resource("shop");
    for number in 0..50 {
        let span = sample(&number.to_string(), &shop);
        exporter.span(&span);
        request.push(&shop, 1, |out| otlp::spans::protobuf(out, &span));
    }
    finish_clean(exporter, &script, 50).await;
    assert_eq!(script.received()[0].raw, request.seal().unwrap().body);
}

#[tokio::test]
async fn a_request_leaves_when_full_and_the_rest_with_a_flush() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[
        ("ENDPOINT", &endpoint),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ]));
    spans(&exporter, 0..25);
    until("two full requests", || account(&exporter).exported == 20).await;
    assert_eq!((account(&exporter).queued, script.received().len()), (5, 2));
    assert!(exporter.flush(PATIENCE).await);
    assert_eq!(script.received().len(), 3);
    finish_clean(exporter, &script, 25).await;
}

#[tokio::test]
async fn a_request_that_is_not_full_leaves_when_due() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[("ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]));
    for round in 1..=2 {
        spans(&exporter, [round]);
        until("the span", || account(&exporter).exported == round as u64).await;
    }
    finish_clean(exporter, &script, 2).await;
}

#[tokio::test]
async fn metrics_pass_a_trace_endpoint_that_hangs() {
    let script = Script::answering([]);
    let traces = Script::answering([collector::Answer::Hang]);
    let (good, bad) =
        (Collector::http(&script, None, None).await, Collector::http(&traces, None, None).await);
    let exporter = spawn(&settings(&[
        ("METRICS_ENDPOINT", &format!("http://{}/v1/metrics", good.addr)),
        ("TRACES_ENDPOINT", &format!("http://{}/v1/traces", bad.addr)),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ]));
    spans(&exporter, 0..3);
    until("the trace request to hang", || traces.received().len() == 1).await;
    exporter.metrics(&[requests_batch(&resource("shop"), 4)]);
    until("metrics", || script.received().len() == 1).await;
    let lane = finish(exporter, Duration::ZERO).await;
    assert_eq!(dropped(&lane, DropReason::Shutdown), 3);
}

#[tokio::test]
async fn metrics_beyond_a_request_go_in_several() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let mut settings =
        settings(&[("METRICS_ENDPOINT", &format!("http://{}/v1/metrics", collector.addr))]);
    settings.batch.max_request_bytes = 4000;
    settings.batch.merge_backlog = false;
    let exporter = spawn(&settings);
    exporter.metrics(&[requests_batch(&resource("shop"), 500)]);
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!((lane.exported, lane.dropped.total()), (500, 0));
    let received = script.received();
    assert!(received.len() > 5, "{}", received.len());
    assert!(received.iter().all(|received| received.raw.len() <= 4000));
}

#[tokio::test]
async fn a_span_longer_than_a_request_is_dropped_and_counted() {
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    let mut settings = settings(&[("TRACES_ENDPOINT", &format!("http://{}", collector.addr))]);
    settings.batch.max_request_bytes = 2000;
    let exporter = spawn(&settings);
    let shop = resource("shop");
    exporter.span(&sample("before", &shop));
    exporter.span(&sample(&"x".repeat(3000), &shop));
    exporter.span(&sample("after", &shop));
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!(dropped(&lane, DropReason::TooLarge), 1);
    assert_eq!(script.span_names(), ["before", "after"]);
}
