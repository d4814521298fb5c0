//! As much HTTP/1.1 as two small services need, on blocking sockets and the standard library: a
//! thread per connection, keep-alive, bodies with a Content-Length.
//!
//! Included by each program as a module, so that `rustc` alone builds them in a second.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// Longest line and largest body either side takes.
const LIMIT: u64 = 64 * 1024;

/// A peer that says nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request or a response: its first line's three words, and its content.
pub struct Message {
    pub start: [String; 3],
    pub content: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    pub content: String,
}

impl Response {
    pub fn new(status: u16, content: impl Into<String>) -> Self {
        Self { status, content: content.into() }
    }
}

/// Says on standard output where it listens, then answers requests until the process is ended.
/// `service` makes one handler per connection; it runs on that connection's thread.
pub fn serve<H>(listener: &TcpListener, service: impl Fn() -> H) -> io::Result<()>
where
    H: FnMut(&Message) -> Response + Send + 'static,
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

fn converse(stream: &TcpStream, handler: &mut impl FnMut(&Message) -> Response) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read_message(&mut reader)? {
        let Response { status, content } = handler(&request);
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            reason(status),
            content.len()
        );
        writer.write_all(&[head.as_bytes(), content.as_bytes()].concat())?;
    }
    Ok(())
}

/// A client with one connection, opened at the first request and again when the server closed it.
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request and returns the response's status code and content.
    pub fn send(&mut self, method: &str, target: &str, content: &str) -> io::Result<(u16, String)> {
        let answer = self.exchange(method, target, content);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, method: &str, target: &str, content: &str) -> io::Result<(u16, String)> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            self.connection = Some(BufReader::new(stream));
        }
        let Some(reader) = &mut self.connection else { return Err(invalid("no connection")) };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: remora-demo\r\n\
             Content-Length: {}\r\n\r\n{content}",
            self.address,
            content.len()
        );
        reader.get_mut().write_all(request.as_bytes())?;
        let response = read_message(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = response.start[1].parse().map_err(|_| invalid("status code"))?;
        Ok((status, String::from_utf8_lossy(&response.content).into_owned()))
    }
}

/// The next message of a connection, or `None` where the peer closed it between messages.
fn read_message(reader: &mut impl BufRead) -> io::Result<Option<Message>> {
    let Some(start) = read_line(reader)? else { return Ok(None) };
    let mut words = start.splitn(3, ' ').map(str::to_owned);
    let mut word = || words.next().ok_or_else(|| invalid("start line"));
    let start = [word()?, word()?, word()?];
    let mut length = 0;
    loop {
        let field = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if field.is_empty() {
            break;
        }
        if let Some((name, value)) = field.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| invalid("Content-Length"))?;
        }
    }
    if length > LIMIT {
        return Err(invalid("Content-Length"));
    }
    let mut content = vec![0; length as usize];
    reader.read_exact(&mut content)?;
    Ok(Some(Message { start, content }))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.take(LIMIT).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
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
