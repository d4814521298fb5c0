//! Parents across processes of a host: a request that one process sends and another one receives is one trace, with nothing
//! written into it.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    thread,
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    curl,
    nginx::Nginx,
    process::{Running, free_port, listening, output},
    programs::Shop,
    skip,
    spans::{CLIENT, SERVER, Span},
};
use serde_json::{Value, json};

/// How many SERVER spans of a service are the child of a CLIENT span of the same request.
fn joined(done: &Done, service: &str) -> usize {
    let sent: BTreeMap<&str, &Span> = done
        .spans
        .iter()
        .filter(|span| span.kind == CLIENT)
        .map(|span| (&*span.span_id, span))
        .collect();
    let received = done.spans.iter().filter(|span| span.kind == SERVER && span.service == service);
    let of = |span: &&Span| {
        let Some(parent) = &span.parent else { return false };
        let parent = sent.get(&**parent).expect("a CLIENT span that was exported");
        assert_eq!((span.line(), &span.trace_id), (parent.line(), &parent.trace_id));
        assert_eq!(span.text("remora.parent"), "connection");
        true
    };
    received.filter(of).count()
}

const CLIENTS: u32 = 16;
const ORDERS: u32 = 10;

/// nginx -> shop -> stock, which is asked twice for most orders.
#[test]
fn a_chain_of_three_is_one_tree_while_sixteen_ask() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let shop = Shop::start();
    let nginx = Nginx::before(shop.port());
    let agent = Agent::on(&[&nginx.pids()[..], &shop.pids()].concat(), &[]);
    let port = nginx.port();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = Connection::open(port).unwrap();
                for order in 0..ORDERS {
                    connection.get(&format!("/orders/{}", client * ORDERS + order), "").unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    drop((nginx, shop));
    let done = agent.stop();
    let [requests, spans, _, lost] = done.requests();
    assert_eq!((requests, lost), (spans, 0), "{}", done.log);
    let received = |service: &str| {
        done.spans.iter().filter(|span| span.kind == SERVER && span.service == service).count()
    };
    let orders = (CLIENTS * ORDERS) as usize;
    assert_eq!((received("nginx"), received("shop")), (orders, orders), "{}", done.log);
    // Nobody who asks nginx is watched.
    assert_eq!(joined(&done, "nginx"), 0);
    assert_eq!(joined(&done, "shop"), orders, "{}", done.log);
    assert_eq!(joined(&done, "stock"), received("stock"), "{}", done.log);
    assert!(received("stock") > orders, "{}", done.log);
}

/// Two network namespaces with a cable between them.
struct Namespaces([String; 2]);

impl Namespaces {
    /// With the addresses 10.202.0.1 and 10.202.0.2.
    fn new() -> Self {
        let names = ["a", "b"].map(|end| format!("remora-{}-{end}", std::process::id()));
        let ip = |arguments: &str| {
            output(Command::new("ip").args(arguments.split(' ')));
        };
        let made = Self(names);
        let [a, b] = &made.0;
        ip(&format!("netns add {a}"));
        ip(&format!("netns add {b}"));
        ip(&format!("link add end netns {a} type veth peer name end netns {b}"));
        for (name, address) in [(a, "10.202.0.1/24"), (b, "10.202.0.2/24")] {
            ip(&format!("-n {name} address add {address} dev end"));
            ip(&format!("-n {name} link set end up"));
            ip(&format!("-n {name} link set lo up"));
        }
        made
    }

    /// In one of the two; `exec`, so that the process is the program itself.
    fn command(&self, end: usize, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.0[end]]).arg(command.get_program());
        inside.args(command.get_args());
        inside
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

#[test]
fn processes_of_two_network_namespaces_are_one_trace() {
    if skip::without_root() || skip::without(&["ip", "python3", "curl"]) {
        return;
    }
    let namespaces = Namespaces::new();
    let mut python = Command::new("python3");
    python.args(["-u", "-m", "http.server", "8080", "--directory", "/proc/self/fdinfo"]);
    let mut server = Running::start(namespaces.command(1, &python).stderr(Stdio::null()));
    assert!(server.line().contains("8080"));
    let mut client = Running::start(namespaces.command(0, &curl::command()).stdin(Stdio::piped()));
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    let asked: Vec<String> = (0..20)
        .map(|number| {
            format!("silent\noutput = /dev/null\nurl = \"http://10.202.0.2:8080/{number}\"\n")
        })
        .collect();
    client.give(&asked.join("next\n"));
    client.finish();
    drop(server);
    let done = agent.stop();
    assert_eq!(done.requests(), [40, 40, 0, 0], "{}", done.log);
    let services: Vec<&str> =
        done.spans.iter().filter(|span| span.kind == SERVER).map(|span| &*span.service).collect();
    assert_eq!(joined(&done, services[0]), 20, "{services:?} {}", done.log);
}

const B3_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const B3_SPAN: &str = "e457b5a2e4d86bd1";

/// nginx, and a server of HTTP/2 without TLS; what curl is told so that it speaks it.
fn over_both_versions(config: &Value, fields: &[String]) -> Vec<Span> {
    let nginx = Nginx::start();
    let port = free_port();
    let mut nghttpd = Command::new("nghttpd");
    nghttpd.args(["--no-tls", "-d", "/", &port.to_string()]);
    let nghttpd = Running::start(&mut nghttpd);
    listening(port);
    let pids = [&nginx.pids()[..], &[nghttpd.pid()]].concat();
    let agent = Agent::configured(&pids, config, &[]);
    for (version, url) in [
        ("--http1.1", nginx.url("/")),
        ("--http2-prior-knowledge", format!("http://127.0.0.1:{port}/")),
    ] {
        let mut curl = curl::command();
        curl.args(["-s", "-o", "/dev/null", version]);
        fields.iter().for_each(|field| _ = curl.args(["-H", field]));
        output(curl.arg(url));
    }
    let done = agent.stop();
    let servers: Vec<Span> = done.spans.into_iter().filter(|span| span.kind == SERVER).collect();
    assert_eq!(servers.len(), 2, "{}", done.log);
    servers
}

#[test]
fn a_context_of_b3_is_carried_on_where_that_is_configured() {
    if skip::without_root() || skip::without(&["nginx", "nghttpd"]) {
        return;
    }
    let several = [
        format!("X-B3-TraceId: {B3_TRACE}"),
        format!("x-b3-spanid: {B3_SPAN}"),
        "X-B3-Sampled: 1".to_owned(),
        "X-Request-Id: 17".to_owned(),
    ];
    let single = [format!("b3: {B3_TRACE}-{B3_SPAN}-1")];
    for fields in [&several[..], &single[..]] {
        for span in over_both_versions(&json!({"propagation": {"formats": ["b3"]}}), fields) {
            assert_eq!((&*span.trace_id, span.parent.as_deref()), (B3_TRACE, Some(B3_SPAN)));
            assert_eq!(span.text("remora.parent"), "header");
        }
    }
    // Otherwise its values are attributes, and the trace is another one.
    for span in over_both_versions(&json!({}), &several) {
        assert_eq!(span.parent, None);
        let header = |name: &str| span.texts(&format!("http.request.header.{name}"));
        assert_eq!(header("x-b3-traceid"), [B3_TRACE]);
        assert_eq!(header("x-b3-spanid"), [B3_SPAN]);
        assert_eq!(header("x-request-id"), ["17"]);
    }
}

#[test]
fn a_traceparent_counts_before_b3() {
    if skip::without_root() || skip::without(&["nginx", "nghttpd"]) {
        return;
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let fields = [
        format!("b3: {B3_TRACE}-{B3_SPAN}-1"),
        format!("traceparent: 00-{trace}-00f067aa0ba902b7-01"),
    ];
    let config = json!({"propagation": {"formats": ["tracecontext", "b3multi"]}});
    for span in over_both_versions(&config, &fields) {
        assert_eq!(span.trace_id, trace);
    }
}

#[test]
fn baggage_that_is_asked_for_becomes_attributes() {
    if skip::without_root() || skip::without(&["nginx", "nghttpd"]) {
        return;
    }
    let fields = ["baggage: tier=gold;ttl=1, secret=s3cret", "Baggage: tenant.id=a%20b"];
    let config = json!({"propagation": {"baggage": ["tenant.id", "tier", "absent"]}});
    for span in over_both_versions(&config, &fields.map(str::to_owned)) {
        assert_eq!((span.text("tenant.id"), span.text("tier")), ("a b", "gold"));
        assert!(!format!("{span:?}").contains("s3cret"));
    }
}
