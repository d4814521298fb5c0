//! Five services in five languages, each of which asks the next one twice for each request, and nginx behind them: each request of
//! a client is one trace, whose tree is as the requests were. Nothing is written into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::Agent,
    nginx::Nginx,
    parents::{Traffic, order},
    process::{Running, free_port, listening},
    programs::{self, built, target},
    skip,
    spans::{CLIENT, SERVER, Span},
    workspaces::{self, Build},
};

/// In the order of the chain; nginx serves what the last one asks for.
const SERVICES: [&str; 6] = ["plain", "service", "waitress_service", "puma", "Hop", "nginx"];
const WARM: Traffic = Traffic { clients: 1, each: 12 };
const TRAFFIC: Traffic = Traffic { clients: 8, each: 6 };

/// One that asks the service at this port; and its own port.
fn start(service: &str, backend: u16) -> (Running, u16) {
    let mut port = 0;
    let mut command = match service {
        "plain" => Command::new(programs::go_parents().join("plain")),
        "service" => {
            let to = built().join("tokio-programs").join("v1_54");
            let folder = target("tokio").join("v1_54");
            let program = workspaces::programs(&folder, &to, Build::Release, &[]).join("service");
            Command::new(program)
        }
        "waitress_service" => {
            let mut python = Command::new("/usr/bin/python3");
            python.arg("waitress_service.py").env("PYTHONDONTWRITEBYTECODE", "1");
            python
        }
        "puma" => {
            port = free_port();
            let mut puma = Command::new("puma");
            puma.args(["-t", "8:8", "-b", &format!("tcp://127.0.0.1:{port}"), "config.ru"]);
            puma
        }
        _ => {
            let mut java = Command::new("java");
            java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "Hop.java"]);
            java
        }
    };
    if ["plain", "service"].contains(&service) {
        command.arg(backend.to_string());
    }
    if service == "service" {
        command.arg("multi");
    }
    command.current_dir(target("pools")).env("BACKEND", backend.to_string());
    let mut running = Running::start(command.stdin(Stdio::piped()));
    if port == 0 {
        port = running.line().parse().unwrap();
    }
    listening(port);
    (running, port)
}

#[test]
fn five_services_in_five_languages_make_one_tree() {
    let needed = ["go", "waitress-serve", "puma", "java", "nginx"];
    if skip::without_root() || skip::without(&needed) {
        return;
    }
    let nginx = Nginx::start();
    let (mut running, mut port) = (Vec::new(), nginx.port());
    for service in SERVICES[..5].iter().rev() {
        let (service, own) = start(service, port);
        running.push(service);
        port = own;
    }
    let mut pids = nginx.pids();
    pids.extend(running.iter().map(Running::pid));
    let agent = Agent::on(&pids, &["--ring-size", "64MiB"]);
    thread::sleep(Duration::from_millis(200));
    // Runtimes are to have shown how they work.
    WARM.ask(port, "turn");
    let warm = WARM.orders();
    thread::scope(|scope| {
        for client in 0..TRAFFIC.clients {
            scope.spawn(move || {
                let first = warm + client * TRAFFIC.each;
                TRAFFIC.one_after_the_other(port, "turn", first);
            });
        }
    });
    running.clear();
    let done = agent.stop();
    let spans: Vec<&Span> = done.spans.iter().filter(|span| order(span) >= warm).collect();
    let all: BTreeMap<&str, &Span> = done.spans.iter().map(|it| (&*it.span_id, it)).collect();

    let mut missing = 0;
    for span in &spans {
        let at = SERVICES.iter().position(|service| *service == span.service).unwrap();
        let Some(parent) = span.parent.as_deref() else {
            missing += usize::from(span.kind == CLIENT || at > 0);
            continue;
        };
        let parent = all[parent];
        assert_eq!(order(parent), order(span), "wrong parent {parent:?}\nof {span:?}");
        let expected = if span.kind == CLIENT { (SERVER, at) } else { (CLIENT, at - 1) };
        assert_eq!((parent.kind, &*parent.service), (expected.0, SERVICES[expected.1]));
        assert_eq!(parent.trace_id, span.trace_id);
    }
    // Of each order 1, 2, 4, 8, 16, 32 are served, and all but the first were asked for.
    assert_eq!(spans.len(), TRAFFIC.orders() * (63 + 62), "{}", done.log);
    let mut traces: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for span in &spans {
        traces.entry(order(span)).or_default().insert(&span.trace_id);
    }
    let whole = traces.values().filter(|traces| traces.len() == 1).count();
    println!("{whole} of {} orders are one trace, {missing} parents are missing", traces.len());
    assert!(whole * 100 >= traces.len() * 98 && missing * 100 <= spans.len(), "{}", done.log);
}
