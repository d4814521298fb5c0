//! A kept connection of HTTP/2 whose requests, one after the other, are all alike.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Result, bail};

use super::load::Ask;

// RFC 9113, sections 4.1 and 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `GET /small`.
    Get,
    /// A unary call of gRPC, `/shop.Orders/Get`, with an empty message.
    Grpc,
}

pub(crate) struct Http2Connection {
    stream: BufReader<TcpStream>,
    request: Request,
    next: u32,
}

impl Http2Connection {
    /// Asks once, so that the server's settings are behind it.
    pub(crate) fn open(port: u16, request: Request) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufReader::new(stream), request, next: 1 };
        let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
        connection.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*settings].concat())?;
        connection.ask()?;
        Ok(connection)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Type, flags and stream of the next frame.
    fn receive(&mut self) -> Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut content = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut content)?;
        Ok((kind, flags, u32::from_be_bytes(id)))
    }
}

impl Ask for Http2Connection {
    fn ask(&mut self) -> Result<()> {
        let id = self.next;
        self.next += 2;
        let frames = match self.request {
            Request::Get => frame(HEADERS, END_HEADERS | END_STREAM, id, &get()),
            Request::Grpc => {
                [frame(HEADERS, END_HEADERS, id, &call()), frame(DATA, END_STREAM, id, &[0; 5])]
                    .concat()
            }
        };
        self.send(&frames)?;
        loop {
            let (kind, flags, stream) = self.receive()?;
            if !matches!(kind, DATA | HEADERS) {
                continue;
            }
            if stream != id {
                bail!("an answer on stream {stream}, not {id}");
            }
            if flags & END_STREAM != 0 {
                return Ok(());
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(content.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// A field by the index of its name (RFC 7541, section 6.2.2 and appendix A); no table changes.
fn field(name: u8, value: &str) -> Vec<u8> {
    // A name beyond 15 takes a second byte.
    let name = if name < 15 { vec![name] } else { vec![15, name - 15] };
    [&*name, &[u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
}

/// `:method: GET`, `:scheme: http`, then `:path` and `:authority`.
fn get() -> Vec<u8> {
    [&[0x82, 0x86][..], &field(4, "/small"), &field(1, "localhost")].concat()
}

/// `:method: POST`; `content-type` tells that it is gRPC.
fn call() -> Vec<u8> {
    [
        &[0x83, 0x86][..],
        &field(4, "/shop.Orders/Get"),
        &field(1, "localhost"),
        &field(31, "application/grpc"),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_fields_are_as_the_standards_say() {
        assert_eq!(frame(SETTINGS, ACK, 0, &[]), [0, 0, 0, 4, 1, 0, 0, 0, 0]);
        assert_eq!(frame(DATA, END_STREAM, 3, b"ab"), b"\0\0\x02\0\x01\0\0\0\x03ab");
        assert_eq!(field(1, "h"), [1, 1, b'h']);
        assert_eq!(field(31, "a"), [15, 16, 1, b'a']);
    }
}
