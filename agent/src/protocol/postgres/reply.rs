//! What servers send.

use super::{
    MAX_NAME,
    frame::{Frame, Frames, Step, Vocabulary},
    string,
};
use crate::protocol::{Keep, Next, Place, Unframed};

/// Bytes of an error that are read: its severity and its SQLSTATE stand first.
const ERROR_HEAD: usize = 64;

/// Where a session stands between two queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    None,
    Open,
    Failed,
}

/// `S` of an error or a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection ends.
    Fatal,
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `is_ok`: the client is known now.
    Authentication {
        is_ok: bool,
    },
    ReadyForQuery(Transaction),
    /// `SELECT 3`, `INSERT 0 1`, `CREATE TABLE`.
    CommandComplete(&'a [u8]),
    /// An SQLSTATE of five characters; empty if it was not captured.
    Error {
        sqlstate: &'a str,
        severity: Severity,
    },
    EmptyQuery,
    ParseComplete,
    BindComplete,
    PortalSuspended,
    /// One row of a result.
    Row,
    CopyIn,
    CopyOut,
    CopyBoth,
    FunctionCall,
    /// The answer to a request for encryption; `true`: what follows is TLS or encrypted by GSSAPI.
    Encryption(bool),
    /// It answers no request: a notice, a parameter's value, a notification.
    Aside,
    /// Part of an answer that says nothing that is read.
    Part,
}

/// The messages of a server.
#[derive(Clone, Debug)]
pub struct Replies {
    frames: Frames,
    /// One byte comes before the next message, and says whether TLS follows.
    answers: bool,
}

struct Backend;

impl Vocabulary for Backend {
    fn held(tag: u8) -> Option<usize> {
        Some(match tag {
            b'R' => 4,
            b'Z' => 1,
            b'C' => MAX_NAME,
            b'E' => ERROR_HEAD,
            b'1' | b'2' | b'3' | b'A' | b'D' | b'G' | b'H' | b'I' | b'K' | b'N' | b'S' | b'T'
            | b'V' | b'W' | b'c' | b'd' | b'n' | b's' | b't' | b'v' => 0,
            _ => return None,
        })
    }

    fn keep(tag: u8, body: &[u8], from: usize, at: usize, keep: &mut impl Keep) {
        let kept = match tag {
            b'E' => fields(body).1,
            _ => body.len(),
        };
        if from < kept {
            keep.keep(at..at + kept - from);
        }
    }
}

impl Default for Replies {
    fn default() -> Self {
        Self { frames: Frames::new(false), answers: false }
    }
}

impl Replies {
    /// The next byte answers a request for encryption.
    pub fn expect_answer(&mut self) {
        self.answers = true;
    }

    /// As [`super::Requests::next`]; the answer to a request for encryption is a [`Reply::Encryption`].
    pub fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Next<(Reply<'_>, Place)> {
        if self.answers && *used < bytes.len() {
            self.answers = false;
            let place = Place { begin: Some(*used), end: *used + 1, len: 1 };
            let encrypts = matches!(bytes[*used], b'S' | b'G');
            if encrypts || bytes[*used] == b'N' {
                keep.keep(*used..*used + 1);
                *used += 1;
                return Next::Message((Reply::Encryption(encrypts), place));
            }
        }
        let step = self.frames.next::<Backend>(bytes, used, keep);
        self.said(step)
    }

    /// As [`super::Requests::skip`].
    pub fn skip(&mut self, len: u64) -> Next<(Reply<'_>, Place)> {
        let step = self.frames.skip(len);
        self.said(step)
    }

    fn said(&mut self, step: Step) -> Next<(Reply<'_>, Place)> {
        match step {
            Step::Message => {
                let frame = self.frames.frame();
                read(&frame).map_or(Next::Lost(Unframed::Malformed), |reply| {
                    Next::Message((reply, frame.place))
                })
            }
            Step::More => Next::More,
            Step::Lost(why) => Next::Lost(why),
        }
    }

    /// The next byte begins a message.
    pub fn restart(&mut self) {
        self.frames.restart();
        self.answers = false;
    }

    /// Whether a message has begun that has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.frames.is_open()
    }

    /// Where in the bytes that came last the message began that is open.
    #[must_use]
    pub fn began(&self) -> Option<usize> {
        self.frames.began()
    }
}

fn read<'a>(frame: &Frame<'a>) -> Option<Reply<'a>> {
    let body = frame.body;
    Some(match frame.tag {
        b'R' => Reply::Authentication { is_ok: body == [0; 4] },
        b'Z' => Reply::ReadyForQuery(transaction(*body.first()?)?),
        b'C' => Reply::CommandComplete(super::cut_string(body)),
        b'E' => {
            let (error, _) = fields(body);
            Reply::Error { sqlstate: error.sqlstate, severity: error.severity }
        }
        b'I' => Reply::EmptyQuery,
        b'1' => Reply::ParseComplete,
        b'2' => Reply::BindComplete,
        b's' => Reply::PortalSuspended,
        b'D' => Reply::Row,
        b'G' => Reply::CopyIn,
        b'H' => Reply::CopyOut,
        b'W' => Reply::CopyBoth,
        b'V' => Reply::FunctionCall,
        b'A' | b'K' | b'N' | b'S' | b'v' => Reply::Aside,
        _ => Reply::Part,
    })
}

const fn transaction(status: u8) -> Option<Transaction> {
    match status {
        b'I' => Some(Transaction::None),
        b'T' => Some(Transaction::Open),
        b'E' => Some(Transaction::Failed),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Fields<'a> {
    sqlstate: &'a str,
    severity: Severity,
}

/// Severity and SQLSTATE at the beginning of an error, and how many bytes say so.
fn fields(body: &[u8]) -> (Fields<'_>, usize) {
    let mut found = Fields { sqlstate: "", severity: Severity::Error };
    let mut used = 0;
    while let Some((&code, rest)) = body[used..].split_first() {
        let Some((value, _)) = string(rest) else {
            // One of these that has not ended.
            used = if matches!(code, b'S' | b'V' | b'C') { body.len() } else { used };
            break;
        };
        match code {
            b'S' | b'V' => {
                if matches!(value, b"FATAL" | b"PANIC") {
                    found.severity = Severity::Fatal;
                }
            }
            b'C' => {
                let is_state = value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric);
                found.sqlstate = std::str::from_utf8(value).ok().filter(|_| is_state).unwrap_or("");
                return (found, used + value.len() + 2);
            }
            _ => break,
        }
        used += value.len() + 2;
    }
    (found, used)
}

/// How an answer ends of which the middle was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    pub transaction: Transaction,
    /// What the last command says that it did, if that can be told.
    pub complete: Option<&'a [u8]>,
    /// Where it begins.
    pub at: usize,
}

/// Longest tag of a command, with its zero byte: `CREATE TEXT SEARCH CONFIGURATION` and the like.
const MAX_TAG: usize = 64;

/// Whether the last bytes of an answer end it: `ReadyForQuery`, as a rule behind a `CommandComplete`.
#[must_use]
pub fn tail(bytes: &[u8]) -> Option<Tail<'_>> {
    let before = bytes.len().checked_sub(6)?;
    let [b'Z', 0, 0, 0, 5, status] = bytes[before..] else { return None };
    let transaction = transaction(status)?;
    // A tag is text; what stands before it cannot be told from text but by the length.
    for len in 2..=MAX_TAG.min(before.saturating_sub(5)) {
        let at = before - len - 5;
        let counted =
            u32::from_be_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]);
        if bytes[at] == b'C' && counted as usize == len + 4 {
            let tag = &bytes[at + 5..before - 1];
            if bytes[before - 1] == 0 && tag.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                return Some(Tail { transaction, complete: Some(tag), at });
            }
        }
    }
    Some(Tail { transaction, complete: None, at: before })
}

/// How many of the last bytes may be the beginning of what [`tail`] recognises.
#[must_use]
pub fn may_end(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(MAX_TAG + 11);
    (from..bytes.len()).find(|&at| begins_tail(&bytes[at..])).map_or(0, |at| bytes.len() - at)
}

/// Whether all of `bytes` may be the beginning of a `CommandComplete` and a `ReadyForQuery`, or of the latter.
fn begins_tail(bytes: &[u8]) -> bool {
    const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];
    let is_ready = |bytes: &[u8]| bytes.len() < 6 && bytes.iter().zip(READY).all(|(a, b)| *a == b);
    let Some((b'C', rest)) = bytes.split_first() else { return is_ready(bytes) };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return rest.iter().take(3).all(|byte| *byte == 0);
    };
    let Some(len) = (u32::from_be_bytes(*length) as usize).checked_sub(4) else { return false };
    if !(2..=MAX_TAG).contains(&len) {
        return false;
    }
    let (tag, ready) = rest.split_at(rest.len().min(len));
    let is_tag = tag.iter().enumerate().all(|(at, byte)| match at + 1 == len {
        true => *byte == 0,
        false => matches!(byte, b' '..=b'~'),
    });
    is_tag && is_ready(ready)
}
