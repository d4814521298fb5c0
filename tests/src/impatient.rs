//! Clients half of which give up, in every way there is, and servers that keep an access log.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::AsRawFd as _,
    process::Command,
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    apache::Apache,
    client::Connection,
    nginx::Nginx,
    process::{Running, children, free_port, listening, until},
    programs::{Ecosystem, Server, target},
};

/// How a client gives up.
#[derive(Clone, Copy, Debug)]
pub enum GivesUp {
    /// It closes the connection, as `curl --max-time` does.
    Close,
    /// It resets it (`SO_LINGER` of 0).
    Reset,
    /// It has nothing more to say, and reads on.
    HalfClose,
    /// It waits for the head, and closes before the content.
    BehindHead,
}

impl GivesUp {
    pub const ALL: [Self; 4] = [Self::Close, Self::Reset, Self::HalfClose, Self::BehindHead];

    /// Gives up on what was asked on `stream`. What came until then, where it reads.
    ///
    /// # Errors
    /// The server has given up first.
    ///
    /// # Panics
    /// If the socket takes no options.
    pub fn give_up(self, mut stream: TcpStream) -> io::Result<String> {
        let mut answer = String::new();
        match self {
            Self::Close => {}
            Self::Reset => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                let len = size_of_val(&linger) as libc::socklen_t;
                // SAFETY: a socket of our own, and a value of the option's type.
                let result = unsafe {
                    let value = (&raw const linger).cast();
                    let socket = stream.as_raw_fd();
                    libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_LINGER, value, len)
                };
                assert_eq!(result, 0);
            }
            Self::HalfClose => {
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_string(&mut answer)?;
            }
            Self::BehindHead => _ = stream.read(&mut [0; 16])?,
        }
        Ok(answer)
    }
}

/// Asks for `/echo?n=NAME-i&wait=..` of `i` from 0 on, each answered after up to 20 ms; every other time gives up after
/// up to 24. Returns those that were answered to a client that waited.
///
/// # Panics
/// If such a one is not answered.
#[must_use]
pub fn ask(port: u16, name: &str, count: usize) -> Vec<String> {
    const CLIENTS: usize = 8;
    let client = |number: usize| {
        let mut kept = Connection::open(port).expect("a listener");
        let mut answered = Vec::new();
        for i in (number..count).step_by(CLIENTS) {
            let (round, target) = (i / 2, query(name, i));
            if i % 2 == 0 {
                let mut answer = kept.get(&target, "");
                if answer.is_err() {
                    // The server may have closed a connection that was idle.
                    kept = Connection::open(port).expect("a listener");
                    answer = kept.get(&target, "");
                }
                assert_eq!(answer.expect("an answer").status, 200);
                answered.push(target);
                continue;
            }
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
            let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("the server takes it");
            thread::sleep(Duration::from_millis(round as u64 * 5 % 25));
            // Servers may close first.
            let _ = GivesUp::ALL[round % 4].give_up(stream);
        }
        answered
    };
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("it does not panic")).collect()
    })
}

/// What the `i`th request asks for.
fn query(name: &str, i: usize) -> String {
    format!("/echo?n={name}-{i}&wait={}", i * 7 % 21)
}

/// A server with an access log.
pub enum Logging {
    /// Before another server.
    Nginx(Nginx),
    Apache(Apache),
    Own(Ecosystem, Server),
    Gunicorn(Gunicorn),
}

/// One process with threads, and its parent.
pub struct Gunicorn {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Gunicorn {
    fn start() -> Self {
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let mut command = Command::new("gunicorn");
        command.arg("--chdir").arg(target("faults")).args(["-k", "gthread", "--threads", "8"]);
        command.args(["-b", &format!("127.0.0.1:{port}"), "--log-level", "critical"]);
        command.arg("--access-logfile").arg(folder.path().join("log"));
        command.args(["--access-logformat", "%(m)s %(U)s?%(q)s %(s)s", "slow:application"]);
        let process = Running::start(&mut command);
        listening(port);
        until("the worker", || !children(process.pid()).expect("it runs").is_empty());
        Self { process, port, folder }
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}

impl Logging {
    /// What they need altogether.
    pub const NEEDS: [&'static str; 6] = ["apache2", "go", "gunicorn", "nginx", "node", "python3"];

    /// Servers of six programs and more; the first two hand on to one of the others.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let own = |ecosystem| Self::Own(ecosystem, Server::start(ecosystem, None));
        let backend = Server::start(Ecosystem::Rust, None);
        vec![
            Self::Nginx(Nginx::before(backend.port)),
            Self::Apache(Apache::start("5", backend.port)),
            Self::Own(Ecosystem::Rust, backend),
            own(Ecosystem::Go),
            own(Ecosystem::Node),
            own(Ecosystem::Python),
            Self::Gunicorn(Gunicorn::start()),
        ]
    }

    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Nginx(_) => "nginx".into(),
            Self::Apache(_) => "apache".into(),
            Self::Own(ecosystem, _) => format!("{ecosystem:?}").to_lowercase(),
            Self::Gunicorn(_) => "gunicorn".into(),
        }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Nginx(nginx) => nginx.port(),
            Self::Apache(apache) => apache.port(),
            Self::Own(_, server) => server.port,
            Self::Gunicorn(gunicorn) => gunicorn.port,
        }
    }

    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nginx(nginx) => nginx.pids(),
            Self::Apache(apache) => apache.pids(),
            Self::Own(_, server) => vec![server.pid()],
            Self::Gunicorn(Gunicorn { process, .. }) => process.family(),
        }
    }

    /// Target and status of each line of its log.
    ///
    /// # Panics
    /// If a line is not as it was configured.
    #[must_use]
    pub fn log(&self) -> Vec<(String, i64)> {
        let words = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[1].to_owned(), words[2].parse().expect("a status"))
        };
        match self {
            Self::Nginx(nginx) => nginx.log().into_iter().map(words).collect(),
            Self::Apache(apache) => apache.log().into_iter().map(words).collect(),
            Self::Own(_, server) => {
                let line = |line: String| {
                    let line: Value = serde_json::from_str(&line).expect("a line of its log");
                    let target = line["target"].as_str().expect("a target").to_owned();
                    (target, line["status"].as_i64().expect("a status"))
                };
                server.log().into_iter().map(line).collect()
            }
            Self::Gunicorn(gunicorn) => {
                let log = fs::read_to_string(gunicorn.folder.path().join("log"));
                log.expect("a log").lines().map(|line| words(line.to_owned())).collect()
            }
        }
    }
}
