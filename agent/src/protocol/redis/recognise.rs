//! Whether a connection speaks RESP, by the first bytes that were seen of a direction.

use super::{
    arguments::MAX_NAME,
    number::{Number, Size, Step},
    reply::{Replies, ReplyKind},
    table,
};
use crate::protocol::{Next, Parse, Sure};

/// Why bytes are not those of a Redis connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotRedis {
    /// Neither an array of bulk strings nor a line; no reply.
    Shape,
    /// No such command.
    Command,
}

impl NotRedis {
    /// The value of a `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Command => "command",
        }
    }
}

/// More words than the first command of a connection has.
const MAX_COUNT: u64 = 1 << 20;
/// Commands that people and health checks send as a line, and how many arguments these have. Other protocols have such
/// lines, too (memcached, NATS, HTTP 0.9), but answer otherwise. What mail and file transfer begin with is not among
/// them.
const INLINE: &[(&str, usize)] = &[
    ("DBSIZE", 0),
    ("ECHO", 1),
    ("EXISTS", 1),
    ("GET", 1),
    ("INFO", 1),
    ("PING", 0),
    ("ROLE", 0),
    ("TIME", 0),
];
/// Bytes of a line.
const MAX_INLINE: usize = 128;

/// Whether `bytes` are what a client sends first: a known command. `used` are the bytes that say so.
#[must_use]
pub fn looks_like_commands(bytes: &[u8]) -> Parse<Sure, NotRedis> {
    match bytes {
        [] => Parse::NeedMore,
        [b'*', rest @ ..] => match array(rest) {
            Parse::Parsed { value, used } => Parse::Parsed { value, used: used + 1 },
            other => other,
        },
        _ => inline(bytes),
    }
}

fn array(bytes: &[u8]) -> Parse<Sure, NotRedis> {
    let (count, behind_count) = match size(bytes) {
        Parse::Parsed { value, used } => (value, used),
        Parse::NeedMore => return Parse::NeedMore,
        Parse::NotThis(reason) => return Parse::NotThis(reason),
    };
    let rest = match &bytes[behind_count..] {
        _ if !(1..=MAX_COUNT).contains(&count) => return Parse::NotThis(NotRedis::Shape),
        [] => return Parse::NeedMore,
        [b'$', rest @ ..] => rest,
        _ => return Parse::NotThis(NotRedis::Shape),
    };
    let (len, behind_len) = match size(rest) {
        Parse::Parsed { value, used } => (value, used),
        Parse::NeedMore => return Parse::NeedMore,
        Parse::NotThis(reason) => return Parse::NotThis(reason),
    };
    if !(1..=MAX_NAME as u64).contains(&len) {
        return Parse::NotThis(NotRedis::Command);
    }
    let (len, rest) = (len as usize, &rest[behind_len..]);
    let name = rest[..rest.len().min(len)].to_ascii_uppercase();
    if !table::begins(&name) {
        return Parse::NotThis(NotRedis::Command);
    }
    match &rest[name.len()..] {
        [b'\r', b'\n', ..] if name.len() == len => match table::find(&name) {
            Some(_) => {
                let used = behind_count + 1 + behind_len + len + 2;
                Parse::Parsed { value: Sure::Yes, used }
            }
            None => Parse::NotThis(NotRedis::Command),
        },
        [] | [b'\r'] => Parse::NeedMore,
        _ => Parse::NotThis(NotRedis::Shape),
    }
}

fn size(bytes: &[u8]) -> Parse<u64, NotRedis> {
    let mut number = Number::default();
    for (byte, at) in bytes.iter().zip(0..) {
        match number.push(*byte) {
            Step::More => {}
            Step::Done(Size::Of(value)) => return Parse::Parsed { value, used: at + 1 },
            Step::Done(_) | Step::Invalid => return Parse::NotThis(NotRedis::Shape),
        }
    }
    Parse::NeedMore
}

fn inline(bytes: &[u8]) -> Parse<Sure, NotRedis> {
    let window = &bytes[..bytes.len().min(MAX_INLINE)];
    let end = memchr::memchr(b'\n', window);
    let line = &window[..end.unwrap_or(window.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let name = words.next().unwrap_or_default();
    let printable = |word: &[u8]| {
        // NATS has an `INFO` with an object in JSON.
        word.first().is_some_and(|first| *first != b'{') && word.iter().all(|byte| *byte > b' ')
    };
    let may_be = |known: &&(&str, usize)| match end {
        Some(_) => known.0.as_bytes().eq_ignore_ascii_case(name),
        None => {
            known.0.len() >= name.len()
                && known.0.as_bytes()[..name.len()].eq_ignore_ascii_case(name)
        }
    };
    let Some((_, most)) = INLINE.iter().find(may_be) else {
        return Parse::NotThis(NotRedis::Command);
    };
    match end {
        None if window.len() < MAX_INLINE => Parse::NeedMore,
        Some(end) if words.clone().count() <= *most && words.all(printable) => {
            Parse::Parsed { value: Sure::IfAnswered, used: end + 1 }
        }
        _ => Parse::NotThis(NotRedis::Shape),
    }
}

/// Whether `bytes` are what a server sends from the beginning of a reply on. Simple strings, errors and numbers alone
/// do not make it sure: NATS and POP3 have such lines, too.
#[must_use]
pub fn looks_like_replies(bytes: &[u8]) -> Parse<Sure, NotRedis> {
    let (mut replies, mut used) = (Replies::default(), 0);
    let mut found = None;
    if bytes.starts_with(b"+ ") {
        return Parse::NotThis(NotRedis::Shape);
    }
    loop {
        let kind = match replies.next(bytes, &mut used, &mut ()) {
            Next::Message(reply) => (reply.kind, reply.place.end),
            Next::More => break,
            Next::Lost(_) => return Parse::NotThis(NotRedis::Shape),
        };
        let sure = match kind.0 {
            ReplyKind::Simple
            | ReplyKind::Error
            | ReplyKind::Integer
            | ReplyKind::Null
            | ReplyKind::Boolean
            | ReplyKind::Double
            | ReplyKind::BigNumber => Sure::IfAnswered,
            _ => Sure::Yes,
        };
        if found.is_none_or(|(before, _)| before == Sure::IfAnswered) {
            found = Some((sure, kind.1));
        }
    }
    match found {
        Some((value, used)) => Parse::Parsed { value, used },
        None => Parse::NeedMore,
    }
}
