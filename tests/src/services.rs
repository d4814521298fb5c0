//! Services of many kinds, for tests that watch a whole machine: how each is started, where it listens,
//! and what its spans must call it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    client::Connection,
    nginx::Nginx,
    process::{Running, free_port, until},
    programs::{self, Ecosystem, built, target},
};

/// What is started, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A master with a worker.
    Nginx,
    /// Python's `http.server`, which a chain of three programs becomes.
    Wrapped,
    /// Python workers that were forked with the listener open.
    Prefork,
    /// An event loop.
    Node,
    /// net/http.
    Go,
    /// hyper on tokio.
    Hyper,
    /// Rust, a thread for each connection.
    Threads,
    /// busybox: a process for each connection.
    Forking,
    /// The same in process, network and mount namespaces of its own.
    Walled,
    /// Ends after its first request.
    Once,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Nginx,
        Self::Wrapped,
        Self::Prefork,
        Self::Node,
        Self::Go,
        Self::Hyper,
        Self::Threads,
        Self::Forking,
        Self::Walled,
        Self::Once,
    ];

    /// What they need altogether.
    pub const NEEDS: [&'static str; 6] = ["nginx", "python3", "node", "go", "busybox", "unshare"];

    /// `service.name` of its spans: its own name, or what its environment says.
    #[must_use]
    pub const fn service(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Wrapped => "wrapped",
            Self::Prefork => "prefork",
            Self::Node => "event-loop",
            Self::Go => "server",
            Self::Hyper => "hyper_server",
            Self::Threads => "stock",
            Self::Forking => "httpd",
            Self::Walled => "walled",
            Self::Once => "once",
        }
    }

    /// Whether it takes several requests over one connection.
    const fn keeps(self) -> bool {
        !matches!(self, Self::Wrapped | Self::Forking | Self::Walled | Self::Once)
    }

    /// How many requests it answers in its life, at most.
    #[must_use]
    pub const fn lives(self) -> usize {
        if matches!(self, Self::Once) { 1 } else { usize::MAX }
    }
}

/// Keeps what runs.
enum Held {
    Nginx(Nginx),
    Server(programs::Server),
    Program(Running),
}

/// One that was started; it may not listen yet.
pub struct Service {
    pub kind: Kind,
    port: u16,
    held: Held,
    /// Holds what it serves.
    _folder: TempDir,
}

impl Service {
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("small"), "hello").expect("a file");
        let port = free_port();
        let said = port.to_string();
        let root = folder.path().display();
        let ecosystem = |ecosystem, name| {
            let server = programs::Server::named(ecosystem, name);
            (server.port, Held::Server(server))
        };
        let run = |command: &mut Command| {
            let quiet = command.current_dir(folder.path()).stdout(Stdio::null());
            (port, Held::Program(Running::start_unread(quiet.stderr(Stdio::null()))))
        };
        let shell = |line: String| run(Command::new("sh").args(["-c", &line]));
        let (port, held) = match kind {
            Kind::Nginx => {
                let nginx = Nginx::start();
                (nginx.port(), Held::Nginx(nginx))
            }
            Kind::Wrapped => shell(format!(
                "exec nice -n 1 env OTEL_SERVICE_NAME=wrapped \
                 python3 -m http.server --bind 127.0.0.1 {port}"
            )),
            Kind::Prefork => {
                run(Command::new("python3").arg(target("prefork.py")).args([&said, "3"]))
            }
            Kind::Node => ecosystem(Ecosystem::Node, Some("event-loop")),
            Kind::Go => ecosystem(Ecosystem::Go, None),
            Kind::Hyper => ecosystem(Ecosystem::Rust, None),
            Kind::Threads => {
                let mut command = Command::new(built().join("stock"));
                let mut program = Running::start(&mut command);
                let line = program.line();
                let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
                (port.expect("a port"), Held::Program(program))
            }
            Kind::Forking => shell(format!("exec busybox httpd -f -p 127.0.0.1:{port} -h {root}")),
            Kind::Walled => shell(format!(
                "exec unshare --pid --fork --kill-child --net --mount-proc sh -c 'busybox ip link \
                 set lo up; OTEL_SERVICE_NAME=walled exec busybox httpd -f -p 127.0.0.1:{port} \
                 -h {root}'"
            )),
            Kind::Once => run(Command::new(built().join("once")).arg(said)),
        };
        Self { kind, port, held, _folder: folder }
    }

    /// Moves this thread to where the service listens.
    ///
    /// # Panics
    /// If it has gone.
    pub fn enter(&self) {
        let (Kind::Walled, Held::Program(program)) = (self.kind, &self.held) else { return };
        let path = format!("/proc/{}/ns/net", program.pid());
        let inode = |path: &str| fs::metadata(path).expect("it runs").ino();
        until("its network", || inode(&path) != inode("/proc/self/ns/net"));
        let network = File::open(path).expect("it runs");
        // SAFETY: no memory is involved, and the descriptor is open.
        let moved = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(moved, 0, "{}", io::Error::last_os_error());
    }

    /// Asks it `count` times, each time for something else, as soon as it can be reached; returns the
    /// lines of what was answered and the queries. Between requests `pause` may wait.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn visit(&self, count: usize, mut pause: impl FnMut()) -> Vec<(String, String)> {
        let mut answered = Vec::new();
        let mut kept = None;
        for number in 0..count.min(self.kind.lives()) {
            let query = format!("at={:?}-{}-{number}", self.kind, self.port);
            let target = format!("/small?{query}");
            let status = if self.kind.keeps() {
                let connection = kept.get_or_insert_with(|| {
                    let mut connection = None;
                    until("the service to listen", || {
                        connection = Connection::open(self.port).ok();
                        connection.is_some()
                    });
                    connection.expect("just opened")
                });
                connection.get(&target, "").expect("an answer").status
            } else {
                self.ask_once(&target)
            };
            answered.push((format!("GET /small {status}"), query));
            pause();
        }
        answered
    }

    /// Over a connection that ends with the answer.
    fn ask_once(&self, target: &str) -> u16 {
        let mut stream = None;
        until("the service to listen", || {
            stream = TcpStream::connect(("127.0.0.1", self.port)).ok();
            stream.is_some()
        });
        let mut stream = stream.expect("just opened");
        let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.unwrap_or_else(|| panic!("{:?}: {answer:?}", self.kind))
    }

    /// Ends it; afterwards all of its system calls have returned.
    pub fn end(self) {
        match self.held {
            Held::Nginx(nginx) => _ = nginx.quit(),
            Held::Server(server) => drop(server),
            Held::Program(mut program) => {
                // One of these does not heed anything less, and takes its child along.
                let walled = self.kind == Kind::Walled;
                program.signal(if walled { libc::SIGKILL } else { libc::SIGTERM });
                program.wait();
            }
        }
    }
}
