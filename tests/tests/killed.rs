//! An agent that is killed is gone altogether, and the process it watched does not notice.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Instant,
};

use remora_tests::{
    agent::{self, Agent},
    client::{Connection, Load},
    kernel_objects::KernelObjects,
    nginx::Nginx,
    process::{Running, until},
    skip,
    spans::SERVER,
};

#[test]
fn killed_agent_fails_no_request_leaves_nothing_and_its_successor_joins_open_connections() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let load = Load::start(nginx.port(), "/quiet", 8);
    let agent = Agent::on(&nginx.pids(), &[]);
    load.more_of_each(200);
    let held = KernelObjects::of(agent.pid()).unwrap();
    assert!(![held.programs.len(), held.maps.len(), held.links.len()].contains(&0), "{held:?}");
    assert_eq!(held.left(), held, "all of them can be seen");
    agent.kill();
    load.more_of_each(200);
    // The kernel frees programs and maps when nobody can be running them any more.
    until("the kernel to free what the agent held", || held.left().is_empty());

    let agent = Agent::on(&nginx.pids(), &["--ring-size", "64MiB"]);
    load.more_of_each(20);
    let ports: BTreeSet<i64> = load.ports().iter().map(|&port| port.into()).collect();
    assert_eq!(load.stop(), [""; 0]);
    drop(nginx);
    let done = agent.stop();
    let seen: BTreeSet<i64> = done
        .spans
        .iter()
        .filter(|span| span.kind == SERVER)
        .filter_map(|span| span.int("network.peer.port"))
        .collect();
    assert_eq!(seen, ports, "{}", done.log);
    // Of a request that was under way when it attached it saw the answer only.
    let [.., lost] = done.requests();
    assert!(lost == done.lost("no_request") && lost <= ports.len() as u64, "{}", done.log);
}

#[test]
fn agents_killed_at_any_moment_fail_no_request_and_leave_nothing() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let cycles = match std::env::var_os("REMORA_TEST_LONG") {
        Some(_) => 1000,
        None if skip::emulated() => 5,
        None => 25,
    };
    let nginx = Nginx::start();
    let load = Load::start(nginx.port(), "/quiet", 4);
    let pids: Vec<String> = nginx.pids().iter().map(u32::to_string).collect();
    let agent = Agent::on(&nginx.pids(), &[]);
    let ready_after = agent.ready_after;
    agent.kill();
    let start = Instant::now();
    let (mut held, mut attached) = (KernelObjects::default(), 0);
    for cycle in 0..cycles {
        let mut remora = agent::command();
        remora.args(["run", "--otlp-file", "/dev/null", "--pid", &pids.join(",")]);
        let mut running = Running::start_unread(remora.stdout(Stdio::null()).stderr(Stdio::null()));
        // From its first instructions to well after it is ready.
        std::thread::sleep(ready_after.mul_f64(f64::from(cycle * 37 % 25) / 16.0));
        running.signal(libc::SIGSTOP);
        let objects = KernelObjects::of(running.pid()).unwrap();
        attached += u32::from(!objects.links.is_empty());
        held.programs.extend(objects.programs);
        held.maps.extend(objects.maps);
        held.links.extend(objects.links);
        running.signal(libc::SIGKILL);
        running.wait();
        load.more_of_each(5);
    }
    assert!(attached > 0 && attached < cycles, "{attached} of {cycles} were attached");
    until("the kernel to free what the agents held", || held.left().is_empty());
    let rested = load.rest();
    assert_eq!(rested.failures, [""; 0]);
    println!(
        "{cycles} agents killed, {attached} of them attached, in {:?}: {} requests answered, none \
         failed, {} programs, {} maps and {} links gone",
        start.elapsed(),
        rested.answered,
        held.programs.len(),
        held.maps.len(),
        held.links.len()
    );
}

#[test]
fn a_command_outlives_its_agent() {
    if skip::without_root() {
        return;
    }
    let agent =
        Agent::bare(&["exec", "--otlp-file", "/dev/null", "--", env!("CARGO_BIN_EXE_stock")]);
    let port = || {
        let text = agent.stdout();
        let line = text.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:"));
        line.and_then(|port| port.parse::<u16>().ok())
    };
    until("the command to listen", || port().is_some());
    let port = port().unwrap();
    let mut connection = Connection::open(port).unwrap();
    assert_eq!(connection.get("/items/1", "").unwrap().status, 200);
    let children = remora_tests::process::children(agent.pid()).unwrap();
    let [command] = children[..] else { panic!("{children:?}") };
    agent.kill();
    assert_eq!(connection.get("/items/1", "").unwrap().status, 200);
    assert_eq!(Connection::open(port).unwrap().get("/items/1", "").unwrap().status, 200);
    // It is nobody's child any more.
    assert!(Command::new("kill").arg(command.to_string()).status().unwrap().success());
}
