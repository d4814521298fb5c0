//! The configuration is read again while the agent runs: what can change does, without a gap, and the
//! rest is named.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use remora_tests::{
    agent::Agent, client::Connection, nginx::Nginx, process::until, skip, wrk::Wrk,
};
use serde_json::json;
use tempfile::TempDir;

const CONNECTIONS: usize = 32;
const IN_FORCE: &str = "configuration in force, changed: ";
const AS_IT_WAS: &str = "the configuration stays as it was: ";

/// As editors do: another file takes its place.
fn replace(path: &Path, text: &str) {
    let other = path.with_extension("new");
    fs::write(&other, text).unwrap();
    fs::rename(other, path).unwrap();
}

fn started(path: &Path) -> Agent {
    Agent::start("run", &["--config".to_owned(), path.to_str().unwrap().to_owned()])
}

/// Waits until the log says this so many times.
fn said(agent: &Agent, what: &str, times: usize) {
    until(what, || agent.log().matches(what).count() >= times);
}

#[test]
fn reloads_under_load_leave_no_request_out() {
    if skip::without_root() || skip::without(&["nginx", "wrk"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("remora.yaml");
    let config = |name: &str, routes: &str| {
        json!({
            "selectors": [{ "name": name, "pid": nginx.pids() }],
            "routes": { "mode": routes },
            "limits": { "ring": "128MiB", "queue": "1GiB" },
        })
        .to_string()
    };
    fs::write(&path, config("first", "heuristic")).unwrap();
    let agent = started(&path);
    let url = nginx.url("/load");
    let load = thread::spawn(move || Wrk::run(&url, CONNECTIONS, 2));
    let log = |lines: usize| until("load", || nginx.log().len() > lines);
    log(1000);
    replace(&path, &config("second", "off"));
    said(&agent, IN_FORCE, 1);
    log(nginx.log().len() + 1000);
    fs::write(&path, "selectors: [{exes: a}]\nlimits: {ring: 3MiB}\n").unwrap();
    agent.signal(libc::SIGHUP);
    said(&agent, AS_IT_WAS, 1);
    replace(&path, &config("third", "off"));
    said(&agent, IN_FORCE, 2);
    let wrk = load.join().unwrap();
    let logged = nginx.quit().len();
    let done = agent.stop();
    assert_eq!(done.requests(), [logged as u64, logged as u64, 0, 0], "{}", done.log);
    assert!((wrk.requests..=wrk.requests + CONNECTIONS as u64).contains(&(logged as u64)));
    assert_eq!(done.spans.len(), logged, "{}", done.log);
    let of = |name: &str| done.spans.iter().filter(|span| span.service == name).collect::<Vec<_>>();
    let (first, second, third) = (of("first"), of("second"), of("third"));
    assert!(!first.is_empty() && !second.is_empty(), "{}", done.log);
    assert_eq!(first.len() + second.len() + third.len(), logged, "each is of one configuration");
    assert!(first.iter().all(|span| span.text("http.route") == "/load"));
    assert!(second.iter().chain(&third).all(|span| span.text("http.route").is_empty()));
    assert!(
        done.log.contains("remora.yaml:1:13: selectors[0]: found no criterion"),
        "{}",
        done.log
    );
    assert!(
        done.log.contains("remora.yaml:1:14: selectors[0].exes: unknown setting"),
        "{}",
        done.log
    );
    assert!(done.log.contains("limits.ring: found 3MiB, expected a power of two"), "{}", done.log);
    println!("{} + {} + {} requests, none lost", first.len(), second.len(), third.len());
}

/// A folder as Kubernetes makes it of a ConfigMap.
struct ConfigMap {
    folder: TempDir,
    version: usize,
}

impl ConfigMap {
    fn new(config: &serde_json::Value) -> Self {
        let mut map = Self { folder: TempDir::new().unwrap(), version: 0 };
        map.set(config);
        symlink("..data/remora.yaml", map.path()).unwrap();
        map
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("remora.yaml")
    }

    fn set(&mut self, config: &serde_json::Value) {
        let at = |name: &str| self.folder.path().join(name);
        let (old, new) = (format!("..{}", self.version), format!("..{}", self.version + 1));
        fs::create_dir(at(&new)).unwrap();
        fs::write(at(&new).join("remora.yaml"), config.to_string()).unwrap();
        symlink(&new, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if self.version > 0 {
            fs::remove_dir_all(at(&old)).unwrap();
        }
        self.version += 1;
    }
}

#[test]
fn sampling_headers_and_selection_change_in_flight_and_the_rest_is_named() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (nginx, other) = (Nginx::start(), Nginx::start());
    let taken = |pids: Vec<u32>| json!([{ "name": "edge", "pid": pids }]);
    let mut map = ConfigMap::new(&json!({ "selectors": taken(nginx.pids()) }));
    let agent = started(&map.path());
    let fields = "x-tenant: a\r\nX-Tenant: b\r\nauthorization: Bearer s3cret\r\n";
    let ask = |target: &str| {
        Connection::open(nginx.port()).unwrap().get(target, fields).unwrap();
    };
    ask("/small?before");

    map.set(&json!({
        "selectors": taken(nginx.pids()),
        "traces": { "sampler": "always_off" },
        "limits": { "queue": "32MiB" },
    }));
    said(&agent, IN_FORCE, 1);
    ask("/small?sampled-out");

    map.set(&json!({ "selectors": taken(nginx.pids()), "traces": { "sampler": "sometimes" } }));
    said(&agent, AS_IT_WAS, 1);
    ask("/small?as-before");

    let selector = json!([{
        "name": "edge",
        "pid": nginx.pids(),
        "traces": { "sampler": "always_on" },
        "headers": { "request": ["x-tenant", "authorization"], "response": "server" },
    }]);
    map.set(&json!({ "selectors": selector, "traces": { "sampler": "always_off" } }));
    said(&agent, IN_FORCE, 2);
    ask("/small?headers");

    map.set(&json!({ "selectors": taken(other.pids()) }));
    said(&agent, IN_FORCE, 3);
    ask("/small?of-nobody");

    map.set(&json!({ "selectors": taken(nginx.pids()) }));
    said(&agent, IN_FORCE, 4);
    ask("/small?again");
    drop(nginx);
    let done = agent.stop();
    let log = &done.log;
    let queries: Vec<&str> = done.spans.iter().map(|span| span.text("url.query")).collect();
    assert_eq!(queries, ["before", "headers", "again"], "{log}");
    assert_eq!(done.requests(), [5, 3, 2, 0], "{log}");
    assert!(done.spans.iter().all(|span| span.service == "edge"), "{log}");

    let [before, asked, _] = &*done.spans else { unreachable!("three of them") };
    assert_eq!(asked.texts("http.request.header.x-tenant"), ["a", "b"], "{asked:?}");
    assert_eq!(asked.texts("http.request.header.authorization"), ["REDACTED"]);
    assert!(asked.texts("http.response.header.server")[0].contains("nginx"));
    assert_eq!(before.texts("http.request.header.x-tenant"), [""; 0]);
    assert!(!done.file.contains("s3cret"));
    assert!(log.contains("only after a restart: limits.queue"), "{log}");
    assert!(log.contains("changed: traces.sampler"), "{log}");
    assert!(log.contains("found `sometimes`, expected one of always_on"), "{log}");
}

#[test]
fn under_nohup_it_does_not_end() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let agent = Agent::under(&["nohup"], &nginx.pids());
    agent.signal(libc::SIGHUP);
    Connection::open(nginx.port()).unwrap().get("/small", "").unwrap();
    drop(nginx);
    assert_eq!(agent.stop().requests(), [1, 1, 0, 0]);
}

#[test]
fn without_a_file_sighup_ends_the_agent() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    // The tests themselves may run under nohup.
    let agent = Agent::under(&["env", "--default-signal=HUP"], &nginx.pids());
    Connection::open(nginx.port()).unwrap().get("/small", "").unwrap();
    drop(nginx);
    agent.signal(libc::SIGHUP);
    assert_eq!(agent.ended().requests(), [1, 1, 0, 0]);
}
