//! What this host lacks is said by name, with reason and remedy: by `remora doctor`, and by an agent that
//! starts, in one line. The rest works.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{self, Agent, Done},
    client::Connection,
    nginx::Nginx,
    process::Running,
    skip,
    spans::Span,
};
use serde_json::Value;

/// What older kernels lack, and the first that has it.
const NEWER: [(&str, (u32, u32)); 3] =
    [("missed runs", (5, 12)), ("door socket", (6, 3)), ("TLS links", (6, 6))];

/// Capabilities of an agent that is not root; enough for everything from Linux 6.6 on.
const FEW: &str =
    "--bounding-set=-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+checkpoint_restore,+sys_nice";

/// A feature that does not stand well: name, state, reason.
type Shortfall = (String, String, String);

/// Whether this kernel is older than `version`.
fn older_than(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) < version
}

/// What `remora doctor`, started by `wrapper`, says that is not well, and its exit code.
fn doctor(wrapper: &[&str]) -> (Vec<Shortfall>, i32) {
    let remora = agent::binary();
    let mut command = match wrapper {
        [] => Command::new(remora),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(remora);
            command
        }
    };
    let output = command.args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let mut shortfalls = Vec::new();
    for check in report["checks"].as_array().unwrap() {
        println!(
            "{}: {} ({})",
            text(check, "feature"),
            text(check, "state"),
            text(check, "reason")
        );
        assert_ne!(text(check, "reason"), "", "{check}");
        if check["state"] != "ok" {
            assert_ne!(text(check, "remedy"), "", "{check}");
            shortfalls.push(["feature", "state", "reason"].map(|key| text(check, key)).into());
        }
    }
    (shortfalls, output.status.code().unwrap())
}

fn names(shortfalls: &[Shortfall]) -> BTreeSet<&str> {
    shortfalls.iter().map(|(name, ..)| &**name).collect()
}

/// One request, seen by an agent that `wrapper` starts.
fn seen_by(wrapper: &[&str]) -> Done {
    let nginx = Nginx::start();
    let agent = match wrapper {
        [] => Agent::on(&nginx.pids(), &[]),
        wrapper => Agent::under(wrapper, &nginx.pids()),
    };
    let status = Connection::open(nginx.port()).unwrap().get("/small", "").unwrap().status;
    assert_eq!(status, 200);
    drop(nginx);
    let done = agent.stop();
    let lines: Vec<String> = done.spans.iter().map(Span::line).collect();
    assert_eq!(lines, ["GET /small 200"], "{}", done.log);
    done
}

/// The line of the start says of each shortfall what `remora doctor` says.
fn start_names(shortfalls: &[Shortfall], done: &Done) {
    let line = done.log.lines().find(|line| line.contains("off or reduced here"));
    // Doors behind the one that opened are not tried.
    let tried = |name: &str| {
        let order = ["door socket", "door fexit", "door tp-btf", "door raw-tp", "door tracepoint"];
        let place = |name: &str| order.iter().position(|door| *door == name);
        let used = order.iter().find(|door| {
            done.log.contains(&format!("door=\"{}\"", door.trim_start_matches("door ")))
        });
        place(name) <= place(used.unwrap_or_else(|| panic!("no door: {}", done.log)))
    };
    let expected: Vec<&Shortfall> =
        shortfalls.iter().filter(|(name, ..)| !name.starts_with("door ") || tried(name)).collect();
    if expected.is_empty() {
        assert_eq!(line, None);
        return;
    }
    let line =
        line.unwrap_or_else(|| panic!("{expected:?} is not said at the start:\n{}", done.log));
    for (name, state, reason) in expected {
        let said = format!("{name} {state} ({reason})");
        assert!(line.contains(&said), "{said:?} is not in {line:?}");
    }
}

#[test]
fn what_this_kernel_lacks_is_named_and_http_is_seen() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (shortfalls, code) = doctor(&[]);
    assert_eq!(code, 0, "{shortfalls:?}");
    let lacking = NEWER.iter().filter(|(_, since)| older_than(*since)).map(|(name, _)| *name);
    if skip::emulated() {
        // Nothing else than its age is wrong with a guest.
        assert_eq!(names(&shortfalls), lacking.collect(), "{shortfalls:?}");
    } else {
        lacking.for_each(|name| assert!(names(&shortfalls).contains(name), "{shortfalls:?}"));
    }
    start_names(&shortfalls, &seen_by(&[]));
}

#[test]
fn without_cap_sys_admin_http_is_seen_and_older_kernels_say_that_tls_is_not() {
    if skip::without_root() || skip::without(&["nginx", "setpriv"]) {
        return;
    }
    // Before 5.11 maps count against a limit that is lifted before the capabilities go.
    let script = "ulimit -l unlimited; exec \"$@\"";
    let wrapper = ["sh", "-c", script, "sh", "setpriv", FEW, "--no-new-privs"];
    let (shortfalls, code) = doctor(&wrapper);
    assert_eq!(code, 0, "{shortfalls:?}");
    let tls = shortfalls.iter().find(|(name, ..)| name == "TLS probes");
    match tls {
        Some((_, state, reason)) => {
            assert!(older_than((6, 6)) && state == "unsupported", "{state}: {reason}");
            assert!(reason.contains("CAP_SYS_ADMIN"), "{reason}");
        }
        None => assert!(!older_than((6, 6)), "{shortfalls:?}"),
    }
    start_names(&shortfalls, &seen_by(&wrapper));
}

#[test]
fn without_privileges_doctor_names_those_that_are_missing_and_run_refuses() {
    if skip::without_root() || skip::without(&["setpriv"]) {
        return;
    }
    let wrapper = ["setpriv", "--bounding-set=-all", "--no-new-privs"];
    let (shortfalls, code) = doctor(&wrapper);
    assert_eq!(code, 1, "{shortfalls:?}");
    let missing = "CAP_BPF and CAP_PERFMON are missing";
    let load = shortfalls.iter().find(|(name, ..)| name == "load programs");
    let load = load.map(|(_, state, reason)| (&**state, &**reason));
    assert_eq!(load, Some(("failed", missing)));
    let expected = ["inspect processes", "kernel programs", "load programs"];
    assert!(expected.iter().all(|name| names(&shortfalls).contains(name)), "{shortfalls:?}");

    let mut run = Command::new(wrapper[0]);
    run.args(&wrapper[1..]).arg(agent::binary()).args(["run", "--pid", "1"]);
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(missing), "{said}");
}

/// What of a process is not seen is named, where it can be told.
#[test]
fn a_process_with_an_io_uring_is_named() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    // `io_uring_setup(4, &params)`: 425 on every machine.
    let script = "import ctypes\nring = ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120))\n\
                  print('none' if ring < 0 else 'ring', flush=True)\ninput()";
    let mut python =
        Running::start(Command::new("python3").args(["-c", script]).stdin(Stdio::piped()));
    if python.line() == "none" {
        println!("skipped: this kernel has no io_uring, or forbids it");
        return;
    }
    let unseen = |pid: u32| {
        let line = ["doctor", "--json", "--pid", &pid.to_string()].map(str::to_owned);
        let output = Command::new(agent::binary()).args(line).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = report["process"]["unseen"].as_array().unwrap().clone();
        list.iter().map(|one| one["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(unseen(python.pid()), ["io_uring"]);
    assert_eq!(unseen(std::process::id()), Vec::<String>::new());
}
