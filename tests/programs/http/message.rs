//! One HTTP/1.1 message off a blocking stream: the little that two small services need.

use std::{
    io::{self, BufRead, Read},
    time::Duration,
};

/// A peer that says nothing for this long is gone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longest line and largest content either side takes, in bytes.
const LIMIT: u64 = 64 * 1024;

/// The three words of the start line, and the content that Content-Length announces; `None` where
/// the peer closed the connection between messages.
pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<([String; 3], Vec<u8>)>> {
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
    Ok(Some((start, content)))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.take(LIMIT).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
