use std::sync::Arc;

use super::*;
use crate::{
    aggregate::{Aggregator, Config, HistogramKind},
    exchange::Role,
    metrics_data::{Attributes, NumberPoint},
    semantics::tests::{exchange, span},
};

fn resource() -> Arc<Resource> {
    Arc::new(Resource::new([
        ("service.name".into(), "shop".into()),
        ("service.namespace".into(), "eu".into()),
        ("service.instance.id".into(), "one".into()),
        ("host.name".into(), "h\"1".into()),
    ]))
}

fn red(config: Config) -> Vec<MetricBatch> {
    let mut aggregator = Aggregator::new(config, 1);
    let mut span = span(exchange(Role::Server));
    span.resource = resource();
    span.route = Some("/users/{id}".into());
    (span.start_unix_ns, span.end_unix_ns) = (1_700_000_000_000_000_000, 1_700_000_000_007_000_000);
    aggregator.record(&span);
    aggregator.collect(2)
}

fn sum(name: &'static str, monotonic: bool, value: i64) -> MetricBatch {
    let point = Point {
        attributes: [("a.b", Value::from("x")), ("a_b", Value::from("y"))].into_iter().collect(),
        start_unix_ns: 1,
        time_unix_ns: 2,
        exemplars: Vec::new(),
    };
    let points = vec![NumberPoint { point, value: Number::Int(value) }];
    let data = Data::Sum { points, temporality: Temporality::Cumulative, monotonic };
    let (unit, description) = ("{record}".into(), "What \"was\".\nAll.".into());
    let metrics = vec![Metric { name: name.into(), unit, description, data }];
    MetricBatch { resource: resource(), metrics }
}

fn scope() -> String {
    format!(
        "otel_scope_name=\"remora\",otel_scope_schema_url=\"{SCHEMA_URL}\",otel_scope_version=\"{}\"",
        env!("CARGO_PKG_VERSION")
    )
}

#[test]
fn open_metrics_page_has_families_exemplars_and_an_end() {
    let page = render(&red(Config::default()), Format::OpenMetrics);
    let scope = scope();
    let labels = format!(
        "http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/users/{{id}}\",\
         instance=\"one\",job=\"eu/shop\",network_protocol_name=\"http\",\
         network_protocol_version=\"1.1\",{scope},url_scheme=\"http\""
    );
    for expected in [
        "# TYPE target info\n".to_owned(),
        "target_info{host_name=\"h\\\"1\",instance=\"one\",job=\"eu/shop\"} 1\n".to_owned(),
        "# TYPE http_server_request_duration_seconds histogram\n".to_owned(),
        "# UNIT http_server_request_duration_seconds seconds\n".to_owned(),
        "# HELP http_server_request_duration_seconds Duration of HTTP server requests.\n"
            .to_owned(),
        format!("http_server_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 0\n"),
        format!(
            "http_server_request_duration_seconds_bucket{{{labels},le=\"0.01\"}} 1 # \
             {{trace_id=\"{}\",span_id=\"{}\"}} 0.007 1700000000.007\n",
            "01".repeat(16),
            "02".repeat(8)
        ),
        format!("http_server_request_duration_seconds_bucket{{{labels},le=\"10.0\"}} 1\n"),
        format!("http_server_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 1\n"),
        format!("http_server_request_duration_seconds_count{{{labels}}} 1\n"),
        format!("http_server_request_duration_seconds_sum{{{labels}}} 0.007\n"),
        format!("http_server_response_body_size_bytes_sum{{{labels}}} 12.0\n"),
    ] {
        assert!(page.contains(&expected), "{expected}\nin\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
    assert_eq!(page.matches("# TYPE").count(), 4);
}

#[test]
fn prometheus_page_has_neither_units_nor_exemplars_nor_an_end() {
    let page = render(&red(Config::default()), Format::Prometheus);
    assert!(page.contains("# TYPE target_info gauge\n"));
    assert!(!page.contains("# UNIT") && !page.contains("trace_id") && !page.contains("# EOF"));
}

#[test]
fn counters_end_in_total_and_colliding_labels_share_a_name() {
    let batch = [sum("remora.records", true, 7)];
    let open = render(&batch, Format::OpenMetrics);
    assert!(open.contains("# TYPE remora_records counter\n"), "{open}");
    assert!(open.contains("# HELP remora_records What \\\"was\\\".\\nAll.\n"), "{open}");
    assert!(open.contains("remora_records_total{a_b=\"x;y\","), "{open}");
    let text = render(&batch, Format::Prometheus);
    assert!(text.contains("# TYPE remora_records_total counter\n"), "{text}");
    assert!(text.contains("# HELP remora_records_total What \"was\".\\nAll.\n"), "{text}");
    let total = [sum("remora.records_total", true, 7)];
    assert!(!render(&total, Format::OpenMetrics).contains("total_total"));
    let gauge = render(&[sum("queue", false, 7)], Format::OpenMetrics);
    assert!(gauge.contains("# TYPE queue gauge\n") && gauge.contains("queue{"), "{gauge}");
}

#[test]
fn families_of_several_resources_stand_together_and_conflicts_are_left_out() {
    let batches = [sum("x", true, 1), sum("x", true, 2), sum("x", false, 3)];
    let page = render(&batches, Format::OpenMetrics);
    assert_eq!(page.matches("# TYPE x counter").count(), 1);
    assert_eq!(page.matches("\nx_total{").count(), 2);
    assert!(!page.contains("} 3"));
    assert_eq!(page.matches("target_info{").count(), 3);
}

#[test]
fn delta_is_left_out() {
    let config = Config { temporality: Temporality::Delta, ..Config::default() };
    let page = render(&red(config), Format::OpenMetrics);
    assert!(!page.contains("duration"));
}

#[test]
fn exponential_histograms_have_stable_bounds() {
    let config = Config { histogram: HistogramKind::Exponential, ..Config::default() };
    let page = render(&red(config), Format::OpenMetrics);
    // 0.007 is in (2^-8, 2^-7].
    for expected in ["le=\"0.0\"} 0", "le=\"0.0078125\"} 1 # {trace_id", "le=\"+Inf\"} 1"] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
}

#[test]
fn coarse_exponential_buckets_count_at_their_upper_bound() {
    let point = ExponentialPoint {
        point: Point {
            attributes: Attributes(Arc::new([])),
            start_unix_ns: 0,
            time_unix_ns: 0,
            exemplars: Vec::new(),
        },
        summary: crate::metrics_data::Summary { count: 6, sum: 1.0, min: None, max: None },
        scale: -1,
        zero_count: 1,
        zero_threshold: 0.0,
        positive: crate::metrics_data::Buckets { offset: -1, counts: vec![2, 3] },
        negative: Default::default(),
    };
    let found = powers_of_two(&point);
    // (1/4, 1] and (1, 4]
    assert_eq!(*found.bounds, [0.0, 1.0, 2.0, 4.0]);
    assert_eq!(found.bucket_counts, [1, 2, 0, 3, 0]);
}
