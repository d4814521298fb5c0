//! The systemd unit: its capabilities are enough, for plaintext and for TLS.

use std::{fs, path::Path, process::Command};

use remora_tests::{
    agent::Agent,
    process::{Running, free_port, listening, output},
    programs::{certificate, target},
    skip,
    spans::Span,
};
use tempfile::TempDir;

/// `bpf`, `perfmon` … of the unit's bounding set.
fn capabilities() -> Vec<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/remora.service");
    let unit = fs::read_to_string(unit).unwrap();
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    set.split_whitespace().map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase()).collect()
}

#[test]
fn capabilities_of_the_unit_are_enough() {
    if skip::without_root() || skip::without(&["setpriv", "python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let ports = [free_port(), free_port()];
    let servers = [("http.server", ports[0]), ("https.py", ports[1])].map(|(name, port)| {
        let mut python = Command::new("python3");
        match name {
            "http.server" => python.args(["-m", name]),
            _ => python.arg(target(name)),
        };
        let server = Running::start(python.arg(port.to_string()).current_dir(folder.path()));
        listening(port);
        server
    });
    let set: Vec<String> = capabilities().iter().map(|name| format!(",+{name}")).collect();
    let bounds = format!("--bounding-set=-all{}", set.concat());
    let pids = servers.each_ref().map(Running::pid);
    let agent = Agent::under(&["setpriv", &bounds, "--no-new-privs"], &pids);
    for url in [
        format!("http://127.0.0.1:{}/cert.pem", ports[0]),
        format!("https://127.0.0.1:{}/cert.pem", ports[1]),
    ] {
        output(Command::new("curl").args(["-skf", "-o", "/dev/null", &url]));
    }
    drop(servers);
    let done = agent.stop();
    let mut lines: Vec<String> = done
        .spans
        .iter()
        .map(|span| format!("{} {}", span.text("url.scheme"), Span::line(span)))
        .collect();
    lines.sort();
    let log = &done.log;
    assert_eq!(lines, ["http GET /cert.pem 200", "https GET /cert.pem 200"], "{log}");
}
