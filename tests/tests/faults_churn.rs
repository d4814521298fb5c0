//! Connections, descriptors and processes that come and go faster than anybody would look at them.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    config_file::ConfigFile,
    nginx::Nginx,
    process::{Running, lasting, until},
    programs::target,
    skip,
    spans::{CLIENT, SERVER, Span},
    storm::Storm,
};
use tempfile::TempDir;

const MEMORY: u64 = 128 << 20;

#[test]
fn every_connection_of_thousands_a_second_is_a_span_and_none_is_left_behind() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let config = ConfigFile::new("limits: {ring: 16MiB, queue: 256MiB}\n");
    let agent = Agent::on(&nginx.pids(), &config.flags());
    let time = lasting(Duration::from_secs(3), Duration::from_secs(30));
    let storm = Storm::of(nginx.port(), "/load", 16, time);
    assert_eq!(storm.failures, [""; 0], "a request failed");
    let logged = nginx.quit().len() as u64;
    let (done, written) = agent.stop_and_count();
    let books = done.books();
    assert_eq!(storm.answered, logged);
    assert_eq!(done.requests(), [logged, logged, 0, 0], "{}", done.log);
    assert_eq!((written, books.gap_bytes), (logged, 0), "{}", done.log);
    let held = done.gauge("remora.kernel.map.entries", "CONNECTIONS");
    assert_eq!(held, Some(0), "connections are left in the kernel's map: {}", done.log);
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    println!("{logged} connections, {:.0} a second; {} MB", storm.rate(), done.peak >> 20);
}

#[test]
fn descriptors_that_change_hands_mix_no_two_connections() {
    if skip::without_root() || skip::without(&["nginx", "python3"]) {
        return;
    }
    const ROUNDS: usize = 200;
    let nginx = Nginx::start();
    let mut client = Command::new("python3");
    client.arg(target("faults/descriptors.py"));
    client.args([nginx.port().to_string(), ROUNDS.to_string()]).stdin(Stdio::piped());
    let mut client = Running::start(&mut client);
    assert_eq!(client.line(), "ready");
    let agent = Agent::on(&[client.pid()], &[]);
    client.say("go");
    assert_eq!(client.line(), "1", "connections had different numbers");
    assert_eq!(client.finish(), "");
    let done = agent.stop();
    let mut expected = BTreeMap::new();
    for n in 0..ROUNDS {
        match n % 4 {
            3 => expected.insert(format!("GET /small/left/{n} 0"), 1),
            _ => expected.insert(format!("GET /small/{n} 200"), 1),
        };
        expected.insert(format!("GET /small/one/{n} 200"), 1);
        expected.insert(format!("GET /nothing/other/{n} 204"), 1);
    }
    let mut lines = BTreeMap::new();
    for span in &done.spans {
        assert_eq!(span.kind, CLIENT);
        let left = span.text("url.full").contains("/left/");
        assert_eq!(!span.text("error.type").is_empty(), left, "{span:?}");
        *lines.entry(span.line()).or_insert(0) += 1;
    }
    assert_eq!(lines, expected, "{}", done.log);
    let books = done.books();
    assert_eq!((books.requests, books.all_lost()), (3 * ROUNDS as u64, 0), "{}", done.log);
}

#[test]
fn a_process_id_that_is_used_again_is_another_process() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    // A path that nobody else has.
    let program = folder.path().join("stock");
    fs::copy(env!("CARGO_BIN_EXE_stock"), &program).unwrap();
    let mut starter = Command::new("python3");
    starter.arg(target("faults/pid.py")).arg(&program).stdin(Stdio::piped());
    let mut starter = Running::start(&mut starter);
    let agent = Agent::start("run", &["--exe".to_owned(), program.display().to_string()]);
    let (mut pid, mut number, mut again) = (0, 0, 0);
    // Somebody else may get the number in between: then another is taken.
    while again < 20 {
        number += 1;
        assert!(number < 100, "the numbers are always taken");
        starter.say(&format!("start {pid} service-{number}"));
        let mut lines = vec![starter.line()];
        if lines[0] == "taken" {
            pid = 0;
            continue;
        }
        lines.push(starter.line());
        let value = |start: &str| lines.iter().find_map(|line| line.strip_prefix(start));
        again += u32::from(value("pid ") == Some(&pid.to_string()));
        pid = value("pid ").unwrap().parse().unwrap_or_else(|_| panic!("{lines:?}"));
        let port = value("listening on 127.0.0.1:").unwrap().parse().unwrap();
        agent.signal(libc::SIGCONT);
        let selected = format!("service=\"service-{number}\"");
        until("the process to be selected", || agent.log().contains(&selected));
        let mut connection = Connection::open(port).unwrap();
        assert_eq!(connection.get(&format!("/items/{}", number * 10), "").unwrap().status, 200);
        if number % 2 == 0 {
            // It hears of the end and of the next beginning at once.
            agent.signal(libc::SIGSTOP);
        }
        starter.say("stop");
        assert_eq!(starter.line(), "stopped");
    }
    agent.signal(libc::SIGCONT);
    let done = agent.stop();
    let services: BTreeMap<String, &str> =
        done.spans.iter().map(|span| (span.line(), &*span.service)).collect();
    for span in &done.spans {
        let item: u32 = span.text("url.path").rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(span.service, format!("service-{}", item / 10), "{}", done.log);
    }
    let books = done.books();
    assert_eq!((services.len() as u64, books.all_lost()), (books.requests, 0), "{}", done.log);
    assert!(books.spans >= u64::from(again), "{}", done.log);
    println!("one number {again} times again");
}

/// Requests to a server with a process for each, one after the other.
fn forks(arguments: &[&str], config: &str, requests: usize) -> (Done, Duration) {
    let mut server = Command::new("python3");
    server.arg(target("faults/forks.py")).args(arguments).env("OTEL_SERVICE_NAME", "many");
    let mut server = Running::start(&mut server);
    let port = server.line().parse().unwrap();
    let config = ConfigFile::new(config);
    let agent = Agent::on(&[server.pid()], &config.flags());
    let start = Instant::now();
    for number in 0..requests {
        let mut connection = Connection::open(port).unwrap();
        assert_eq!(connection.get(&format!("/{number}"), "").unwrap().status, 200);
    }
    let took = start.elapsed();
    drop(server);
    let done = agent.stop();
    let count = requests as u64;
    assert_eq!(done.requests(), [count, count, 0, 0], "{}", done.log);
    let wrong = |span: &&Span| span.service != "many" || span.kind != SERVER;
    assert_eq!(done.spans.iter().filter(wrong).count(), 0, "{}", done.log);
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    (done, took)
}

#[test]
fn every_process_of_hundreds_a_second_is_followed_and_forgotten() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let requests = if skip::emulated() { 100 } else { 600 };
    let (done, took) = forks(&[], "limits: {ring: 16MiB}\n", requests);
    assert_eq!(done.gauge("remora.processes", ""), Some(0), "{}", done.log);
    assert_eq!(done.gauge("remora.kernel.map.entries", "CONNECTIONS"), Some(0), "{}", done.log);
    let rate = requests as f64 / took.as_secs_f64();
    println!("{requests} processes, {rate:.0} a second; {} MB", done.peak >> 20);
}

#[test]
fn unix_sockets_that_end_with_their_process_leave_room_for_others() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    // Twice as many sockets as there is room for.
    let requests = if skip::emulated() { 60 } else { 300 };
    let (done, _) = forks(&["unix"], &format!("limits: {{connections: {requests}}}\n"), requests);
    assert_eq!(done.books().dropped_in_kernel("connections_full"), 0, "{}", done.log);
}
