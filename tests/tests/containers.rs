//! Targets in containers: with a root, an image's layers and namespaces of their own, as the kernel has them
//! whichever runtime made them.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use remora_tests::{
    agent::Agent,
    client::Connection,
    container::{self, Container, Root},
    process::{free_port, lasting, listening, output, until},
    programs::{built, certificate, target},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

fn lines(spans: &[Span]) -> Vec<String> {
    spans.iter().map(Span::line).collect()
}

/// A server for HTTPS in a container: its folder has the certificate.
fn https(root: &Root, folder: &Path) -> (Container, u16) {
    let port = free_port();
    let (directory, script) = (format!("--chdir={}", folder.display()), target("https.py"));
    let script = script.to_str().unwrap();
    let command = ["env", &directory, "python3", script, &port.to_string()];
    let container = root.run(&["--pid"], &command);
    listening(port);
    (container, port)
}

fn ask(port: u16, times: usize) {
    let url = format!("https://127.0.0.1:{port}/cert.pem");
    output(Command::new("curl").arg("-sk").args(vec![url; times]));
}

/// How often `words` are in the log.
fn said(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

#[test]
fn containers_of_one_image_have_one_attachment_to_its_openssl() {
    if container::impossible() || skip::without(&["python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let (one, other) = (Root::new(), Root::new());
    let (one, other) = (https(&one, folder.path()), https(&other, folder.path()));
    let agent = Agent::on(&[one.0.pid(), other.0.pid()], &[]);
    ask(one.1, 3);
    ask(other.1, 4);
    let done = agent.stop();
    assert_eq!(lines(&done.spans), ["GET /cert.pem 200"; 7], "{}", done.log);
    let ports: BTreeSet<_> = done.spans.iter().filter_map(|span| span.int("server.port")).collect();
    assert_eq!(ports, [one.1, other.1].map(i64::from).into());
    assert_eq!(said(&done.log, "attached to OpenSSL"), 1, "{}", done.log);
}

/// What an upgrade of packages does to a container that runs.
#[test]
fn a_library_that_was_replaced_is_seen_by_those_who_still_map_it() {
    if container::impossible() || skip::without(&["python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let root = Root::new();
    let old = https(&root, folder.path());
    let maps = fs::read_to_string(format!("/proc/{}/maps", old.0.pid())).unwrap();
    let library =
        maps.lines().find_map(|line| line.rsplit(' ').next().filter(|p| p.contains("libssl")));
    let library = root.inside(library.expect("a library of OpenSSL"));
    let copy = library.with_extension("new");
    fs::copy(&library, &copy).unwrap();
    fs::rename(&copy, &library).unwrap();
    let new = https(&root, folder.path());
    let agent = Agent::on(&[old.0.pid(), new.0.pid()], &[]);
    ask(old.1, 2);
    ask(new.1, 3);
    let done = agent.stop();
    let of = |port: u16| {
        done.spans.iter().filter(|span| span.int("server.port") == Some(port.into())).count()
    };
    assert_eq!((of(old.1), of(new.1)), (2, 3), "{}", done.log);
    assert_eq!(said(&done.log, "attached to OpenSSL"), 2, "{}", done.log);
}

/// Selected by a port in a network of its own, by a process number it does not know itself.
#[test]
fn private_namespaces_hide_nothing() {
    if container::impossible() || skip::without(&["python3", "curl"]) {
        return;
    }
    let port = free_port();
    let root = Root::new();
    let namespaces = ["--user", "--map-root-user", "--pid", "--net", "--ipc", "--uts"];
    let server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()];
    let container = root.run(&namespaces, &server);
    container.listening(port);
    let agent = Agent::on(&[], &["--port", &port.to_string()]);
    let url = format!("http://127.0.0.1:{port}/etc/hostname");
    for _ in 0..3 {
        container.exec(&["curl", "-s", "-o", "/dev/null", &url]);
    }
    let done = agent.stop();
    assert_eq!(lines(&done.spans), ["GET /etc/hostname 200"; 3], "{}", done.log);
    for span in &done.spans {
        assert_eq!(span.int("server.port"), Some(port.into()));
        assert_eq!(span.pid, i64::from(container.pid()));
    }
}

/// By the path in the container: of what runs in it from the start, and of what is executed into it.
#[test]
fn what_is_executed_into_a_container_is_watched_from_its_first_request() {
    if container::impossible() || skip::without(&["python3", "curl"]) {
        return;
    }
    let port = free_port();
    let root = Root::new();
    let folder = TempDir::new().unwrap();
    // A path that nothing else on this machine has.
    let unique = folder.path().file_name().unwrap().to_str().unwrap().replace('.', "");
    let inside = format!("/opt/{unique}/curl");
    fs::create_dir_all(root.inside(&format!("/opt/{unique}"))).unwrap();
    let curl = output(Command::new("sh").args(["-c", "command -v curl"]));
    fs::copy(fs::canonicalize(curl.trim()).unwrap(), root.inside(&inside)).unwrap();
    let server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()];
    let container = root.run(&["--pid", "--net"], &server);
    container.listening(port);
    let agent = Agent::on(&[], &["--exe", &inside]);
    let url = format!("http://127.0.0.1:{port}/etc/hostname");
    container.exec(&[&*inside, "-s", "-o", "/dev/null", &url]);
    let done = agent.stop();
    assert_eq!(lines(&done.spans), ["GET /etc/hostname 200"], "{}", done.log);
    assert_eq!(done.spans[0].kind, CLIENT);
}

#[test]
fn containers_that_come_and_go_leave_nothing_behind() {
    if container::impossible() {
        return;
    }
    let count = if lasting(Duration::ZERO, Duration::from_secs(1)).is_zero() { 40 } else { 200 };
    let folder = TempDir::new().unwrap();
    let unique = folder.path().file_name().unwrap().to_str().unwrap().replace('.', "");
    let inside = format!("/opt/{unique}/once");
    let agent = Agent::on(&[], &["--exe", &inside]);
    let before = agent.holds();
    for _ in 0..count {
        let root = Root::new();
        fs::create_dir_all(root.inside(&format!("/opt/{unique}"))).unwrap();
        fs::copy(built().join("once"), root.inside(&inside)).unwrap();
        let port = free_port();
        let container = root.run(&["--pid"], &[&inside, &port.to_string()]);
        container.listening(port);
        let response = Connection::open(port).unwrap().get("/first", "").unwrap();
        assert_eq!(response.status, 200);
        container.finish();
    }
    // It may have been reading a file of /proc before.
    until("the agent to hold no more than before", || {
        let now = agent.holds();
        println!("before: {before:?}, now: {now:?}");
        now.0 <= before.0 && now.1 == before.1
    });
    let done = agent.stop();
    assert_eq!(lines(&done.spans), vec!["GET /first 200"; count], "{}", done.log);
    assert!(done.spans.iter().all(|span| span.kind == SERVER));
    assert_eq!(done.requests(), [count as u64, count as u64, 0, 0], "{}", done.log);
}

/// A sidecar that shares the processes of its pod and no others (`shareProcessNamespace`).
#[test]
fn an_agent_in_a_pid_namespace_sees_its_processes_by_their_numbers_there() {
    if container::impossible() || skip::without(&["python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let (port, script) = (free_port(), target("https.py"));
    let (folder, script) = (folder.path().display(), script.display());
    let url = format!("https://127.0.0.1:{port}/cert.pem");
    let commands = format!(
        "cd {folder}; python3 {script} {port} & until curl -sk {url} -o /dev/null; do sleep 0.1; done; \
         curl -sk {url} {url} -o /dev/null -o /dev/null; kill $!"
    );
    let command = ["--", "sh", "-c", &commands].map(str::to_owned);
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let done = Agent::start_under(&namespace, "exec", &command).ended();
    for kind in [SERVER, CLIENT] {
        let spans: Vec<_> = done.spans.iter().filter(|span| span.kind == kind).cloned().collect();
        assert_eq!(lines(&spans), ["GET /cert.pem 200"; 3], "{}", done.log);
        // The agent is the first process there.
        assert!(spans.iter().all(|span| (2..100).contains(&span.pid)), "{spans:?}");
    }
    assert_eq!(done.requests(), [6, 6, 0, 0], "{}", done.log);
}
