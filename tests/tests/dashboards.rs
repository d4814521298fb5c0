//! The dashboards of `deploy/examples/grafana`: they are what Grafana takes, and each of their queries finds
//! something in a Prometheus that scrapes an agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use remora_tests::{
    agent::Agent,
    backends::{self, encoded},
    client::Connection,
    examples::{self, Moved},
    process::{Running, patience},
    programs::target,
    skip,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Every dashboard by its file's name.
fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(examples::path("grafana/dashboards")).unwrap();
    let read = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        let dashboard =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, dashboard)
    };
    files.map(|file| read(file.unwrap())).collect()
}

/// The object at `what`, which has all of `required` and nothing else but `optional`.
fn object<'a>(
    value: &'a Value,
    what: &str,
    required: &[&str],
    optional: &[&str],
) -> &'a Map<String, Value> {
    let object =
        value.as_object().unwrap_or_else(|| panic!("{what}: found {value}, expected an object"));
    for key in required {
        assert!(object.contains_key(*key), "{what} has no {key}");
    }
    for key in object.keys() {
        let known = required.iter().chain(optional).any(|known| known == key);
        assert!(known, "{what}: Grafana does not know {key}");
    }
    object
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value.as_array().unwrap_or_else(|| panic!("{what}: found {value}, expected a list"))
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    text.unwrap_or_else(|| panic!("{what}: found {value}, expected a text"))
}

fn data_source(value: &Value, what: &str) {
    assert_eq!(value, &json!({ "type": "prometheus", "uid": "${datasource}" }), "{what}");
}

/// Units of Grafana that are used here.
const UNITS: [&str; 5] = ["reqps", "percentunit", "s", "short", "Bps"];
const PANELS: [&str; 4] = ["stat", "timeseries", "nodeGraph", "table"];
const TRANSFORMATIONS: [&str; 3] = ["renameByRegex", "merge", "organize"];

/// Columns of a dashboard.
const COLUMNS: u64 = 24;

#[test]
fn dashboards_are_what_grafana_takes() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let parts = [
            "uid",
            "title",
            "description",
            "tags",
            "schemaVersion",
            "version",
            "editable",
            "graphTooltip",
            "refresh",
            "timezone",
            "time",
            "links",
            "annotations",
            "templating",
            "panels",
        ];
        object(&dashboard, &name, &parts, &[]);
        let uid = text(&dashboard["uid"], &name);
        assert!(uid.len() <= 40 && uids.insert(uid.to_owned()), "{name}: {uid}");
        // Of Grafana 11, which newer ones migrate.
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
        let variables = list(&dashboard["templating"]["list"], &name);
        let named: Vec<&str> = variables.iter().map(|one| text(&one["name"], &name)).collect();
        assert_eq!(named, ["datasource", "service"], "{name}");
        assert_eq!(variables[0]["type"], "datasource");
        assert_eq!(variables[0]["query"], "prometheus");
        assert_eq!(variables[1]["type"], "query");
        data_source(&variables[1]["datasource"], &name);
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in list(&dashboard["panels"], &name) {
            let what = format!("{name}: {}", text(&panel["title"], &name));
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{what}: an id twice");
            check_panel(panel, &what);
            let at = |key: &str| {
                panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{what}: {key}"))
            };
            assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= COLUMNS, "{what}: too wide");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{what}: over another panel");
                }
            }
        }
    }
    assert_eq!(uids, BTreeSet::from(["remora-calls", "remora-services"].map(str::to_owned)));
}

fn check_panel(panel: &Value, what: &str) {
    let parts = [
        "id",
        "type",
        "title",
        "description",
        "gridPos",
        "datasource",
        "targets",
        "fieldConfig",
        "options",
    ];
    object(panel, what, &parts, &["transformations"]);
    object(&panel["gridPos"], what, &["x", "y", "w", "h"], &[]);
    assert!(PANELS.contains(&text(&panel["type"], what)), "{what}: {}", panel["type"]);
    text(&panel["description"], what);
    data_source(&panel["datasource"], what);
    let fields = object(&panel["fieldConfig"], what, &["defaults", "overrides"], &[]);
    let defaults = object(&fields["defaults"], what, &[], &["unit", "min", "custom", "thresholds"]);
    if let Some(unit) = defaults.get("unit") {
        assert!(UNITS.contains(&text(unit, what)), "{what}: {unit}");
    }
    for transformation in panel["transformations"].as_array().into_iter().flatten() {
        object(transformation, what, &["id", "options"], &[]);
        assert!(TRANSFORMATIONS.contains(&text(&transformation["id"], what)), "{what}");
    }
    let mut refs = BTreeSet::new();
    for target in list(&panel["targets"], what) {
        let parts = ["refId", "datasource", "expr", "editorMode", "range", "instant"];
        object(target, what, &parts, &["legendFormat", "exemplar", "format"]);
        assert!(refs.insert(text(&target["refId"], what)), "{what}: a refId twice");
        data_source(&target["datasource"], what);
        assert_ne!(target["range"], target["instant"], "{what}");
        assert!(
            text(&target["expr"], what).contains(r#"job=~"$service""#),
            "{what}: of all services"
        );
    }
    assert!(!refs.is_empty(), "{what}: no query");
}

/// Every query as Prometheus is asked it, with where it is from.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in list(&dashboard["panels"], &name) {
            for target in list(&panel["targets"], &name) {
                let expr = text(&target["expr"], &name);
                let expr = expr.replace("$__rate_interval", "20s").replace("$service", ".*");
                assert!(!expr.contains("$_"), "{name}: {expr}");
                let what = format!("{name}: {} {}", panel["title"], target["refId"]);
                queries.push((what, expr));
            }
        }
    }
    queries
}

#[test]
fn every_query_finds_something() {
    if skip::without_root() || skip::without(&["python3"]) || backends::without(&["prometheus"]) {
        return;
    }
    let moved = Moved::new(&["127.0.0.1:9464", "127.0.0.1:9090"]);
    let base = format!("http://{}", moved.to("127.0.0.1:9090"));
    let listen = format!("--web.listen-address={}", moved.to("127.0.0.1:9090"));
    let prometheus = moved.start(
        "prometheus",
        "prometheus/prometheus.yaml",
        &[("scrape_interval: 15s", "scrape_interval: 500ms")],
        &["--config.file=@CONFIG@", "--storage.tsdb.path=@FOLDER@/data", &listen],
        &format!("{base}/-/ready"),
    );
    let services = [None, Some(())].into_iter().fold(Vec::new(), |mut services, _| {
        let mut python = Command::new("python3");
        python.arg(target("tiers.py")).stdin(Stdio::piped());
        python.args(services.last().map(|(_, port): &(Running, u16)| port.to_string()));
        let mut service = Running::start(&mut python);
        let port = service.line().parse().unwrap();
        services.push((service, port));
        services
    });
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("remora.yaml");
    fs::write(&config, moved.text("prometheus/remora.yaml", &[])).unwrap();
    let pids: Vec<u32> = services.iter().map(|(service, _)| service.pid()).collect();
    let agent = Agent::on(&pids, &["--config", config.to_str().unwrap()]);
    let start = Instant::now();
    let mut waiting = queries();
    assert!(waiting.len() >= 20, "{waiting:?}");
    let mut number = 0;
    while !waiting.is_empty() {
        // Rates are of what happens between two scrapes.
        for _ in 0..20 {
            number += 1;
            let path = if number % 3 == 0 { "/broken" } else { "/orders/4711" };
            Connection::open(services[1].1).unwrap().get(path, "").unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        waiting.retain(|(_, query)| !finds(&base, query));
        let late = start.elapsed() > patience();
        assert!(!late, "nothing is found by {waiting:#?}\n{}\n{}", agent.log(), prometheus.log());
    }
    let services = backends::json(&format!(
        "{base}/api/v1/label/job/values?match[]=http_server_request_duration_seconds_count"
    ));
    assert!(!list(&services.unwrap()["data"], "services").is_empty());
    drop(agent.stop());
}

/// Whether a query yields a series with a value that is a number.
fn finds(base: &str, query: &str) -> bool {
    let url = format!("{base}/api/v1/query?query={}", encoded(query));
    let (status, content) = backends::get(&url).unwrap();
    assert_eq!(status, 200, "{query}: {content}");
    let answer: Value = serde_json::from_str(&content).unwrap();
    let values = list(&answer["data"]["result"], query).iter().map(|one| one["value"][1].as_str());
    values.flatten().any(|value| value.parse::<f64>().is_ok_and(f64::is_finite))
}
