//! HTTP/2 and gRPC, over Go's TLS and without, between the programs of many ecosystems, against what the servers log and what load
//! generators count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{Agent, Done},
    database_clients::{go, waiting},
    http2::{Kind, Peer, SECRET, Server},
    process::{Running, free_port, listening, until},
    skip,
    spans::{self, CLIENT, SERVER, Span},
};
use tempfile::TempDir;

const ROUNDS: u64 = 3;

/// Workers, first one and then many, all on one connection; and how many that is altogether.
type Workers = (&'static str, usize);
const MANY: Workers = ("1,64", 65);

/// A ring that holds what 64 workers on two processors do while the agent waits for one.
const RING: [&str; 2] = ["--ring-size", "16MiB"];

fn of_kind(done: &Done, kind: u64) -> Vec<&Span> {
    done.spans.iter().filter(|span| span.kind == kind).collect()
}

/// `count` requests at each end, all of which are spans and measured, with nothing in them that is nobody's business.
fn all_is_told(done: &Done, count: usize, metric: &str) {
    let both = 2 * count as u64;
    assert_eq!(done.requests(), [both, both, 0, 0], "{}", done.log);
    for (kind, end) in [(CLIENT, "client"), (SERVER, "server")] {
        assert_eq!(of_kind(done, kind).len(), count, "{end}\n{}", done.log);
        let metric = metric.replace("END", end);
        let measured = spans::measurements(&done.metrics, &metric);
        assert_eq!(measured, count as u64, "{metric}\n{}", done.log);
    }
    for (what, text) in [("file", &done.file), ("log", &done.log), ("output", &done.stdout)] {
        assert!(!text.contains(SECRET), "a secret in the {what}");
    }
}

fn sorted(spans: &[&Span], line: impl Fn(&Span) -> String) -> Vec<String> {
    let mut lines: Vec<String> = spans.iter().map(|span| line(span)).collect();
    lines.sort();
    lines
}

fn http_agrees(peer: Peer, (workers, all): Workers) {
    if skip::without_root() || peer.missing() {
        return;
    }
    let server = Server::start(peer, Kind::Http);
    let client = peer.client(Kind::Http, server.port(), workers, ROUNDS);
    let agent = Agent::on(&[server.pid(), client.pid()], &RING);
    go(client, "");
    let done = agent.stop();
    let log = server.log();
    assert_eq!(log.len(), 1 + all * ROUNDS as usize * 3);
    all_is_told(&done, log.len(), "http.END.request.duration");
    are_joined(&done);
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done, kind);
        assert_eq!(sorted(&spans, Span::line), log, "of kind {kind}\n{}", done.log);
        for span in spans {
            assert_eq!(span.text("network.protocol.version"), "2", "{span:?}");
            assert_eq!(span.int("server.port"), Some(server.port().into()), "{span:?}");
            assert_eq!(span.int("http.response.body.size"), Some(12), "{span:?}");
            let posted = if span.line().starts_with("POST") { 3000 } else { 0 };
            assert_eq!(span.int("http.request.body.size"), Some(posted), "{span:?}");
            let failed = kind == CLIENT && span.line().ends_with("404");
            assert_eq!(span.text("error.type") == "404", failed, "{span:?}");
        }
    }
}

/// Each SERVER span is the only child of the CLIENT span of the same request.
fn are_joined(done: &Done) {
    let sent: BTreeMap<&str, &Span> =
        of_kind(done, CLIENT).into_iter().map(|span| (&*span.span_id, span)).collect();
    let mut parents = BTreeSet::new();
    for received in of_kind(done, SERVER) {
        let parent = received.parent.as_deref().and_then(|parent| sent.get(parent));
        let Some(parent) = parent else { panic!("{received:?}\n{}", done.log) };
        assert_eq!(received.text("remora.parent"), "connection", "{received:?}");
        assert_eq!(received.trace_id, parent.trace_id, "{received:?}");
        let what = |span: &Span| match span.text("rpc.system.name") {
            "" => span.line(),
            _ => call(span),
        };
        assert_eq!(what(received), what(parent));
        assert!(parents.insert(&parent.span_id), "{received:?}");
    }
}

#[test]
fn go_net_http_agrees_with_its_log() {
    http_agrees(Peer::Go, MANY);
}

#[test]
fn go_net_http_over_tls_agrees_with_its_log() {
    http_agrees(Peer::GoTls, MANY);
}

#[test]
fn node_http2_agrees_with_its_log() {
    http_agrees(Peer::Node, MANY);
}

const CODES: [(&str, &str); 3] = [("OK", "0"), ("NOT_FOUND", "5"), ("UNIMPLEMENTED", "12")];

/// `METHOD CODE`.
fn call(span: &Span) -> String {
    let method = match span.text("rpc.method") {
        "_OTHER" => span.text("rpc.method_original"),
        method => method,
    };
    let name = span.text("rpc.response.status_code");
    let code = CODES.iter().find(|code| code.0 == name).map_or(name, |code| code.1);
    format!("/{method} {code}")
}

/// Whether something of a head was not captured, or refers to what was not.
fn is_unknown(span: &Span) -> bool {
    ["request.head.cut", "request.fields.unknown", "response.head.cut", "response.fields.unknown"]
        .iter()
        .any(|mark| span.attributes.contains_key(&format!("remora.{mark}")))
}

fn grpc_agrees(server: Peer, client: Peer, (workers, all): Workers, rounds: u64) {
    if skip::without_root() || server.missing() || client.missing() {
        return;
    }
    let server = Server::start(server, Kind::Grpc);
    let client = client.client(Kind::Grpc, server.port(), workers, rounds);
    let agent = Agent::on(&[server.pid(), client.pid()], &RING);
    go(client, "");
    let done = agent.stop();
    let log = server.log();
    assert_eq!(log.len(), all * rounds as usize * 4);
    all_is_told(&done, log.len(), "rpc.END.call.duration");
    are_joined(&done);
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done, kind);
        assert_eq!(sorted(&spans, call), log, "of kind {kind}\n{}", done.log);
        for span in spans {
            assert_eq!(span.text("rpc.system.name"), "grpc", "{span:?}");
            let status = span.text("rpc.response.status_code");
            let failed = match kind {
                SERVER => status == "UNIMPLEMENTED",
                _ => status != "OK",
            };
            assert_eq!(span.text("error.type"), if failed { status } else { "" }, "{span:?}");
            let made_up = kind == SERVER && failed;
            let name = if made_up { "grpc" } else { span.text("rpc.method") };
            assert_eq!(span.name, name, "{span:?}");
        }
    }
}

#[test]
fn grpc_go_agrees_with_its_log() {
    grpc_agrees(Peer::Go, Peer::Go, MANY, ROUNDS);
}

#[test]
fn grpc_go_over_tls_agrees_with_its_log() {
    grpc_agrees(Peer::GoTls, Peer::GoTls, MANY, ROUNDS);
}

/// For a recording.
#[test]
fn each_kind_of_call_is_told() {
    grpc_agrees(Peer::Go, Peer::Go, ("1", 1), 1);
}

#[test]
fn grpc_of_python_asks_grpc_go() {
    grpc_agrees(Peer::Go, Peer::Python, MANY, ROUNDS);
}

#[test]
fn grpc_go_asks_grpc_of_python() {
    grpc_agrees(Peer::Python, Peer::Go, MANY, ROUNDS);
}

#[test]
fn tonic_agrees_with_its_log() {
    grpc_agrees(Peer::Rust, Peer::Rust, MANY, ROUNDS);
}

#[test]
fn tonic_over_rustls_agrees_with_its_log() {
    grpc_agrees(Peer::RustTls, Peer::RustTls, MANY, ROUNDS);
}

/// nghttpd with a page of 12 bytes.
struct Nghttpd {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Nghttpd {
    fn missing() -> bool {
        skip::without_root() || skip::without(&["nghttpd", "nghttpx", "nghttp", "h2load", "curl"])
    }

    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("page"), "twelve bytes").expect("a file");
        let port = free_port();
        let mut command = Command::new("nghttpd");
        command.args(["--no-tls", "--address", "127.0.0.1", "--htdocs"]).arg(folder.path());
        let process = Running::start(command.arg(port.to_string()).stdin(Stdio::null()));
        listening(port);
        Self { process, port, folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Two threads with two connections each, one request at a time and 64.
#[test]
fn h2load_has_what_it_counts_with_one_stream_and_with_64() {
    if Nghttpd::missing() {
        return;
    }
    let server = Nghttpd::start();
    let run = |streams: &str, requests: &str| {
        let mut h2load = Command::new("h2load");
        h2load.args(["-c", "4", "-t", "2", "-m", streams, "-n", requests]);
        waiting(h2load.arg(server.url("/page")))
    };
    let runs = [run("1", "400"), run("64", "2000")];
    let mut pids: Vec<u32> = runs.iter().map(Running::pid).collect();
    pids.push(server.process.pid());
    let agent = Agent::on(&pids, &RING);
    for (run, requests) in runs.into_iter().zip(["400", "2000"]) {
        let said = go(run, "");
        assert!(said.contains(&format!("{requests} succeeded, 0 failed")), "{said}");
    }
    let done = agent.stop();
    all_is_told(&done, 2400, "http.END.request.duration");
    for span in &done.spans {
        assert_eq!(span.line(), "GET /page 200", "{span:?}");
        assert_eq!(span.int("http.response.body.size"), Some(12), "{span:?}");
    }
}

/// Content of a megabyte on some streams, and short content between it on others. How much of it is copied is told by
/// the records.
#[test]
fn long_content_hides_nothing_and_is_not_copied() {
    if Nghttpd::missing() {
        return;
    }
    let server = Nghttpd::start();
    fs::write(server.folder.path().join("long"), vec![b'l'; 1 << 20]).expect("a file");
    let mut h2load = Command::new("h2load");
    h2load.args(["-c", "2", "-m", "16", "-n", "400", "-w", "20", "-W", "22"]);
    let client = waiting(h2load.arg(server.url("/page")).arg(server.url("/long")));
    let agent = Agent::on(&[client.pid(), server.process.pid()], &RING);
    let said = go(client, "");
    assert!(said.contains("400 succeeded, 0 failed"), "{said}");
    let done = agent.stop();
    all_is_told(&done, 400, "http.END.request.duration");
    for kind in [SERVER, CLIENT] {
        for (path, len) in [("/page", 12), ("/long", 1 << 20)] {
            let of = |span: &&&Span| span.line() == format!("GET {path} 200");
            let spans = of_kind(&done, kind);
            let lens: Vec<_> =
                spans.iter().filter(of).map(|span| span.int("http.response.body.size")).collect();
            assert_eq!(lens, [Some(len); 200], "of kind {kind}, {path}");
        }
    }
}

/// Fields that were sent before the agent came are not known, and are not guessed.
#[test]
fn connections_that_were_open_before_are_told_as_far_as_they_are_known() {
    if Nghttpd::missing() {
        return;
    }
    let server = Nghttpd::start();
    let mut h2load = Command::new("h2load");
    h2load.args(["-c", "2", "-m", "8", "--rps", "50", "-n", "300"]).arg(server.url("/page"));
    let client = Running::start(h2load.stdin(Stdio::null()));
    until("a connection", || connections(server.port) >= 2);
    let agent = Agent::on(&[client.pid(), server.process.pid()], &[]);
    let said = client.finish();
    assert!(said.contains("300 succeeded, 0 failed"), "{said}");
    let done = agent.stop();
    let [_, exported, _, lost] = done.requests();
    assert_eq!(lost, done.lost("no_request"), "{}", done.log);
    assert!(lost < 40 && exported == done.spans.len() as u64, "{}", done.log);
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done, kind);
        assert!(spans.len() > 50, "only {} of kind {kind}\n{}", spans.len(), done.log);
        for span in spans {
            assert!(span.attributes.contains_key("remora.joined"), "{span:?}");
            assert_eq!(span.int("http.response.status_code"), Some(200), "{span:?}");
            assert_eq!(span.text("http.request.method"), "GET", "{span:?}");
            assert_eq!(span.int("http.response.body.size"), Some(12), "{span:?}");
            let url = [span.text("url.path"), span.text("url.full")].concat();
            assert!(is_unknown(span) && url.is_empty() || url.ends_with("/page"), "{span:?}");
        }
    }
}

/// How many connections a port of this host has taken.
fn connections(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("a table of connections");
    let local = format!(":{port:04X} ");
    let established = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|end| format!("{end} ").ends_with(&local))
            && words.get(3) == Some(&"01")
    };
    table.lines().filter(established).count()
}

/// nghttpx in front of an nghttpd, which speaks HTTP/2 from the first byte on alone.
struct Nghttpx {
    process: Running,
    port: u16,
}

impl Nghttpx {
    fn before_an_nghttpd() -> (Nghttpd, Self) {
        let server = Nghttpd::start();
        let port = free_port();
        let mut command = Command::new("nghttpx");
        command.args(["--single-process", "--workers=1", "--conf=/dev/null"]);
        command.args(["--errorlog-file=/dev/null", "--accesslog-file=/dev/null"]);
        command.arg(format!("--frontend=127.0.0.1,{port};no-tls"));
        command.arg(format!("--backend=127.0.0.1,{};;proto=h2", server.port));
        command.args(["--log-level=ERROR"]);
        let process = Running::start(command.stdin(Stdio::null()));
        listening(port);
        (server, Self { process, port })
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// nghttpx asks nghttpd in HTTP/2 whatever it was asked in, so each request is four spans.
#[test]
fn curl_and_nghttp_are_told_through_a_proxy() {
    if Nghttpd::missing() {
        return;
    }
    let (server, proxy) = Nghttpx::before_an_nghttpd();
    let done = watched(
        &[&server.process, &proxy.process],
        [
            (curl("--http2-prior-knowledge", &proxy.url("/page?token=QZQZQZQZ")), "200 2"),
            (curl("--http2-prior-knowledge", &proxy.url("/no")), "404 2"),
            (nghttp("--stat", &proxy.url("/page")), ""),
        ],
    );
    all_is_told(&done, 6, "http.END.request.duration");
    let expected = [vec!["GET /no 404"; 2], vec!["GET /page 200"; 4]].concat();
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done, kind);
        assert_eq!(sorted(&spans, Span::line), expected, "of kind {kind}\n{}", done.log);
        for span in spans {
            assert_eq!(span.text("network.protocol.version"), "2", "{span:?}");
        }
    }
}

/// Behind the answer that grants the change of the protocol the kernel side copies no content until the agent has heard
/// of it, some 10 ms later. If the response is in that, its request is lost, and counted.
#[test]
fn an_upgrade_is_one_request_in_http_2_or_counted_as_lost() {
    if Nghttpd::missing() {
        return;
    }
    let (server, proxy) = Nghttpx::before_an_nghttpd();
    let done = watched(
        &[&server.process, &proxy.process],
        [
            (curl("--http2", &proxy.url("/page")), "200 2"),
            (curl("--http2", &proxy.url("/no")), "404 2"),
            (nghttp("--upgrade", &proxy.url("/page")), ""),
        ],
    );
    let [requests, exported, sampled_out, lost] = done.requests();
    assert_eq!((requests, sampled_out, exported + lost), (12, 0, 12), "{}", done.log);
    assert_eq!(lost, done.lost("pipeline_cut"), "{}", done.log);
    assert!(exported >= 6, "what the proxy asks the server: {}", done.log);
    for span in &done.spans {
        let line = span.line();
        assert!(["GET /no 404", "GET /page 200"].contains(&&*line), "{line}\n{}", done.log);
        assert_eq!(span.text("network.protocol.version"), "2", "{span:?}");
    }
}

fn curl(version: &str, url: &str) -> Running {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"]);
    waiting(curl.args([version, url]))
}

fn nghttp(option: &str, url: &str) -> Running {
    let mut nghttp = Command::new("nghttp");
    waiting(nghttp.args(["--null-out", option, url]))
}

/// Lets the clients go one after the other while an agent watches them and the servers; what each says, if it matters.
fn watched(servers: &[&Running], clients: [(Running, &str); 3]) -> Done {
    let clients_of = clients.iter().map(|(client, _)| client.pid());
    let pids: Vec<u32> = servers.iter().map(|server| server.pid()).chain(clients_of).collect();
    let agent = Agent::on(&pids, &[]);
    for (client, expected) in clients {
        let said = go(client, "");
        assert!(expected.is_empty() || said == expected, "{said}");
    }
    agent.stop()
}
