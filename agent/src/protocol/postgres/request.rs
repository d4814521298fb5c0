//! What clients send.

use std::ops::Range;

use memchr::memchr;

use super::{
    MAX_NAME, MAX_TEXT, cut_string,
    frame::{Frame, Frames, Step, Vocabulary},
    string,
};
use crate::protocol::{Keep, Next, Place, Unframed, sql};

/// Codes in place of a version in a client's first message.
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// Major version 3, above the minor one.
const VERSION_3: u32 = 3;

/// The text of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    pub bytes: &'a [u8],
    /// There is more of it than that.
    pub is_cut: bool,
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Startup {
        database: Option<&'a [u8]>,
        user: Option<&'a [u8]>,
        /// Asks for a stream of changes, which is no conversation.
        replication: bool,
    },
    /// Asks whether what follows may be TLS, or encrypted by GSSAPI. The answer is one byte.
    EncryptionRequest,
    /// On a connection of its own, which has no answer.
    Cancel,
    /// A password or another credential.
    Password,
    Query(Text<'a>),
    Parse {
        statement: &'a [u8],
        text: Text<'a>,
    },
    Bind {
        portal: &'a [u8],
        statement: &'a [u8],
    },
    Execute {
        portal: &'a [u8],
    },
    /// `kind`: `S` a statement, `P` a portal.
    Close {
        kind: u8,
        name: &'a [u8],
    },
    Describe,
    Flush,
    Sync,
    FunctionCall,
    CopyData,
    CopyDone,
    CopyFail,
    Terminate,
}

/// The messages of a client.
#[derive(Clone, Debug)]
pub struct Requests {
    frames: Frames,
}

struct Frontend;

impl Vocabulary for Frontend {
    fn held(tag: u8) -> Option<usize> {
        Some(match tag {
            0 => 4096,
            b'Q' => MAX_TEXT,
            b'P' => MAX_NAME + MAX_TEXT,
            b'B' => 2 * MAX_NAME,
            b'E' | b'C' => MAX_NAME,
            b'p' | b'd' | b'c' | b'f' | b'D' | b'F' | b'H' | b'S' | b'X' => 0,
            _ => return None,
        })
    }

    fn keep(tag: u8, body: &[u8], from: usize, at: usize, keep: &mut impl Keep) {
        let names = |count| ends_of(body, count).unwrap_or(body.len());
        match tag {
            0 => keep_startup(body, from, at, keep),
            b'Q' => keep_text(body, from, at, keep),
            b'P' => {
                let name = names(1);
                if from < name {
                    keep.keep(at..at + name - from);
                }
                let text_from = from.max(name);
                keep_text(&body[name..], text_from - name, at + text_from - from, keep);
            }
            // Behind the names come parameters.
            b'B' if from < names(2) => keep.keep(at..at + names(2) - from),
            b'B' => {}
            // Before the name a byte says what it names. It may be any byte, also zero.
            b'C' => {
                let name = body.get(1..).unwrap_or_default();
                let end = ends_of(name, 1).map_or(body.len(), |end| 1 + end);
                keep.keep(at..at + end.max(from) - from);
            }
            _ => keep.keep(at..at + names(1).max(from) - from),
        }
    }
}

/// Behind the `count`th zero byte of `body`.
fn ends_of(body: &[u8], count: usize) -> Option<usize> {
    memchr::memchr_iter(0, body).nth(count - 1).map(|end| end + 1)
}

fn keep_text(body: &[u8], from: usize, at: usize, keep: &mut impl Keep) {
    let text = cut_string(body);
    if from < text.len() {
        sql::mask::mask(text, sql::Dialect::Postgres, from, at, keep);
    }
}

/// Values of parameters that are not read are blanked; they must stay as long as they were, and not empty.
fn keep_startup(body: &[u8], from: usize, at: usize, keep: &mut impl Keep) {
    let mut tell = |range: Range<usize>, is_kept: bool| {
        let range = range.start.max(from)..range.end.min(body.len());
        if range.is_empty() {
            return;
        }
        let range = at + range.start - from..at + range.end - from;
        if is_kept { keep.keep(range) } else { keep.mask(range, b'x') }
    };
    let end_of = |from: usize| memchr(0, &body[from..]).map_or(body.len(), |end| from + end);
    tell(0..4, true);
    let mut name_at = 4;
    while name_at < body.len() {
        let name_end = end_of(name_at);
        tell(name_at..name_end, true);
        let name = &body[name_at..name_end];
        if name.is_empty() || name_end == body.len() {
            return;
        }
        let value_end = end_of(name_end + 1);
        tell(name_end + 1..value_end, matches!(name, b"database" | b"user" | b"replication"));
        name_at = value_end + 1;
    }
}

/// A name and its value, each with a zero byte behind it; `None` at the list's end.
fn parameter(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = string(bytes).filter(|(name, _)| !name.is_empty())?;
    let (value, _) = string(rest)?;
    Some((name, value))
}

impl Requests {
    /// `begins`: a startup comes first.
    #[must_use]
    pub fn new(begins: bool) -> Self {
        Self { frames: Frames::new(begins) }
    }

    /// Goes on by what `bytes` hold from `used` on, up to the end of a message. To be called with the same bytes until
    /// it says [`Next::More`], or not again.
    pub fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Next<(Request<'_>, Place)> {
        let step = self.frames.next::<Frontend>(bytes, used, keep);
        self.said(step)
    }

    /// Goes on by `len` bytes that were not captured. They may end a message, and hide the next one, which the call
    /// after that tells.
    pub fn skip(&mut self, len: u64) -> Next<(Request<'_>, Place)> {
        let step = self.frames.skip(len);
        self.said(step)
    }

    fn said(&mut self, step: Step) -> Next<(Request<'_>, Place)> {
        match step {
            Step::Message => {
                if matches!(read(&self.frames.frame()), Some(Request::EncryptionRequest)) {
                    // Whatever the answer is, if it comes in the open another first message follows it.
                    self.frames.expect_untyped();
                }
                let frame = self.frames.frame();
                read(&frame).map_or(Next::Lost(Unframed::Malformed), |request| {
                    Next::Message((request, frame.place))
                })
            }
            Step::More => Next::More,
            Step::Lost(why) => Next::Lost(why),
        }
    }

    /// The next byte begins a message that is no startup.
    pub fn restart(&mut self) {
        self.frames.restart();
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

fn read<'a>(frame: &Frame<'a>) -> Option<Request<'a>> {
    let body = frame.body;
    let name = || cut_string(body);
    Some(match frame.tag {
        0 => return startup(body),
        b'Q' => Request::Query(text(body, frame.len as usize)),
        b'P' => {
            let (statement, rest) = string(body).unwrap_or((body, b""));
            let left = (frame.len as usize).saturating_sub(body.len() - rest.len());
            Request::Parse { statement, text: text(rest, left) }
        }
        b'B' => {
            let (portal, rest) = string(body).unwrap_or((body, b""));
            Request::Bind { portal, statement: cut_string(rest) }
        }
        b'E' => Request::Execute { portal: name() },
        b'C' => Request::Close {
            kind: body.first().copied().unwrap_or(0),
            name: cut_string(body.get(1..).unwrap_or_default()),
        },
        b'p' => Request::Password,
        b'd' => Request::CopyData,
        b'c' => Request::CopyDone,
        b'f' => Request::CopyFail,
        b'D' => Request::Describe,
        b'F' => Request::FunctionCall,
        b'H' => Request::Flush,
        b'S' => Request::Sync,
        b'X' => Request::Terminate,
        _ => return None,
    })
}

/// A text at the beginning of `body`, of which so many bytes were sent.
fn text(body: &[u8], sent: usize) -> Text<'_> {
    match string(body) {
        Some((bytes, _)) => Text { bytes, is_cut: false },
        None => Text { bytes: body, is_cut: sent > body.len() },
    }
}

fn startup(body: &[u8]) -> Option<Request<'_>> {
    let (version, mut rest) = body.split_first_chunk::<4>()?;
    match u32::from_be_bytes(*version) {
        SSL_REQUEST | GSS_REQUEST => return Some(Request::EncryptionRequest),
        CANCEL_REQUEST => return Some(Request::Cancel),
        version if version >> 16 == VERSION_3 => {}
        _ => return None,
    }
    let (mut database, mut user, mut replication) = (None, None, false);
    while let Some((name, value)) = parameter(rest) {
        match name {
            b"database" => database = Some(value),
            b"user" => user = Some(value),
            b"replication" => {
                replication = !matches!(value, b"" | b"false" | b"off" | b"no" | b"0")
            }
            _ => {}
        }
        rest = &rest[name.len() + value.len() + 2..];
    }
    Some(Request::Startup { database, user, replication })
}
