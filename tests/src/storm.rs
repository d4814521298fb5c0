//! Connections that are opened for one request each and closed, as many as the machine takes.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::process::patience;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    pub answered: u64,
    pub failures: Vec<String>,
    pub took: Duration,
}

impl Storm {
    /// For so long, from this many threads. The server closes; so it is the one that remembers
    /// connections for a minute, and ports of ours can be used again at once.
    ///
    /// # Panics
    /// If a thread does.
    #[must_use]
    pub fn of(port: u16, target: &str, threads: usize, time: Duration) -> Self {
        let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        let (answered, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let (start, over) = (Instant::now(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        match one(port, request.as_bytes()) {
                            Ok(()) => _ = answered.fetch_add(1, Relaxed),
                            Err(error) => {
                                failures.lock().expect("nobody panics").push(error.to_string());
                            }
                        }
                    }
                });
            }
            thread::sleep(time);
            over.store(true, Relaxed);
        });
        Self {
            answered: answered.into_inner(),
            failures: failures.into_inner().expect("nobody panics"),
            took: start.elapsed(),
        }
    }

    /// Connections per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

fn one(port: u16, request: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patience()))?;
    stream.write_all(request)?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer)?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
    }
}
