//! What the OpenTelemetry Collector has of what was sent to it, in every way that there is, and what its
//! components make of it. The oracles are the programs that were asked and those who asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use remora_tests::{
    agent::{Agent, Done},
    backends::{
        self,
        authority::Authority,
        otelcol::{Otelcol, Output, Security},
    },
    client::Connection,
    nginx::Nginx,
    process::output,
    programs::Shop,
    skip,
    spans::{self, CLIENT, SERVER, Signal, Span},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One way of sending.
#[derive(Clone, Copy, Debug)]
struct Way {
    protocol: &'static str,
    security: Security,
    compression: &'static str,
}

impl Way {
    /// Each protocol with each security, and each of both with each compression.
    fn all() -> Vec<Self> {
        let mut ways = Vec::new();
        for (row, protocol) in ["grpc", "http/protobuf", "http/json"].into_iter().enumerate() {
            let securities = [Security::Plain, Security::Tls, Security::MutualTls];
            for (column, security) in securities.into_iter().enumerate() {
                let compression = ["none", "gzip", "zstd"][(row + column) % 3];
                ways.push(Self { protocol, security, compression });
            }
        }
        ways
    }

    fn name(self) -> String {
        format!("{self:?}")
    }

    /// The configuration of an agent that sends in this way and says so in its resources.
    fn config(self, collector: &Otelcol, authority: &Authority) -> Value {
        let mut otlp = json!({
            "endpoint": collector.endpoint(self.protocol == "grpc", self.security),
            "protocol": self.protocol,
            "compression": self.compression,
        });
        if self.security != Security::Plain {
            otlp["certificate"] = json!(authority.certificate());
        }
        if self.security == Security::MutualTls {
            let client = authority.client();
            otlp["client_certificate"] = json!(client.certificate);
            otlp["client_key"] = json!(client.key);
        }
        json!({
            "output": { "otlp": otlp, "batch": { "delay": "100ms" } },
            "metrics": { "interval": "300ms", "histogram": "exponential" },
            "resource": { "test.way": self.name() },
        })
    }
}

/// The lines of those groups whose resource says `way`.
fn of_way(lines: &[Value], way: &str) -> Vec<Value> {
    let is = |group: &Value| {
        let attributes = group["resource"]["attributes"].as_array();
        let said = attributes.into_iter().flatten().find(|one| one["key"] == "test.way");
        said.is_some_and(|said| said["value"]["stringValue"] == way)
    };
    let mut mine = Vec::new();
    for line in lines {
        for key in ["resourceSpans", "resourceMetrics"] {
            let groups = line[key].as_array().into_iter().flatten();
            let groups: Vec<&Value> = groups.filter(|group| is(group)).collect();
            if !groups.is_empty() {
                mine.push(json!({ key: groups }));
            }
        }
    }
    mine
}

fn lines(file: &str) -> Vec<Value> {
    file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn collector_has_the_same_spans_and_metrics_whatever_the_way_they_came() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["otelcol"]) {
        return;
    }
    let authority = Authority::new();
    let collector = Otelcol::start(&authority);
    let nginx = Nginx::start();
    let agents: Vec<(Way, Agent)> = Way::all()
        .into_iter()
        .map(|way| {
            let config = way.config(&collector, &authority);
            (way, Agent::configured(&nginx.pids(), &config, &[]))
        })
        .collect();
    let mut connection = Connection::open(nginx.port()).unwrap();
    for number in 0..40 {
        let target = ["/small", "/big", "/no/such/page"][number % 3];
        // Half of them belong to a trace, some of these with a state.
        let fields = match number % 4 {
            0 | 1 => String::new(),
            with => format!(
                "traceparent: 00-{:032x}-00f067aa0ba902b7-01\r\n{}",
                number + 1,
                ["", "tracestate: vendor=x\r\n"][with % 2]
            ),
        };
        let target = format!("{target}?number={number}");
        connection.get(&target, &fields).unwrap();
    }
    drop(connection);
    let logged = nginx.quit().len();
    assert_eq!(logged, 40);
    let done: Vec<(Way, Done)> =
        agents.into_iter().map(|(way, agent)| (way, agent.stop())).collect();
    let _ = collector.spans(Output::Spans, logged * done.len());
    let seen = collector.lines(Output::Spans);
    for (way, done) in &done {
        let all = logged as u64;
        assert_eq!(done.requests(), [all, all, 0, 0], "{way:?}\n{}", done.log);
        assert_eq!(done.exported_to("otlp"), [all, all, 0], "{way:?}\n{}", done.log);
        let sent = lines(&done.file);
        let came = of_way(&seen, &way.name());
        assert_eq!(
            spans::canonical(&came, Signal::Spans),
            spans::canonical(&sent, Signal::Spans),
            "{way:?}"
        );
        // The agent's own metrics among them.
        let sent = spans::canonical(&sent, Signal::Metrics);
        let came = collector.wait_for("metrics of the last collection", || {
            let came = of_way(&collector.lines(Output::Metrics), &way.name());
            let canonical = spans::canonical(&came, Signal::Metrics);
            (canonical.len() >= sent.len()).then_some((came, canonical))
        });
        let (came, canonical) = came;
        assert_eq!(canonical, sent, "{way:?}");
        assert_eq!(spans::measurements(&came, "http.server.request.duration"), all, "{way:?}");
        exemplars_are_spans(&came, &done.spans);
    }
}

/// Every exemplar of the durations names a span that took as long; there are some.
fn exemplars_are_spans(metrics: &[Value], spans: &[Span]) {
    let durations: BTreeMap<(&str, &str), f64> = spans
        .iter()
        .map(|span| ((&*span.trace_id, &*span.span_id), span.duration_ns() as f64 / 1e9))
        .collect();
    let mut count = 0;
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for group in metrics.iter().flat_map(|line| array(&line["resourceMetrics"])) {
        for metric in array(&group["scopeMetrics"]).iter().flat_map(|s| array(&s["metrics"])) {
            if metric["name"] != "http.server.request.duration" {
                continue;
            }
            assert_eq!(metric["unit"], "s");
            let histogram = &metric["exponentialHistogram"];
            assert_eq!(histogram["aggregationTemporality"], 2, "{metric}");
            for point in array(&histogram["dataPoints"]) {
                for exemplar in array(&point["exemplars"]) {
                    let id = |key: &str| exemplar[key].as_str().unwrap().to_owned();
                    let (trace, span) = (id("traceId"), id("spanId"));
                    let duration = durations[&(&*trace, &*span)];
                    let value = exemplar["asDouble"].as_f64().unwrap();
                    assert!((value - duration).abs() < 1e-9, "{exemplar} of {duration}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 0, "no exemplars");
}

#[test]
fn whom_the_collector_does_not_know_or_who_does_not_know_the_collector_sends_nothing() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["otelcol"]) {
        return;
    }
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Otelcol::start(&authority);
    let nginx = Nginx::start();
    let mut agents = Vec::new();
    for protocol in ["grpc", "http/protobuf"] {
        let way = |security| Way { protocol, security, compression: "none" };
        let mut stranger = way(Security::MutualTls).config(&collector, &authority);
        let otlp = stranger["output"]["otlp"].as_object_mut().unwrap();
        otlp.retain(|key, _| !key.starts_with("client_"));
        let mut doubter = way(Security::Tls).config(&collector, &authority);
        doubter["output"]["otlp"]["certificate"] = json!(other.certificate());
        for (config, stranger) in [(stranger, true), (doubter, false)] {
            let agent = Agent::configured(&nginx.pids(), &config, &[]);
            let endpoint = config["output"]["otlp"]["endpoint"].as_str().unwrap();
            agents.push((stranger, endpoint.to_owned(), agent));
        }
    }
    let mut connection = Connection::open(nginx.port()).unwrap();
    for _ in 0..5 {
        assert_eq!(connection.get("/small", "").unwrap().status, 200);
    }
    drop((connection, nginx));
    for (_, endpoint, agent) in &agents {
        // Said while it tries, not only in the books at the end.
        collector.wait_for("refusal", || agent.log().contains(endpoint).then_some(()));
        // All at once: each tries for some seconds yet.
        agent.signal(libc::SIGINT);
    }
    for (stranger, _, agent) in agents {
        let done = agent.ended();
        assert_eq!(done.exported_to("otlp"), [5, 0, 5], "{}", done.log);
        assert_eq!(done.spans.len(), 5);
        assert!(done.log.contains("cannot export"), "{}", done.log);
        // Over TLS 1.3 a client is refused when it believes itself connected: it need not learn why.
        assert!(stranger || done.log.contains("certificate"), "{}", done.log);
    }
    assert!(collector.lines(Output::Spans).is_empty());
}

/// Orders of a shop that asks a stock; which of them fail is known from their numbers.
struct Orders {
    done: Done,
}

const ORDERS: u32 = 60;

/// What the stock says of an item, as it is programmed.
fn status_of_item(item: u32) -> i64 {
    match item {
        item if item % 50 == 13 => 503,
        item if item % 10 == 7 => 404,
        _ => 200,
    }
}

/// What the stock is asked for an order, and what the shop makes of it.
fn plan(order: u32) -> (Vec<u32>, i64) {
    let mut asked = Vec::new();
    for item in [order, order * 3 + 1] {
        asked.push(item);
        match status_of_item(item) {
            200 => {}
            404 => return (asked, 404),
            _ => return (asked, 502),
        }
    }
    (asked, 200)
}

impl Orders {
    fn watch(collector: &Otelcol) -> Self {
        let shop = Shop::start();
        let config = json!({
            "output": {
                "otlp": {
                    "endpoint": collector.endpoint(true, Security::Plain),
                    "protocol": "grpc",
                },
                "batch": { "delay": "100ms" },
            },
            "metrics": { "interval": "300ms" },
        });
        let agent = Agent::configured(&shop.pids(), &config, &[]);
        let mut connection = Connection::open(shop.port()).unwrap();
        for order in 0..ORDERS {
            let answer = connection.get(&format!("/orders/{order}"), "").unwrap();
            assert_eq!(i64::from(answer.status), plan(order).1);
        }
        drop((connection, shop));
        let done = agent.stop();
        let requests = (0..ORDERS).map(|order| 1 + 2 * plan(order).0.len() as u64).sum();
        assert_eq!(done.requests(), [requests, requests, 0, 0], "{}", done.log);
        Self { done }
    }
}

#[test]
fn tail_sampling_keeps_whole_traces_and_those_with_an_error() {
    if skip::without_root() || backends::without(&["otelcol"]) {
        return;
    }
    let collector = Otelcol::start(&Authority::new());
    let Orders { done } = Orders::watch(&collector);
    // Of an order's trace: one span of the shop's own, and of each question its end and the stock's.
    let mut expected = Vec::new();
    for order in 0..ORDERS {
        let (asked, _) = plan(order);
        if asked.iter().any(|&item| status_of_item(item) != 200) {
            expected.push(format!("shop /orders/{order} {}", 1 + 2 * asked.len()));
        }
    }
    let count = expected.iter().map(|line| line.rsplit(' ').next().unwrap());
    let count = count.map(|count| count.parse::<usize>().unwrap()).sum();
    let kept = collector.spans(Output::Kept, count);
    let mut traces: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in &kept {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    let mut found: Vec<String> = traces
        .values()
        .map(|spans| {
            let root = spans.iter().find(|span| span.parent.is_none()).expect("a root");
            assert_eq!(root.kind, SERVER);
            let below = |parent: &Span| {
                let parent = Some(parent.span_id.clone());
                spans.iter().filter(move |span| span.parent == parent)
            };
            let children: Vec<_> = below(root).collect();
            assert_eq!(children.len(), spans.len() / 2, "{spans:#?}");
            assert!(children.iter().all(|child| below(child).count() == 1), "{spans:#?}");
            format!("{} {} {}", root.service, root.text("url.path"), spans.len())
        })
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{}", done.log);
}

/// The last value of each point of a sum: attributes without those in `ignored`, joined.
fn totals(lines: &[Value], name: &str, ignored: &[&str]) -> BTreeMap<String, u64> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut totals = BTreeMap::new();
    for group in lines.iter().flat_map(|line| array(&line["resourceMetrics"])) {
        for metric in array(&group["scopeMetrics"]).iter().flat_map(|s| array(&s["metrics"])) {
            if metric["name"] != name {
                continue;
            }
            for point in array(&metric["sum"]["dataPoints"]) {
                let attributes: BTreeSet<String> = array(&point["attributes"])
                    .iter()
                    .filter(|one| !ignored.contains(&one["key"].as_str().unwrap()))
                    .map(|one| {
                        let tagged = one["value"].as_object().unwrap();
                        let value = tagged.values().next().unwrap();
                        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        format!("{}={text}", one["key"].as_str().unwrap())
                    })
                    .collect();
                let attributes: Vec<String> = attributes.into_iter().collect();
                let value = point["asInt"].as_str().unwrap().parse().unwrap();
                totals.insert(attributes.join(" "), value);
            }
        }
    }
    totals
}

#[test]
fn metrics_that_the_collector_makes_of_spans_agree_with_ours() {
    if skip::without_root() || backends::without(&["otelcol"]) {
        return;
    }
    let collector = Otelcol::start(&Authority::new());
    let Orders { done } = Orders::watch(&collector);

    // By the programs' own rules.
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    let mut edges: BTreeMap<String, u64> = BTreeMap::new();
    let mut call = |service: &str, kind: &str, route: &str, status: i64| {
        let server = kind == "SERVER";
        let error = if server { status >= 500 } else { status >= 400 };
        let code = if error { "ERROR" } else { "UNSET" };
        let name = if server { format!("GET {route}") } else { "GET".to_owned() };
        let route = if server { format!("http.route={route} ") } else { String::new() };
        *calls
            .entry(format!(
                "{route}http.response.status_code={status} service.name={service} \
                 span.kind=SPAN_KIND_{kind} span.name={name} status.code=STATUS_CODE_{code}"
            ))
            .or_default() += 1;
        // An edge has two ends, the second of which is told with the first one.
        let edge = match (server, service) {
            (true, "shop") => "client=user server=shop",
            (false, _) => "client=shop server=stock",
            (true, _) => return,
        };
        *edges.entry(format!("{edge} failed={error}")).or_default() += 1;
    };
    for order in 0..ORDERS {
        let (asked, status) = plan(order);
        call("shop", "SERVER", "/orders/{id}", status);
        for item in asked {
            call("shop", "CLIENT", "", status_of_item(item));
            call("stock", "SERVER", "/items/{id}", status_of_item(item));
        }
    }
    let poll = |name: &str, ignored: &[&str], expected: &BTreeMap<String, u64>| {
        let sorted = |totals: &BTreeMap<String, u64>| {
            let sort = |(key, &count): (&String, &u64)| {
                let mut words: Vec<&str> = key.split(' ').collect();
                words.sort_unstable();
                (words.join(" "), count)
            };
            totals.iter().map(sort).collect::<BTreeMap<String, u64>>()
        };
        let expected = sorted(expected);
        let sum: u64 = expected.values().sum();
        let found = collector.wait_for(name, || {
            let found = sorted(&totals(&collector.lines(Output::Connectors), name, ignored));
            (found.values().sum::<u64>() >= sum).then_some(found)
        });
        assert_eq!(found, expected, "{name}\n{}", done.log);
    };
    poll("traces.span.metrics.calls", &["collector.instance.id"], &calls);
    poll("traces_service_graph_request_total", &["connection_type"], &edges);

    // And ours: the same counts by service, kind and status.
    let mut red = BTreeMap::new();
    for (kind, name) in
        [(SERVER, "http.server.request.duration"), (CLIENT, "http.client.request.duration")]
    {
        let spans = done.spans.iter().filter(|span| span.kind == kind).count() as u64;
        let counted = collector.wait_for("last collection", || {
            let count = spans::measurements(&collector.lines(Output::Metrics), name);
            (count >= spans).then_some(count)
        });
        assert_eq!(counted, spans);
        red.insert(kind, counted);
    }
    assert_eq!(red.values().sum::<u64>(), calls.values().sum::<u64>());
}

#[test]
fn k6_and_the_collector_count_the_same() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["otelcol", "k6"]) {
        return;
    }
    let collector = Otelcol::start(&Authority::new());
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let (script, summary) = (folder.path().join("script.js"), folder.path().join("summary"));
    let text = "
        import http from 'k6/http';
        export const options = { vus: 8, iterations: 400 };
        export default function () {
            http.get(`${__ENV.BASE}/small`);
            http.batch([['GET', `${__ENV.BASE}/big`], ['GET', `${__ENV.BASE}/no/such/page`]]);
        }
        export function handleSummary(data) {
            return { [__ENV.SUMMARY]: JSON.stringify(data) };
        }";
    fs::write(&script, text).unwrap();
    let agent = Agent::on(
        &nginx.pids(),
        &["--otlp-endpoint", &collector.endpoint(true, Security::Plain), "--otlp-protocol", "grpc"],
    );
    let mut k6 = Command::new(backends::binary("k6").unwrap());
    k6.args(["run", "--quiet", "--no-usage-report"]).arg(&script);
    k6.env("BASE", nginx.url("")).env("SUMMARY", &summary);
    output(&mut k6);
    let logged = nginx.quit().len();
    let done = agent.stop();
    let summary: Value = serde_json::from_slice(&fs::read(&summary).unwrap()).unwrap();
    let count = |metric: &str, value: &str| summary["metrics"][metric]["values"][value].as_f64();
    assert_eq!(count("http_reqs", "count"), Some(1200.0));
    // Failed are those that were answered with 404.
    assert_eq!(count("http_req_failed", "passes"), Some(400.0));
    let spans = collector.spans(Output::Spans, 1200);
    let status = |wanted: i64| {
        let of = |span: &&Span| span.int("http.response.status_code") == Some(wanted);
        spans.iter().filter(of).count()
    };
    assert_eq!((logged, status(200), status(404)), (1200, 800, 400), "{}", done.log);
    assert!(spans.iter().all(|span| span.text("user_agent.original").contains("k6")));
}
