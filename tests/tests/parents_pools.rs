//! Whose child is a request that a worker makes, which has not read the request that it handles? The answer tells, which it writes.
//!
//! The oracle is the target (`targets/pools`), as in `parents_go.rs`.

use std::{
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::{Agent, Done},
    backend,
    client::Connection,
    impatient::GivesUp,
    parents::{Traffic, none_is_wrong},
    process::{Running, free_port, listening},
    programs::target,
    skip,
};

/// Debian's, which has its modules; another one may come before it.
const PYTHON: &str = "/usr/bin/python3";

const MANY: Traffic = Traffic { clients: 16, each: 24 };
const MORE: Traffic = Traffic { clients: 64, each: 8 };
const ONE: Traffic = Traffic { clients: 1, each: 24 };

/// Requests that were handled before the process had shown what it is.
const FIRST: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Service {
    Waitress,
    Gthread,
    Puma,
    Workers,
    Loops(&'static str),
}

/// Of a program in the folder of the targets.
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(target("pools")).stdin(Stdio::null());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

impl Service {
    fn is_skipped(self) -> bool {
        let needs = match self {
            Self::Waitress => "waitress-serve",
            Self::Gthread => "gunicorn",
            Self::Puma => "puma",
            Self::Workers | Self::Loops(_) => "python3",
        };
        skip::without_root() || skip::without(&[needs])
    }

    fn start(self) -> (Running, u16) {
        let backend = backend::start().to_string();
        let (mut port, place) = (0, |port: u16| format!("127.0.0.1:{port}"));
        let mut service = match self {
            Self::Waitress => command(PYTHON, &["waitress_service.py"]),
            Self::Gthread => {
                port = free_port();
                let options = ["--worker-class", "gthread", "--threads", "8", "-b", &place(port)];
                command(PYTHON, &[&["/usr/bin/gunicorn"], &options[..], &["app"]].concat())
            }
            Self::Puma => {
                port = free_port();
                command(
                    "puma",
                    &["-t", "8:8", "-b", &format!("tcp://{}", place(port)), "config.ru"],
                )
            }
            Self::Workers => command("python3", &["workers.py", &backend]),
            Self::Loops(count) => command("python3", &["loops.py", &backend, count]),
        };
        service.env("BACKEND", &backend);
        let mut service = Running::start(&mut service);
        if port == 0 {
            port = service.line().parse().unwrap();
        }
        listening(port);
        (service, port)
    }

    fn watch(self, traffic: impl FnOnce(u16)) -> Done {
        let (service, port) = self.start();
        let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
        // It is seen to do nothing.
        thread::sleep(Duration::from_millis(100));
        traffic(port);
        // What it does when it has answered, too.
        thread::sleep(Duration::from_millis(300));
        drop(service);
        agent.stop()
    }

    /// All parents are there but those of so many orders.
    fn all_but(self, without: usize, traffic: Traffic) {
        self.all_of("turn", without, traffic);
    }

    fn all_of(self, how: &str, without: usize, traffic: Traffic) {
        if self.is_skipped() {
            return;
        }
        let done = self.watch(|port| ask(traffic, port, how));
        for name in ["first", "second"] {
            let (with, all) = none_is_wrong(&done, name);
            assert_eq!(all, traffic.orders(), "{}", done.log);
            assert!(with >= all - without, "{with} of {all}\n{}", done.log);
        }
    }

    fn none_is_wrong(self, traffic: Traffic, how: &str) {
        if self.is_skipped() {
            return;
        }
        let done = self.watch(|port| ask(traffic, port, how));
        for name in ["first", "second"] {
            let (with, all) = none_is_wrong(&done, name);
            println!("{self:?}: /{name}: {with} of {all}");
            assert_eq!(all, traffic.orders(), "{}", done.log);
        }
    }
}

/// As [`Traffic::ask`], of a server that closes kept connections when it likes to: it has not seen what it does not answer.
fn ask(traffic: Traffic, port: u16, how: &str) {
    thread::scope(|scope| {
        for client in 0..traffic.clients {
            scope.spawn(move || {
                let mut connection = Connection::open(port).unwrap();
                for order in client * traffic.each..(client + 1) * traffic.each {
                    let target = format!("/{how}/{order}");
                    let answer = connection.get(&target, "").unwrap_or_else(|_| {
                        connection = Connection::open(port).unwrap();
                        connection.get(&target, "").unwrap()
                    });
                    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
                }
            });
        }
    });
}

#[test]
fn workers_of_waitress() {
    Service::Waitress.all_but(0, ONE);
    Service::Waitress.all_but(FIRST, MANY);
    Service::Waitress.all_but(FIRST, MORE);
}

#[test]
fn workers_of_puma() {
    Service::Puma.all_but(0, ONE);
    Service::Puma.all_but(FIRST, MANY);
    Service::Puma.all_but(FIRST, MORE);
}

#[test]
fn threads_of_gunicorn() {
    Service::Gthread.all_but(0, ONE);
    Service::Gthread.all_but(FIRST, MANY);
}

#[test]
fn threads_that_are_started_for_a_request() {
    for service in [Service::Waitress, Service::Gthread] {
        service.all_of("once", 0, ONE);
        service.all_of("once", FIRST, MANY);
    }
}

/// Ruby lets other threads of the program have a thread of the kernel.
#[test]
fn threads_that_ruby_starts_have_no_wrong_parent() {
    Service::Puma.none_is_wrong(ONE, "once");
    Service::Puma.none_is_wrong(MANY, "once");
}

#[test]
fn threads_of_a_pool_that_all_requests_share_have_no_wrong_parent() {
    for service in [Service::Waitress, Service::Gthread] {
        service.none_is_wrong(MANY, "shared");
    }
}

#[test]
fn workers_that_a_selector_hands_requests_to() {
    Service::Workers.all_but(0, ONE);
    Service::Workers.all_but(FIRST, MANY);
    Service::Workers.all_but(FIRST, MORE);
}

#[test]
fn event_loops_that_a_selector_hands_requests_to_have_no_wrong_parent() {
    for loops in ["1", "2", "8"] {
        for traffic in [Traffic { clients: 2, each: 100 }, MANY] {
            Service::Loops(loops).none_is_wrong(traffic, "turn");
        }
    }
}

#[test]
fn what_workers_ask_behind_their_answers_is_not_for_the_next_request() {
    for service in [Service::Waitress, Service::Puma] {
        for traffic in [ONE, Traffic { clients: 4, each: 50 }, MANY] {
            service.none_is_wrong(traffic, "spent");
        }
    }
}

#[test]
fn what_is_asked_for_clients_that_have_gone_is_not_for_the_next_request() {
    for service in [Service::Waitress, Service::Puma, Service::Workers] {
        if service.is_skipped() {
            continue;
        }
        let done = service.watch(|port| {
            thread::scope(|scope| {
                for client in 0..MANY.clients {
                    scope.spawn(move || give_up_on_half(port, client));
                }
            });
        });
        for name in ["first", "second"] {
            let (with, all) = none_is_wrong(&done, name);
            println!("{service:?}: /{name}: {with} of {all}");
        }
    }
}

/// Every other order is given up before it is answered, or soon after.
fn give_up_on_half(port: u16, client: usize) {
    for order in client * MANY.each..(client + 1) * MANY.each {
        let target = format!("/turn/{order}");
        if order % 2 == 0 {
            Connection::open(port).unwrap().get(&target, "").unwrap();
            continue;
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        thread::sleep(Duration::from_micros(500 * (order as u64 % 7)));
        // It may have been answered meanwhile.
        let _ = GivesUp::ALL[order / 2 % 3].give_up(stream);
    }
}
