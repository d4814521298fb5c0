//! Targets that crash, become another program or stand still, and two agents on one target.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use remora_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::{Connection, Load},
    impatient::GivesUp,
    nginx::Nginx,
    node,
    process::{Running, children, free_port, until},
    programs::{built, target},
    skip,
    spans::{self, Span},
};
use tempfile::TempDir;

/// `targets/faults/trouble.py`, its port, and an agent on it.
fn trouble() -> (Running, u16, Agent) {
    let mut server = Command::new("python3");
    server.arg(target("faults/trouble.py")).env("OTEL_SERVICE_NAME", "first");
    // What it was doing is of no interest to anybody.
    server.env("PYTHONFAULTHANDLER", "");
    let mut server = Running::start(&mut server);
    let port = server.line().parse().unwrap();
    let agent = Agent::on(&[server.pid()], &[]);
    (server, port, agent)
}

#[test]
fn requests_that_a_crash_cuts_off_are_spans_with_an_error() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    for (path, status) in [("/crash", 200), ("/abort", 0)] {
        let (mut server, port, agent) = trouble();
        let mut connection = Connection::open(port).unwrap();
        assert_eq!(connection.get("/fine", "").unwrap().body, "hello");
        assert!(connection.get(path, "").is_err(), "there was a whole answer");
        assert!(!server.wait().success());
        let done = agent.stop();
        let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
        let log = &done.log;
        assert_eq!(lines, ["GET /fine 200".to_owned(), format!("GET {path} {status}")], "{log}");
        let error = |span: &Span| span.text("error.type").to_owned();
        assert_eq!(error(&done.spans[0]), "", "{log}");
        assert_ne!(error(&done.spans[1]), "", "{log}");
        let books = done.books();
        assert_eq!((books.requests, books.all_lost(), books.gap_bytes), (2, 0, 0), "{log}");
        println!("{path}: error.type {}", error(&done.spans[1]));
    }
}

/// Asks for `path` and gives up 20 ms later.
fn ask_and_give_up(port: u16, path: &str, how: GivesUp) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // In one go: the server reads once.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(20));
    let answer = how.give_up(stream).unwrap();
    assert!(!matches!(how, GivesUp::HalfClose) || answer.ends_with("hello"), "{answer}");
}

#[test]
fn requests_whose_clients_give_up_are_spans_with_what_the_server_did() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    const EACH: usize = 10;
    for how in [GivesUp::Close, GivesUp::Reset, GivesUp::HalfClose] {
        let (_server, port, agent) = trouble();
        for path in ["/late/one", "/late/two"] {
            for _ in 0..EACH {
                ask_and_give_up(port, path, how);
                // The server takes the next one when it has done with this one.
                thread::sleep(Duration::from_millis(80));
            }
        }
        // One connection at a time: whoever is answered here comes after all of them.
        assert_eq!(Connection::open(port).unwrap().get("/fine", "").unwrap().body, "hello");
        let done = agent.stop();
        let books = done.books();
        let log = &done.log;
        assert_eq!(books.all_lost(), 0, "{how:?} {log}");
        // Also what a slow server reads when it was reset already.
        assert_eq!(books.requests, 2 * EACH as u64 + 1, "{how:?} {log}");
        let told = |path: &str| -> Vec<(String, &str)> {
            let of_path = done.spans.iter().filter(|span| span.text("url.path") == path);
            of_path.map(|span| (span.line(), span.text("error.type"))).collect()
        };
        for (path, spans) in [("/late/one", told("/late/one")), ("/late/two", told("/late/two"))] {
            assert_eq!(spans.len(), EACH, "{how:?} {log}");
            for (line, error) in spans {
                match how {
                    // Nothing was written, or that was refused.
                    GivesUp::Reset => {
                        assert_eq!(line, format!("GET {path} 0"), "{log}");
                        assert!(!error.is_empty());
                    }
                    // The second write meets the reset that answers the first.
                    GivesUp::Close if path == "/late/two" => {
                        assert_eq!((&*line, error), ("GET /late/two 200", "connection_reset"));
                    }
                    _ => {
                        assert_eq!((line, error), (format!("GET {path} 200"), ""), "{how:?} {log}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_process_that_becomes_another_program_in_mid_answer_is_followed() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let (server, port, agent) = trouble();
    let mut connection = Connection::open(port).unwrap();
    for (path, body) in [("/before", "hello"), ("/exec", "helloworld"), ("/after", "hello")] {
        assert_eq!(connection.get(path, "").unwrap().body, body);
    }
    drop(connection);
    // Over a connection that only the new program has had.
    let mut connection = Connection::open(port).unwrap();
    assert_eq!(connection.get("/new", "").unwrap().body, "hello");
    drop((connection, server));
    let done = agent.stop();
    let seen: Vec<String> =
        done.spans.iter().map(|span| format!("{} {}", span.service, span.line())).collect();
    let expected =
        ["first GET /before", "second GET /exec", "second GET /after", "second GET /new"];
    assert_eq!(seen, expected.map(|line| format!("{line} 200")), "{}", done.log);
    let books = done.books();
    assert_eq!((books.requests, books.all_lost(), books.gap_bytes), (4, 0, 0), "{}", done.log);
}

#[test]
fn a_frozen_target_holds_up_no_agent_and_goes_on_as_it_was() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let Some(group) = Cgroup::new("freezer") else {
        println!("skipped: there are no control groups");
        return;
    };
    let nginx = Nginx::start();
    nginx.pids().into_iter().for_each(|pid| group.add(pid));
    let first = Agent::on(&nginx.pids(), &[]);
    let mut kept = Connection::open(nginx.port()).unwrap();
    assert_eq!(kept.get("/small/before", "").unwrap().status, 200);
    group.freeze(true);
    let waits = thread::spawn(move || kept.get("/small/frozen", "").unwrap().status);
    let start = Instant::now();
    let second = Agent::on(&nginx.pids(), &[]);
    // The first ends while nothing moves.
    let done = first.stop();
    assert_eq!(done.requests(), [1, 1, 0, 0], "{}", done.log);
    let frozen = start.elapsed();
    assert!(!waits.is_finished(), "it was not frozen");
    group.freeze(false);
    assert_eq!(waits.join().unwrap(), 200);
    let mut connection = Connection::open(nginx.port()).unwrap();
    assert_eq!(connection.get("/small/after", "").unwrap().status, 200);
    drop((connection, nginx));
    let done = second.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small/frozen 200", "GET /small/after 200"], "{}", done.log);
    assert_eq!(done.books().all_lost(), 0, "{}", done.log);
    assert!(frozen < Duration::from_secs(30), "{frozen:?}");
}

#[test]
fn two_agents_on_one_target_see_the_same_and_one_outlives_the_other() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let pids = nginx.pids();
    // At once, and from then on three: the last is killed.
    let agents = thread::scope(|scope| {
        let start = || scope.spawn(|| Agent::on(&pids, &[]));
        [start(), start(), start()].map(|agent| agent.join().unwrap())
    });
    let [one, other, third] = agents;
    let load = Load::start(nginx.port(), "/load", 2);
    load.more_of_each(50);
    third.kill();
    load.more_of_each(50);
    assert_eq!(load.stop(), [""; 0]);
    let mut connection = Connection::open(nginx.port()).unwrap();
    assert_eq!(connection.get("/small/last", "").unwrap().status, 200);
    for agent in [&one, &other] {
        until("the last span", || spans::with_path(&agent.spans(), "/small/last") == 1);
    }
    drop(connection);
    let logged = nginx.quit().len() as u64;
    for agent in [one, other] {
        let done = agent.stop();
        assert_eq!(done.requests(), [logged, logged, 0, 0], "{}", done.log);
    }
}

/// On a busy machine an agent may come to a new program when that has forked already.
#[test]
fn children_that_a_program_made_before_it_was_selected_are_watched_with_it() {
    if skip::without_root() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let shell = folder.path().join("shell");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &shell).unwrap();
    let agent = Agent::on(&[], &["--exe", shell.to_str().unwrap()]);
    let port = free_port();
    agent.signal(libc::SIGSTOP);
    let mut server = Command::new(&shell);
    server.args(["-c", "\"$0\" \"$1\" & wait"]).arg(built().join("once")).arg(port.to_string());
    let mut server = Running::start(&mut server);
    node::listening(server.pid(), port);
    agent.signal(libc::SIGCONT);
    let child = format!("process selected pid={} ", children(server.pid()).unwrap()[0]);
    until("the child to be selected", || agent.log().contains(&child));
    assert_eq!(Connection::open(port).unwrap().get("/first", "").unwrap().status, 200);
    server.wait();
    let done = agent.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /first 200"], "{}", done.log);
}
