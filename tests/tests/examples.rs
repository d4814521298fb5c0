//! The examples of `deploy/examples`: Remora's configurations are right, and the systems take what they send.

use std::{collections::BTreeSet, fs, process::Command};

use remora_tests::{
    agent::{self, Agent},
    backends::{self, authority::Authority},
    client::Connection,
    examples::{self, Moved},
    nginx::Nginx,
    process::{Running, free_port},
    programs::target,
    skip, spans,
};
use serde_json::Value;
use tempfile::TempDir;

/// `remora run` with this configuration on these processes.
fn agent(config: &str, pids: &[u32]) -> (Agent, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("remora.yaml");
    fs::write(&path, config).unwrap();
    (Agent::on(pids, &["--config", path.to_str().unwrap()]), folder)
}

/// Asks nginx a few times.
fn visit(nginx: &Nginx, count: usize) {
    let mut connection = Connection::open(nginx.port()).unwrap();
    for number in 0..count {
        connection.get(["/small", "/big"][number % 2], "").unwrap();
    }
}

#[test]
fn every_configuration_passes_its_check() {
    let files = examples::configurations();
    assert!(files.len() >= 11, "{files:?}");
    for file in files {
        let output = agent::command().args(["config", "check"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }
}

/// What a tail-sampling gateway passes on: traces with an error, and all metrics, made of none.
#[test]
fn the_gateway_keeps_errors_and_counts_everything() {
    if skip::without_root() || skip::without(&["python3"]) || backends::without(&["otelcol"]) {
        return;
    }
    let moved = Moved::new(&["127.0.0.1:4317", "127.0.0.1:4318", "127.0.0.1:8889"]);
    let changes = [
        // Whoever takes OTLP: of the Collector that is here, a file.
        ("  otlphttp:\n    endpoint: http://127.0.0.1:14318", "  file:\n    path: @FOLDER@/kept"),
        ("exporters: [otlphttp]", "exporters: [file]"),
        ("decision_wait: 10s", "decision_wait: 1s"),
        ("sampling_percentage: 10", "sampling_percentage: 0"),
        // Its own metrics have a port of their own, which is the same for all.
        ("service:\n", "service:\n  telemetry: {metrics: {level: none}}\n"),
    ];
    let metrics = format!("http://{}/metrics", moved.to("127.0.0.1:8889"));
    let gateway = moved.start(
        "otelcol",
        "otelcol/collector.yaml",
        &changes,
        &["--config", "@CONFIG@"],
        &metrics,
    );
    let mut python = Command::new("python3");
    python.arg(target("tiers.py")).stdin(std::process::Stdio::piped());
    let mut service = Running::start(&mut python);
    let port = service.line().parse().unwrap();
    let (agent, _folder) = agent(&moved.text("otelcol/remora.yaml", &[]), &[service.pid()]);
    for number in 0..12 {
        let path = if number % 3 == 0 { "/broken" } else { "/well" };
        Connection::open(port).unwrap().get(path, "").unwrap();
    }
    let done = agent.stop();
    assert_eq!(done.exported_to("otlp"), [12, 12, 0], "{}", done.log);
    let kept = gateway.wait_for("the four errors", || {
        let text = fs::read_to_string(gateway.path().join("kept")).ok()?;
        let kept = spans::parse(&text[..=text.rfind('\n')?]);
        (kept.len() >= 4).then_some(kept)
    });
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|span| span.line() == "GET /broken 500"), "{kept:?}");
    let text = gateway.wait_for("all requests in the metrics", || {
        let (_, text) = backends::get(&metrics).ok()?;
        let counts = text
            .lines()
            .filter(|line| line.starts_with("http_server_request_duration_seconds_count{"));
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        (counts.sum::<f64>() > 11.5).then_some(text)
    });
    assert!(!text.contains("span_metrics") && !text.contains("calls_total"), "{text}");
}

/// Sends nginx's spans as the example of `store` says, and looks for them at `found`.
fn traces_arrive(
    store: &'static str,
    moved: &Moved,
    changes: &[(&str, &str)],
    arguments: &[&str],
    query: &str,
    found: impl Fn(&Value) -> usize,
) {
    let base = moved.to(query);
    let ready = match store {
        "jaeger" => format!("http://{base}/api/services"),
        _ => format!("http://{base}/ready"),
    };
    let service = moved.start(store, &format!("{store}/{store}.yaml"), changes, arguments, &ready);
    let nginx = Nginx::start();
    let config = moved.text(&format!("{store}/remora.yaml"), &[]);
    let (agent, _folder) = agent(&config, &nginx.pids());
    visit(&nginx, 6);
    let done = agent.stop();
    assert_eq!(done.exported_to("otlp"), [6, 6, 0], "{}", done.log);
    let id = &done.spans[0].trace_id;
    let path = format!("http://{base}/api/traces/{id}");
    let count = service.wait_for("the trace", || Some(found(&backends::json(&path)?)));
    assert_eq!(count, 1);
}

#[test]
fn jaeger_has_the_traces() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["jaeger"]) {
        return;
    }
    let moved = Moved::new(&[
        "127.0.0.1:4317",
        "127.0.0.1:4318",
        "127.0.0.1:16686",
        "127.0.0.1:16685",
        "127.0.0.1:9464",
    ]);
    let level = ("service:\n", "service:\n  telemetry: {metrics: {level: none}}\n");
    traces_arrive(
        "jaeger",
        &moved,
        &[level],
        &["--config", "@CONFIG@"],
        "127.0.0.1:16686",
        |answer| answer["data"][0]["spans"].as_array().map_or(0, Vec::len),
    );
}

#[test]
fn tempo_has_the_traces() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["tempo"]) {
        return;
    }
    let moved =
        Moved::new(&["127.0.0.1:4317", "127.0.0.1:4318", "127.0.0.1:9464", "127.0.0.1:3200"]);
    let http = moved.to("127.0.0.1:3200");
    let gossip = backends::address();
    // It calls itself at 127.0.0.1, whatever it is told.
    let internal = free_port();
    traces_arrive(
        "tempo",
        &moved,
        &[
            ("http_listen_address: 127.0.0.1", &format!("http_listen_address: {}", http.ip())),
            ("http_listen_port: 3200", &format!("http_listen_port: {}", http.port())),
            ("grpc_listen_port: 9095", &format!("grpc_listen_port: {internal}")),
            ("127.0.0.1:9095", &format!("127.0.0.1:{internal}")),
            ("bind_addr: [127.0.0.1]", &format!("bind_addr: [{}]", gossip.ip())),
            ("bind_port: 7946", &format!("bind_port: {}", gossip.port())),
            ("/var/lib/tempo", "@FOLDER@"),
        ],
        &["-target=all", "-config.file=@CONFIG@"],
        "127.0.0.1:3200",
        |answer| {
            let groups = answer["batches"].as_array().or(answer["resourceSpans"].as_array());
            let spans =
                |group: &Value| group["scopeSpans"][0]["spans"].as_array().map_or(0, Vec::len);
            groups.into_iter().flatten().map(spans).sum()
        },
    );
}

#[test]
fn prometheus_has_the_native_histograms() {
    if skip::without_root() || skip::without(&["nginx"]) || backends::without(&["prometheus3"]) {
        return;
    }
    let moved = Moved::new(&["127.0.0.1:9090"]);
    let base = format!("http://{}", moved.to("127.0.0.1:9090"));
    let listen = format!("--web.listen-address={}", moved.to("127.0.0.1:9090"));
    let prometheus = moved.start(
        "prometheus3",
        "prometheus/prometheus-otlp.yaml",
        &[],
        &[
            "--config.file=@CONFIG@",
            "--storage.tsdb.path=@FOLDER@/data",
            "--web.enable-otlp-receiver",
            &listen,
        ],
        &format!("{base}/-/ready"),
    );
    let nginx = Nginx::start();
    let (agent, _folder) = agent(&moved.text("prometheus/remora-otlp.yaml", &[]), &nginx.pids());
    visit(&nginx, 6);
    let done = agent.stop();
    let query = "sum by (host_name) (histogram_count(http_server_request_duration_seconds))";
    let url = format!("{base}/api/v1/query?query={}", backends::encoded(query));
    let found = prometheus.wait_for("six requests", || {
        let found = backends::json(&url)?["data"]["result"][0].clone();
        (found["value"][1] == "6").then_some(found)
    });
    assert!(found["metric"]["host_name"].is_string(), "{found}: {}", done.log);
}

/// A service behind a vendor's name: its example, and the fields that it demands.
const VENDORS: [(&str, &[&str]); 5] = [
    ("honeycomb", &["x-honeycomb-team: YOUR-KEY"]),
    ("datadog", &["dd-api-key: YOUR-KEY"]),
    ("elastic", &["authorization: ApiKey YOUR-KEY"]),
    ("new-relic", &["api-key: YOUR-KEY"]),
    ("grafana-cloud", &["authorization: Basic YOUR-KEY"]),
];

/// Runs an agent with a vendor's example, which sends to a TLS server that demands `fields`: what that
/// answered to which path, and what the agent said.
fn sent(vendor: &str, fields: &[&str]) -> (BTreeSet<String>, String) {
    let authority = Authority::new();
    let address = backends::address().ip();
    let files = authority.server(address);
    let mut python = Command::new("python3");
    python.arg(target("receiver.py")).args([files.certificate, files.key]);
    let mut receiver = Running::start(python.arg(address.to_string()).args(fields));
    let port = receiver.line();
    let text = examples::changed(&format!("vendors/{vendor}.yaml"), &[]);
    let moved = text.lines().map(|line| match line.split_once("endpoint: https://") {
        None => line.to_owned(),
        Some((indent, url)) => {
            let path = url.find('/').map_or("", |at| &url[at..]);
            let trusted = authority.certificate();
            let trusted = trusted.display();
            format!(
                "{indent}endpoint: https://{address}:{port}{path}\n{indent}certificate: {trusted}"
            )
        }
    });
    let moved: Vec<String> = moved.collect();
    assert_ne!(moved.join("\n"), text.trim_end());
    let nginx = Nginx::start();
    let (agent, _folder) = agent(&moved.join("\n"), &nginx.pids());
    visit(&nginx, 4);
    let log = agent.stop().log;
    receiver.signal(libc::SIGTERM);
    let said = receiver.finish().lines().map(str::to_owned).collect();
    (said, log)
}

#[test]
fn vendors_get_the_header_that_they_demand() {
    if skip::without_root() || skip::without(&["nginx", "python3"]) {
        return;
    }
    for (vendor, fields) in VENDORS {
        let (said, log) = sent(vendor, fields);
        let prefix = if vendor == "grafana-cloud" { "/otlp" } else { "" };
        let expected = ["metrics", "traces"].map(|signal| format!("{prefix}/v1/{signal} 200"));
        assert_eq!(said, BTreeSet::from(expected), "{vendor}: {log}");
    }
    let (said, log) = sent("new-relic", &["api-key: ANOTHER-KEY"]);
    assert!(said.contains("/v1/traces 401 api-key"), "{said:?}");
    assert!(log.contains("401"), "{log}");
}
