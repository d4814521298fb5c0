//! Servers and clients with rustls against their logs, as services are built: what their records held is seen on both
//! sides.

use remora_tests::{
    conversation::{Client, Conversation, Scheme},
    plan::plan,
    programs::{Ecosystem, certificate},
    rustls_peers::{Build, peers, server},
    skip,
};
use tempfile::TempDir;

/// The plan, carried out by a server of `version` and a client; both ends agree, and nothing is lost.
fn both_ends_agree(version: &'static str, build: Build, client: Client) {
    let needs: &[&str] = match client {
        Client::Curl => &["curl", "openssl"],
        Client::Of(ecosystem) => &[ecosystem.needs(), &["openssl"]].concat(),
        Client::Rustls(..) => &["openssl"],
    };
    if skip::without_root() || skip::without(needs) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let server = server(&peers(version, build), folder.path());
    let both = Conversation::hold(server, client, Scheme::Https, plan(2, 4, 20));
    both.client_agrees(&format!("{client:?}"));
    both.server_agrees(&format!("hyper on rustls {version}, {build:?}"));
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
    assert!(both.done.log.contains("attached to rustls"), "{}", both.done.log);
}

#[test]
fn hyper_and_reqwest_on_rustls_0_23_agree_with_their_logs() {
    let build = Build::Release;
    both_ends_agree("v0_23", build, Client::Rustls("v0_23", build));
}

#[test]
fn hyper_and_reqwest_on_rustls_0_23_of_one_piece_agree_with_their_logs() {
    if skip::unless_long("two programs of one piece are compiled for two minutes") {
        return;
    }
    let build = Build::FatLto;
    both_ends_agree("v0_23", build, Client::Rustls("v0_23", build));
}

#[test]
fn hyper_on_rustls_0_23_and_curl_agree_with_their_logs() {
    both_ends_agree("v0_23", Build::Release, Client::Curl);
}

#[test]
fn hyper_on_rustls_0_23_and_python_agree_with_their_logs() {
    both_ends_agree("v0_23", Build::Release, Client::Of(Ecosystem::Python));
}
