//! A blocking HTTP/1.1 server: a thread per connection, keep-alive.

use std::{
    io::{self, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::message::{self, PATIENCE};

pub(crate) struct Response {
    status: u16,
    content: String,
}

impl Response {
    pub(crate) fn new(status: u16, content: impl Into<String>) -> Self {
        Self { status, content: content.into() }
    }
}

/// Says on standard output where it listens, then answers requests until the process is ended.
/// `service` makes one handler per connection, from method and target to the response; it runs on
/// that connection's thread.
pub(crate) fn serve<H>(listener: &TcpListener, service: impl Fn() -> H) -> io::Result<()>
where
    H: FnMut(&str, &str) -> Response + Send + 'static,
{
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, mut handler) = (stream?, service());
        thread::spawn(move || {
            // A client that goes away in mid-request concerns nobody else.
            let _ = converse(&stream, &mut handler);
        });
    }
    Ok(())
}

fn converse(
    stream: &TcpStream,
    handler: &mut impl FnMut(&str, &str) -> Response,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(([method, target, _], _)) = message::read(&mut reader)? {
        let Response { status, content } = handler(&method, &target);
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            reason(status),
            content.len()
        );
        writer.write_all(&[head.as_bytes(), content.as_bytes()].concat())?;
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        404 => "Not Found",
        405 => "Method Not Allowed",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
