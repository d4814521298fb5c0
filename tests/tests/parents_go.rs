//! Whose child is a request that a Go service makes while it serves others? Its goroutines tell, also in a stripped program.
//!
//! The oracle is the target (`targets/parents`): a service that is asked for `/turn/7` asks another one for `/first/7` and
//! `/second/7`. Both its connections and those of its client are kept.

use std::{
    process::{Command, Stdio},
    thread,
};

use remora::bpf::Door;
use remora_tests::{
    agent::{Agent, Done},
    backend,
    client::Connection,
    doors,
    parents::{Traffic, ask_on, none_is_wrong},
    process::Running,
    programs, skip,
};

const CLIENTS: usize = 16;
const EACH: usize = 24;
const TRAFFIC: Traffic = Traffic { clients: CLIENTS, each: EACH };
const ORDERS: usize = TRAFFIC.orders();

const PLAIN: &str = "plain";
const STRIPPED: &str = "stripped";

/// Requests of which `net/http` may read the first byte ahead before the call that sent the answer before has returned; rarely one.
const READ_AHEAD: usize = 4;

/// Requests that are the first ones to start goroutines with a function, which may be a pool's: these do not say for whom.
const FIRST: usize = 2 * CLIENTS;

/// Goroutines of goroutines wait for both functions.
const FIRST_NESTED: usize = 3 * CLIENTS;

fn service(program: &str) -> (Running, u16) {
    let mut service = Command::new(programs::go_parents().join(program));
    service.arg(backend::start().to_string()).stdin(Stdio::piped());
    let mut service = Running::start(&mut service);
    let port = service.line().parse().unwrap();
    (service, port)
}

fn watch(program: &str, traffic: impl FnOnce(u16)) -> Done {
    let (service, port) = service(program);
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    traffic(port);
    // What it does when it has answered, too.
    thread::sleep(std::time::Duration::from_millis(300));
    drop(service);
    agent.stop()
}

/// All parents are there but those of so many orders.
fn all_but(without: usize, program: &str, how: &str) {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let done = watch(program, |port| TRAFFIC.ask(port, how));
    parents_but(without, &done);
}

fn parents_but(without: usize, done: &Done) {
    for name in ["first", "second"] {
        let (with, all) = none_is_wrong(done, name);
        assert_eq!(all, ORDERS, "{}", done.log);
        assert!(with >= ORDERS - without, "{with} of {ORDERS}\n{}", done.log);
    }
}

#[test]
fn requests_in_turn_are_under_their_own_server_span() {
    all_but(READ_AHEAD, PLAIN, "turn");
}

#[test]
fn requests_at_once_are_under_their_own_server_span() {
    all_but(FIRST, PLAIN, "once");
}

#[test]
fn requests_of_goroutines_of_goroutines_are_under_their_own_server_span() {
    all_but(FIRST_NESTED, PLAIN, "nested");
}

#[test]
fn stripped_program_has_its_parents_in_turn() {
    all_but(READ_AHEAD, STRIPPED, "turn");
}

#[test]
fn stripped_program_has_its_parents_at_once() {
    all_but(FIRST, STRIPPED, "once");
}

#[test]
fn what_was_begun_for_an_answered_request_is_not_under_the_next_one() {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let done = watch(PLAIN, |port| TRAFFIC.ask(port, "late"));
    let (with, all) = none_is_wrong(&done, "first");
    assert!(all == ORDERS && with >= all - READ_AHEAD, "{with} of {all}\n{}", done.log);
    let _ = none_is_wrong(&done, "second");
}

#[test]
fn handler_that_goes_on_behind_its_answer_does_not_work_for_the_request_that_is_read_ahead() {
    no_wrong_parent("early");
}

#[test]
fn client_that_writes_for_all_has_no_wrong_parent() {
    no_wrong_parent("shared");
}

#[test]
fn workers_that_the_first_request_has_started_have_no_wrong_parent() {
    no_wrong_parent("pool");
}

#[test]
fn goroutines_that_workers_start_have_no_wrong_parent() {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let done = watch(PLAIN, |port| {
        // Goroutines that begin with the same function work for who has started them: handlers.
        TRAFFIC.ask(port, "once");
        TRAFFIC.ask(port, "spread");
    });
    for name in ["first", "second"] {
        assert_eq!(none_is_wrong(&done, name).1, 2 * ORDERS, "{}", done.log);
    }
}

#[test]
fn workers_that_come_with_their_first_task_have_no_wrong_parent() {
    no_wrong_parent("elastic");
}

fn no_wrong_parent(how: &str) {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let done = watch(PLAIN, |port| TRAFFIC.ask(port, how));
    for name in ["first", "second"] {
        assert_eq!(none_is_wrong(&done, name).1, ORDERS, "{}", done.log);
    }
}

#[test]
fn threads_of_a_program_whose_goroutines_are_not_followed_say_nothing() {
    if skip::without_root() || skip::without(&["go"]) || doors::closed(Door::SysExitRaw) {
        return;
    }
    let (service, port) = service(PLAIN);
    // That door does not see who makes a call.
    let door = Door::SysExitRaw.as_str();
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB", "--door", door]);
    // One at a time, which threads would be right of, and many.
    Traffic { clients: 1, each: EACH }.ask(port, "turn");
    TRAFFIC.ask(port, "once");
    drop(service);
    let done = agent.stop();
    for name in ["first", "second"] {
        let (with, all) = none_is_wrong(&done, name);
        assert_eq!((with, all), (0, EACH + ORDERS), "{}", done.log);
    }
    assert!(done.log.contains("Go moves work between threads and is not followed"), "{}", done.log);
}

#[test]
fn pipelined_requests_have_no_wrong_parent() {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let done = watch(PLAIN, |port| TRAFFIC.ask_two_at_a_time(port, "once"));
    let _ = none_is_wrong(&done, "first");
    let _ = none_is_wrong(&done, "second");
}

#[test]
fn service_with_warm_pools_has_its_parents_when_the_agent_comes() {
    if skip::without_root() || skip::without(&["go"]) {
        return;
    }
    let (service, port) = service(PLAIN);
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| Connection::open(port).unwrap()).collect();
    ask_on(&mut connections, EACH, 1_000_000);
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    ask_on(&mut connections, EACH, 0);
    drop(service);
    parents_but(FIRST, &agent.stop());
}
