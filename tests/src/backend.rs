//! The service that other services call: threads of the test itself, so it has no spans. Answers every
//! GET after a moment that depends on its number, so that answers overtake one another.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// Starts it; returns its port. It ends with the process.
///
/// # Panics
/// If there is no port.
#[must_use]
pub fn start() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Until the peer goes away.
fn serve(mut stream: TcpStream) -> Option<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            let number = NUMBER.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_micros(number % 4 * 500));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
        }
    }
}
