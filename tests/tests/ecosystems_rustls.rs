//! Servers and clients with rustls against their logs, as services are built: what their records held is seen on both
//! sides.

use std::{fs, process::Command};

use remora_tests::{
    agent::Agent,
    conversation::{Client, Conversation, Scheme, Server as _},
    plan::plan,
    process::output,
    programs::{Ecosystem, new_certificate},
    rustls_peers::{Build, Peers, Provider, peers, server},
    skip,
};

const RELEASE: Peers = Peers { version: "v0_23", build: Build::Release, provider: Provider::Ring };

/// The plan, carried out by the server of `peers` and a client; both ends agree, and nothing is lost.
fn both_ends_agree(of: Peers, client: Client) {
    if skip::without_root() || skip::without(&[client.needs(), &["openssl"]].concat()) {
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
fn hyper_on_rustls_0_23_and_curl_agree_with_their_logs() {
    both_ends_agree(RELEASE, Client::Curl);
}

#[test]
fn hyper_on_rustls_0_23_and_python_agree_with_their_logs() {
    both_ends_agree(RELEASE, Client::Of(Ecosystem::Python));
}

#[test]
fn server_whose_symbols_are_stripped_is_named() {
    if skip::without_root() || skip::without(&["curl", "openssl", "strip"]) {
        return;
    }
    let folder = new_certificate();
    let program = folder.path().join("server");
    fs::copy(peers(RELEASE).join("server"), &program).unwrap();
    output(Command::new("strip").arg(&program));
    let server = server(folder.path(), folder.path());
    let agent = Agent::on(&[server.pid()], &[]);
    let url = format!("https://127.0.0.1:{}/small?n=1", server.port());
    output(Command::new("curl").args(["-sSk", &url]));
    let done = agent.stop();
    assert!(done.spans.is_empty(), "{:?}", done.spans);
    let reason = "without symbols of what encrypts its records";
    assert!(done.log.contains("rustls 0.23.") && done.log.contains(reason), "{}", done.log);
    assert!(done.log.contains("rustls ("), "named as what is not seen\n{}", done.log);
}
