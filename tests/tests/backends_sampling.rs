//! Tail sampling of the Collector and of the agent: the same spans, the same settings, the same decisions. The spans are
//! those of a recording, which has the same ids each time that it is replayed. `REMORA_TEST_ORDERS=10600` makes 50,000 of them.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use remora_tests::{
    agent::Agent,
    backends::{
        self,
        authority::Authority,
        otelcol::{Otelcol, Security},
    },
    books::Books,
    client::Connection,
    programs::Shop,
    recording::replay,
    skip,
    spans::{self, Span},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Each makes a trace of three or five spans.
fn orders() -> u32 {
    let said = std::env::var("REMORA_TEST_ORDERS").ok();
    said.map_or(1000, |count| count.parse().expect("a number of orders"))
}

/// A policy with its settings below its type.
fn policy(name: &str, kind: &str, settings: Value) -> Value {
    json!({ "name": name, "type": kind, kind: settings })
}

fn always() -> Value {
    json!({ "name": "always", "type": "always_sample" })
}

fn errors() -> Value {
    policy("errors", "status_code", json!({ "status_codes": ["ERROR"] }))
}

fn text(name: &str, key: &str, settings: Value) -> Value {
    let mut settings = settings;
    settings["key"] = key.into();
    policy(name, "string_attribute", settings)
}

fn number(settings: Value) -> Value {
    let mut settings = settings;
    settings["key"] = "http.response.status_code".into();
    policy("number", "numeric_attribute", settings)
}

fn share(percentage: f64) -> Value {
    policy("share", "probabilistic", json!({ "sampling_percentage": percentage }))
}

/// Samplers by name. Rates are left out: they count by the clock. `took_ms` is what a trace in the middle takes.
fn samplers(took_ms: u64) -> Vec<(&'static str, Value)> {
    let slow = || policy("slow", "latency", json!({ "threshold_ms": took_ms }));
    let order_7 =
        || text("seven", "url.path", json!({ "values": ["7$"], "enabled_regex_matching": true }));
    let composite = json!({
        "max_total_spans_per_second": 10_000_000,
        "policy_order": ["errors", "both", "share"],
        "composite_sub_policy": [
            errors(),
            policy("both", "and", json!({ "and_sub_policy": [order_7(), slow()] })),
            share(20.0),
        ],
        "rate_allocation": [{ "policy": "errors", "percent": 50 }, { "policy": "share", "percent": 0 }],
    });
    let salted = json!({ "sampling_percentage": 50, "hash_salt": "pepper" });
    let policies: [(&str, Vec<Value>); 19] = [
        ("all", vec![always()]),
        ("errors", vec![errors()]),
        ("unset", vec![policy("unset", "status_code", json!({ "status_codes": ["UNSET", "OK"] }))]),
        ("slow", vec![slow()]),
        (
            "between",
            vec![policy(
                "between",
                "latency",
                json!({ "threshold_ms": took_ms, "upper_threshold_ms": 1_000_000 }),
            )],
        ),
        ("text", vec![text("text", "url.path", json!({ "values": ["/orders/1", "/items/13"] }))]),
        ("regex", vec![order_7()]),
        (
            "not_text",
            vec![text(
                "not",
                "url.path",
                json!({ "values": ["/items/.*3$"], "enabled_regex_matching": true, "invert_match": true }),
            )],
        ),
        ("resource", vec![text("shop", "service.name", json!({ "values": ["shop"] }))]),
        ("number", vec![number(json!({ "min_value": 400, "max_value": 499 }))]),
        ("not_number", vec![number(json!({ "min_value": 500, "invert_match": true }))]),
        (
            "bool",
            vec![policy("no", "boolean_attribute", json!({ "key": "url.path", "value": false }))],
        ),
        ("share", vec![share(10.0)]),
        ("salted", vec![policy("salted", "probabilistic", salted)]),
        ("and", vec![policy("and", "and", json!({ "and_sub_policy": [errors(), share(50.0)] }))]),
        ("not", vec![policy("not", "not", json!({ "not_sub_policy": errors() }))]),
        (
            "drop",
            vec![
                always(),
                policy("drop", "drop", json!({ "drop_sub_policy": [order_7(), slow()] })),
            ],
        ),
        ("composite", vec![policy("composite", "composite", composite)]),
        (
            "typical",
            vec![
                errors(),
                slow(),
                text("thirteen", "url.path", json!({ "values": ["/orders/13", "/orders/130"] })),
                share(10.0),
            ],
        ),
    ];
    let block = |policies: Vec<Value>| json!({ "decision_wait": "4s", "policies": policies });
    policies.into_iter().map(|(name, policies)| (name, block(policies))).collect()
}

/// Records orders.
fn record(folder: &Path) -> std::path::PathBuf {
    let recording = folder.join("orders");
    let shop = Shop::start();
    let agent = Agent::configured(&shop.pids(), &json!({ "output": { "record": recording } }), &[]);
    let mut connection = Connection::open(shop.port()).unwrap();
    for order in 0..orders() {
        connection.get(&format!("/orders/{order}"), "").unwrap();
    }
    drop((connection, shop));
    let done = agent.stop();
    assert_eq!(done.books().all_lost(), 0, "{}", done.log);
    recording
}

/// Replays with this configuration; returns the spans and the log.
fn spans_of(recording: &Path, config: &Value, folder: &Path) -> (Vec<Span>, String) {
    let [settings, file] = ["config", "spans"].map(|name| folder.join(name));
    let _ = fs::remove_file(&file);
    fs::write(&settings, config.to_string()).unwrap();
    let arguments = ["--config", settings.to_str().unwrap()];
    let output = replay(recording, file.to_str().unwrap(), &arguments);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    (spans::read(&file), log)
}

/// What tells spans apart.
fn ids(spans: &[Span]) -> BTreeSet<(&str, &str)> {
    let ids: BTreeSet<_> = spans.iter().map(|span| (&*span.trace_id, &*span.span_id)).collect();
    assert_eq!(ids.len(), spans.len(), "one twice");
    ids
}

/// What a trace in the middle takes, milliseconds.
fn took_ms(spans: &[Span]) -> u64 {
    let mut traces = std::collections::BTreeMap::<&str, (u64, u64)>::new();
    for span in spans {
        let (start, end) = traces.entry(&span.trace_id).or_insert((u64::MAX, 0));
        (*start, *end) = ((*start).min(span.start_ns), (*end).max(span.end_ns));
    }
    let mut took: Vec<u64> =
        traces.values().map(|(start, end)| (end - start) / 1_000_000).collect();
    took.sort_unstable();
    took[took.len() / 2].max(1)
}

#[test]
fn the_collector_and_the_agent_keep_the_same_traces_policy_by_policy() {
    if skip::without_root() || skip::without(&["setpriv"]) || backends::without(&["otelcol"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let recording = record(folder.path());
    let (all, _) = spans_of(&recording, &json!({}), folder.path());
    assert!(all.len() > 2 * orders() as usize, "{}", all.len());
    let samplers = samplers(took_ms(&all));
    let collector = Otelcol::sampling(&Authority::new(), &samplers);
    let endpoint = collector.endpoint(true, Security::Plain);
    let config =
        json!({ "output": { "otlp": { "traces": { "endpoint": endpoint, "protocol": "grpc" } } } });
    let (sent, log) = spans_of(&recording, &config, folder.path());
    assert_eq!(ids(&sent), ids(&all), "the same each time");
    assert_eq!(Books::read(&log).traces_to("otlp").exported, all.len() as u64, "{log}");

    let mut some_but_not_all = 0;
    let ours: Vec<_> = samplers
        .iter()
        .map(|(name, block)| {
            let (kept, log) =
                spans_of(&recording, &json!({ "tail_sampling": block }), folder.path());
            let books = Books::read(&log);
            assert_eq!((books.spans, books.all_lost()), (kept.len() as u64, 0), "{log}");
            assert_eq!(books.spans + books.sampled_out, all.len() as u64, "{log}");
            assert!(log.contains("remora: tail sampling: traces "), "{log}");
            some_but_not_all += usize::from(!kept.is_empty() && kept.len() < all.len());
            (name, kept)
        })
        .collect();
    assert!(
        some_but_not_all >= samplers.len() - 4,
        "{some_but_not_all} policies tell traces apart"
    );
    for (name, kept) in &ours {
        let what = format!("{} spans that {name} keeps", kept.len());
        collector.wait_for(&what, || (collector.sampled(name).len() >= kept.len()).then_some(()));
    }
    // A sampler of the Collector decides once a second: what it keeps too much would be there then.
    thread::sleep(Duration::from_millis(1500));
    for (name, kept) in &ours {
        let theirs = collector.sampled(name);
        assert_eq!(ids(kept), ids(&theirs), "{name}");
        println!("{name}: {} of {} spans", kept.len(), all.len());
    }
}
