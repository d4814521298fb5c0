//! HTTP/1 of programs nobody changed, against what they and their clients say themselves.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use remora::bpf::Door;
use remora_tests::{
    agent::{Agent, Done},
    doors,
    nginx::Nginx,
    process::{patient, until},
    programs::target,
    skip,
    spans::{CLIENT, SERVER, Span},
};

/// How often each line occurs.
fn tally<T: Ord>(lines: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    lines.for_each(|line| *tally.entry(line).or_default() += 1);
    tally
}

fn of_kind(spans: &[Span], kind: u64) -> impl Iterator<Item = &Span> {
    spans.iter().filter(move |span| span.kind == kind)
}

#[test]
fn nginx_and_a_python_client_agree_with_access_log_and_stopwatch() {
    if skip::without_root() || skip::without(&["nginx", "python3"]) {
        return;
    }
    access_log_and_stopwatch_agree("auto");
}

/// The same through one door; says why it is skipped where that does not open.
fn agree_through(door: Door) {
    if skip::without_root() || skip::without(&["nginx", "python3"]) || doors::closed(door) {
        return;
    }
    let log = access_log_and_stopwatch_agree(door.as_str());
    assert!(log.contains(&format!("door=\"{}\"", door.as_str())), "{log}");
}

#[test]
fn the_same_is_seen_through_the_socket_layer() {
    agree_through(Door::Socket);
}

#[test]
fn the_same_is_seen_through_fexit() {
    agree_through(Door::Fexit);
}

#[test]
fn the_same_is_seen_through_tp_btf() {
    agree_through(Door::SysExitBtf);
}

#[test]
fn the_same_is_seen_through_raw_tp() {
    agree_through(Door::SysExitRaw);
}

#[test]
fn the_same_is_seen_through_tracepoints() {
    agree_through(Door::Tracepoint);
}

/// Spans of `kind` are what the `oracle` says, but for one request for each run that was left out.
fn agree_but_for(left_out: u64, done: &Done, kind: u64, oracle: impl Iterator<Item = String>) {
    let mut oracle = tally(oracle);
    for span in of_kind(&done.spans, kind) {
        let line = span.line();
        let known = oracle.get_mut(&line).filter(|known| **known > 0);
        *known.unwrap_or_else(|| panic!("{line:?} was never asked for\n{}", done.log)) -= 1;
    }
    let missing: usize = oracle.values().sum();
    println!("{left_out} runs of programs were left out, and {missing} requests are missing");
    assert!(missing as u64 <= left_out, "{oracle:?}\n{}", done.log);
}

/// Returns the agent's log.
fn access_log_and_stopwatch_agree(door: &str) -> String {
    let nginx = Nginx::start();
    let mut client = Command::new("python3");
    client.arg(target("client.py")).arg(nginx.port().to_string()).stdin(Stdio::piped());
    let mut python = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut pids = nginx.pids();
    pids.push(python.id());
    let agent = Agent::on(&pids, &["--door", door]);
    python.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let done = agent.stop();
    // Client: its own words.
    let said: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    if skip::emulated() && done.books().dropped_in_kernel("unreadable") > 0 {
        println!(
            "skipped: a page was being moved when it was to be read, as in so little memory happens"
        );
        return done.log;
    }
    let left_out = done.left_out();
    if left_out > 0 && !done.log.contains("door=\"socket\"") {
        // Nothing tells the other doors what they were not told of: it shifts all that follows.
        println!("skipped: this kernel has left out {left_out} runs of programs");
        return done.log;
    }
    if left_out > 0 {
        let log = nginx.log();
        let logged =
            log.iter().map(|line| line.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" "));
        agree_but_for(left_out, &done, SERVER, logged);
        let lines = said.iter().map(|said| said["line"].as_str().unwrap().to_owned());
        agree_but_for(left_out, &done, CLIENT, lines);
        return done.log;
    }

    // Server: nginx's own log.
    let oracle = tally(nginx.log().iter().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let sent: i64 = words[3].parse().unwrap_or(0);
        (words[..3].join(" "), sent, words[4].parse::<i64>().unwrap())
    }));
    let spans = tally(of_kind(&done.spans, SERVER).map(|span| {
        let size = |key| span.int(key).unwrap_or(0);
        // Also where nginx answers before it reads what is sent.
        (span.line(), size("http.request.body.size"), size("http.response.body.size"))
    }));
    assert_eq!(spans, oracle, "\n{}", done.log);

    // Client: and its own clock.
    let mut seen: Vec<&Span> = of_kind(&done.spans, CLIENT).collect();
    seen.sort_by_key(|span| span.start_ns);
    assert_eq!(seen.len(), said.len(), "\n{}", done.log);
    let mut apart = Vec::new();
    for (span, said) in seen.iter().zip(&said) {
        assert_eq!(span.line(), said["line"]);
        assert_eq!(span.int("http.request.body.size").unwrap_or(0), said["sent"].as_i64().unwrap());
        let received = said["received"].as_i64().unwrap();
        assert_eq!(span.int("http.response.body.size").unwrap_or(0), received, "{span:?}");
        let own = said["ns"].as_u64().unwrap();
        let tolerance = (own / 20).max(patient(Duration::from_micros(200)).as_nanos() as u64);
        assert!(span.duration_ns() <= own, "longer than the client's own stopwatch says: {span:?}");
        apart.push((own - span.duration_ns()).saturating_sub(tolerance));
    }
    // The interpreter may be put off between its stopwatch and the call; not most of the time, unless
    // it is emulated.
    let off = apart.iter().filter(|&&apart| apart > 0).count();
    let most = skip::emulated() || off * 2 <= apart.len();
    assert!(most, "{off} of {} durations are off: {apart:?}", apart.len());
    // Both ends: the server's span lies within the client's time.
    let [requests, exported, _, lost] = done.requests();
    assert_eq!((requests, exported, lost), (120, 120, 0), "{}", done.log);
    done.log
}

/// A request by hand; returns the whole answer.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn exec_misses_nothing_of_a_command_and_ends_as_it_ends() {
    if skip::without_root() || skip::without(&["nginx", "curl", "sh"]) {
        return;
    }
    let nginx = Nginx::start();
    let url = nginx.url("/small");
    let script = format!("curl -s {url} && curl -s {url}; curl -s {url}");
    let arguments = ["--service-name", "visitor", "--", "sh", "-c", &script].map(str::to_owned);
    let done = Agent::start("exec", &arguments).ended();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small 200"; 3], "{}", done.log);
    assert!(done.spans.iter().all(|span| span.kind == CLIENT && span.service == "visitor"));
}

#[test]
fn a_connection_that_was_open_before_is_joined() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port())).unwrap();
    let mut ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let len = stream.read(&mut answer).unwrap();
        assert!(answer[..len].ends_with(b"hello"));
    };
    ask("/small/before");
    let agent = Agent::on(&nginx.pids(), &[]);
    ask("/small/1");
    ask("/small/2");
    let done = agent.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small/1 200", "GET /small/2 200"], "{}", done.log);
    assert!(done.spans.iter().all(|span| span.int("server.port").is_some()), "{:?}", done.spans);
}

#[test]
fn pipelined_split_and_continued_requests_are_told_apart() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let agent = Agent::on(&nginx.pids(), &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port())).unwrap();
    stream.set_nodelay(true).unwrap();
    // Twenty at once.
    let burst: String =
        (0..20).map(|n| format!("GET /small/{n} HTTP/1.1\r\nhost: t\r\n\r\n")).collect();
    stream.write_all(burst.as_bytes()).unwrap();
    answers(&mut stream, 20);
    // One byte by byte.
    for byte in b"GET /small/slow HTTP/1.1\r\nhost: t\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_micros(300));
    }
    answers(&mut stream, 1);
    // One whose traceparent stands behind 30 kB of other fields.
    let deep = format!(
        "GET /small/deep HTTP/1.1\r\nhost: t\r\n{}traceparent: \
         00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
        (0..5).map(|n| format!("x-{n}: {}\r\n", "v".repeat(5000))).collect::<String>()
    );
    stream.write_all(deep.as_bytes()).unwrap();
    answers(&mut stream, 1);
    drop(stream);
    let done = agent.stop();
    let mut lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    lines.sort();
    let mut expected: Vec<String> = (0..20).map(|n| format!("GET /small/{n} 200")).collect();
    expected.extend(["slow", "deep"].map(|name| format!("GET /small/{name} 200")));
    expected.sort();
    assert_eq!(lines, expected, "{}", done.log);
    let deep = done.spans.iter().find(|span| span.line().contains("deep")).unwrap();
    assert_eq!(deep.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(deep.parent.as_deref(), Some("00f067aa0ba902b7"));
}

/// Reads `count` answers of nginx's `/small`.
fn answers(stream: &mut TcpStream, count: usize) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    until("answers", || {
        let len = stream.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        text.matches("hello").count() == count
    });
}

#[test]
fn an_unselected_process_has_no_spans() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (selected, other) = (Nginx::start(), Nginx::start());
    let agent = Agent::on(&selected.pids(), &[]);
    get(other.port(), "/small/other");
    get(selected.port(), "/small/selected");
    let done = agent.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small/selected 200"], "{}", done.log);
}
