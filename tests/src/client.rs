//! Clients of our own, which know exactly what they asked and whether it was answered.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use crate::process::{patience, until};

/// A kept connection to loopback, one request at a time.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// Bytes of requests sent and answers read, as the server's socket moves them.
    pub moved: u64,
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Connection {
    /// # Errors
    /// Nobody listens.
    pub fn open(port: u16) -> io::Result<Self> {
        Self::to(([127, 0, 0, 1], port).into())
    }

    /// # Errors
    /// Nobody listens.
    pub fn to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        Ok(Self { stream: BufReader::new(stream), moved: 0 })
    }

    /// Our own end's port.
    ///
    /// # Panics
    /// Never: the socket is connected.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.stream.get_ref().local_addr().expect("connected").port()
    }

    /// `GET target`, with `fields`, each ended by CRLF.
    ///
    /// # Errors
    /// No answer, or none with a `content-length`.
    pub fn get(&mut self, target: &str, fields: &str) -> io::Result<Answer> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\n{fields}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        let mut read = self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| wrong(&format!("no status line: {line:?}")))?;
        let mut length = None;
        loop {
            line.clear();
            read += self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => return Err(wrong(&line)),
            }
        }
        let mut body = vec![0; length.ok_or_else(|| wrong("no content-length"))?];
        self.stream.read_exact(&mut body)?;
        self.moved += (request.len() + read + body.len()) as u64;
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// Connections that ask the same over and over, each on a thread, until [`Load::stop`].
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Connection>>,
    ports: Vec<u16>,
}

/// What is left of a [`Load`] that rests.
pub struct Rested {
    /// Open still.
    pub connections: Vec<Connection>,
    pub answered: u64,
    pub failures: Vec<String>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// By connection.
    answered: Vec<AtomicU64>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// # Panics
    /// If a connection is refused.
    #[must_use]
    pub fn start(port: u16, target: &str, connections: usize) -> Self {
        let answered = (0..connections).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { answered, ..Shared::default() });
        let mut ports = Vec::new();
        let mut threads = Vec::new();
        for number in 0..connections {
            let mut connection = Connection::open(port).expect("a listener");
            ports.push(connection.local_port());
            let (shared, target) = (Arc::clone(&shared), target.to_owned());
            threads.push(thread::spawn(move || {
                while !shared.stop.load(Relaxed) {
                    match connection.get(&target, "") {
                        Ok(answer) if answer.status == 200 => {
                            shared.answered[number].fetch_add(1, Relaxed);
                        }
                        Ok(answer) => shared.fail(format!("status {}", answer.status)),
                        Err(error) => {
                            shared.fail(error.to_string());
                            break;
                        }
                    }
                }
                connection
            }));
        }
        Self { shared, threads, ports }
    }

    /// Ports of the connections, on our end.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Waits until so many more requests of each connection are answered, or one fails.
    pub fn more_of_each(&self, count: u64) {
        let answered = || self.shared.answered.iter().map(|count| count.load(Relaxed));
        let goals: Vec<u64> = answered().map(|before| before + count).collect();
        until("answers", || {
            answered().zip(&goals).all(|(now, goal)| now >= *goal)
                || !self.shared.failures().is_empty()
        });
    }

    /// Ends it; returns what failed.
    ///
    /// # Panics
    /// If a thread did.
    #[must_use]
    pub fn stop(self) -> Vec<String> {
        self.rest().failures
    }

    /// Ends it; its connections stay open.
    ///
    /// # Panics
    /// If a thread did.
    #[must_use]
    pub fn rest(self) -> Rested {
        self.shared.stop.store(true, Relaxed);
        let threads = self.threads.into_iter();
        let connections = threads.map(|thread| thread.join().expect("it does not panic")).collect();
        let answered = self.shared.answered.iter().map(|count| count.load(Relaxed)).sum();
        Rested { connections, answered, failures: self.shared.failures() }
    }
}

impl Shared {
    fn fail(&self, what: String) {
        self.failures.lock().expect("nobody panics").push(what);
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("nobody panics").clone()
    }
}
