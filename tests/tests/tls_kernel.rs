//! The TLS source by itself: real programs with OpenSSL, their plaintext, and whose it is.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use remora_common::{
    counter::Counter,
    record::{Direction, Source},
};
use remora_tests::{
    process::{Running, children, free_port, listening, patient},
    skip,
    tls_lab::Lab,
};

/// A key and a certificate for `localhost`, made once.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    (key, certificate)
}

const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"secret of " + self.path.encode() * 100
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

const CLIENT: &str = r#"
import http.client, ssl, sys
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context())
for i in range(5):
    connection.request("GET", "/request/%d" % i)
    connection.getresponse().read()
connection.close()
"#;

const ASYNC_CLIENT: &str = r#"
import asyncio, ssl, sys
context = ssl._create_unverified_context()
async def one(name):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=context)
    for i in range(3):
        writer.write(b"GET /task/%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (name, i))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
async def all(): await asyncio.gather(*[one(name) for name in range(4)])
asyncio.run(all())
"#;

/// `import ssl` long after the process was selected.
const LATE: &str = r#"
import sys
print("ready", flush=True)
sys.stdin.readline()
exec(sys.argv[2])
"#;

struct Server {
    running: Running,
    port: u16,
    _folder: tempfile::TempDir,
}

fn python_server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = certificate(folder.path());
    let port = free_port();
    let running = Running::start(
        Command::new("python3")
            .args(["-c", SERVER, &port.to_string()])
            .arg(key)
            .arg(certificate)
            .stderr(Stdio::null()),
    );
    listening(port);
    Server { running, port, _folder: folder }
}

fn cannot_run(programs: &[&str]) -> bool {
    skip::without_root() || skip::without(&["openssl"]) || skip::without(programs)
}

#[test]
fn both_ends_of_a_connection_yield_their_plaintext_and_no_ciphertext() {
    if cannot_run(&["python3", "curl"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    lab.select(server.running.pid());
    let url = |path| format!("https://127.0.0.1:{}{path}", server.port);
    let curl = lab.run("curl", &["-sk", &url("/first"), &url("/second")]);
    for (tgid, is_server) in [(server.running.pid(), true), (curl, false)] {
        let streams = lab.seen.of(tgid);
        assert_eq!(streams.len(), 1, "{:#?}", lab.seen);
        let stream = streams[0];
        assert_eq!(stream.server, is_server);
        assert!(!stream.joined, "{stream:#?}");
        assert_eq!(stream.sources, HashSet::from([Source::CLibrary]));
        let (requests, responses) = if is_server { (0, 1) } else { (1, 0) };
        assert_eq!(stream.text[requests].matches("GET /").count(), 2, "{stream:#?}");
        assert_eq!(stream.text[responses].matches("HTTP/1.1 200").count(), 2, "{stream:#?}");
    }
    let [first, second] = [lab.seen.of(curl)[0].ends, lab.seen.of(server.running.pid())[0].ends];
    assert_eq!(first[0], second[1], "what one end received the other one sent");
    assert_eq!(first[1], second[0]);
    assert_eq!(lab.dropped(Counter::TlsUnlinked), 0);
}

#[test]
fn a_long_head_is_read_to_its_end() {
    if cannot_run(&["python3", "curl"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    lab.select(server.running.pid());
    let (long, url) = ("c".repeat(20_000), format!("https://127.0.0.1:{}/long", server.port));
    let headers = [format!("x-long: {long}"), "x-end: here".to_owned()];
    let curl = lab.run("curl", &["-sk", "-H", &headers[0], "-H", &headers[1], &url]);
    for (tgid, requests) in [(curl, Direction::Tx), (server.running.pid(), Direction::Rx)] {
        let streams = lab.seen.of(tgid);
        assert_eq!(streams.len(), 1, "{streams:#?}");
        let text = &streams[0].text[requests as usize];
        assert!(text.contains(&long) && text.ends_with("x-end: here\r\n\r\n"), "{}", text.len());
    }
}

#[test]
fn requests_of_a_kept_connection_follow_each_other() {
    if cannot_run(&["python3"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    let client = lab.run("python3", &["-c", CLIENT, &server.port.to_string()]);
    let streams = lab.seen.of(client);
    assert_eq!(streams.len(), 1, "{:#?}", lab.seen);
    for i in 0..5 {
        assert!(streams[0].text[Direction::Tx as usize].contains(&format!("GET /request/{i} ")));
    }
    assert!(lab.seen.of(server.running.pid()).is_empty(), "the server was not selected");
    assert_eq!(lab.dropped(Counter::TlsUnlinked), 0);
}

#[test]
fn tasks_of_an_event_loop_are_told_apart() {
    if cannot_run(&["python3"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    lab.select(server.running.pid());
    let client = lab.run("python3", &["-c", ASYNC_CLIENT, &server.port.to_string()]);
    for (tgid, requests) in [(client, Direction::Tx), (server.running.pid(), Direction::Rx)] {
        let streams = lab.seen.of(tgid);
        assert_eq!(streams.len(), 4, "{:#?}", lab.seen);
        for stream in streams {
            let text = &stream.text[requests as usize];
            let names: HashSet<&str> =
                text.split("GET /task/").skip(1).map(|rest| &rest[..1]).collect();
            assert_eq!(names.len(), 1, "{stream:#?}");
            let missing = 3_usize.checked_sub(text.matches("GET /").count());
            assert!(missing.is_some_and(|count| count <= lab.left_out()), "{stream:#?}");
        }
    }
    assert_eq!(lab.dropped(Counter::TlsUnlinked), 0);
}

#[test]
fn node_reads_and_writes_through_memory() {
    if cannot_run(&["python3", "node"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    let script = format!(
        "const https = require('https'), agent = new https.Agent({{keepAlive: true, maxSockets: 3, rejectUnauthorized: false}});
         let left = 6;
         process.stdin.once('data', () => {{
             process.stdin.destroy();
             for (let i = 0; i < 6; i++) https.get({{port: {}, host: '127.0.0.1', path: '/n/' + i, agent}},
                 r => r.resume().on('end', () => --left || agent.destroy()));
         }});
         console.log('ready');",
        server.port
    );
    let mut node = Running::start(Command::new("node").args(["-e", &script]).stdin(Stdio::piped()));
    assert_eq!(node.line(), "ready");
    lab.select(node.pid());
    if !lab.tls().sees(node.pid()) {
        println!("skipped: this node exports no SSL_read");
        return;
    }
    node.say("go");
    lab.until("end of node", |lab| lab.seen.ended.contains(&node.pid()));
    let streams = lab.seen.of(node.pid());
    assert_eq!(streams.len(), 3, "{:#?}", lab.seen);
    let count = |side: usize, text| {
        streams.iter().map(|stream| stream.text[side].matches(text).count()).sum::<usize>()
    };
    assert_eq!([count(1, "GET /n/"), count(0, "HTTP/1.")], [6, 6], "{streams:#?}");
    assert_eq!(lab.dropped(Counter::TlsUnlinked), 0);
}

#[test]
fn nginx_is_read_in_its_workers() {
    if cannot_run(&["nginx", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = certificate(folder.path());
    let port = free_port();
    let config = format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null;
         events {{}}
         http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
           uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
           server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 'hello'; }} }} }}",
        certificate.display(),
        key.display(),
        folder = folder.path().display(),
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let nginx = Running::start(Command::new("nginx").arg("-c").arg(&file).stderr(Stdio::null()));
    listening(port);
    let mut lab = Lab::new();
    let worker = children(nginx.pid()).unwrap()[0];
    lab.select(worker);
    let url = format!("https://127.0.0.1:{port}/a");
    let answers = Command::new("curl").args(["-sk", &url, &url, &url]).output().unwrap();
    assert_eq!(answers.stdout, b"hellohellohello");
    lab.turn();
    let streams = lab.seen.of(worker);
    assert_eq!(streams.len(), 1, "{:#?}", lab.seen);
    assert_eq!(streams[0].text[0].matches("GET /a").count(), 3);
    assert_eq!(streams[0].text[1].matches("HTTP/1.1 200").count(), 3);
    assert!(!streams[0].joined);
    // Killed, as it is when dropped, it would leave its worker behind.
    nginx.signal(libc::SIGTERM);
    lab.until("end of the worker", |lab| lab.seen.ended.contains(&worker));
}

#[test]
fn a_library_that_is_mapped_later_is_found() {
    if cannot_run(&["python3"]) {
        return;
    }
    let server = python_server();
    let mut late = Running::start(
        Command::new("python3")
            .args(["-c", LATE, &server.port.to_string(), CLIENT])
            .stdin(Stdio::piped()),
    );
    assert_eq!(late.line(), "ready");
    let pid = late.pid();
    let mut lab = Lab::new();
    lab.select(pid);
    assert!(!lab.tls().sees(pid));
    late.say("go");
    lab.until("end of the program", |lab| lab.seen.ended.contains(&pid));
    let requests: usize =
        lab.seen.of(pid).iter().map(|stream| stream.text[1].matches("GET /request/").count()).sum();
    // What came before the library was seen is missing, and said to be.
    let joined = lab.seen.of(pid).iter().any(|stream| stream.joined);
    assert!(requests == 5 || joined && requests >= 1, "{:#?}", lab.seen);
    assert!(!lab.seen.streams.values().any(|stream| stream.sources.contains(&Source::Socket)));
}

#[test]
fn an_unselected_process_with_the_same_library_yields_nothing() {
    if cannot_run(&["python3", "curl"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    lab.select(server.running.pid());
    lab.targets.deselect(server.running.pid());
    let status = lab.tls().status();
    assert!(status.iter().any(|file| file.points > 0), "{status:?}");
    let url = format!("https://127.0.0.1:{}/private", server.port);
    assert!(Command::new("curl").args(["-sk", &url]).output().unwrap().status.success());
    lab.turn();
    assert!(lab.seen.streams.is_empty(), "{:#?}", lab.seen);
}

#[test]
fn a_file_is_attached_once_and_detached_when_nobody_selected_maps_it() {
    if cannot_run(&["python3"]) {
        return;
    }
    let servers = [python_server(), python_server()];
    let mut lab = Lab::new();
    for server in &servers {
        lab.select(server.running.pid());
    }
    let status = lab.tls().status();
    let files: Vec<_> = status.iter().filter(|file| file.points > 0).collect();
    assert_eq!(files.len(), 1, "{status:?}");
    assert_eq!(files[0].processes, 2);
    for server in &servers {
        lab.tls().process_gone(server.running.pid());
    }
    lab.until("detached", |lab| lab.tls().status().is_empty());
}

#[test]
fn everything_is_detached_within_300_ms() {
    if cannot_run(&["python3"]) {
        return;
    }
    let server = python_server();
    let mut lab = Lab::new();
    lab.select(server.running.pid());
    let start = Instant::now();
    drop(lab.tls.take());
    let elapsed = start.elapsed();
    println!("detached in {elapsed:?}");
    // The budget is 300 ms; a machine that runs other tests besides gets more.
    assert!(elapsed < patient(Duration::from_secs(3)), "{elapsed:?}");
}
