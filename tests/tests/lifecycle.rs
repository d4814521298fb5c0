//! From the command line to the exit code: ready, first span, detached, flushed, ended. Times are
//! printed; how fast is a matter of benches.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use remora_tests::{
    address,
    agent::{self, Agent},
    client::Connection,
    collector::{Collector, Protocol},
    kernel_objects::KernelObjects,
    nginx::Nginx,
    process::until,
    skip, spans,
};

/// Says on which port it listens; a thread per connection.
const SERVER: &str = env!("CARGO_BIN_EXE_stock");

/// Not a measure of speed: something is wrong if it takes as long, on any machine.
const FAR_TOO_LONG: Duration = Duration::from_secs(20);

/// The port, when the server under `agent` has said it.
fn port(agent: &Agent) -> u16 {
    let said = || {
        let text = agent.stdout();
        let line = text.lines().find_map(|line| line.strip_prefix("listening on "))?;
        text.contains(&format!("{line}\n")).then(|| line.parse::<SocketAddr>().unwrap().port())
    };
    until("the server to listen", || said().is_some());
    said().unwrap()
}

fn get(port: u16, target: &str) -> u16 {
    Connection::open(port).unwrap().get(target, "").unwrap().status
}

#[test]
fn first_request_of_a_command_becomes_the_first_span() {
    if skip::without_root() {
        return;
    }
    let start = Instant::now();
    let agent = Agent::bare(&["exec", "--print", "spans", "--", SERVER]);
    let ready = agent.ready_after;
    let port = port(&agent);
    let listens = start.elapsed();
    assert_eq!(get(port, "/items/1"), 200);
    let answered = start.elapsed();
    until("the span on the terminal", || agent.stdout().contains("GET /items/1"));
    let seen = start.elapsed();
    // Passed on to the command, with which the agent ends.
    agent.signal(libc::SIGTERM);
    let done = agent.ended_anyhow();
    assert_eq!(done.requests(), [1, 1, 0, 0], "{}", done.log);
    assert!(ready < FAR_TOO_LONG && seen - answered < FAR_TOO_LONG, "{ready:?} {seen:?}");
    println!(
        "ready after {ready:?}; its command listens after {listens:?}; answered after {answered:?}; \
         on the terminal {:?} later",
        seen - answered
    );
}

#[test]
fn stopped_agent_detaches_before_it_sends_what_it_holds() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    // Takes connections and never answers.
    let (_silent, address) = address::listener();
    let endpoint = format!("http://{address}");
    let agent = Agent::on(&nginx.pids(), &["--otlp-endpoint", &endpoint]);
    let held = KernelObjects::of(agent.pid()).unwrap();
    (0..10).for_each(|number| assert_eq!(get(nginx.port(), &format!("/small/{number}")), 200));
    drop(nginx);
    let start = Instant::now();
    agent.signal(libc::SIGTERM);
    until("the kernel to free what the agent held", || held.left().programs.is_empty());
    let detached = start.elapsed();
    let running = std::fs::metadata(format!("/proc/{}", agent.pid())).is_ok();
    let done = agent.ended_anyhow();
    let ended = start.elapsed();
    assert!(running, "it has what it cannot send, for five seconds");
    // What could not be sent is in the books, what could is in the file.
    assert_eq!(done.status.code(), Some(0), "{}", done.log);
    assert_eq!(done.exported_to("otlp"), [10, 0, 10], "{}", done.log);
    assert!(done.log.contains("dropped 10 shutdown=10"), "{}", done.log);
    assert_eq!(done.exported_to("file"), [10, 10, 0], "{}", done.log);
    assert_eq!(done.spans.len(), 10);
    assert!(detached < FAR_TOO_LONG && ended < FAR_TOO_LONG, "{detached:?} {ended:?}");
    println!("detached after {detached:?}, ended after {ended:?}");
}

#[test]
fn sigterm_and_sigint_flush_what_is_queued() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let nginx = Nginx::start();
        let collector = Collector::start(Protocol::Grpc);
        let agent = Agent::on(&nginx.pids(), &collector.flags().each_ref().map(|flag| &**flag));
        for number in 0..50 {
            assert_eq!(get(nginx.port(), &format!("/small/{number}")), 200);
        }
        drop(nginx);
        let start = Instant::now();
        agent.signal(signal);
        let done = agent.ended();
        println!("signal {signal}: ended after {:?}", start.elapsed());
        assert_eq!(done.exported_to("otlp"), [50, 50, 0], "{}", done.log);
        let expected: Vec<String> = (0..50).map(|number| format!("/small/{number}")).collect();
        assert_eq!(collector.paths().concat(), expected);
    }
}

#[test]
fn exit_code_of_wrong_usage_is_two_and_says_what_is_wrong() {
    if skip::without_root() {
        return;
    }
    let cases: [(&[&str], &str); 8] = [
        (&[], "Usage"),
        (&["run"], "no process is selected"),
        (&["run", "--nonsense"], "--nonsense"),
        (&["run", "--pid", "many"], "--pid"),
        (&["run", "--pid", "1", "--door", "cellar"], "--door"),
        (&["run", "--config", "/nowhere/remora.yaml"], "/nowhere/remora.yaml"),
        (&["run", "--pid", "1", "--otlp-file", "-", "--print", "spans"], "--otlp-file"),
        (&["exec"], "CMD"),
    ];
    for (arguments, expected) in cases {
        let output = agent::command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn what_fails_while_running_is_exit_code_one() {
    if skip::without_root() {
        return;
    }
    let (_taken, address) = address::listener();
    let pid = std::process::id().to_string();
    let address = address.to_string();
    let arguments = ["run", "--pid", &pid, "--prometheus", &address];
    let output = agent::command().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[test]
fn exec_exits_as_its_command() {
    if skip::without_root() {
        return;
    }
    let cases: [(&[&str], i32); 5] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -9 $$"], 128 + libc::SIGKILL),
        (&["/nowhere/command"], 127),
        (&["/etc/passwd"], 126),
    ];
    for (command, code) in cases {
        let mut remora = agent::command();
        remora.args(["exec", "--print", "none", "--"]).args(command).stdin(Stdio::null());
        let output = remora.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        // Until it is the command it is this program, which nobody has asked about.
        assert!(!said.contains(&agent::binary().display().to_string()), "{command:?}: {said}");
    }
}

/// The values of the lines of a Prometheus page that begin with `series`, summed.
fn scraped(page: &str, series: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(series));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until a scrape of `address` says `count`, and not more.
fn wait_for_scrape(address: SocketAddr, count: usize) {
    let mut seen = 0;
    until("all requests at a scrape", || {
        let scrape =
            Command::new("curl").arg("-s").arg(format!("http://{address}/metrics")).output();
        let page = String::from_utf8(scrape.unwrap().stdout).unwrap();
        seen = scraped(&page, "http_server_request_duration_seconds_count") as usize;
        seen >= count
    });
    assert_eq!(seen, count);
}

#[test]
fn file_standard_output_terminal_and_prometheus_show_the_same_count_at_once() {
    if skip::without_root() || skip::without(&["curl", "nginx"]) {
        return;
    }
    const COUNT: usize = 120;
    let nginx = Nginx::start();
    let pids: Vec<String> = nginx.pids().iter().map(u32::to_string).collect();
    let pids = pids.join(",");
    let address = || address::listener().1;
    let addresses = [address(), address()];
    let [first, second] = addresses.map(|address| address.to_string());
    // Standard output is for people or for programs, not for both: two agents.
    let terminal = Agent::on(&nginx.pids(), &["--print", "spans", "--prometheus", &first]);
    let lines = Agent::bare(&["run", "--pid", &pids, "--otlp-file", "-", "--prometheus", &second]);
    for number in 0..COUNT {
        assert_eq!(get(nginx.port(), &format!("/small/{number}")), 200);
    }
    drop(nginx);
    addresses.into_iter().for_each(|address| wait_for_scrape(address, COUNT));
    let (terminal, lines) = (terminal.stop(), lines.stop());
    for done in [&terminal, &lines] {
        assert_eq!(done.requests(), [COUNT as u64, COUNT as u64, 0, 0], "{}", done.log);
    }
    let printed = terminal.stdout.lines().filter(|line| line.contains("127.0.0.1:")).count();
    assert_eq!(printed, COUNT, "{}", terminal.stdout);
    assert_eq!(terminal.spans.len(), COUNT);
    let written = spans::parse(&lines.stdout);
    assert_eq!(written.len(), COUNT);
    assert!(written.iter().all(|span| span.line().starts_with("GET /small/")));
}
