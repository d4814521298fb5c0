//! HTTPS of programs nobody changed: plaintext comes from their OpenSSL, ciphertext is not copied.

use std::process::Command;

use remora_tests::{
    agent::Agent,
    process::{Running, free_port, listening, output},
    programs::{certificate, target},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

fn curl(url: &str, count: usize) -> Vec<String> {
    let urls = vec![url; count];
    vec!["--".into(), "curl".into(), "-sk".into()]
        .into_iter()
        .chain(urls.into_iter().map(str::to_owned))
        .collect()
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
        let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
        assert_eq!(lines, ["GET /cert.pem 200"; 3], "{}", done.log);
        assert!(done.spans.iter().all(|span| span.kind == kind));
        assert_eq!(done.requests(), [3, 3, 0, 0], "{}", done.log);
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
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /hello 200"; 20], "{}", done.log);
    assert_eq!(done.requests(), [20, 20, 0, 0], "{}", done.log);
}
