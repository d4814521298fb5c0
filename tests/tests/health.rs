//! What the agent says of itself while it runs: to probes, to Prometheus, to people.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use remora_tests::{
    agent::{Agent, command},
    client::Connection,
    nginx::Nginx,
    process::{free_port, output, until},
    skip,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Status line and content of an answer.
fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), content.to_owned())
}

fn status(port: u16) -> Value {
    serde_json::from_str(&get(port, "/status").1).unwrap()
}

#[test]
fn probes_metrics_and_status_tell_what_is_so() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("remora.yaml");
    let selectors = json!([{ "name": "edge", "pid": nginx.pids() }]);
    fs::write(&path, json!({ "selectors": selectors }).to_string()).unwrap();
    let port = free_port();
    let addr = format!("127.0.0.1:{port}");
    let arguments = ["--config", path.to_str().unwrap(), "--listen", &addr].map(str::to_owned);
    let agent = Agent::start("run", &arguments);
    assert_eq!(get(port, "/healthz"), ("HTTP/1.1 200 OK".to_owned(), "alive\n".to_owned()));
    assert_eq!(get(port, "/readyz"), ("HTTP/1.1 200 OK".to_owned(), "attached\n".to_owned()));
    assert!(get(port, "/other").0.contains("404"));
    for _ in 0..3 {
        Connection::open(nginx.port()).unwrap().get("/small", "").unwrap();
    }
    until("three spans", || status(port)["accounting"]["requests"]["spans"] == 3);
    let (_, metrics) = get(port, "/metrics");
    let exchanges = metrics.lines().find(|line| line.starts_with("remora_exchanges_total{"));
    assert!(exchanges.is_some_and(|line| line.ends_with(" 3")), "{metrics}");
    assert!(
        !metrics.contains("http_server_request_duration"),
        "its own, not its targets': {metrics}"
    );

    let told = status(port);
    assert_eq!(told["phase"], "ready");
    assert_eq!(told["pid"], agent.pid());
    let pids: Vec<u32> = told["targets"]["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| target["pid"].as_u64().unwrap() as u32)
        .collect();
    let mut expected = nginx.pids();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!(told["targets"]["processes"][0]["service"], "edge");
    let features = told["features"].as_array().unwrap();
    let kernel = features.iter().find(|feature| feature["name"] == "kernel programs").unwrap();
    assert_eq!(kernel["health"], "ok");
    assert!(features.iter().any(|feature| feature["name"] == "traces to file"), "{told}");
    assert_eq!(told["blind_spots"], json!([]));
    assert_eq!(told["accounting"]["requests"]["ended"], 3);

    fs::write(&path, "limit: 1\n").unwrap();
    agent.signal(libc::SIGHUP);
    until("a refusal", || status(port)["configuration"]["refused"] != 0);
    let queue = json!({ "selectors": selectors, "limits": { "queue": "32MiB" } });
    let mistakes = &status(port)["configuration"]["mistakes"];
    assert!(mistakes.as_str().unwrap().contains("did you mean `limits`?"), "{mistakes}");
    fs::write(&path, queue.to_string()).unwrap();
    until("a file that is right", || status(port)["configuration"]["mistakes"].is_null());
    assert_eq!(status(port)["configuration"]["waiting_for_restart"], json!(["limits.queue"]));

    let text = output(command().args(["status", &addr]));
    for part in
        ["ready for 0:", "edge", "requests 3 = spans 3 + sampled_out 0 + lost 0", "limits.queue"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    drop(nginx);
    let done = agent.stop();
    assert_eq!(done.requests(), [3, 3, 0, 0], "{}", done.log);
    let gone = command().args(["status", &addr]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no agent answers at"));
}
