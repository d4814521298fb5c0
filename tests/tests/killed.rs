//! An agent that is killed is gone altogether, and the process it watched does not notice.

use std::collections::BTreeSet;

use remora_tests::{
    agent::Agent, client::Load, kernel_objects::KernelObjects, nginx::Nginx, process::until, skip,
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
