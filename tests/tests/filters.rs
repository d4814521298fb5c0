//! What filters leave out of spans and metrics, of a real server, also after a reload.

use std::{collections::BTreeMap, fs, path::Path};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    nginx::Nginx,
    process::until,
    skip,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn replace(path: &Path, config: &Value) {
    let other = path.with_extension("new");
    fs::write(&other, config.to_string()).unwrap();
    fs::rename(other, path).unwrap();
}

/// Requests that the last export of metrics counts, by their route.
fn counted(done: &Done) -> BTreeMap<String, u64> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut counts = BTreeMap::new();
    for request in &done.metrics {
        let groups = list(request, "resourceMetrics");
        let scopes = groups.iter().flat_map(|group| list(group, "scopeMetrics"));
        for metric in scopes.flat_map(|scope| list(&scope, "metrics")) {
            if metric["name"] != "http.server.request.duration" {
                continue;
            }
            for point in list(&metric["histogram"], "dataPoints") {
                let attributes = list(&point, "attributes");
                let find = |key: &str| attributes.iter().find(|one| one["key"] == key).cloned();
                assert!(find("url.scheme").is_none(), "{point}");
                assert!(find("user_agent.original").is_some(), "{point}");
                let route =
                    find("http.route").unwrap_or_default()["value"]["stringValue"].to_string();
                let count = point["count"].as_str().unwrap().parse().unwrap();
                counts.insert(route.trim_matches('"').to_owned(), count);
            }
        }
    }
    counts
}

#[test]
fn filters_leave_out_spans_and_metrics_and_can_change_while_it_runs() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("remora.yaml");
    let config = |exclude: Value| {
        json!({
            "selectors": [{
                "pid": nginx.pids(), "namespace": "edge", "version": "7",
                "filter": { "exclude": exclude },
            }],
            "filter": { "exclude": { "path": "*" } },
            "attributes": {
                "network_local": true,
                "metrics": { "include": "user_agent.original", "exclude": "url.scheme" },
            },
        })
    };
    let first = json!([{ "path": "/small" }, { "status": 404, "signal": "traces" }]);
    fs::write(&path, config(first).to_string()).unwrap();
    let agent = Agent::start("run", &["--config".to_owned(), path.to_str().unwrap().to_owned()]);
    let ask = |times: usize, target: &str| {
        for _ in 0..times {
            let mut connection = Connection::open(nginx.port()).unwrap();
            connection.get(target, "User-Agent: probe\r\n").unwrap();
        }
    };
    ask(2, "/small");
    ask(3, "/big");
    ask(4, "/absent");
    std::thread::sleep(std::time::Duration::from_millis(300));
    replace(&path, &config(json!([{ "path": "!/small", "signal": "metrics" }])));
    until("the reload", || agent.log().contains("configuration in force, changed: selectors"));
    ask(5, "/small");
    ask(6, "/big");
    assert_eq!(nginx.quit().len(), 20, "requests by its own log");
    let done = agent.stop();
    let mut spans: BTreeMap<&str, usize> = BTreeMap::new();
    for span in &done.spans {
        *spans.entry(span.text("url.path")).or_default() += 1;
        assert_eq!(span.text("network.local.address"), "127.0.0.1");
        assert_eq!(span.resource["service.namespace"], "edge");
        assert_eq!(span.resource["service.version"], "7");
    }
    assert_eq!(spans, BTreeMap::from([("/small", 5), ("/big", 9)]), "{}", done.log);
    let counts = counted(&done);
    assert_eq!((counts["/small"], counts["/big"]), (5, 3), "{counts:?}");
    let books = done.books();
    assert_eq!((books.requests, books.spans, books.filtered), (20, 14, 6), "{}", done.log);
    assert_eq!(books.unmeasured, 2 + 6, "{}", done.log);
}
