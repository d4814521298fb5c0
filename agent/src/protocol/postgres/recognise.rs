//! Whether a connection speaks it.

use super::{Replies, Request, Requests, tail};
use crate::protocol::{Next, Parse, Sure};

/// Why bytes are not this protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotPostgres;

/// Whether `bytes` are what a client sends first: a startup of version 3, or a request for encryption or to cancel.
#[must_use]
pub fn opens(bytes: &[u8]) -> Parse<Sure, NotPostgres> {
    // A length below 64 KiB, then version 3 or a code that begins with 1234.
    let fits = bytes.iter().take(2).all(|byte| *byte == 0)
        && bytes.get(4..6).is_none_or(|code| matches!(code, [0, 3] | [4, 210]));
    if !fits {
        return Parse::NotThis(NotPostgres);
    }
    if bytes.len() < 8 {
        return Parse::NeedMore;
    }
    let mut used = 0;
    match Requests::new(true).next(bytes, &mut used, &mut ()) {
        Next::Message((
            Request::EncryptionRequest | Request::Cancel | Request::Startup { user: Some(_), .. },
            place,
        )) if place.len >= 8 => Parse::Parsed { value: Sure::Yes, used },
        Next::More => Parse::NeedMore,
        Next::Message(_) | Next::Lost(_) => Parse::NotThis(NotPostgres),
    }
}

/// Whether `bytes` are what the client of a session that was open before sends: messages, of which the last one asks
/// for an answer.
#[must_use]
pub fn looks_like_requests(bytes: &[u8]) -> bool {
    let (mut requests, mut used, mut found) = (Requests::new(false), 0, 0);
    loop {
        match requests.next(bytes, &mut used, &mut ()) {
            Next::Message((Request::Query(text), _)) if !text.is_cut => {
                found += u32::from(begins_statement(text.bytes));
                if found == 0 {
                    return false;
                }
            }
            Next::Message((Request::Sync, _)) => found += 1,
            Next::Message((
                Request::Parse { .. } | Request::Bind { .. } | Request::Execute { .. },
                _,
            )) => {}
            Next::Message((Request::Describe | Request::Flush | Request::Close { .. }, _)) => {}
            Next::Message(_) => return false,
            Next::More => return found > 0 && !requests.is_open(),
            Next::Lost(_) => return false,
        }
    }
}

/// A keyword: letters, then something else.
fn begins_statement(text: &[u8]) -> bool {
    let word = text.trim_ascii_start();
    word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count() >= 3
        || word.starts_with(b"--")
        || word.starts_with(b"/*")
        || word.starts_with(b";")
}

/// Whether `bytes` are what a server answers in a session that was open before: messages up to one that ends them.
#[must_use]
pub fn looks_like_replies(bytes: &[u8]) -> bool {
    let (mut replies, mut used) = (Replies::default(), 0);
    loop {
        match replies.next(bytes, &mut used, &mut ()) {
            Next::Message(_) => {}
            Next::More => return !replies.is_open() && tail(bytes).is_some(),
            Next::Lost(_) => return false,
        }
    }
}
