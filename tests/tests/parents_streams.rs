//! Whose child is a request of a service over TLS, HTTP/2 or gRPC? In Go one goroutine reads the requests of a connection and others
//! handle them, and those of a client are written by a goroutine of each request or by one for all.
//!
//! The oracle is the target (`targets/http2/go/parents`, `targets/rustls/parents.rs`): a service that is asked for `/turn/7` asks another one for `/first/7` and
//! `/second/7`. Callers share connections: with HTTP/2 and gRPC one for all.

use std::process::{Command, Stdio};

use remora_tests::{
    agent::{Agent, Done},
    http2::Peer,
    parents::{Traffic, none_is_wrong},
    process::{Running, output},
    programs::new_certificate,
    rustls_peers::{self, Build, Peers, Provider},
    skip,
};

const TRAFFIC: Traffic = Traffic { clients: 16, each: 12 };
const ORDERS: usize = TRAFFIC.orders();

/// As in `parents_go.rs`.
const READ_AHEAD: usize = 4;

/// Requests until it is known of what handlers start that it ends with its request: four, one after the other, of each function.
const FIRST: usize = 3 * TRAFFIC.clients;

fn start(arguments: &[&str]) -> (Running, String) {
    let mut service = Peer::go_parents();
    let mut service = Running::start(service.args(arguments).stdin(Stdio::piped()));
    let port = service.line();
    (service, port)
}

fn watch(protocol: &str, how: &str) -> Done {
    let (_back, port) = start(&["back", protocol]);
    let (service, port) = start(&["serve", protocol, &port]);
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    let Traffic { clients, each } = TRAFFIC;
    let (clients, each) = (clients.to_string(), each.to_string());
    output(Peer::go_parents().args(["ask", protocol, &port, &clients, &each, how]));
    // What it does when it has answered, too.
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(service);
    agent.stop()
}

/// All parents are there but those of so many orders.
fn all_but(without: usize, protocol: &str, how: &str) {
    if skip::without_root() || Peer::Go.missing() {
        return;
    }
    told_but(without, &watch(protocol, how));
}

fn told_but(without: usize, done: &Done) {
    for name in ["first", "second"] {
        let (with, all) = none_is_wrong(done, name);
        assert_eq!(all, ORDERS, "{}", done.log);
        assert!(with >= ORDERS - without, "{with} of {ORDERS}\n{}", done.log);
    }
}

#[test]
fn requests_over_tls_in_turn_are_under_their_own_server_span() {
    all_but(READ_AHEAD, "http1", "turn");
}

#[test]
fn requests_over_tls_at_once_are_under_their_own_server_span() {
    all_but(FIRST, "http1", "once");
}

#[test]
fn streams_in_turn_are_under_their_own_server_span() {
    all_but(0, "h2c", "turn");
}

#[test]
fn streams_at_once_are_under_their_own_server_span() {
    all_but(FIRST, "h2c", "once");
}

#[test]
fn streams_over_tls_in_turn_are_under_their_own_server_span() {
    all_but(0, "http2", "turn");
}

#[test]
fn streams_over_tls_at_once_are_under_their_own_server_span() {
    all_but(FIRST, "http2", "once");
}

#[test]
fn calls_in_turn_are_under_their_own_server_span() {
    all_but(0, "grpc", "turn");
}

#[test]
fn calls_at_once_are_under_their_own_server_span() {
    all_but(FIRST, "grpc", "once");
}

/// The service is hyper's over rustls, on tokio.
fn all_of_rustls_but(without: usize, how: &str) {
    if skip::without_root() || skip::without(&["openssl"]) {
        return;
    }
    let peers = Peers {
        version: "v0_23",
        build: Build::Release,
        provider: Provider::Ring,
        stripped: false,
    };
    let (folder, certificate) = (rustls_peers::peers(peers), new_certificate());
    let back = rustls_peers::server(&folder, certificate.path());
    let mut service = Command::new(folder.join("parents"));
    service.arg("serve").arg(certificate.path()).arg(back.port.to_string());
    let mut service = Running::start(service.stdin(Stdio::null()));
    let port = service.line();
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    let Traffic { clients, each } = TRAFFIC;
    let (clients, each) = (clients.to_string(), each.to_string());
    output(Command::new(folder.join("parents")).args(["ask", &port, &clients, &each, how]));
    drop(service);
    told_but(without, &agent.stop());
}

#[test]
fn requests_over_rustls_in_turn_are_under_their_own_server_span() {
    // The first one of each connection is written before it is known whose keys those are.
    all_of_rustls_but(TRAFFIC.clients, "turn");
}

#[test]
fn requests_over_rustls_at_once_are_under_their_own_server_span() {
    all_of_rustls_but(FIRST, "once");
}
