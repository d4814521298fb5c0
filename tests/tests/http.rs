//! HTTP/1 of programs nobody changed, against what they and their clients say themselves.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use remora_tests::{
    agent::Agent,
    process::{Running, children, free_port, listening, output, until},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("targets").join(name)
}

/// nginx in a folder of its own: one worker, an access log with sizes.
struct Nginx {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let root = folder.path().display();
        fs::write(folder.path().join("big"), vec![b'b'; 20_000]).unwrap();
        let config = format!(
            "worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 512; }}
             http {{
               log_format oracle '$request_method $uri $status $content_length $body_bytes_sent';
               access_log {root}/access.log oracle;
               keepalive_requests 1000000000; large_client_header_buffers 8 16k;
               client_body_temp_path {root}/body;
               server {{
                 listen 127.0.0.1:{port};
                 location /small {{ return 200 'hello'; }}
                 location /nothing {{ return 204; }}
                 location /quiet {{ access_log off; return 200 'hello'; }}
                 location /big {{ root {root}; }}
               }}
             }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let conf = folder.path().join("nginx.conf");
        let process = Running::start(Command::new("nginx").arg("-c").arg(conf));
        listening(port);
        until("the worker", || !children(process.pid()).unwrap().is_empty());
        Self { process, port, folder }
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids = children(self.process.pid()).unwrap();
        pids.push(self.process.pid());
        pids
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its worker along, if it is asked and not killed.
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}

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
    let nginx = Nginx::start();
    let mut client = Command::new("python3");
    client.arg(target("client.py")).arg(nginx.port.to_string()).stdin(Stdio::piped());
    let mut python = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut pids = nginx.pids();
    pids.push(python.id());
    let agent = Agent::on(&pids, &[]);
    python.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let done = agent.stop();

    // Server: nginx's own log.
    let oracle = tally(nginx.log().iter().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let sent: i64 = words[3].parse().unwrap_or(0);
        // nginx answers this one before it reads what is sent: only the client knows the size.
        let sent = if words[0] == "POST" { 0 } else { sent };
        (words[..3].join(" "), sent, words[4].parse::<i64>().unwrap())
    }));
    let spans = tally(of_kind(&done.spans, SERVER).map(|span| {
        let size = |key| span.int(key).unwrap_or(0);
        let sent = if span.line().starts_with("POST") { 0 } else { size("http.request.body.size") };
        (span.line(), sent, size("http.response.body.size"))
    }));
    assert_eq!(spans, oracle, "\n{}", done.log);

    // Client: its own words, and its own clock.
    let said: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut seen: Vec<&Span> = of_kind(&done.spans, CLIENT).collect();
    seen.sort_by_key(|span| span.start_ns);
    assert_eq!(seen.len(), said.len());
    let mut apart = Vec::new();
    for (span, said) in seen.iter().zip(&said) {
        assert_eq!(span.line(), said["line"]);
        assert_eq!(span.int("http.request.body.size").unwrap_or(0), said["sent"].as_i64().unwrap());
        let received = said["received"].as_i64().unwrap();
        assert_eq!(span.int("http.response.body.size").unwrap_or(0), received, "{span:?}");
        let own = said["ns"].as_u64().unwrap();
        let tolerance = (own / 20).max(200_000);
        apart.push(own.abs_diff(span.duration_ns()).saturating_sub(tolerance));
    }
    // The interpreter may be put off between its stopwatch and the call; not most of the time.
    let off = apart.iter().filter(|&&apart| apart > 0).count();
    assert!(off * 10 <= apart.len(), "{off} of {} durations are off: {apart:?}", apart.len());
    // Both ends: the server's span lies within the client's time.
    let [requests, exported, _, lost] = done.requests();
    assert_eq!((requests, exported, lost), (120, 120, 0), "{}", done.log);
}

#[test]
fn client_spans_of_a_threaded_service_lie_under_their_own_server_span() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let mut chain = Command::new("python3");
    let mut chain = Running::start(chain.arg(target("chain.py")).stdin(Stdio::piped()));
    let port: u16 = chain.line().parse().unwrap();
    let agent = Agent::on(&[chain.pid()], &[]);
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            std::thread::spawn(move || {
                for order in 0..5 {
                    get(port, &format!("/order/{thread}x{order}"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let done = agent.stop();
    let servers: BTreeMap<&str, &Span> =
        of_kind(&done.spans, SERVER).map(|span| (&*span.span_id, span)).collect();
    let mut under = 0;
    for span in of_kind(&done.spans, CLIENT) {
        let parent = span.parent.as_deref().unwrap_or_else(|| panic!("no parent: {span:?}"));
        let parent = servers[parent];
        let order = |span: &Span| {
            let line = span.line();
            let path = line.split(' ').nth(1).unwrap().to_owned();
            path.rsplit(['/', '-']).next().unwrap().to_owned()
        };
        assert_eq!(order(span), order(parent));
        assert_eq!(span.trace_id, parent.trace_id);
        under += 1;
    }
    assert_eq!(under, 16 * 5 * 2, "{}", done.log);
    assert_eq!(done.requests(), [16 * 5 * 5, 16 * 5 * 5, 0, 0], "{}", done.log);
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
fn every_request_that_wrk_counts_is_in_the_books() {
    if skip::without_root() || skip::without(&["nginx", "wrk"]) {
        return;
    }
    let nginx = Nginx::start();
    let agent = Agent::on(&nginx.pids(), &[]);
    let seconds = std::env::var("REMORA_WRK_SECONDS").unwrap_or_else(|_| "5".into());
    let url = format!("http://127.0.0.1:{}/quiet", nginx.port);
    let text = output(Command::new("wrk").args(["-t1", "-c64", "-d", &seconds, &url]));
    let counted: u64 = text
        .lines()
        .find(|line| line.contains("requests in"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap();
    let done = agent.stop();
    let [requests, exported, _, lost] = done.requests();
    // wrk does not count what it has sent and does not wait for any more.
    assert!((counted..=counted + 64).contains(&requests), "{counted} and\n{}", done.log);
    assert_eq!((exported, lost), (requests, 0), "{}", done.log);
    assert_eq!(done.spans.len() as u64, exported);
}

#[test]
fn a_killed_agent_leaves_nothing_behind_and_its_target_serves_on() {
    if skip::without_root() || skip::without(&["nginx", "wrk"]) {
        return;
    }
    let programs = || -> Vec<u32> {
        aya::programs::loaded_programs().filter_map(|p| p.ok()).map(|p| p.id()).collect()
    };
    let before = programs();
    let new = |ids: Vec<u32>| ids.into_iter().filter(|id| !before.contains(id)).collect::<Vec<_>>();
    let nginx = Nginx::start();
    let url = format!("http://127.0.0.1:{}/quiet", nginx.port);
    let agent = Agent::on(&nginx.pids(), &[]);
    let ours = new(programs());
    assert!(!ours.is_empty());
    let wrk = Running::start(Command::new("wrk").args(["-t1", "-c16", "-d3", &url]));
    std::thread::sleep(Duration::from_millis(1000));
    agent.kill();
    let text = wrk.finish();
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    until("the kernel to free the programs", || programs().iter().all(|id| !ours.contains(id)));
}

#[test]
fn exec_misses_nothing_of_a_command_and_ends_as_it_ends() {
    if skip::without_root() || skip::without(&["nginx", "curl", "sh"]) {
        return;
    }
    let nginx = Nginx::start();
    let url = format!("http://127.0.0.1:{}/small", nginx.port);
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
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
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
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
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
    get(other.port, "/small/other");
    get(selected.port, "/small/selected");
    let done = agent.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small/selected 200"], "{}", done.log);
}
