//! With the documented capabilities (docs/capabilities.md) and no others, as a user of its own, everything is
//! seen; with one fewer, what that one is for is not, and that is said.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use remora_tests::{
    agent,
    process::{Running, free_port, listening, output, until},
    programs::{certificate, target},
    skip, spans,
};
use tempfile::TempDir;

const ALL: [&str; 6] =
    ["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore", "sys_nice"];

/// `setpriv` for a user without name who holds all of these but `without`.
fn privileges(without: &str) -> Vec<String> {
    let held = ALL.iter().filter(|name| **name != without).map(|name| format!(",+{name}"));
    let held: String = std::iter::once("-all".to_owned()).chain(held).collect();
    let sets = ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={held}"));
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
    [&["setpriv".to_owned()], &user.map(str::to_owned)[..], &sets].concat()
}

/// What is watched: servers for HTTPS whose libraries differ in who may open them, and one for HTTP.
struct Targets {
    servers: Vec<(&'static str, Running, u16)>,
    _folders: Vec<TempDir>,
}

impl Targets {
    fn start() -> Self {
        let home = TempDir::new().unwrap();
        certificate(home.path());
        let mut targets = Self { servers: Vec::new(), _folders: Vec::new() };
        let serve = |name, libraries: Option<&Path>| {
            let port = free_port();
            let mut python = Command::new("python3");
            match libraries {
                Some(folder) => {
                    python.arg(target("https.py")).arg(port.to_string());
                    python.env("LD_LIBRARY_PATH", folder);
                }
                None => {
                    python.args(["-m", "http.server", "--bind", "127.0.0.1"]).arg(port.to_string());
                }
            }
            let server = Running::start(python.current_dir(home.path()));
            listening(port);
            (name, server, port)
        };
        targets.servers.push(serve("plain", None));
        let private = library(0o600);
        targets.servers.push(serve("private", Some(private.path())));
        let replaced = library(0o644);
        targets.servers.push(serve("replaced", Some(replaced.path())));
        let mapped = replaced.path().join("libssl.so.3");
        fs::copy(&mapped, replaced.path().join("new")).unwrap();
        fs::rename(replaced.path().join("new"), &mapped).unwrap();
        targets._folders = vec![home, private, replaced];
        targets
    }

    fn ask(&self) {
        for (name, _, port) in &self.servers {
            let scheme = if *name == "plain" { "http" } else { "https" };
            let url = format!("{scheme}://127.0.0.1:{port}/cert.pem");
            output(Command::new("curl").args(["-sk", "-o", "/dev/null"]).arg(url));
        }
    }
}

/// A folder that only its owner may enter, with a copy of OpenSSL of this mode.
fn library(mode: u32) -> TempDir {
    let folder = TempDir::new().unwrap();
    let python =
        "import _ssl; print(next(l.split()[-1] for l in open('/proc/self/maps') if 'libssl' in l))";
    let found = output(Command::new("python3").args(["-c", python]));
    let copy = folder.path().join("libssl.so.3");
    fs::copy(found.trim(), &copy).unwrap();
    fs::set_permissions(copy, Permissions::from_mode(mode)).unwrap();
    let open = if mode & 0o044 == 0 { 0o700 } else { 0o755 };
    fs::set_permissions(folder.path(), Permissions::from_mode(open)).unwrap();
    folder
}

/// The binary where every user may execute it.
fn binary(folder: &TempDir) -> PathBuf {
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("remora");
    fs::copy(agent::binary(), &copy).unwrap();
    copy
}

/// Whose requests an agent without this capability sees, and what it says.
fn seen_without(
    capability: &str,
    remora: &Path,
    targets: &Targets,
) -> (BTreeSet<&'static str>, String) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let wrapper = privileges(capability);
    let mut run = Command::new(&wrapper[0]);
    run.args(&wrapper[1..]).arg(remora).args(["run", "--otlp-file", "-", "--log-level", "debug"]);
    for (_, server, _) in &targets.servers {
        run.args(["--pid", &server.pid().to_string()]);
    }
    run.stdout(File::create(file("spans")).unwrap()).stderr(File::create(file("log")).unwrap());
    let mut process = Running::start_unread(&mut run);
    let log = || fs::read_to_string(file("log")).unwrap();
    until("the agent to be ready", || log().contains(" ready ") || process.has_ended());
    if !process.has_ended() {
        targets.ask();
        process.signal(libc::SIGINT);
        assert!(process.wait().success(), "{}", log());
    }
    let spans = spans::parse(&fs::read_to_string(file("spans")).unwrap());
    let seen = targets.servers.iter().filter(|(.., port)| {
        spans.iter().any(|span| span.int("server.port") == Some(i64::from(*port)))
    });
    (seen.map(|(name, ..)| *name).collect(), log())
}

/// Capabilities that `remora doctor`, without this one, says are missing.
fn missing(capability: &str, remora: &Path) -> BTreeSet<String> {
    let wrapper = privileges(capability);
    let doctor = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(remora)
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let shortfalls =
        report["checks"].as_array().unwrap().iter().filter(|check| check["state"] != "ok");
    let reasons = shortfalls.map(|check| check["reason"].as_str().unwrap());
    let missing = reasons.filter_map(|reason| reason.split_once(" is missing"));
    missing.map(|(name, _)| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

#[test]
fn each_capability_is_needed_for_what_is_documented_and_no_other_is() {
    if skip::without_root() || skip::without(&["setpriv", "python3", "curl", "openssl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let remora = binary(&folder);
    let needed = missing("none", &remora);
    if needed.contains("sys_admin") {
        println!("skipped: before Linux 6.6 these are not enough, and `remora doctor` says so");
        return;
    }
    assert_eq!(needed, BTreeSet::new());
    let targets = Targets::start();
    let everything = ["plain", "private", "replaced"].as_slice();
    let rows = [
        ("none", everything),
        ("bpf", &[]),
        ("perfmon", &[]),
        ("sys_ptrace", &[]),
        // Also what another user's process has mapped is behind a folder of that user.
        ("dac_read_search", &["plain"]),
        ("checkpoint_restore", &["plain", "private"]),
        ("sys_nice", everything),
    ];
    for (without, expected) in rows {
        let (seen, log) = seen_without(without, &remora, &targets);
        assert_eq!(seen, expected.iter().copied().collect(), "without {without}:\n{log}");
        if without != "none" {
            assert_eq!(missing(without, &remora), [without.to_owned()].into(), "without {without}");
            let said = format!("CAP_{} is missing", without.to_uppercase());
            assert!(log.contains(&said), "without {without}:\n{log}");
        }
    }
}
