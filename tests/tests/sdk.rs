//! A service that exports spans of its own, with the SDK of OpenTelemetry, between two that do not: client, gateway, service, nginx.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    collector::{Collector, Ids, Protocol},
    database_clients::brought,
    nginx::Nginx,
    process::{Running, until},
    programs::target,
    skip,
    spans::{CLIENT, SERVER, Span},
};
use serde_json::{Value, json};

const ORDERS: usize = 40;

struct Seen {
    done: Done,
    collector: Collector,
    /// What the service served and asked, as its SDK says.
    served: Vec<Ids>,
    asked: Vec<Ids>,
}

impl Seen {
    fn of(&self, kind: u64, service: &str) -> Vec<&Span> {
        let spans = self.done.spans.iter();
        spans.filter(|span| span.kind == kind && span.service == service).collect()
    }
}

/// What comes of `ORDERS` requests by the gateway when the service has exported once.
fn chain(libraries: &Path, config: &Value, path: &str) -> Seen {
    let nginx = Nginx::start();
    let collector = Collector::start(Protocol::HttpProtobuf);
    let mut service = Command::new("python3");
    service.arg(target("sdk").join("service.py")).arg(nginx.port().to_string());
    service.env("PYTHONPATH", libraries).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let mut service = Running::start(service.stdin(Stdio::piped()));
    let port: u16 = service.line().parse().unwrap();
    // The gateway asks for `/first/N`, and then for `/second/N`.
    let mut gateway = Command::new("python3");
    gateway.arg(target("threads.py")).arg(port.to_string()).stdin(Stdio::piped());
    let mut gateway = Running::start(&mut gateway);
    let gateway_port: u16 = gateway.line().parse().unwrap();
    let pids = [&nginx.pids()[..], &[service.pid(), gateway.pid()]].concat();
    let agent = Agent::configured(&pids, config, &[]);
    let mut direct = Connection::open(port).unwrap();
    direct.get("/before", "").unwrap();
    until("its export", || collector.named("serve").len() == 1);
    // Its answer has been read.
    thread::sleep(Duration::from_millis(200));
    let mut through = Connection::open(gateway_port).unwrap();
    for order in 0..ORDERS / 2 {
        assert_eq!(through.get(&format!("/order/{order}"), "").unwrap().body, "done");
    }
    for order in 0..ORDERS / 2 {
        assert_eq!(direct.get(&format!("{path}/{order}"), "").unwrap().body, "done");
    }
    until("all of its exports", || collector.named("serve").len() == 1 + ORDERS * 3 / 2);
    drop((through, direct));
    service.give("");
    let _ = service.finish();
    drop(gateway);
    let done = agent.stop();
    let (served, asked) = (collector.named("serve"), collector.named("ask"));
    Seen { done, collector, served, asked }
}

fn libraries() -> Option<std::path::PathBuf> {
    if skip::without_root() || skip::without(&["python3", "nginx"]) {
        return None;
    }
    let libraries = brought("sdk-python");
    if libraries.is_none() {
        println!("skipped: no SDK of OpenTelemetry: cargo xtask setup --tests");
    }
    libraries
}

#[test]
fn spans_of_the_sdk_win_and_the_tree_stays_whole() {
    let Some(libraries) = libraries() else { return };
    let seen = chain(&libraries, &json!({}), "/direct");
    let log = &seen.done.log;
    // What came before it had exported.
    let early = [SERVER, CLIENT].map(|kind| seen.of(kind, "service").len());
    assert!(early.into_iter().all(|spans| spans <= 1), "{early:?}\n{log}");
    assert!(log.contains("this process exports spans itself"), "{log}");
    // What nginx served lies below what the SDK says was asked.
    let asked: BTreeSet<_> = seen.asked.iter().map(|it| (&*it.trace_id, &*it.span_id)).collect();
    let served = seen.of(SERVER, "nginx");
    assert_eq!((served.len(), asked.len()), (1 + ORDERS * 3 / 2, 1 + ORDERS * 3 / 2), "{log}");
    for span in served {
        let parent = span.parent.as_deref().expect("a parent");
        assert!(asked.contains(&(&*span.trace_id, parent)), "{span:?}");
    }
    // And the gateway is as ever.
    assert_eq!(seen.of(CLIENT, "threads").len(), ORDERS, "{log}");
    let own: BTreeSet<_> = seen.of(SERVER, "threads").iter().map(|it| &*it.span_id).collect();
    assert!(
        seen.of(CLIENT, "threads").iter().all(|it| own.contains(it.parent.as_deref().unwrap()))
    );
    let books = seen.done.books();
    assert!(books.filtered >= (ORDERS * 3) as u64, "{log}");
    drop(seen.collector);
}

#[test]
fn spans_that_are_left_out_are_nobodys_parents() {
    let Some(libraries) = libraries() else { return };
    let seen = chain(&libraries, &json!({}), "/plain");
    let log = &seen.done.log;
    let all = seen.served.iter().chain(&seen.asked).map(|ids| &*ids.span_id);
    let all: BTreeSet<&str> = all.chain(seen.done.spans.iter().map(|it| &*it.span_id)).collect();
    for span in &seen.done.spans {
        assert!(
            span.parent.as_deref().is_none_or(|parent| all.contains(parent)),
            "{span:?}\n{log}"
        );
    }
    let roots = seen.of(SERVER, "nginx").iter().filter(|span| span.parent.is_none()).count();
    assert_eq!(roots, ORDERS / 2, "{log}");
}

#[test]
fn both_are_there_if_that_is_asked_for() {
    let Some(libraries) = libraries() else { return };
    let seen = chain(&libraries, &json!({"filter": {"instrumented": "both"}}), "/direct");
    let all = 1 + ORDERS * 3 / 2;
    let log = &seen.done.log;
    assert_eq!(seen.of(SERVER, "service").len(), all, "{log}");
    assert_eq!(seen.of(CLIENT, "service").len(), all, "{log}");
    assert_eq!((seen.served.len(), seen.asked.len()), (all, all), "{log}");
}
