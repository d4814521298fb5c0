use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use super::{seen::without_deleted, *};
use crate::discover::{Criteria, Ports, Selector};

/// A process that waits until it is dropped.
struct Waiting(Child);

impl Waiting {
    fn new() -> Self {
        let sleep = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let waiting = Self(sleep);
        waiting.until_exec();
        waiting
    }

    /// `spawn` returns when exec succeeded or, where vfork is not used, somewhat before.
    fn until_exec(&self) {
        let exe = format!("/proc/{}/exe", self.pid());
        let own = std::env::current_exe().unwrap();
        while std::fs::read_link(&exe).is_ok_and(|link| link == own) {
            std::thread::yield_now();
        }
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn scanner(criteria: Criteria, exclude: Vec<Criteria>) -> Scanner {
    let selector = Selector { name: Some("svc".into()), criteria, ..Selector::default() };
    let selectors = Selectors::new(vec![selector], exclude, u32::MAX).unwrap();
    Scanner::new(selectors, Arc::new(Host::default()))
}

fn by_pid(pid: u32) -> Criteria {
    Criteria { pids: vec![pid], ..Criteria::default() }
}

fn by_comm(pattern: &str) -> Criteria {
    Criteria { comm: vec![pattern.parse().unwrap()], ..Criteria::default() }
}

fn selected(change: &Change) -> Option<u32> {
    match change {
        Change::Select(target) => Some(target.tgid),
        _ => None,
    }
}

#[test]
fn scan_finds_a_running_process_once() {
    let child = Waiting::new();
    let mut scanner = scanner(by_pid(child.pid()), vec![]);
    let changes = scanner.scan(|_| false);
    assert_eq!(changes.iter().filter_map(selected).collect::<Vec<_>>(), [child.pid()]);
    assert!(scanner.scan(|_| false).is_empty());
    let target = scanner.find(child.pid()).unwrap();
    assert_eq!(target.resource.service_name(), "svc");
    assert!(target.start_time > 0 && target.ns_pid > 0);
}

#[test]
fn scan_finds_what_lost_notices_would_have_told() {
    let (named, child) = (Waiting::new(), Waiting::new());
    let mut scanner = scanner(by_pid(named.pid()), vec![]);
    scanner.scan(|_| false);
    // Its fork was not told of; the kernel side has selected it all the same.
    let found = scanner.scan(|tgid| tgid == child.pid());
    assert_eq!(found.iter().filter_map(selected).collect::<Vec<_>>(), [child.pid()]);
    assert!(scanner.scan(|tgid| tgid == child.pid()).is_empty());
    let gone = child.pid();
    drop(child);
    let changes = scanner.scan(|_| false);
    assert!(matches!(changes[..], [Change::Gone(tgid)] if tgid == gone), "{changes:?}");
}

#[test]
fn a_process_that_starts_later_is_found_by_its_exec() {
    let mut scanner = scanner(by_comm("slee*"), vec![]);
    let child = Waiting::new();
    assert_eq!(selected(&scanner.on_exec(child.pid())), Some(child.pid()));
    assert!(matches!(scanner.on_exit(child.pid()), Change::Gone(_)));
    assert!(matches!(scanner.on_exit(child.pid()), Change::Keep));
    assert!(scanner.find(child.pid()).is_some(), "spans of its end still need its resource");
    assert_eq!(scanner.targets().len(), 0);
}

#[test]
fn an_inherited_child_stays_selected_after_exec_unless_excluded() {
    let parent = Waiting::new();
    let child = Waiting::new();
    for (exclude, stays) in [(vec![], true), (vec![by_comm("sleep")], false)] {
        let mut scanner = scanner(by_pid(parent.pid()), exclude);
        scanner.adopt(parent.pid()).unwrap();
        assert_eq!(selected(&scanner.on_fork(parent.pid(), child.pid())), Some(child.pid()));
        let target = Arc::clone(scanner.find(child.pid()).unwrap());
        let parent_resource = &scanner.find(parent.pid()).unwrap().resource;
        assert_ne!(
            target.resource.find("service.instance.id"),
            parent_resource.find("service.instance.id")
        );
        let change = scanner.on_exec(child.pid());
        assert_eq!(matches!(change, Change::Select(_)), stays);
        assert_eq!(matches!(change, Change::Deselect(_)), !stays);
    }
}

#[test]
fn a_child_whose_exec_nobody_told_of_is_looked_at_when_it_makes_a_connection() {
    let parent = std::process::id();
    let child = Waiting::new();
    let mut scanner = scanner(by_pid(parent), vec![]);
    scanner.adopt(parent).unwrap();
    scanner.on_fork(parent, child.pid());
    let exe = |scanner: &Scanner, pid| scanner.find(pid).unwrap().exe.clone();
    assert_eq!(exe(&scanner, child.pid()), exe(&scanner, parent));
    assert_eq!(selected(&scanner.on_connection(child.pid())), Some(child.pid()));
    assert_ne!(exe(&scanner, child.pid()), exe(&scanner, parent));
    assert!(matches!(scanner.on_connection(child.pid()), Change::Keep), "once is enough");
}

/// Its number, start and executable stay the same.
#[test]
fn a_program_is_not_called_what_the_next_one_in_its_process_is_called() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("first.sh"), "read go; exec sh second.sh\n").unwrap();
    std::fs::write(folder.path().join("second.sh"), "echo ready; read go\n").unwrap();
    let mut command = Command::new("sh");
    command.arg("first.sh").current_dir(folder.path());
    let mut shell = Waiting(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    shell.until_exec();
    // An executable has its name shortly before it has its command line.
    let line = format!("/proc/{}/cmdline", shell.pid());
    while !std::fs::read_to_string(&line).unwrap().contains("first.sh") {
        std::thread::yield_now();
    }
    let selector = Selector { criteria: by_pid(shell.pid()), ..Selector::default() };
    let selectors = Selectors::new(vec![selector], vec![], u32::MAX).unwrap();
    let mut scanner = Scanner::new(selectors, Arc::new(Host::default()));
    scanner.scan(|_| false);
    let pid = shell.pid();
    let name = |scanner: &Scanner| scanner.find(pid).unwrap().resource.service_name().to_owned();
    assert_eq!(name(&scanner), "first");
    writeln!(shell.0.stdin.as_mut().unwrap()).unwrap();
    BufReader::new(shell.0.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    // Of a connection of the first one, told of before its exec.
    assert!(matches!(scanner.on_connection(shell.pid()), Change::Keep));
    assert_eq!(name(&scanner), "first");
    scanner.on_exec(shell.pid());
    assert_eq!(name(&scanner), "second");
}

#[test]
fn a_child_that_is_gone_already_still_has_a_resource() {
    let parent = Waiting::new();
    let mut scanner = scanner(by_pid(parent.pid()), vec![]);
    scanner.adopt(parent.pid()).unwrap();
    let gone = {
        let child = Waiting::new();
        child.pid()
    };
    assert_eq!(selected(&scanner.on_fork(parent.pid(), gone)), Some(gone));
    let target = scanner.find(gone).unwrap();
    assert_eq!((target.start_time, target.resource.service_name()), (0, "svc"));
}

#[test]
fn a_child_of_an_unknown_parent_is_selected_by_its_own_facts_only() {
    let child = Waiting::new();
    let mut other = scanner(by_comm("other"), vec![]);
    assert!(matches!(other.on_fork(u32::MAX, child.pid()), Change::Deselect(_)));
    let mut sleep = scanner(by_comm("sleep"), vec![]);
    assert_eq!(selected(&sleep.on_fork(u32::MAX, child.pid())), Some(child.pid()));
}

#[test]
fn the_next_holder_of_a_named_pid_is_not_selected() {
    let child = Waiting::new();
    let mut scanner = scanner(by_pid(child.pid()), vec![]);
    scanner.scan(|_| false);
    // As if the number had been given to a process that started at another time.
    let mut earlier = Target::clone(scanner.find(child.pid()).unwrap());
    earlier.start_time -= 1;
    scanner.targets.insert(child.pid(), Arc::new(earlier));
    assert!(matches!(scanner.on_exec(child.pid()), Change::Deselect(_)));
    assert!(!scanner.names_pid(child.pid()));
}

#[test]
fn a_named_pid_that_does_not_run_is_retired() {
    let gone = {
        let child = Waiting::new();
        child.pid()
    };
    let mut scanner = scanner(by_pid(gone), vec![]);
    assert!(scanner.names_pid(gone));
    scanner.scan(|_| false);
    assert!(!scanner.names_pid(gone));
}

#[test]
fn a_listening_port_selects_at_scan_and_when_announced() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let criteria = Criteria { ports: Ports::from(port), ..Criteria::default() };
    let own = std::process::id();
    let changes = scanner(criteria.clone(), vec![]).scan(|_| false);
    assert!(changes.iter().filter_map(selected).any(|tgid| tgid == own));
    let mut scanner = scanner(criteria, vec![]);
    assert!(matches!(scanner.on_listen(own, port.wrapping_add(1)), Change::Select(_)));
    assert!(matches!(scanner.on_listen(own, port), Change::Keep), "it is selected already");
}

#[test]
fn a_listening_port_in_another_network_namespace_is_found() {
    const PORT: u16 = 8765;
    let program = format!(
        "import socket, sys; s = socket.create_server(('0.0.0.0', {PORT})); \
         print('ready', flush=True); sys.stdin.read()"
    );
    let child = Command::new("unshare")
        .args(["--net", "python3", "-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return eprintln!("skipped: no unshare here") };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child = Waiting(child);
    if line != "ready\n" {
        return eprintln!("skipped: no network namespace or no python3 here");
    }
    let criteria = Criteria { ports: Ports::from(PORT), ..Criteria::default() };
    let changes = scanner(criteria, vec![]).scan(|_| false);
    assert!(changes.iter().filter_map(selected).any(|tgid| tgid == child.pid()));
}

#[test]
fn scanning_survives_processes_that_come_and_go() {
    let churn = std::thread::spawn(|| -> Vec<u32> {
        let run = |_| {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            child.id()
        };
        (0..200).map(run).collect()
    });
    let mut scanner = scanner(by_comm("true"), vec![]);
    while !churn.is_finished() {
        for tgid in scanner.scan(|_| false).iter().filter_map(selected) {
            assert_eq!(scanner.find(tgid).unwrap().resource.service_name(), "svc");
        }
    }
    let ended = churn.join().unwrap();
    scanner.scan(|_| false);
    assert!(scanner.targets().all(|target| !ended.contains(&target.tgid)));
}

#[test]
fn kernel_threads_and_vanished_processes_are_no_targets() {
    const KTHREADD: u32 = 2;
    let pids = vec![KTHREADD, u32::MAX];
    let mut scanner = scanner(Criteria { pids, ..Criteria::default() }, vec![]);
    let comm = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if comm.trim() == "kthreadd" {
        assert!(matches!(scanner.on_exec(KTHREADD), Change::Keep));
    } else {
        eprintln!("kernel threads skipped: process 2 here is {comm:?}");
    }
    assert!(matches!(scanner.on_exec(u32::MAX), Change::Keep));
    assert!(scanner.adopt(u32::MAX).is_none());
}

#[test]
fn a_replaced_executable_keeps_its_path() {
    let path = without_deleted("/srv/shop (deleted)".into());
    assert_eq!(path, Path::new("/srv/shop"));
    assert_eq!(without_deleted("/srv/shop".into()), Path::new("/srv/shop"));
}

#[test]
fn other_selectors_take_leave_and_rename_running_processes() {
    let (stays, leaves, comes) = (Waiting::new(), Waiting::new(), Waiting::new());
    let forked = Waiting::new();
    let named = |name: &str, pids: &[u32]| Selector {
        name: Some(name.into()),
        criteria: Criteria { pids: pids.to_vec(), ..Criteria::default() },
        ..Selector::default()
    };
    let selectors = |list| Selectors::new(list, vec![], u32::MAX).unwrap();
    let first = named("a", &[stays.pid(), leaves.pid()]);
    let mut scanner = Scanner::new(selectors(vec![first.clone()]), Arc::new(Host::default()));
    scanner.scan(|_| false);
    scanner.on_fork(stays.pid(), forked.pid());
    let resource = |scanner: &Scanner, pid| Arc::clone(&scanner.find(pid).unwrap().resource);
    let before = resource(&scanner, stays.pid());

    // The same selector at another place: nothing changes for what it took, also by inheritance.
    let changes = scanner.reselect(selectors(vec![named("b", &[comes.pid()]), first]));
    assert_eq!(changes.iter().filter_map(selected).collect::<Vec<_>>(), [comes.pid()]);
    assert_eq!(changes.len(), 1);
    assert_eq!(scanner.find(forked.pid()).unwrap().selector, 1);
    assert!(Arc::ptr_eq(&before, &resource(&scanner, stays.pid())));

    // Another one: the child follows its selector away, for its parent here is this test.
    let changes = scanner.reselect(selectors(vec![named("c", &[stays.pid(), comes.pid()])]));
    let deselected = |change: &Change| match change {
        Change::Deselect(tgid) => Some(*tgid),
        _ => None,
    };
    let mut left: Vec<u32> = changes.iter().filter_map(deselected).collect();
    left.sort_unstable();
    let mut expected = [leaves.pid(), forked.pid()];
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert_eq!(resource(&scanner, stays.pid()).service_name(), "c");
    assert_eq!(resource(&scanner, leaves.pid()).service_name(), "a", "its last spans are its own");
    let late = Waiting::new();
    assert!(matches!(scanner.on_fork(leaves.pid(), late.pid()), Change::Deselect(_)));
}

#[test]
fn a_retired_pid_stays_so_under_other_selectors() {
    let child = Waiting::new();
    let mut scanner = scanner(by_pid(child.pid()), vec![]);
    scanner.scan(|_| false);
    scanner.on_exit(child.pid());
    let again = Selector { criteria: by_pid(child.pid()), ..Selector::default() };
    let selectors = Selectors::new(vec![again], vec![], u32::MAX).unwrap();
    assert!(scanner.reselect(selectors).is_empty(), "another process may have the number now");
}
