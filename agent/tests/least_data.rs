//! Proves the promise of least data: of a process that is not selected, discovery opens nothing but
//! what selection may know. This program runs itself under `strace`, as a scanner, and looks at every
//! file name that the scanner gave to the kernel.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Component, Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use remora::discover::{Change, Criteria, Host, Scanner, Selector, Selectors};

/// Set for the run that is traced: `<criterion> <pid to announce> <port>`.
const SCANNER: &str = "REMORA_TEST_SCANNER";

/// What may be looked at in any case: the process's folder and its executable.
const ALWAYS: &[&str] = &["", "exe"];
/// What a port selector needs beyond that.
const FOR_PORTS: &[&str] = &["fd", "fd/*", "ns/net", "net/tcp", "net/tcp6"];

struct Bystander(Child);

impl Bystander {
    /// A copy of `sleep` under a name of its own.
    fn start(folder: &Path, name: &str) -> Self {
        let program = folder.join(name);
        if !program.exists() {
            std::fs::copy("/bin/sleep", &program).unwrap();
        }
        let mut command = Command::new(program);
        Self(command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Not a claim of its own: the traced half of the tests below.
#[test]
fn scanner() {
    let Ok(task) = std::env::var(SCANNER) else { return };
    let [criterion, pid, port] = &*task.split(' ').collect::<Vec<_>>() else { panic!("{task}") };
    let (pid, port): (u32, u16) = (pid.parse().unwrap(), port.parse().unwrap());
    let mut criteria = Criteria::default();
    match *criterion {
        "exe" => criteria.exe.push("**/chosen-exe".parse().unwrap()),
        "comm" => criteria.comm.push("chosen-comm".parse().unwrap()),
        "port" => {
            criteria.comm.push("chosen-port".parse().unwrap());
            criteria.ports = "1".parse().unwrap();
        }
        other => panic!("criterion {other}"),
    }
    let selector = Selector { criteria, ..Selector::default() };
    let selectors = Selectors::new(vec![selector], vec![], std::process::id()).unwrap();
    let mut scanner = Scanner::new(selectors, Arc::new(Host::detect(&[])));
    scanner.scan(|_| false);
    assert!(matches!(scanner.on_exec(pid), Change::Keep));
    assert!(matches!(scanner.on_listen(pid, port), Change::Keep));
    assert!(matches!(scanner.on_exit(pid), Change::Keep));
}

#[test]
fn an_executable_selector_looks_at_executables_only() {
    let (bystander, chosen) = looked_at("exe");
    assert_only(&bystander, &[ALWAYS]);
    assert!(chosen.contains("environ"), "the trace must show what is read of a selected process");
}

#[test]
fn a_command_selector_also_looks_at_command_names() {
    let (bystander, chosen) = looked_at("comm");
    assert_only(&bystander, &[ALWAYS, &["comm"]]);
    assert!(bystander.is_empty() || bystander.contains("comm"));
    assert!(chosen.contains("environ"));
}

#[test]
fn a_port_selector_also_looks_at_sockets() {
    let (bystander, _) = looked_at("port");
    assert_only(&bystander, &[ALWAYS, &["comm"], FOR_PORTS]);
    assert!(bystander.is_empty() || bystander.contains("fd"));
}

fn assert_only(found: &BTreeSet<String>, allowed: &[&[&str]]) {
    let allowed: BTreeSet<&str> = allowed.iter().copied().flatten().copied().collect();
    let beyond: Vec<_> = found.iter().filter(|name| !allowed.contains(&***name)).collect();
    assert!(beyond.is_empty(), "looked at {beyond:?} of processes that are not selected");
}

/// Files below `/proc/PID` that the scanner looked at: of all processes that are not selected, and of
/// the one that is. Both empty, with a reason printed, where there is no strace.
fn looked_at(criterion: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    // One at a time: a file that a thread just wrote cannot be executed while a child forked by
    // another thread still has it open (ETXTBSY).
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let bystander = Bystander::start(folder.path(), "bystander");
    let chosen = Bystander::start(folder.path(), &format!("chosen-{criterion}"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let trace = folder.path().join("trace");

    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "4096", "-e", "trace=%file", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().unwrap()).args(["--exact", "scanner"]);
    strace.env(SCANNER, format!("{criterion} {} {port}", bystander.pid()));
    let output = match strace.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: strace cannot be run: {error}");
            return chosen_if_skipped();
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("PTRACE") && !output.status.success() {
        eprintln!("skipped: strace may not trace here: {stderr}");
        return chosen_if_skipped();
    }
    assert!(output.status.success(), "{stderr}{}", String::from_utf8_lossy(&output.stdout));

    let trace = std::fs::read_to_string(&trace).unwrap();
    let own: u32 = trace.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap();
    let mut of_others = BTreeSet::new();
    let mut of_chosen = BTreeSet::new();
    for line in trace.lines() {
        let Some((pid, file)) = path_in(line).and_then(|path| below_proc(&path)) else { continue };
        if pid == own {
            continue; // the runtime looks at its own process
        }
        if (pid, &*file) == (1, "root") {
            continue; // whether the agent is in a container
        }
        if pid == chosen.pid() { &mut of_chosen } else { &mut of_others }.insert(file);
    }
    assert!(of_others.contains("exe"), "nothing was looked at: the trace was not understood");
    (of_others, of_chosen)
}

/// What a skipped test sees, such that its other assertion holds.
fn chosen_if_skipped() -> (BTreeSet<String>, BTreeSet<String>) {
    (BTreeSet::new(), BTreeSet::from(["environ".to_owned()]))
}

/// The path a traced call names: `12 openat(5</proc/7>, "comm", O_RDONLY) = 6</proc/7/comm>`.
fn path_in(line: &str) -> Option<PathBuf> {
    let arguments = &line[line.find('(')? + 1..];
    let name = arguments.split('"').nth(1)?;
    let before = &arguments[..arguments.find('"')?];
    let folder = before.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    Some(match folder {
        Some((folder, _)) => Path::new(folder).join(name), // an absolute name replaces the folder
        None => name.into(),
    })
}

/// Process and file of `/proc/PID/FILE`; descriptors become `fd/*`.
fn below_proc(path: &Path) -> Option<(u32, String)> {
    let mut parts = path.components();
    if (parts.next()?, parts.next()?) != (Component::RootDir, Component::Normal("proc".as_ref())) {
        return None;
    }
    let pid = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    let file = parts.as_path().to_str()?;
    let file = if file.starts_with("fd/") { "fd/*" } else { file };
    Some((pid, file.to_owned()))
}

#[test]
fn traces_are_understood() {
    let rows = [
        (r#"9 openat(5</proc/7>, "comm", O_RDONLY) = 6</proc/7/comm>"#, Some((7, "comm"))),
        (r#"9 openat(AT_FDCWD</root>, "/proc/7", O_PATH) = 5</proc/7>"#, Some((7, ""))),
        (r#"9 readlinkat(5</proc/7>, "fd/3", "socket:[1]", 256) = 10"#, Some((7, "fd/*"))),
        (r#"9 readlink("/proc/7/ns/net", "net:[1]", 256) = 7"#, Some((7, "ns/net"))),
        (r#"9 openat(AT_FDCWD</>, "/proc/net/tcp", O_RDONLY) = 5"#, None),
        (r#"9 openat(AT_FDCWD</>, "/etc/machine-id", O_RDONLY) = 5"#, None),
        ("9 +++ exited with 0 +++", None),
    ];
    for (line, expected) in rows {
        let found = path_in(line).and_then(|path| below_proc(&path));
        assert_eq!(found, expected.map(|(pid, file)| (pid, file.to_owned())), "{line}");
    }
}
