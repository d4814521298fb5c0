//! A blocking HTTP/1.1 client with one connection.

use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

use super::message::{self, PATIENCE, invalid};

/// Its connection is opened at the first request and again after an error.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request and returns the response's status code and content.
    pub(crate) fn send(
        &mut self,
        method: &str,
        target: &str,
        content: &str,
    ) -> io::Result<(u16, String)> {
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
        let ([_, status, _], content) =
            message::read(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = status.parse().map_err(|_| invalid("status code"))?;
        Ok((status, String::from_utf8_lossy(&content).into_owned()))
    }
}
