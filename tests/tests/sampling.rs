//! Tail sampling of a running agent: when traces are decided, what is told of it, a reload, and the end.

use std::{fs, io::Read as _, io::Write as _, net::TcpStream, path::Path};

use remora_tests::{
    agent::Agent,
    client::Connection,
    nginx::Nginx,
    process::{free_port, until},
    skip, spans,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What an agent answers.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn accounting(port: u16) -> Value {
    let status: Value = serde_json::from_str(&get(port, "/status")).unwrap();
    status["accounting"].clone()
}

fn replace(path: &Path, config: &Value) {
    let other = path.with_extension("new");
    fs::write(&other, config.to_string()).unwrap();
    fs::rename(other, path).unwrap();
}

/// Answers of nginx's, by their statuses.
fn ask(nginx: &Nginx, ok: usize, missing: usize) {
    let mut connection = Connection::open(nginx.port()).unwrap();
    for at in 0..ok + missing {
        let (path, status) = if at < ok { ("/small", 200) } else { ("/no/such/page", 404) };
        assert_eq!(connection.get(path, "").unwrap().status, status);
    }
}

/// Traces by the numbers that the status of tail sampling has.
fn decided(tail: &Value) -> [Option<u64>; 3] {
    [&tail["sampled"]["missing"], &tail["not_sampled"], &tail["waiting"]].map(Value::as_u64)
}

#[test]
fn traces_are_decided_while_the_agent_runs_and_at_its_end() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("remora.yaml");
    let missing = json!({
        "name": "missing", "type": "numeric_attribute",
        "numeric_attribute": { "key": "http.response.status_code", "min_value": 404, "max_value": 404 },
    });
    let config = |wait: &str| {
        json!({
            "selectors": [{ "pid": nginx.pids() }],
            "metrics": { "interval": "300ms" },
            "tail_sampling": { "decision_wait": wait, "policies": [missing] },
        })
    };
    replace(&path, &config("300ms"));
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["--config", path.to_str().unwrap(), "--listen", &listen].map(str::to_owned);
    let agent = Agent::start("run", &arguments);

    ask(&nginx, 20, 5);
    until("all traces", || {
        decided(&accounting(port)["tail_sampling"]) == [Some(5), Some(20), Some(0)]
    });
    let requests = &accounting(port)["requests"];
    assert_eq!(
        (&requests["spans"], &requests["sampled_out"]),
        (&json!(5), &json!(20)),
        "{requests}"
    );
    let metrics = get(port, "/metrics");
    let value = |name: &str, label: &str| {
        let mut lines =
            metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.next().and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(value("remora_tail_traces_total{", "policy=\"missing\""), Some(5), "{metrics}");
    assert_eq!(
        value("remora_exchanges_sampled_out_total{", "stage=\"tail\""),
        Some(20),
        "{metrics}"
    );

    // From now on they wait for longer than this test runs.
    replace(&path, &config("10m"));
    until("the new file", || {
        let status: Value = serde_json::from_str(&get(port, "/status")).unwrap();
        status["configuration"]["reloaded"] == 1
    });
    ask(&nginx, 3, 2);
    until("traces that wait", || accounting(port)["tail_sampling"]["waiting"] == 5);
    let told = accounting(port);
    assert_eq!((&told["requests"]["waiting"], &told["requests"]["ended"]), (&json!(5), &json!(30)));
    drop(nginx);
    let done = agent.stop();
    assert_eq!(done.requests(), [30, 7, 23, 0], "{}", done.log);
    assert_eq!(done.spans.len(), 7);
    let status = |span: &spans::Span| span.int("http.response.status_code");
    assert!(done.spans.iter().all(|span| status(span) == Some(404)), "{:?}", done.spans);
    let line = "tail sampling: traces 30 = sampled 7 missing=7 + dropped 0 + not_sampled 23; early 0; late spans 0";
    assert!(done.log.contains(line), "{}", done.log);
    assert_eq!(spans::measurements(&done.metrics, "http.server.request.duration"), 30);
    exemplars_are_of_spans(&done.metrics, &done.spans);
}

/// Every exemplar names a span that was kept; there are some.
fn exemplars_are_of_spans(metrics: &[Value], spans: &[spans::Span]) {
    let text = metrics.iter().map(Value::to_string).collect::<String>();
    let of_spans = |id: &str| spans.iter().any(|span| span.span_id == id);
    let mut count = 0;
    for exemplars in text.split("\"exemplars\":[").skip(1) {
        let end = exemplars.find(']').unwrap();
        for id in exemplars[..end].split("\"spanId\":\"").skip(1) {
            assert!(of_spans(&id[..16]), "{}", &exemplars[..end]);
            count += 1;
        }
    }
    assert!(count > 0, "no exemplars");
}
