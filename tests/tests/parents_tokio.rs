//! Whose child is a request that a service on tokio makes while it serves others? Its tasks tell.
//!
//! The oracle is the target (`targets/tokio`), as in `parents_go.rs`: a service with axum that asks by reqwest.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::{Agent, Done},
    backend,
    client::Connection,
    parents::{Traffic, ask_on, none_is_wrong},
    process::Running,
    programs::{built, target},
    skip,
    workspaces::{self, Build},
};

/// How a service is built, and how many threads its runtime has.
#[derive(Clone, Copy, Debug)]
struct Service {
    workspace: &'static str,
    build: Build,
    threads: &'static str,
    features: &'static [&'static str],
}

const LATEST: Service =
    Service { workspace: "v1_54", build: Build::Release, threads: "multi", features: &[] };
const CURRENT: Service = Service { threads: "current", ..LATEST };
const FAT_LTO: Service = Service { build: Build::FatLto, ..LATEST };
const SMALL: Service = Service { build: Build::Small, ..LATEST };
const EARLIER: Service = Service { workspace: "v1_43", ..LATEST };
const HYPER_0_14: Service = Service { workspace: "v1_32", features: &["hyper_0_14"], ..LATEST };
const ACTIX: Service = Service { workspace: "actix", ..LATEST };

/// Ways by which tasks work for others' requests.
const NONE: [&str; 8] = ["actor", "refresh", "shared", "pool", "elastic", "boxed", "drain", "kept"];

const MANY: Traffic = Traffic { clients: 16, each: 24 };
const SOME: Traffic = Traffic { clients: 16, each: 8 };
const ONE: Traffic = Traffic { clients: 1, each: 16 };

/// Tasks that are the first ones of their kind, which may be a pool's: these do not say for whom.
const FIRST: usize = 2 * MANY.clients;

/// Tasks of tasks wait for both kinds.
const FIRST_NESTED: usize = 3 * MANY.clients;

impl Service {
    fn start(self) -> (Running, u16) {
        let Self { workspace, build, threads, features } = self;
        let to = built().join("tokio-programs").join(workspace);
        let folder = workspaces::programs(&target("tokio").join(workspace), &to, build, features);
        let mut service = Command::new(folder.join("service"));
        service.args([&backend::start().to_string(), threads]).stdin(Stdio::null());
        let mut service = Running::start(&mut service);
        let port = service.line().parse().unwrap();
        (service, port)
    }

    /// A service for each way, which are all asked at the same time.
    fn watch(self, traffic: &[Traffic], ways: &[&str]) -> Done {
        let services: Vec<_> = ways.iter().map(|_| self.start()).collect();
        let pids: Vec<u32> = services.iter().map(|(service, _)| service.pid()).collect();
        let agent = Agent::on(&pids, &["--ring-size", "32MiB"]);
        thread::scope(|scope| {
            for ((_, port), how) in services.iter().zip(ways) {
                scope.spawn(|| traffic.iter().for_each(|traffic| traffic.ask(*port, how)));
            }
        });
        // What they do when they have answered, too.
        thread::sleep(Duration::from_millis(300));
        drop(services);
        agent.stop()
    }

    /// All parents are there but those of so many orders.
    fn all_but(self, without: usize, traffic: Traffic, how: &str) {
        if skip::without_root() {
            return;
        }
        let done = self.watch(&[traffic], &[how]);
        let orders = traffic.orders();
        for name in ["first", "second"] {
            let (with, all) = none_is_wrong(&done, name);
            assert_eq!(all, orders, "{}", done.log);
            assert!(with + without >= orders, "{with} of {orders}\n{}", done.log);
        }
    }

    fn no_wrong_parent(self, ways: &[&str]) {
        if skip::without_root() {
            return;
        }
        // While there is one client only, nobody works for others.
        let done = self.watch(&[ONE, SOME], ways);
        let orders = (ONE.orders() + SOME.orders()) * ways.len();
        for name in ["first", "second"] {
            assert_eq!(none_is_wrong(&done, name).1, orders, "{}", done.log);
        }
    }
}

#[test]
fn requests_in_turn_are_under_their_own_server_span() {
    for clients in [1, 8, 16] {
        LATEST.all_but(0, Traffic { clients, each: 24 }, "turn");
    }
}

#[test]
fn requests_that_the_handler_writes_are_under_their_own_server_span() {
    LATEST.all_but(0, MANY, "raw");
}

#[test]
fn service_with_warm_pools_has_its_parents_when_the_agent_comes() {
    if skip::without_root() {
        return;
    }
    let (service, port) = LATEST.start();
    // Two requests at once leave two connections to the other service for each of these.
    let mut kept: Vec<_> = (0..MANY.clients).map(|_| Connection::open(port).unwrap()).collect();
    ask_on(&mut kept, MANY.each, 1_000_000);
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    ask_on(&mut kept, MANY.each, 0);
    drop(service);
    let done = agent.stop();
    for name in ["first", "second"] {
        assert_eq!(none_is_wrong(&done, name), (MANY.orders(), MANY.orders()), "{}", done.log);
    }
}

#[test]
fn requests_at_once_are_under_their_own_server_span() {
    LATEST.all_but(0, MANY, "once");
}

#[test]
fn requests_of_tasks_are_under_their_own_server_span() {
    LATEST.all_but(FIRST, MANY, "spawn");
}

#[test]
fn requests_of_tasks_of_tasks_are_under_their_own_server_span() {
    LATEST.all_but(FIRST_NESTED, MANY, "nested");
}

#[test]
fn requests_of_blocking_tasks_are_under_their_own_server_span() {
    LATEST.all_but(FIRST, MANY, "blocking");
}

#[test]
fn runtime_with_one_thread_has_its_parents() {
    for (without, how) in [(0, "turn"), (0, "once"), (FIRST, "spawn"), (FIRST_NESTED, "nested")] {
        CURRENT.all_but(without, MANY, how);
    }
}

#[test]
fn what_was_begun_for_an_answered_request_is_not_under_the_next_one() {
    LATEST.no_wrong_parent(&["late"]);
}

#[test]
fn tasks_that_work_for_all_have_no_wrong_parent() {
    LATEST.no_wrong_parent(&NONE);
}

#[test]
fn pipelined_requests_have_no_wrong_parent() {
    if skip::without_root() {
        return;
    }
    let (service, port) = LATEST.start();
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    MANY.ask_two_at_a_time(port, "once");
    drop(service);
    let done = agent.stop();
    for name in ["first", "second"] {
        let _ = none_is_wrong(&done, name);
    }
}

#[test]
fn requests_that_are_given_up_do_not_pass_on_their_parents() {
    if skip::without_root() {
        return;
    }
    let done = LATEST.watch(&[MANY], &["cancelled"]);
    let _ = none_is_wrong(&done, "gone");
    for name in ["first", "second"] {
        let (with, all) = none_is_wrong(&done, name);
        assert_eq!(all, MANY.orders(), "{}", done.log);
        assert!(with * 100 >= all * 99, "{with} of {all}\n{}", done.log);
    }
}

#[test]
fn earlier_versions_have_their_parents() {
    if skip::unless_long("services of other versions are compiled for minutes") {
        return;
    }
    for service in [EARLIER, HYPER_0_14] {
        for (without, how) in [(0, "turn"), (0, "once"), (FIRST, "spawn"), (FIRST, "blocking")] {
            service.all_but(without, MANY, how);
        }
        service.no_wrong_parent(&NONE);
    }
}

#[test]
fn threads_of_actix_have_their_parents() {
    if skip::unless_long("a service with actix-web is compiled for a minute") {
        return;
    }
    for how in ["turn", "once"] {
        ACTIX.all_but(0, MANY, how);
    }
    ACTIX.no_wrong_parent(&["spawn"]);
}

#[test]
fn program_that_is_optimised_for_size_has_parents_of_what_handlers_write() {
    if skip::unless_long("a service of small code is compiled for a minute") {
        return;
    }
    SMALL.all_but(0, MANY, "raw");
    SMALL.no_wrong_parent(&["once", "spawn"]);
    SMALL.no_wrong_parent(&NONE);
}

#[test]
fn program_of_one_piece_has_its_parents() {
    if skip::unless_long("a service of one piece is compiled for a minute") {
        return;
    }
    for (without, how) in [(0, "turn"), (0, "once"), (FIRST, "spawn"), (FIRST, "blocking")] {
        FAT_LTO.all_but(without, MANY, how);
    }
    FAT_LTO.no_wrong_parent(&NONE);
}
