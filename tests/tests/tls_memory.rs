//! TLS that works on memory which an event loop fills: whose connection an object is, is told by the ciphertext.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{Agent, Done},
    process::Running,
    programs::{new_certificate, target},
    skip,
    spans::{CLIENT, Span},
};
use tempfile::TempDir;

/// A server of HTTPS and its port.
struct Server {
    port: u16,
    _running: Running,
}

fn server(certificate: &TempDir) -> Server {
    let mut command = Command::new("python3");
    command.arg(target("tls_server.py")).args(["key.pem", "cert.pem"]);
    let mut running = Running::start(command.current_dir(certificate.path()));
    let port = running.line().parse().unwrap();
    Server { port, _running: running }
}

/// What was seen of a client that is watched before its first connection.
fn seen_of(command: &mut Command) -> Done {
    let mut client = Running::start(command.stdin(Stdio::piped()));
    let agent = Agent::on(&[client.pid()], &[]);
    client.say("go");
    assert_eq!(client.line(), "done");
    client.finish();
    agent.stop()
}

fn lines(done: &Done) -> BTreeSet<String> {
    done.spans.iter().map(Span::line).collect()
}

/// Forty fetches at once in node; `begin` is what they wait for.
fn fetches(server: &Server, begin: &str) -> Vec<String> {
    let script = format!(
        "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
         const fetches = async () => {{
             await Promise.all(Array.from({{length: 40}}, (_, n) =>
                 fetch('https://127.0.0.1:{}/fetch/' + n).then(answer => answer.text())));
             console.log('done');
             process.exit();
         }};
         {begin}",
        server.port
    );
    ["node", "--no-warnings", "-e", &script].map(str::to_owned).into()
}

fn assert_all_fetched(done: &Done) {
    assert_eq!(done.requests(), [40, 40, 0, 0], "{}", done.log);
    let expected = (0..40).map(|number| format!("GET /fetch/{number} 200")).collect();
    assert_eq!(lines(done), expected, "{}", done.log);
    assert!(done.spans.iter().all(|span| span.kind == CLIENT), "{}", done.log);
    assert_eq!(done.books().dropped_in_kernel("tls_unlinked"), 0, "{}", done.log);
}

/// Its first request is written by a callback, within the call that ends the handshake.
#[test]
fn node_has_a_span_for_each_of_forty_fetches_at_once() {
    if skip::without_root() || skip::without(&["python3", "node", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    let server = server(&certificate);
    let begin = "process.stdin.once('data', () => { process.stdin.destroy(); fetches(); });";
    let line = fetches(&server, begin);
    assert_all_fetched(&seen_of(Command::new(&line[0]).args(&line[1..])));
}

/// Its executable, which OpenSSL is linked into, takes longer to be read than it takes to send its requests.
#[test]
fn node_that_is_started_under_the_agent_has_a_span_for_its_first_fetches() {
    if skip::without_root() || skip::without(&["python3", "node", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    let server = server(&certificate);
    let arguments = [vec!["--".to_owned()], fetches(&server, "fetches();")].concat();
    assert_all_fetched(&Agent::start("exec", &arguments).ended());
}

/// Spans of two connections on one thread that are read before either goes on, and calls that could not be tied to one. A wrong
/// connection is worse than none.
fn seen_of_two(written: &str) -> Option<(usize, u64)> {
    if skip::without_root() || skip::without(&["python3", "openssl"]) {
        return None;
    }
    let certificate = new_certificate();
    let servers = [server(&certificate), server(&certificate)];
    let mut client = Command::new("python3");
    client.arg(target("tls_memory.py")).arg(written);
    let done = seen_of(client.args(servers.each_ref().map(|server| server.port.to_string())));
    for span in &done.spans {
        let line = span.line();
        assert_eq!(line.split('/').nth(2), Some(&*span.text_or_int("network.peer.port")), "{line}");
    }
    Some((done.spans.len(), done.books().dropped_in_kernel("tls_unlinked")))
}

#[test]
fn two_connections_that_are_read_before_either_goes_on_are_told_apart_by_what_they_began_with() {
    if let Some(seen) = seen_of_two("first") {
        assert_eq!(seen, (6, 0));
    }
}

#[test]
fn two_connections_that_nothing_tells_apart_are_counted_and_never_mixed_up() {
    if let Some((spans, unlinked)) = seen_of_two("never") {
        assert!(spans == 6 || unlinked > 0, "{spans} spans, {unlinked} calls");
    }
}
