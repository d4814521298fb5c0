//! Records that are lost, connections that there is no room for: what the kernel side gives up on is
//! counted, what it costs is counted, and the two explain what the client counts.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

use remora_tests::{
    agent::{Agent, Done},
    books::Books,
    client::{Connection, Load, Rested},
    config_file::ConfigFile,
    nginx::Nginx,
    process::{Running, lasting, patient, until},
    skip,
    spans::{self, Span},
};
use tempfile::TempDir;

const CONNECTIONS: usize = 16;

/// Of an agent that is not built for release, beyond what its ring and its queue hold.
const MEMORY: u64 = 64 << 20;

/// What is known when it is over.
struct Disturbed {
    done: Done,
    books: Books,
    /// As the client counts them, and as nginx logged them.
    requests: u64,
    /// Bytes that these were.
    moved: u64,
}

/// Load on nginx while something happens to its agent, then a calm in which every connection is seen
/// once more.
fn disturbed(config: &str, disturb: impl FnOnce(&Agent, &Load)) -> Disturbed {
    let nginx = Nginx::start();
    let config = ConfigFile::new(config);
    let agent = Agent::on(&nginx.pids(), &config.flags());
    let load = Load::start(nginx.port(), "/load", CONNECTIONS);
    disturb(&agent, &load);
    let Rested { mut connections, answered, failures } = load.rest();
    assert_eq!(failures, [""; 0], "a request failed");
    // The reader catches up. What is asked before it has may be lost as well.
    let mut calm = 0;
    until("a request of each connection to be seen", || {
        calm += 1;
        let target = format!("/small/calm-{calm}");
        for connection in &mut connections {
            assert_eq!(connection.get(&target, "").unwrap().status, 200);
        }
        let seen = || spans::with_path(&agent.spans(), &target) == CONNECTIONS;
        (0..patient(Duration::from_secs(3)).as_millis() / 100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            seen()
        })
    });
    let moved = connections.iter().map(|connection| connection.moved).sum();
    drop(connections);
    let requests = answered + calm * CONNECTIONS as u64;
    // Before nginx: its processes say good-bye to each other over a socket of their own.
    let (done, written) = agent.stop_and_count();
    assert_eq!(nginx.quit().len() as u64, requests, "client and server agree");
    let books = done.books();
    assert_eq!(written, books.spans);
    Disturbed { books, done, requests, moved }
}

impl Disturbed {
    /// Every byte was seen or is known to have been missed, every request is in the books or may be
    /// among the records that were lost.
    fn closes(&self, what: &str) {
        let Self { done, books, requests, moved } = self;
        let lost = books.dropped_in_kernel("ring_full");
        assert!(lost > 0, "nothing was lost: {}", done.log);
        let unseen = books.explain(*requests, "ring_full");
        assert!(books.gap_bytes > 0 && books.spans > 0, "{}", done.log);
        assert_eq!(books.bytes + books.gap_bytes, *moved, "{}", done.log);
        assert_eq!(books.lost("gap") + books.lost("no_request"), books.all_lost(), "{}", done.log);
        assert!(done.peak < MEMORY, "{} bytes", done.peak);
        println!(
            "{what}: of {requests} requests {} became spans, {} are counted as lost, {unseen} left \
             no record; {lost} records lost; {} of {moved} bytes missed; {} MB at most",
            books.spans,
            books.all_lost(),
            books.gap_bytes,
            done.peak >> 20
        );
    }
}

#[test]
fn records_lost_in_a_tiny_ring_are_counted_and_explain_every_request() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    if skip::emulated() {
        println!("skipped: with one slow processor the reader is as fast as everybody else");
        return;
    }
    let time = lasting(Duration::from_secs(2), Duration::from_secs(30));
    disturbed("limits: {ring: 64KiB}\n", |_, load| {
        load.more_of_each(100);
        thread::sleep(time);
    })
    .closes("a ring of 64 KiB");
}

#[test]
fn agent_that_is_stopped_under_load_catches_up_and_counts_what_it_missed() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let time = lasting(Duration::from_secs(2), Duration::from_secs(20));
    // Small enough to be full in that time on any machine.
    disturbed("limits: {ring: 1MiB}\n", |agent, load| {
        load.more_of_each(50);
        agent.signal(libc::SIGSTOP);
        load.more_of_each(50);
        thread::sleep(time);
        load.more_of_each(50);
        agent.signal(libc::SIGCONT);
        load.more_of_each(50);
    })
    .closes("an agent that was stopped");
}

#[test]
fn connections_beyond_the_limit_are_counted_and_the_others_are_whole() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    const LIMIT: usize = 16;
    let nginx = Nginx::start();
    let config = ConfigFile::new(&format!("limits: {{connections: {LIMIT}}}\n"));
    let agent = Agent::on(&nginx.pids(), &config.flags());
    let load = Load::start(nginx.port(), "/load", 5 * LIMIT);
    load.more_of_each(25);
    let Rested { connections, answered, failures } = load.rest();
    assert_eq!(failures, [""; 0]);
    let moved: u64 = connections.iter().map(|connection| connection.moved).sum();
    drop(connections);
    // Now there is room, once the worker has closed them.
    let mut late = 0;
    until("a connection in the room that was left", || {
        late += 1;
        let target = format!("/small/late-{late}");
        let mut connection = Connection::open(nginx.port()).unwrap();
        assert_eq!(connection.get(&target, "").unwrap().status, 200);
        let seen = || spans::with_path(&agent.spans(), &target) == 1;
        (0..patient(Duration::from_secs(3)).as_millis() / 100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            seen()
        })
    });
    let requests = answered + late;
    assert_eq!(nginx.quit().len() as u64, requests);
    let done = agent.stop();
    let books = done.books();
    let unseen = books.explain(requests, "connections_full");
    assert!(unseen > 0 && books.bytes < moved, "{}", done.log);
    // Those that were followed were followed throughout.
    assert_eq!((books.spans, books.all_lost()), (books.requests, 0), "{}", done.log);
    let port = |span: &Span| span.int("network.peer.port");
    let load = |span: &&Span| span.text("url.path") == "/load";
    let ports: BTreeSet<i64> = done.spans.iter().filter(load).filter_map(port).collect();
    assert_eq!(ports.len(), LIMIT, "{}", done.log);
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    println!(
        "of {requests} requests on {} connections {} became spans, of {LIMIT}; {} calls were on \
         connections that there was no room for; {} MB at most",
        5 * LIMIT,
        books.spans,
        books.dropped_in_kernel("connections_full"),
        done.peak >> 20
    );
}

#[test]
fn a_process_that_starts_while_records_are_lost_is_found() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    // A path that nobody else has.
    let program = folder.path().join("stock");
    fs::copy(env!("CARGO_BIN_EXE_stock"), &program).unwrap();
    let nginx = Nginx::start();
    let config = ConfigFile::new("limits: {ring: 64KiB}\n");
    let path = program.to_str().unwrap();
    let agent = Agent::on(&nginx.pids(), &[&config.flags()[..], &["--exe", path]].concat());
    let load = Load::start(nginx.port(), "/quiet", 4);
    agent.signal(libc::SIGSTOP);
    // More than the ring holds.
    load.more_of_each(100);
    let mut server = Running::start(&mut Command::new(&program));
    let port = server.line().rsplit(':').next().unwrap().parse().unwrap();
    load.more_of_each(10);
    assert_eq!(load.stop(), [""; 0]);
    agent.signal(libc::SIGCONT);
    // The next records are what makes it look.
    let mut asked = 0;
    until("the process to be seen", || {
        asked += 1;
        assert_eq!(Connection::open(port).unwrap().get("/items/1", "").unwrap().status, 200);
        let mut nudge = Connection::open(nginx.port()).unwrap();
        assert_eq!(nudge.get("/quiet", "").unwrap().status, 200);
        thread::sleep(Duration::from_millis(100));
        spans::with_path(&agent.spans(), "/items/1") > 0
    });
    drop((server, nginx));
    let done = agent.stop();
    assert!(done.books().dropped_in_kernel("ring_full") > 0, "{}", done.log);
    println!("seen after {asked} requests");
}
