//! A service that is over soon: `once PORT` answers one request and ends.

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
};

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("on which port?")?.parse()?;
    let (mut stream, _) = TcpListener::bind(("127.0.0.1", port))?.accept()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")?;
    Ok(())
}
