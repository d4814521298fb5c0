//! TLS libraries other than a shared OpenSSL, as programs bring them: GnuTLS, BoringSSL in Java's netty, OpenSSL that is linked
//! into a program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{Agent, Done},
    database_clients::brought,
    lighttpd::Lighttpd,
    process::{Running, output},
    programs::{new_certificate, target},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

/// `METHOD PATH STATUS` of spans of a kind, sorted.
fn told(done: &Done, kind: u64) -> Vec<String> {
    let spans = done.spans.iter().filter(|span| span.kind == kind);
    sorted(spans.map(Span::line))
}

fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

/// Every process of wget makes its first request within milliseconds of its start.
#[test]
fn lighttpd_and_wget_on_gnutls_agree_with_the_log() {
    if skip::without_root() || skip::without(&["lighttpd", "wget", "curl", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    let server = Lighttpd::start(certificate.path());
    let folder = TempDir::new().unwrap();
    let wget = folder.path().join("wget");
    fs::copy("/usr/bin/wget", &wget).unwrap();
    let arguments = ["--pid", &server.pid().to_string(), "--exe", &wget.display().to_string()];
    let agent = Agent::start("run", &arguments.map(str::to_owned));
    for turn in 0..8 {
        let mut command = Command::new(&wget);
        command.args(["-q", "--no-check-certificate", "-O", "/dev/null"]);
        let absent = server.url(&format!("/absent{turn}"));
        command.args([&server.url("/small"), &absent, &server.url("/big")]);
        // It says that one of the three is not there.
        assert_eq!(command.status().unwrap().code(), Some(8));
    }
    // By HTTP/2, with a client that is not watched.
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "--http2", "-o", "/dev/null", "-o", "/dev/null"]);
    output(curl.args([server.url("/small"), server.url("/big")]));
    let log = server.quit();
    let done = agent.stop();
    assert_eq!(log.len(), 8 * 3 + 2);
    assert_eq!(told(&done, SERVER), sorted(log.clone()), "{}", done.log);
    let by_wget: Vec<String> = told(&done, CLIENT);
    let mut expected = log;
    expected.truncate(8 * 3);
    assert_eq!(by_wget, sorted(expected), "{}", done.log);
    let sizes = |path: &str| -> Vec<i64> {
        let spans = done.spans.iter().filter(|span| span.line().contains(path));
        spans.map(|span| span.int("http.response.body.size").unwrap_or(-1)).collect()
    };
    assert_eq!((sizes("/small"), sizes("/big")), (vec![5; 17], vec![3_000_000; 17]));
    assert!(done.log.contains("attached to GnuTLS"), "{}", done.log);
}

/// A server or a client of netty's.
fn netty(jars: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
    command.arg(format!("{0}:{0}/*", jars.display())).arg("Peers").args(arguments);
    Running::start(command.stdin(Stdio::piped()))
}

fn jars() -> Option<PathBuf> {
    let found = brought("netty");
    if found.is_none() {
        println!("skipped: there is no netty: cargo xtask setup --tests");
    }
    found
}

#[test]
fn netty_server_and_client_on_boringssl_agree() {
    if skip::without_root() || skip::without(&["java", "curl", "openssl"]) {
        return;
    }
    let Some(jars) = jars() else { return };
    let certificate = new_certificate();
    let mut server = netty(&jars, &["server", &certificate.path().display().to_string()]);
    let port = server.line();
    let mut client = netty(&jars, &["client", &port, "8", "10"]);
    assert_eq!(client.line(), "ready");
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    client.say("go");
    let mut asked: Vec<String> = (0..80).map(|_| client.line()).collect();
    assert_eq!(client.line(), "done");
    client.finish();
    let mut curl = Command::new("curl");
    output(curl.args(["-sSk", "-o", "/dev/null"]).args(
        (0..3).map(|_| format!("https://127.0.0.1:{port}/bytes/100000")).collect::<Vec<_>>(),
    ));
    let served: Vec<String> = (0..83).map(|_| server.line()).collect();
    drop(server);
    let done = agent.stop();
    asked.sort();
    assert_eq!(told(&done, CLIENT), asked, "{}", done.log);
    assert_eq!(told(&done, SERVER), sorted(served), "{}", done.log);
    assert_eq!(done.requests(), [163, 163, 0, 0], "{}", done.log);
    assert!(done.log.contains("attached to BoringSSL"), "{}", done.log);
}

/// The program that OpenSSL is linked into; `None`: skipped.
fn linked(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("server");
    let mut compiler = Command::new("cc");
    compiler.arg("-O2").arg(target("libraries/static_openssl.c")).arg("-o").arg(&program);
    compiler.args(["-l:libssl.a", "-l:libcrypto.a", "-lpthread", "-ldl"]);
    let compiled = compiler.output().unwrap();
    if !compiled.status.success() {
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(said.contains("libssl.a") || said.contains("ssl.h"), "{said}");
        println!("skipped: there is no static OpenSSL with its headers (libssl-dev)");
        return None;
    }
    Some(program)
}

/// Starts the program, and lets curl ask it ten times while the agent watches it.
fn ask_linked(program: &Path, certificate: &Path) -> (Done, Vec<String>) {
    let mut command = Command::new(program);
    let mut server = Running::start(command.args(["key.pem", "cert.pem"]).current_dir(certificate));
    let port = server.line();
    let agent = Agent::on(&[server.pid()], &[]);
    let url = format!("https://127.0.0.1:{port}/asked/[1-5]");
    for _ in 0..2 {
        output(Command::new("curl").args(["-sSk", "-o", "/dev/null", &url]));
    }
    let served: Vec<String> = (0..10).map(|_| server.line()).collect();
    drop(server);
    (agent.stop(), served)
}

#[test]
fn openssl_that_is_linked_into_a_program_is_read_by_its_symbols() {
    if skip::without_root() || skip::without(&["cc", "curl", "openssl"]) {
        return;
    }
    let certificate = new_certificate();
    let Some(program) = linked(certificate.path()) else { return };
    let (done, served) = ask_linked(&program, certificate.path());
    let expected = served.iter().map(|line| line.replace(" HTTP/1.1", " 200"));
    assert_eq!(told(&done, SERVER), sorted(expected), "{}", done.log);
    assert_eq!(done.requests(), [10, 10, 0, 0], "{}", done.log);
}

#[test]
fn openssl_that_is_linked_into_a_stripped_program_is_named() {
    if skip::without_root() || skip::without(&["cc", "curl", "openssl", "strip"]) {
        return;
    }
    let certificate = new_certificate();
    let Some(program) = linked(certificate.path()) else { return };
    output(Command::new("strip").arg(&program));
    let (done, _) = ask_linked(&program, certificate.path());
    assert!(done.spans.is_empty(), "{:?}", done.spans);
    let named =
        |line: &str| line.contains("speaks TLS that is not seen") && line.contains("openssl (");
    assert!(done.log.lines().any(named), "{}", done.log);
}
