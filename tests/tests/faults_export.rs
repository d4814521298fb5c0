//! Collectors that do not do what they should, end to end: what becomes of the spans of a running
//! agent. How one request is treated is in the agent's own tests (`export/tests/`); a collector that
//! is away is in `outage.rs`.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    config_file::ConfigFile,
    nginx::Nginx,
    process::{Running, free_port, listening, patient, until},
    programs::certificate,
    scripted::{Answer, Request, Scripted},
    skip,
};
use tempfile::TempDir;

const REQUESTS: usize = 60;

const MEMORY: u64 = 64 << 20;

/// Whether this is no place for it; says so.
fn in_a_guest() -> bool {
    if skip::emulated() {
        println!(
            "skipped: what a collector does is not the kernel's, and the time-outs here are short"
        );
    }
    skip::emulated()
}

/// Quick to give up, so that a test need not last.
fn config(endpoint: &str, more: &str) -> ConfigFile {
    ConfigFile::new(&format!(
        "output:\n  batch: {{delay: 50ms}}\n  otlp:\n    endpoint: {endpoint}\n    \
         protocol: http/protobuf\n    timeout: 1s\n{more}"
    ))
}

fn ask(nginx: &Nginx, numbers: std::ops::Range<usize>) {
    let mut connection = Connection::open(nginx.port()).unwrap();
    for number in numbers {
        let target = format!("/small/{number}");
        assert_eq!(connection.get(&target, "").unwrap().status, 200);
    }
}

/// Traffic while the collector follows its script and after it, until it has everything that it will get.
fn with(answers: Vec<Answer>) -> (Done, Vec<Request>, Vec<String>, usize) {
    let nginx = Nginx::start();
    let faults = answers.len();
    let collector = Scripted::start(answers);
    let config = config(&collector.endpoint(), "");
    let agent = Agent::on(&nginx.pids(), &config.flags());
    let mut asked = 0;
    let mut some = || {
        ask(&nginx, asked..asked + 10);
        asked += 10;
    };
    until("the script to be over", || {
        some();
        // Some hundred a second: the collector is not built for release either.
        thread::sleep(Duration::from_millis(50));
        collector.requests().len() > faults
    });
    some();
    let expected: BTreeSet<String> = (0..asked).map(|number| format!("/small/{number}")).collect();
    until("the spans", || collector.paths().into_iter().collect::<BTreeSet<_>>() == expected);
    drop(nginx);
    let done = agent.stop();
    let books = done.books();
    assert_eq!(done.requests(), [asked as u64, asked as u64, 0, 0], "{}", done.log);
    // Whatever becomes of one destination, the other has all.
    assert_eq!(books.traces_to("file").exported, books.spans, "{}", done.log);
    assert_eq!(done.spans.len(), asked);
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    (done, collector.requests(), collector.paths(), asked)
}

/// Every span came, and came once.
fn nothing_is_lost(what: &str, answers: Vec<Answer>) -> (Done, Vec<Request>) {
    let (done, requests, mut paths, asked) = with(answers);
    let lane = done.books().traces_to("otlp").clone();
    assert_eq!((lane.exported, lane.dropped.len()), (asked as u64, 0), "{what}: {}", done.log);
    paths.sort();
    let count = paths.len();
    paths.dedup();
    assert_eq!((paths.len(), count), (asked, asked), "{what}: {}", done.log);
    println!("{what}: {} requests for {asked} spans, {} MB", requests.len(), done.peak >> 20);
    (done, requests)
}

/// The log says so once, however often it happens.
fn said_once(done: &Done, what: &str) {
    assert_eq!(done.log.matches(what).count(), 1, "{}", done.log);
}

fn status(status: u16, fields: &str) -> Answer {
    Answer::Status(status, fields.to_owned())
}

#[test]
fn collector_that_takes_connections_and_never_answers_costs_no_span() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (done, _) = nothing_is_lost("hangs", vec![Answer::Hang, Answer::Hang]);
    said_once(&done, "cannot export now; will keep trying");
    said_once(&done, "export works again");
}

#[test]
fn collector_that_is_busy_is_asked_again_when_it_says() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let answers = vec![status(429, "retry-after: 2\r\n"), status(503, "retry-after: 1\r\n")];
    let (done, requests) = nothing_is_lost("429, then 503", answers);
    let pause = |at: usize| requests[at].at - requests[at - 1].at;
    assert!(pause(1) >= Duration::from_secs(2) && pause(2) >= Duration::from_secs(1));
    said_once(&done, "cannot export now; will keep trying");
}

#[test]
fn answer_that_comes_byte_by_byte_costs_no_span_and_doubles_none() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    nothing_is_lost("a head that drips", vec![Answer::Drip { head: true }]);
    // The status says that it has them.
    nothing_is_lost("content that drips", vec![Answer::Drip { head: false }]);
}

#[test]
fn spans_that_a_collector_does_not_keep_are_counted() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (done, requests, _, asked) = with(vec![Answer::Partly(2), Answer::Partly(1)]);
    let lane = done.books().traces_to("otlp").clone();
    assert_eq!(lane.dropped("partly_refused"), 3, "{}", done.log);
    assert_eq!(lane.exported, asked as u64 - 3, "{}", done.log);
    assert!(requests.iter().all(|request| request.accepted));
    assert!(done.log.contains("collector did not keep everything"), "{}", done.log);
}

/// What is sent to `endpoint` never arrives; everything else works, and the agent ends in time.
fn nothing_arrives(endpoint: &str, more: &str, wrapper: &[&str], said: &str) {
    let nginx = Nginx::start();
    let config = config(endpoint, more);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("spans");
    let pids = nginx.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let flags = config.flags();
    let mut arguments = vec!["run", "--pid", &pids, "--otlp-file", file.to_str().unwrap()];
    arguments.extend(flags);
    let agent = Agent::bare_under(wrapper, &arguments);
    ask(&nginx, 0..REQUESTS);
    until("the failure to be said", || agent.log().contains(said));
    drop(nginx);
    let start = Instant::now();
    let done = agent.stop();
    let took = start.elapsed();
    let count = REQUESTS as u64;
    let books = done.books();
    assert_eq!(done.requests(), [count, count, 0, 0], "{}", done.log);
    let lane = books.traces_to("otlp");
    assert_eq!((lane.exported, lane.dropped("shutdown")), (0, count), "{}", done.log);
    assert_eq!(books.traces_to("file").exported, count, "{}", done.log);
    // Once for each signal.
    assert!(done.log.matches("cannot export now").count() <= 2, "{}", done.log);
    // Five seconds are for what could not be sent.
    assert!(took < patient(Duration::from_secs(9)), "{took:?}");
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    println!("{said}: ended after {took:?}, {} MB", done.peak >> 20);
}

#[test]
fn collector_with_a_certificate_of_somebody_else_gets_nothing() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx", "openssl"]) {
        return;
    }
    let (theirs, ours) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    certificate(theirs.path());
    certificate(ours.path());
    let port = free_port();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    server.arg("-cert").arg(theirs.path().join("cert.pem"));
    server.arg("-key").arg(theirs.path().join("key.pem"));
    let _server = Running::start_unread(server.stdin(Stdio::null()).stderr(Stdio::null()));
    listening(port);
    let trust = format!("    certificate: {}\n", ours.path().join("cert.pem").display());
    let endpoint = format!("https://localhost:{port}");
    nothing_arrives(&endpoint, &trust, &["env"], "invalid peer certificate");
}

#[test]
fn name_server_that_is_silent_holds_nothing_up() {
    if in_a_guest() || skip::without_root() || skip::without(&["nginx", "unshare", "ip"]) {
        return;
    }
    // A network of its own, whose name server takes questions and answers none.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let file = file.display();
    let script =
        format!("ip link set lo up && mount --bind {file} /etc/resolv.conf && exec \"$@\"");
    // Bound in its network: questions stay in the socket's buffer.
    let silent = "import os,socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); \
                  s.bind(('127.0.0.1',53)); os.set_inheritable(s.fileno(),True); \
                  os.execvp(sys.argv[1],sys.argv[1:])";
    let wrapper = ["unshare", "--net", "--mount", "sh", "-c", &script, "sh"];
    let wrapper = [&wrapper[..], &["python3", "-c", silent]].concat();
    let endpoint = "http://collector.invalid:4318";
    nothing_arrives(endpoint, "", &wrapper, "cannot export now; will keep trying");
}
