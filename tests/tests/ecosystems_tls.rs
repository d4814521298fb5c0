//! The same over TLS: servers and clients with OpenSSL against their logs; servers with other
//! libraries are named as what they are, a blind spot, and their clients are seen all the same.

use std::{fs, process::Command};

use remora_tests::{
    agent::Agent,
    conversation::{self, Client, Conversation, Scheme},
    nginx::Nginx,
    plan::plan,
    process::output,
    programs::{Ecosystem, Server, new_certificate},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

/// The plan over TLS, on which the client agrees; `None`: skipped.
fn hold(ecosystem: Ecosystem, client: Client) -> Option<Conversation> {
    let needs = [ecosystem.needs(), client.needs(), &["openssl"]].concat();
    if skip::without_root() || skip::without(&needs) {
        return None;
    }
    let certificate = new_certificate();
    let server = Server::start(ecosystem, Some(certificate.path()));
    let both = Conversation::hold(server, client, Scheme::Https, plan(2, 4, 20));
    both.client_agrees(&format!("{client:?} of {ecosystem:?}"));
    Some(both)
}

/// A server with a library that is read: both ends agree.
fn both_ends_agree(ecosystem: Ecosystem, client: Client) {
    let Some(both) = hold(ecosystem, client) else { return };
    both.server_agrees(&format!("{ecosystem:?}"));
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
}

/// A server with another library: the client agrees, the server is named.
fn client_agrees_and_server_is_named(ecosystem: Ecosystem, client: Client, library: &str) {
    let Some(both) = hold(ecosystem, client) else { return };
    let named = both.done.log.lines().any(|line| {
        line.contains("speaks TLS that is not seen")
            && line.contains(&format!("pid={} ", both.server_pids[0]))
            && line.contains(library)
    });
    assert!(named, "{}", both.done.log);
    assert!(both.done.spans.iter().all(|span| span.kind == CLIENT));
    let all = both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
}

#[test]
fn python_ssl_server_and_client_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Python, Client::Of(Ecosystem::Python));
}

#[test]
fn python_ssl_server_and_curl_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Python, Client::Curl);
}

#[test]
fn ruby_openssl_server_and_curl_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Ruby, Client::Curl);
}

#[test]
fn node_https_server_and_agent_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Node, Client::Of(Ecosystem::Node));
}

#[test]
fn node_https_server_and_curl_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Node, Client::Curl);
}

fn nginx_agrees_with(client: Client) {
    let needs = [client.needs(), &["nginx", "openssl"]].concat();
    if skip::without_root() || skip::without(&needs) {
        return;
    }
    let certificate = new_certificate();
    let server = Nginx::of_the_plan(Some(certificate.path()));
    let both = Conversation::hold(server, client, Scheme::Https, plan(2, 4, 20));
    both.client_agrees(&format!("{client:?} of nginx"));
    both.server_agrees("nginx");
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
}

#[test]
fn nginx_https_and_curl_agree_with_their_logs() {
    nginx_agrees_with(Client::Curl);
}

#[test]
fn nginx_https_and_python_ssl_client_agree_with_their_logs() {
    nginx_agrees_with(Client::Of(Ecosystem::Python));
}

#[test]
fn go_crypto_tls_server_and_curl_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Go, Client::Curl);
}

#[test]
fn go_crypto_tls_server_and_client_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Go, Client::Of(Ecosystem::Go));
}

#[test]
fn rustls_server_that_is_not_optimised_and_python_client_agree_with_their_logs() {
    both_ends_agree(Ecosystem::Rust, Client::Of(Ecosystem::Python));
}

#[test]
fn curl_of_a_java_https_server_agrees_and_the_server_is_named() {
    client_agrees_and_server_is_named(Ecosystem::Java, Client::Curl, "jvm");
}

/// Both ends have what wrk counts, and in median are no slower than it says.
fn wrk_agrees(server: impl conversation::Server) {
    let agent = Agent::on(&server.pids(), &["--ring-size", "64MiB"]);
    let url = format!("https://127.0.0.1:{}/small?n=1", server.port());
    let report = TempDir::new().unwrap();
    let report = report.path().join("wrk");
    let script = format!("exec wrk -t1 -c2 -d1 --latency '{url}' > {}", report.display());
    let wrk = ["--ring-size", "64MiB", "--", "sh", "-c", &script].map(str::to_owned);
    let client = Agent::start("exec", &wrk).ended();
    // When it has ended all of its calls have returned, and were seen.
    drop(server);
    let server = agent.stop();
    let text = fs::read_to_string(&report).unwrap();
    let word = |line: &str, at: usize| {
        let line =
            text.lines().find(|text| text.contains(line)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().nth(at).unwrap().to_owned()
    };
    let counted: u64 = word("requests in", 0).parse().unwrap();
    for (done, kind) in [(&client, CLIENT), (&server, SERVER)] {
        let [requests, exported, _, lost] = done.requests();
        // wrk does not count what it has sent and does not wait for any more.
        assert!((counted..=counted + 2).contains(&requests), "{counted} and\n{}", done.log);
        assert_eq!((exported, lost), (requests, 0), "{}", done.log);
        assert_eq!(done.spans.len() as u64, exported);
        let right = |span: &&Span| span.line() == "GET /small 200" && span.kind == kind;
        let whole = done.spans.iter().filter(right).count() as u64;
        assert!(whole >= counted, "{whole} of {counted}\n{}", done.log);
    }
    let said = microseconds(&word("50%", 1)) * 1000;
    let mut durations: Vec<u64> = client.spans.iter().map(Span::duration_ns).collect();
    durations.sort_unstable();
    let median = durations[durations.len() / 2];
    println!("wrk: {counted} requests, median {said} ns; {median} ns of spans");
    // wrk adds what it thinks a slow answer has kept it from measuring, so its median is one from above.
    assert!(median <= said + (said / 20).max(200_000), "{median} and\n{text}");
}

/// Of wrk's `345.00us`, `1.23ms`, `1.00s`.
fn microseconds(text: &str) -> u64 {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let factor = match &text[unit..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        other => panic!("{other} is no unit of wrk's"),
    };
    (text[..unit].parse::<f64>().unwrap() * factor) as u64
}

#[test]
fn nginx_https_has_what_wrk_counts_and_is_no_slower() {
    if skip::without_root() || skip::without(&["nginx", "wrk", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    wrk_agrees(Nginx::of_the_plan(Some(certificate.path())));
}

#[test]
fn python_ssl_has_what_wrk_counts_and_is_no_slower() {
    if skip::without_root() || skip::without(&["python3", "wrk", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    wrk_agrees(Server::start(Ecosystem::Python, Some(certificate.path())));
}

/// Everything is attached when it says so: node's executable takes longest to be read.
#[test]
fn openssl_of_a_running_process_is_attached_when_the_agent_is_ready() {
    if skip::without_root() || skip::without(&["node", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    let server = Server::start(Ecosystem::Node, Some(certificate.path()));
    let agent = Agent::on(&[server.pid()], &[]);
    let log = agent.log();
    assert!(log.contains("attached to OpenSSL"), "{log}");
    // So that it is not in vain.
    let url = format!("https://127.0.0.1:{}/small", server.port);
    output(Command::new("curl").args(["-sk", "--http1.1", &url]));
    assert_eq!(agent.stop().requests(), [1, 1, 0, 0]);
}
