//! Requests that are counted, and who says that it answered them.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::wait::go_on;

const PATIENCE: Duration = Duration::from_secs(5);

/// A request that nobody else makes, and what was said to it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) target: String,
    pub(super) status: u16,
    /// `POD/CONTAINER` of all that handled it.
    pub(super) by: Vec<String>,
}

/// A target that no other request has.
fn target() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("/items/{}", LAST.fetch_add(1, Relaxed) + 1)
}

/// One request over a connection of its own.
pub(super) fn get(address: &str) -> io::Result<Answer> {
    let target = target();
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let to: SocketAddr = address.parse().map_err(|_| invalid("address"))?;
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    (&stream).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| invalid("status line"))?;
    let mut by = Vec::new();
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "x-pod" => by.push(value.to_owned()),
            "content-length" => length = value.parse().ok(),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut content = Vec::new();
    match length {
        Some(length) => {
            content.resize(length, 0);
            reader.read_exact(&mut content)?;
        }
        // The Rust service keeps its connection and says how long its content is.
        None => _ = reader.read_to_end(&mut content)?,
    }
    // Lines of chunk sizes have no `/`.
    debug_assert!(length.is_some() || chunked || content.is_empty());
    let content = String::from_utf8_lossy(&content);
    by.extend(content.lines().filter(|line| line.contains('/')).map(str::to_owned));
    Ok(Answer { target, status, by })
}

/// This many requests, one after another; all have to be answered.
pub(super) fn all(address: &str, count: usize) -> Result<Vec<Answer>> {
    (0..count)
        .map(|_| {
            go_on()?;
            let answer = get(address).with_context(|| address.to_owned())?;
            ensure!(answer.status == 200, "{address} answers {answer:?}");
            Ok(answer)
        })
        .collect()
}

/// Requests at a steady rate, until it is ended.
pub(super) struct Traffic {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<Answer>, u32)>>,
}

impl Traffic {
    /// As many clients, so that one that waits for a pod that is gone does not hold up the others.
    const CLIENTS: u32 = 4;

    /// `each` apart.
    pub(super) fn start(address: &str, each: Duration) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let client = || {
            let (end, address) = (Arc::clone(&ending), address.to_owned());
            thread::spawn(move || {
                let (mut answers, mut failed) = (Vec::new(), 0);
                while !end.load(Relaxed) {
                    match get(&address) {
                        Ok(answer) if answer.status == 200 => answers.push(answer),
                        // Whoever was to answer may be gone: that is part of what is tried.
                        Ok(_) | Err(_) => failed += 1,
                    }
                    thread::sleep(each * Self::CLIENTS);
                }
                (answers, failed)
            })
        };
        let threads = (0..Self::CLIENTS).map(|_| client()).collect();
        Self { ending, threads }
    }

    /// What was answered, and how many requests were not.
    pub(super) fn end(mut self) -> (Vec<Answer>, u32) {
        self.ending.store(true, Relaxed);
        let (mut answers, mut failed) = (Vec::new(), 0);
        for thread in self.threads.drain(..) {
            let (some, not) = thread.join().unwrap_or_default();
            answers.extend(some);
            failed += not;
        }
        (answers, failed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
    }
}
