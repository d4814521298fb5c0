//! What Prometheus has of our metrics: scraped from us, scraped from a Collector, sent by us. Oracles are
//! nginx's access log and the spans.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use remora_tests::{
    agent::{Agent, Done},
    backends::{
        self,
        authority::Authority,
        otelcol::{Otelcol, Security},
        prometheus::{Labels, Prometheus},
    },
    client::Connection,
    nginx::Nginx,
    skip,
    spans::Span,
};
use serde_json::{Value, json};

const DURATION: &str = "http_server_request_duration_seconds";

/// An agent that shows its metrics to Prometheus and sends them to the Collector.
fn config(histogram: &str, own: SocketAddr, collector: &Otelcol) -> Value {
    json!({
        "output": {
            "prometheus": own.to_string(),
            "otlp": {
                "metrics": {
                    "endpoint": collector.endpoint(true, Security::Plain),
                    "protocol": "grpc",
                },
            },
        },
        // Shorter than the time between two scrapes: the Collector shows the exemplars of the latest export.
        "metrics": { "interval": "200ms", "histogram": histogram },
    })
}

/// Requests of three kinds; returns how many nginx has logged.
fn traffic(nginx: Nginx) -> usize {
    let mut connection = Connection::open(nginx.port()).unwrap();
    for number in 0..90 {
        let target = ["/small", "/big", "/no/such/page"][number % 3];
        connection.get(target, "").unwrap();
    }
    drop(connection);
    nginx.quit().len()
}

/// A series without what tells one Prometheus's ways of getting it apart, the bound as a number.
fn series(labels: &Labels) -> String {
    let mut labels = labels.clone();
    labels.remove("via");
    if let Some(le) = labels.get_mut("le") {
        *le = le.parse::<f64>().unwrap().to_string();
    }
    format!("{labels:?}")
}

fn via(way: &str, rest: &str) -> String {
    format!(r#"{rest}{{job="nginx",via="{way}"}}"#)
}

/// Exemplars of a query, when there are some.
fn exemplars(prometheus: &Prometheus, query: &str) -> Vec<(Labels, Labels, f64)> {
    prometheus.wait_for(&format!("exemplars of {query}"), || {
        Some(prometheus.exemplars(query)).filter(|exemplars| !exemplars.is_empty())
    })
}

/// Each exemplar is a span that took as long as it says, in a bucket where it belongs; there are some.
fn exemplars_are_spans(prometheus: &Prometheus, query: &str, done: &Done) {
    let exemplars = exemplars(prometheus, query);
    let spans: BTreeMap<(&str, &str), &Span> =
        done.spans.iter().map(|span| ((&*span.trace_id, &*span.span_id), span)).collect();
    for (series, exemplar, value) in &exemplars {
        let span = spans[&(&*exemplar["trace_id"], &*exemplar["span_id"])];
        let duration = span.duration_ns() as f64 / 1e9;
        assert!((value - duration).abs() < 1e-9, "{exemplar:?} {value} of {duration}");
        assert_eq!(
            series["http_response_status_code"],
            span.text_or_int("http.response.status_code")
        );
        if let Some(le) = series.get("le") {
            assert!(*value <= le.parse().unwrap(), "{series:?} {value}");
        }
    }
}

/// Runs `test` with every Prometheus that is here, behind a Collector.
fn with_each_prometheus(test: fn(&'static str)) {
    if skip::without_root()
        || skip::without(&["nginx"])
        || backends::without(&["otelcol", "prometheus"])
    {
        return;
    }
    for name in ["prometheus", "prometheus3"] {
        if backends::binary(name).is_some() {
            test(name);
        }
    }
}

#[test]
fn series_are_the_same_scraped_from_us_and_from_a_collector() {
    with_each_prometheus(same_series);
}

fn same_series(name: &'static str) {
    let collector = Otelcol::start(&Authority::new());
    let own = backends::address();
    let targets = [("collector", collector.metrics()), ("remora", own)];
    let prometheus = Prometheus::start(name, &targets);
    let nginx = Nginx::start();
    let worker = nginx.pids()[0];
    let agent = Agent::configured(&nginx.pids(), &config("explicit", own, &collector), &[]);
    let logged = traffic(nginx) as f64;

    for way in ["collector", "remora"] {
        prometheus.until(&format!("sum({})", via(way, &format!("{DURATION}_count"))), logged);
    }
    // The rules for names: unit as a suffix, counters in `_total`, histograms in three.
    let all = |way: &str| {
        let found = prometheus.query(&format!(r#"{{job="nginx",via="{way}"}}"#));
        let series: BTreeMap<String, f64> =
            found.iter().map(|(labels, value)| (series(labels), *value)).collect();
        let names: BTreeSet<String> =
            found.iter().map(|(labels, _)| labels["__name__"].clone()).collect();
        (series, names)
    };
    let (ours, names) = all("remora");
    let expected: BTreeSet<String> = [
        "http_server_request_duration_seconds",
        "http_server_request_body_size_bytes",
        "http_server_response_body_size_bytes",
    ]
    .iter()
    .flat_map(|name| ["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")))
    .chain(["target_info".to_owned()])
    .collect();
    assert_eq!(names, expected);
    let theirs = prometheus.wait_for("the last of the Collector's series", || {
        let (theirs, _) = all("collector");
        (theirs.len() >= ours.len()).then_some(theirs)
    });
    assert_eq!(theirs, ours);

    // The labels of one series, all of them.
    let counts = prometheus.query(&via("remora", &format!("{DURATION}_count")));
    let (labels, _) =
        counts.iter().find(|(labels, _)| labels["http_response_status_code"] == "404").unwrap();
    let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
    let scope = ["otel_scope_name", "otel_scope_schema_url", "otel_scope_version"];
    let request = ["http_request_method", "http_response_status_code"];
    let protocol = ["network_protocol_name", "network_protocol_version"];
    let mut all_keys =
        [&["__name__", "instance", "job", "url_scheme", "via"][..], &scope, &request].concat();
    all_keys.extend(protocol);
    all_keys.sort_unstable();
    assert_eq!(keys, all_keys, "{labels:?}");

    // A resource's attributes are joined by what names the resource.
    let joined = format!(
        "sum by (process_pid) ({DURATION}_count{{via=\"remora\"}} \
         * on (job, instance) group_left (process_pid) target_info{{via=\"remora\"}})"
    );
    let joined = prometheus.query(&joined);
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert_eq!((&*joined[0].0["process_pid"], joined[0].1), (&*worker.to_string(), logged));

    let metadata = prometheus.metadata(DURATION);
    assert!(metadata.iter().all(|said| said["type"] == "histogram"), "{metadata:?}");
    assert!(metadata.iter().any(|said| said["unit"] == "seconds"), "{metadata:?}");
    for (job, error) in prometheus.targets() {
        assert_eq!(error, "", "{job}");
    }
    for way in ["collector", "remora"] {
        let _ = exemplars(&prometheus, &via(way, &format!("{DURATION}_bucket")));
    }
    let done = agent.stop();
    for way in ["collector", "remora"] {
        exemplars_are_spans(&prometheus, &via(way, &format!("{DURATION}_bucket")), &done);
    }
    println!("{name}: {} series", ours.len());
}

/// What native histograms say of the durations: how many there are, and their sum.
fn native_histograms_agree(prometheus: &Prometheus, selector: &str, done: &Done) {
    let seconds =
        |spans: &[Span]| -> f64 { spans.iter().map(|span| span.duration_ns() as f64 / 1e9).sum() };
    prometheus.until(&format!("sum(histogram_count({selector}))"), done.spans.len() as f64);
    let sum: f64 =
        prometheus.query(&format!("histogram_sum({selector})")).iter().map(|(_, sum)| sum).sum();
    assert!((sum - seconds(&done.spans)).abs() < 1e-9, "{sum}");
    // Buckets: of each series as many as spans, and each span within the bounds.
    for (labels, histogram) in prometheus.histograms(selector) {
        let status = &labels["http_response_status_code"];
        let route = labels.get("http_route").map_or("", String::as_str);
        let of = |span: &&Span| {
            *status == span.text_or_int("http.response.status_code")
                && span.text("http.route") == route
        };
        let mut durations: Vec<f64> =
            done.spans.iter().filter(of).map(|span| span.duration_ns() as f64 / 1e9).collect();
        durations.sort_by(f64::total_cmp);
        let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
        let mut counted = 0;
        for bucket in histogram["buckets"].as_array().unwrap() {
            let (low, high) = (number(&bucket[1]), number(&bucket[2]));
            // The bounds are rounded to what a double holds; so may a duration at one be.
            let within = |duration: &&f64| {
                low * (1.0 - 1e-12) <= **duration && **duration <= high * (1.0 + 1e-12)
            };
            let count = durations.iter().filter(within).count();
            assert!(count as f64 >= number(&bucket[3]), "{bucket} of {durations:?}");
            counted += number(&bucket[3]) as usize;
        }
        assert_eq!(counted, durations.len(), "{histogram}");
    }
}

#[test]
fn exponential_histograms_arrive_as_native_ones_through_a_collector() {
    with_each_prometheus(same_native_histograms);
}

fn same_native_histograms(name: &'static str) {
    let collector = Otelcol::start(&Authority::new());
    let prometheus = Prometheus::start(name, &[("collector", collector.metrics())]);
    let nginx = Nginx::start();
    let own = backends::address();
    let config = config("exponential", own, &collector);
    let agent = Agent::configured(&nginx.pids(), &config, &[]);
    let logged = traffic(nginx);
    let done = agent.stop();
    assert_eq!(done.spans.len(), logged, "{}", done.log);
    native_histograms_agree(&prometheus, &via("collector", DURATION), &done);
    if name == "prometheus3" {
        // Earlier ones know no exemplars of native histograms.
        exemplars_are_spans(&prometheus, &via("collector", DURATION), &done);
    }
}

#[test]
fn prometheus_takes_metrics_by_otlp() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["prometheus3"]) {
        return;
    }
    let prometheus = Prometheus::start("prometheus3", &[]);
    for histogram in ["explicit", "exponential"] {
        let nginx = Nginx::start();
        let config = json!({
            "output": {
                "otlp": {
                    "metrics": {
                        "endpoint": prometheus.otlp(),
                        "protocol": "http/protobuf",
                        "compression": "gzip",
                    },
                },
            },
            "metrics": { "interval": "300ms", "histogram": histogram },
            "resource": { "service.namespace": histogram },
        });
        let agent = Agent::configured(&nginx.pids(), &config, &[]);
        let logged = traffic(nginx);
        let done = agent.stop();
        assert_eq!(done.spans.len(), logged, "{}", done.log);
        let job = format!(r#"job="{histogram}/nginx""#);
        if histogram == "explicit" {
            prometheus.until(&format!("sum({DURATION}_count{{{job}}})"), logged as f64);
            let name = format!("{DURATION}_bucket{{{job}}}");
            exemplars_are_spans(&prometheus, &name, &done);
        } else {
            let name = format!("{DURATION}{{{job}}}");
            native_histograms_agree(&prometheus, &name, &done);
            exemplars_are_spans(&prometheus, &name, &done);
        }
        let info = prometheus.query(&format!("target_info{{{job}}}"));
        assert_eq!(info.len(), 1, "{info:?}");
        let (labels, _) = &info[0];
        assert_eq!(labels["service_name"], "nginx");
        assert_eq!(labels["process_executable_name"], "nginx");
        assert_eq!(labels["telemetry_distro_name"], "remora");
    }
}
