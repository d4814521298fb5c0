//! Servers and clients with rustls against their logs, as services are built: what their records held is seen on both
//! sides.

use std::{
    fs,
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{Agent, Done},
    conversation::{Client, Conversation, Scheme, Server as _},
    plan::plan,
    process::{Running, free_port, listening, output},
    programs::{Ecosystem, built, new_certificate},
    rustls_peers::{Build, Peers, Provider, peers, server},
    skip,
    spans::Span,
};

const RELEASE: Peers =
    Peers { version: "v0_23", build: Build::Release, provider: Provider::Ring, stripped: false };
const RELEASE_0_22: Peers = Peers { version: "v0_22", ..RELEASE };
const RELEASE_0_21: Peers = Peers { version: "v0_21", ..RELEASE };

/// The plan, carried out by the server of `peers` and a client; both ends agree, and nothing is lost.
fn both_ends_agree(of: Peers, client: Client) {
    if skip::without_root() || skip::without(&[client.needs(), &["openssl", "strip"]].concat()) {
        return;
    }
    let folder = new_certificate();
    let server = server(&peers(of), folder.path());
    let both = Conversation::hold(server, client, Scheme::Https, plan(2, 4, 20));
    both.client_agrees(&format!("{client:?}"));
    both.server_agrees(&format!("hyper on {of:?}"));
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
    assert!(both.done.log.contains("attached to rustls"), "{}", both.done.log);
}

#[test]
fn hyper_and_reqwest_on_rustls_0_23_agree_with_their_logs() {
    both_ends_agree(RELEASE, Client::Rustls(RELEASE));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_23_with_aws_lc_agree_with_their_logs() {
    if skip::unless_long("AWS-LC is compiled for minutes") {
        return;
    }
    let peers = Peers { provider: Provider::AwsLcRs, ..RELEASE };
    both_ends_agree(peers, Client::Rustls(peers));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_23_of_one_piece_agree_with_their_logs() {
    if skip::unless_long("two programs of one piece are compiled for two minutes") {
        return;
    }
    let peers = Peers { build: Build::FatLto, ..RELEASE };
    both_ends_agree(peers, Client::Rustls(peers));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_22_agree_with_their_logs() {
    both_ends_agree(RELEASE_0_22, Client::Rustls(RELEASE_0_22));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_22_with_aws_lc_agree_with_their_logs() {
    if skip::unless_long("AWS-LC is compiled for minutes") {
        return;
    }
    let peers = Peers { provider: Provider::AwsLcRs, ..RELEASE_0_22 };
    both_ends_agree(peers, Client::Rustls(peers));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_22_of_one_piece_agree_with_their_logs() {
    if skip::unless_long("two programs of one piece are compiled for two minutes") {
        return;
    }
    let peers = Peers { build: Build::FatLto, ..RELEASE_0_22 };
    both_ends_agree(peers, Client::Rustls(peers));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_21_agree_with_their_logs() {
    both_ends_agree(RELEASE_0_21, Client::Rustls(RELEASE_0_21));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_21_of_one_piece_agree_with_their_logs() {
    if skip::unless_long("two programs of one piece are compiled for two minutes") {
        return;
    }
    let peers = Peers { build: Build::FatLto, ..RELEASE_0_21 };
    both_ends_agree(peers, Client::Rustls(peers));
}

#[test]
fn hyper_on_rustls_0_22_and_curl_agree_with_their_logs() {
    both_ends_agree(RELEASE_0_22, Client::Curl);
}

#[test]
fn hyper_on_rustls_0_21_and_curl_agree_with_their_logs() {
    both_ends_agree(RELEASE_0_21, Client::Curl);
}

#[test]
fn programs_with_two_versions_agree_with_their_logs() {
    if skip::unless_long("two programs with two rustls each are compiled for two minutes") {
        return;
    }
    for stripped in [false, true] {
        let peers = Peers { version: "both", stripped, ..RELEASE };
        both_ends_agree(peers, Client::Rustls(peers));
    }
}

#[test]
fn versions_of_both_ends_may_differ() {
    both_ends_agree(RELEASE_0_21, Client::Rustls(RELEASE));
    both_ends_agree(RELEASE, Client::Rustls(RELEASE_0_22));
}

#[test]
fn hyper_on_rustls_0_23_and_curl_agree_with_their_logs() {
    both_ends_agree(RELEASE, Client::Curl);
}

#[test]
fn hyper_on_rustls_0_23_and_python_agree_with_their_logs() {
    both_ends_agree(RELEASE, Client::Of(Ecosystem::Python));
}

/// In TLS 1.2 the first record of each direction is no application data, and stands behind one that is not encrypted.
#[test]
fn servers_of_each_version_are_read_in_tls_1_2() {
    if skip::without_root() || skip::without(&["curl", "openssl"]) {
        return;
    }
    let folder = new_certificate();
    for of in [RELEASE, RELEASE_0_22, RELEASE_0_21] {
        let server = server(&peers(of), folder.path());
        let agent = Agent::on(&[server.pid()], &[]);
        let url = |target: &str| format!("https://127.0.0.1:{}{target}", server.port());
        for ciphers in ["ECDHE+AESGCM", "ECDHE+CHACHA20"] {
            let mut curl = Command::new("curl");
            curl.args(["-sSk", "--tls-max", "1.2", "--ciphers", ciphers, "-o", "/dev/null"]);
            curl.args([url("/small?n=1"), url("/missing?n=2"), url("/bytes/40000?n=3")]);
            curl.args(["-o", "/dev/null"].repeat(2));
            output(&mut curl);
        }
        let expected = ["GET /bytes/40000 200", "GET /missing 404", "GET /small 200"];
        assert_lines(&agent.stop(), &expected, 2);
    }
}

#[test]
fn clients_of_each_version_are_read_in_tls_1_2() {
    if skip::without_root() || skip::without(&["openssl"]) {
        return;
    }
    let folder = new_certificate();
    for of in [RELEASE, RELEASE_0_22, RELEASE_0_21] {
        let port = free_port();
        let mut command = Command::new("openssl");
        command.args([
            "s_server", "-tls1_2", "-www", "-quiet", "-key", "key.pem", "-cert", "cert.pem",
        ]);
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
        let _server = Running::start(command.current_dir(folder.path()));
        listening(port);
        let mut client = Command::new(peers(of).join("client"));
        client.arg(format!("https://127.0.0.1:{port}"));
        let mut client = Running::start(client.stdin(Stdio::piped()));
        let agent = Agent::on(&[client.pid()], &[]);
        client.give("GET /a 0 close\nGET /b 0 close\n");
        client.finish();
        assert_lines(&agent.stop(), &["GET /a 200", "GET /b 200"], 1);
    }
}

/// Each of `expected` so often, and nothing else.
fn assert_lines(done: &Done, expected: &[&str], times: usize) {
    let mut lines: Vec<_> = done.spans.iter().map(Span::line).collect();
    lines.sort();
    let expected: Vec<_> = expected.iter().flat_map(|line| vec![*line; times]).collect();
    assert_eq!(lines, expected, "{}", done.log);
    assert_eq!(done.books().dropped_in_kernel("tls_unlinked"), 0, "{}", done.log);
}

#[test]
fn programs_without_symbols_agree_with_their_logs() {
    for of in [RELEASE, RELEASE_0_22, RELEASE_0_21] {
        let peers = Peers { stripped: true, ..of };
        both_ends_agree(peers, Client::Rustls(peers));
    }
}

#[test]
fn programs_of_one_piece_without_symbols_agree_with_their_logs() {
    if skip::unless_long("programs of one piece are compiled for minutes") {
        return;
    }
    for of in [RELEASE, RELEASE_0_22, RELEASE_0_21] {
        let peers = Peers { stripped: true, build: Build::FatLto, ..of };
        both_ends_agree(peers, Client::Rustls(peers));
    }
}

#[test]
fn programs_with_aws_lc_without_symbols_agree_with_their_logs() {
    if skip::unless_long("AWS-LC is compiled for minutes") {
        return;
    }
    for of in [RELEASE, RELEASE_0_22] {
        let peers = Peers { stripped: true, provider: Provider::AwsLcRs, ..of };
        both_ends_agree(peers, Client::Rustls(peers));
    }
}

/// Its functions have another shape than those of a release.
#[test]
fn server_that_is_not_optimised_and_has_no_symbols_is_named() {
    if skip::without_root() || skip::without(&["curl", "openssl", "strip"]) {
        return;
    }
    let folder = new_certificate();
    let program = folder.path().join("server");
    fs::copy(built().join("hyper_server"), &program).unwrap();
    output(Command::new("strip").arg(&program));
    let server = server(folder.path(), folder.path());
    let agent = Agent::on(&[server.pid()], &[]);
    let url = format!("https://127.0.0.1:{}/small?n=1", server.port());
    output(Command::new("curl").args(["-sSk", &url]));
    let done = agent.stop();
    assert!(done.spans.is_empty(), "{:?}", done.spans);
    let reason = "without symbols or code that is known of what encrypts its records";
    assert!(done.log.contains("rustls 0.23.") && done.log.contains(reason), "{}", done.log);
    assert!(done.log.contains("rustls ("), "named as what is not seen\n{}", done.log);
}
