//! Servers and clients of every ecosystem, unmodified, against what they log themselves.

use remora_tests::{
    conversation::{Client, Conversation, Scheme},
    nginx::Nginx,
    plan::plan,
    programs::{Ecosystem, Server},
    skip,
};

fn server_and_client_agree(ecosystem: Ecosystem) {
    if skip::without_root() || skip::without(ecosystem.needs()) {
        return;
    }
    // What the JVM does for the first time it does slowly, and its client hands everything from thread
    // to thread.
    let plan = if ecosystem == Ecosystem::Java { plan(25, 5, 50) } else { plan(5, 5, 20) };
    let server = Server::start(ecosystem, None);
    let client = Client::Of(ecosystem);
    let both = Conversation::hold(server, client, Scheme::Http, plan);
    both.client_agrees(&format!("{ecosystem:?} client"));
    both.server_agrees(&format!("{ecosystem:?} server"));
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
}

#[test]
fn python_http_server_and_http_client_agree_with_their_logs() {
    server_and_client_agree(Ecosystem::Python);
}

#[test]
fn node_http_server_and_agent_agree_with_their_logs() {
    server_and_client_agree(Ecosystem::Node);
}

#[test]
fn go_net_http_server_and_client_agree_with_their_logs() {
    server_and_client_agree(Ecosystem::Go);
}

#[test]
fn java_http_server_and_http_client_agree_with_their_logs() {
    server_and_client_agree(Ecosystem::Java);
}

#[test]
fn rust_hyper_server_and_client_agree_with_their_logs() {
    server_and_client_agree(Ecosystem::Rust);
}

#[test]
fn nginx_and_curl_agree_with_their_logs() {
    if skip::without_root() || skip::without(&["nginx", "curl"]) {
        return;
    }
    let server = Nginx::of_the_plan(None);
    let both = Conversation::hold(server, Client::Curl, Scheme::Http, plan(5, 5, 20));
    both.client_agrees("curl");
    both.server_agrees("nginx");
    let all = 2 * both.planned();
    assert_eq!(both.done.requests(), [all, all, 0, 0], "{}", both.done.log);
}
