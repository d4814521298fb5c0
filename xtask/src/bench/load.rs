//! Load: kept connections that ask one after the other or at a rate, and other people's generators.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// A connection on which one request is made after the other.
pub(crate) trait Ask {
    /// Makes one, and returns when its answer is there.
    fn ask(&mut self) -> Result<()>;
}

/// A kept connection whose requests and answers are all alike.
pub(crate) struct KeptConnection {
    stream: TcpStream,
    request: Vec<u8>,
    /// Bytes of an answer.
    answer: usize,
    buffer: Vec<u8>,
}

impl KeptConnection {
    /// `request` is answered once, to learn how long answers are.
    pub(crate) fn open(port: u16, request: &[u8]) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Self::on(stream, request)
    }

    fn on(stream: TcpStream, request: &[u8]) -> Result<Self> {
        let buffer = vec![0; 64 * 1024];
        let mut connection = Self { stream, request: request.to_vec(), answer: 0, buffer };
        connection.stream.write_all(request)?;
        thread::sleep(Duration::from_millis(50));
        connection.answer = connection.stream.read(&mut connection.buffer)?;
        Ok(connection)
    }

    /// `GET path`.
    pub(crate) fn http(port: u16, path: &str) -> Result<Self> {
        Self::open(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    /// `GET key` of a Redis.
    pub(crate) fn redis(port: u16) -> Result<Self> {
        Self::open(port, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
    }

    /// A simple query of a PostgreSQL that trusts everybody; with the process that answers it.
    pub(crate) fn postgres(port: u16, query: &str) -> Result<(Self, u32)> {
        const VERSION: [u8; 4] = [0, 3, 0, 0];
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let message = |head: &[u8], content: &[u8]| {
            let length = u32::try_from(content.len() + 4).expect("short").to_be_bytes();
            [head, &length, content].concat()
        };
        let user = b"user\0postgres\0database\0postgres\0\0";
        stream.write_all(&message(b"", &[&VERSION[..], user].concat()))?;
        let mut process = None;
        loop {
            let mut head = [0; 5];
            stream.read_exact(&mut head)?;
            let [kind, length @ ..] = head;
            let mut content = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut content)?;
            match (kind, &*content) {
                (b'K', [a, b, c, d, ..]) => process = Some(u32::from_be_bytes([*a, *b, *c, *d])),
                (b'Z', _) => break,
                (b'E', _) => bail!("PostgreSQL says {:?}", String::from_utf8_lossy(&content)),
                _ => {}
            }
        }
        let query = message(b"Q", format!("{query}\0").as_bytes());
        Ok((Self::on(stream, &query)?, process.context("it does not say which process it is")?))
    }

    fn send(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&self.request)?)
    }

    fn receive(&mut self) -> Result<()> {
        let mut left = self.answer;
        while left > 0 {
            let read = self.stream.read(&mut self.buffer)?;
            if read == 0 || read > left {
                bail!("{read} bytes of an answer, {left} expected");
            }
            left -= read;
        }
        Ok(())
    }
}

impl Ask for KeptConnection {
    fn ask(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }
}

/// So many requests a second, each connection with one at a time, for `time`; returns how many.
pub(crate) fn paced(
    connections: &mut [KeptConnection],
    per_second: u32,
    time: Duration,
) -> Result<u64> {
    let start = Instant::now();
    let mut done = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(done);
        }
        let due = (elapsed.as_secs_f64() * f64::from(per_second)) as u64;
        let burst = due.saturating_sub(done).min(connections.len() as u64) as usize;
        if burst == 0 {
            thread::sleep(Duration::from_micros(500));
        }
        connections[..burst].iter_mut().try_for_each(KeptConnection::send)?;
        connections[..burst].iter_mut().try_for_each(KeptConnection::receive)?;
        done += burst as u64;
    }
}

/// What a load generator counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
}

/// wrk with one thread. With a `script` its requests are what that makes.
pub(crate) fn wrk(
    url: &str,
    connections: usize,
    time: Duration,
    script: Option<&std::path::Path>,
) -> Result<Counted> {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{}", time.as_secs())]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output().context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        bail!("wrk: {text}");
    }
    let line = |key: &str| text.lines().find(|line| line.contains(key)).unwrap_or_default();
    let requests = line("requests in").split_whitespace().next().and_then(|n| n.parse().ok());
    let rate = line("Requests/sec:").split_whitespace().nth(1).and_then(|n| n.parse().ok());
    match (requests, rate) {
        (Some(requests), Some(per_second)) => Ok(Counted { requests, per_second }),
        _ => bail!("wrk says {text:?}"),
    }
}

/// `redis-benchmark -t get` with 50 connections.
pub(crate) fn redis_benchmark(port: u16, requests: u64) -> Result<Counted> {
    let mut command = Command::new("redis-benchmark");
    let port = port.to_string();
    command.args(["-p", &port, "-t", "get", "-c", "50", "-n", &requests.to_string(), "--csv"]);
    let output = command.output().context("cannot run redis-benchmark")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().find(|line| line.starts_with("\"GET\""));
    let rate = row.and_then(|row| row.split('"').nth(3)?.parse().ok());
    let per_second = rate.with_context(|| format!("redis-benchmark says {text:?}"))?;
    Ok(Counted { requests, per_second })
}
