//! An agent that gets little: few descriptors, little memory. It works, or it says what it lacks and
//! leaves nothing behind.

use std::process::{Command, Stdio};

use remora_tests::{
    agent::{self, Agent},
    cgroup::Cgroup,
    client::{Connection, Load},
    nginx::Nginx,
    process::until,
    skip,
};

#[test]
fn an_agent_that_may_open_few_files_raises_its_limit_or_says_so() {
    if skip::without_root() || skip::without(&["nginx", "prlimit"]) {
        return;
    }
    let nginx = Nginx::start();
    let load = Load::start(nginx.port(), "/quiet", 2);
    let pid = nginx.pids()[0].to_string();
    for descriptors in [16, 32, 64, 100] {
        let limit = format!("--nofile={descriptors}:{descriptors}");
        let arguments = ["run", "--pid", &pid, "--otlp-file", "/dev/null"];
        let mut remora = agent::under(&["prlimit", &limit], &arguments);
        let output = remora.stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let said = format!("may open {descriptors} files at once, expected at least 128");
        assert!(log.contains(&said) && !log.contains("panicked"), "{log}");
    }
    load.more_of_each(5);
    assert_eq!(load.stop(), [""; 0]);
    let agent = Agent::under(&["prlimit", "--nofile=64:128"], &nginx.pids());
    let used = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let mut connection = Connection::open(nginx.port()).unwrap();
    assert_eq!(connection.get("/small/1", "").unwrap().status, 200);
    drop((connection, nginx));
    let done = agent.stop();
    assert_eq!(done.requests(), [1, 1, 0, 0], "{}", done.log);
    println!("{used} descriptors");
}

#[test]
fn thirty_megabytes_are_enough_for_agent_and_kernel_once_it_is_ready() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    // Reading the kernel's type information and verifying takes more, for a moment.
    const TO_START: u64 = 96 << 20;
    const LIMIT: u64 = 30 << 20;
    let Some(group) = Cgroup::new("memory").filter(|group| group.limit_memory(TO_START)) else {
        println!("skipped: memory cannot be bounded here");
        return;
    };
    let nginx = Nginx::start();
    let script = format!("echo $$ >{} && exec \"$@\"", group.members().display());
    let agent = Agent::under(&["sh", "-c", &script, "sh"], &nginx.pids());
    let to_start = group.memory_peak();
    until("the kernel to free what loading took", || group.limit_memory(LIMIT));
    let load = Load::start(nginx.port(), "/load", 4);
    load.more_of_each(500);
    assert_eq!(load.stop(), [""; 0]);
    let logged = nginx.quit().len() as u64;
    let used = group.memory();
    let (done, written) = agent.stop_and_count();
    assert_eq!(done.requests(), [logged, logged, 0, 0], "{}", done.log);
    assert_eq!(written, logged);
    let megabytes = |bytes: Option<u64>| bytes.map_or(0, |bytes| bytes >> 20);
    println!(
        "{logged} requests within {} MB, {} MB at the end; {} MB to start",
        LIMIT >> 20,
        megabytes(used),
        megabytes(to_start)
    );
}

#[test]
fn agent_that_memory_runs_out_for_is_ended_alone() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let Some(group) = Cgroup::new("memory").filter(|group| group.limit_memory(6 << 20)) else {
        println!("skipped: memory cannot be bounded here");
        return;
    };
    let nginx = Nginx::start();
    let load = Load::start(nginx.port(), "/quiet", 2);
    let script = format!("echo $$ >{} && exec \"$@\"", group.members().display());
    let pid = nginx.pids()[0].to_string();
    let arguments = ["run", "--pid", &pid, "--otlp-file", "/dev/null"];
    let mut remora: Command = agent::under(&["sh", "-c", &script, "sh"], &arguments);
    let output = remora.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "it ran with 6 MB");
    load.more_of_each(50);
    assert_eq!(load.stop(), [""; 0]);
}
