//! An agent that gets little: few descriptors, little memory. It works, or it says what it lacks and
//! leaves nothing behind.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::{self, Agent},
    cgroup::Cgroup,
    client::{Connection, Load},
    nginx::Nginx,
    process::{free_port, output, until},
    skip,
};
use serde_json::json;
use tempfile::TempDir;

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
    let used = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
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

/// Each process is a resource of its own, and Prometheus never comes for its series.
#[test]
fn processes_that_ended_give_their_place_where_nobody_collects() {
    if skip::without_root() || skip::without(&["nginx", "curl"]) {
        return;
    }
    // The last 1,024 processes that have ended are remembered, for what is told of them late.
    const ROOM: u64 = 1100;
    const VISITS: u64 = 1300;
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let curl = folder.path().join("curl");
    let installed = String::from_utf8(Command::new("which").arg("curl").output().unwrap().stdout);
    fs::copy(fs::canonicalize(installed.unwrap().trim()).unwrap(), &curl).unwrap();
    let config = json!({
        "metrics": { "max_resources": ROOM, "interval": "1h" },
        // Spans that wait for others know their process, too.
        "output": {
            "prometheus": format!("127.0.0.1:{}", free_port()),
            "batch": { "delay": "5ms" },
        },
    });
    let agent = Agent::configured(&[], &config, &["--exe", curl.to_str().unwrap()]);
    let visits =
        format!("seq {VISITS} | xargs -P 4 -I N {} -s {}", curl.display(), nginx.url("/small"));
    let said = output(Command::new("sh").args(["-c", &visits]));
    assert_eq!(said.len() as u64, 5 * VISITS);
    thread::sleep(Duration::from_millis(100));
    let done = agent.stop();
    // On a busy machine a process that lives for milliseconds may have asked before it is selected.
    let [_, spans, ..] = done.requests();
    assert!(spans > VISITS / 10 * 9, "{}", done.log);
    let left_out =
        done.log.lines().find(|line| line.starts_with("remora: left out ")).unwrap_or("");
    let count = |name: &str| {
        let count = left_out.split([' ', '=']).skip_while(|&word| word != name).nth(1);
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let forgotten = count("series_forgotten");
    assert!((1..VISITS - 1024).contains(&forgotten), "{}", done.log);
    assert_eq!(count("exchanges_not_measured"), 0, "{}", done.log);
}
