//! HTTPS of programs nobody changed: plaintext comes from their OpenSSL, ciphertext is not copied.

use std::process::Command;

use remora_tests::{
    agent::{Agent, Done},
    process::{Running, free_port, listening, output},
    programs::{certificate, target},
    skip,
    spans::{CLIENT, SERVER},
};
use tempfile::TempDir;

fn curl(url: &str, count: usize) -> Vec<String> {
    let urls = vec![url; count];
    vec!["--".into(), "curl".into(), "-sk".into()]
        .into_iter()
        .chain(urls.into_iter().map(str::to_owned))
        .collect()
}

/// `count` requests were all `line`, but for one for each run that the kernel left out.
fn saw(done: &Done, count: u64, line: &str) {
    let left_out = done.left_out();
    assert!(done.spans.iter().all(|span| span.line() == line), "{}", done.log);
    let spans = done.spans.len() as u64;
    println!("{left_out} runs of programs were left out; {spans} of {count} requests have spans");
    assert!((count.saturating_sub(left_out)..=count).contains(&spans), "{}", done.log);
    if left_out == 0 {
        assert_eq!(done.requests(), [count, count, 0, 0], "{}", done.log);
    }
}

#[test]
fn https_of_python_and_curl_is_seen_at_both_ends() {
    if skip::without_root() || skip::without(&["python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let port = free_port();
    let mut python = Command::new("python3");
    python.arg(target("https.py")).arg(port.to_string()).current_dir(folder.path());
    let server = Running::start(&mut python);
    listening(port);
    let agent = Agent::on(&[server.pid()], &[]);
    let url = format!("https://127.0.0.1:{port}/cert.pem");
    // Three requests of a client that is new, over one connection.
    let client = Agent::start("exec", &curl(&url, 3)).ended();
    let done = agent.stop();
    for (done, kind) in [(&done, SERVER), (&client, CLIENT)] {
        saw(done, 3, "GET /cert.pem 200");
        assert!(done.spans.iter().all(|span| span.kind == kind));
    }
    let size = std::fs::metadata(folder.path().join("cert.pem")).unwrap().len() as i64;
    for span in &done.spans {
        assert_eq!(span.text("url.scheme"), "https");
        assert_eq!(span.int("http.response.body.size"), Some(size));
        assert_eq!(span.int("server.port"), Some(i64::from(port)));
    }
}

#[test]
fn https_of_nginx_is_seen_over_connections_that_stay() {
    if skip::without_root() || skip::without(&["nginx", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let (port, root) = (free_port(), folder.path().display());
    let config = format!(
        "master_process off; daemon off; pid {root}/pid; error_log {root}/error.log;
         events {{ worker_connections 64; }}
         http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl;
           ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem;
           location / {{ return 200 'hello'; }} }} }}"
    );
    std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
    let nginx =
        Running::start(Command::new("nginx").arg("-c").arg(folder.path().join("nginx.conf")));
    listening(port);
    let agent = Agent::on(&[nginx.pid()], &[]);
    let url = format!("https://127.0.0.1:{port}/hello");
    output(Command::new("curl").arg("-sk").args(vec![&url; 20]));
    let done = agent.stop();
    saw(&done, 20, "GET /hello 200");
}
