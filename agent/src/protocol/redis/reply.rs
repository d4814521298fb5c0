//! What servers send: replies of any type, nested, and pushes between them.

pub use super::word::Word;
use super::{
    number::Number,
    word::{Code, Text},
};
use crate::protocol::{Keep, Next, Place, Unframed};

/// Aggregates whose end is not announced may be nested as deep; servers send none.
pub(super) const MAX_STREAMED: usize = 4;

/// The type of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyKind {
    Simple,
    /// A simple or a bulk error.
    Error,
    Integer,
    Bulk,
    Verbatim,
    Array,
    Map,
    Set,
    /// Not a reply: the server sends it by itself.
    Push,
    /// Also a bulk string or an array that is null.
    Null,
    Boolean,
    Double,
    BigNumber,
}

/// A whole reply, or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub place: Place,
    pub kind: ReplyKind,
    /// `WRONGTYPE`, `MOVED`, `ERR`: the first word of an error, if it is in upper case. Else of the first error among
    /// the elements.
    pub code: Option<&'a str>,
    pub word: Option<Word>,
    /// Elements of an aggregate as announced (a map has two for each entry); of a streamed one 0.
    pub elements: u64,
    /// Errors among its elements, at any depth: of a transaction's commands.
    pub errors: u32,
}

/// Where the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The type of a value.
    Type,
    /// Behind a type that has a length or a count.
    Size(u8),
    /// In a line that is a value.
    Line(u8),
    /// Behind its `CR`.
    LineEnd,
    Data,
    /// Behind data: `CR`, then `LF`.
    Cr,
    Lf,
    /// The next part of a string that comes in parts, and behind its `;`.
    Part,
    PartSize,
    Lost(Unframed),
}

/// The replies of one direction.
#[derive(Clone, Debug)]
pub struct Replies {
    pub(super) at: At,
    pub(super) number: Number,
    /// Bytes of a line so far, if it is a scalar; signs do not count.
    pub(super) line_len: u8,
    /// Bytes of data that are still to come.
    pub(super) left: u64,
    pub(super) in_parts: bool,
    /// Values that are still to come before the reply, or the innermost streamed aggregate, is where it was.
    pub(super) values: u64,
    /// `values` of what the streamed aggregates stand in.
    pub(super) outer: [u64; MAX_STREAMED],
    pub(super) depth: u8,
    pub(super) place: Place,
    pub(super) kind: Option<ReplyKind>,
    pub(super) elements: u64,
    pub(super) errors: u32,
    pub(super) word: Option<Word>,
    /// The value in progress is the reply itself, not part of it.
    pub(super) top: bool,
    /// The next value is the first element of an array or a push.
    pub(super) first: bool,
    pub(super) text: Text,
    pub(super) code: Option<Code>,
    pub(super) used_up: bool,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            at: At::Type,
            number: Number::default(),
            line_len: 0,
            left: 0,
            in_parts: false,
            values: 0,
            outer: [0; MAX_STREAMED],
            depth: 0,
            place: Place::default(),
            kind: None,
            elements: 0,
            errors: 0,
            word: None,
            top: false,
            first: false,
            text: Text::default(),
            code: None,
            used_up: false,
        }
    }
}

impl Replies {
    /// As [`super::Commands::next`].
    pub fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Next<Reply<'_>> {
        self.begin_bytes();
        while *used < bytes.len() {
            if let At::Lost(why) = self.at {
                return Next::Lost(why);
            }
            let from = *used;
            let ended = self.step(bytes, used, keep);
            self.place.len += (*used - from) as u64;
            if ended {
                self.place.end = *used;
                return Next::Message(self.reply());
            }
        }
        self.used_up = true;
        match self.at {
            At::Lost(why) => Next::Lost(why),
            _ => Next::More,
        }
    }

    /// As [`super::Commands::skip`].
    pub fn skip(&mut self, len: u64) -> Next<Reply<'_>> {
        self.begin_bytes();
        self.used_up = true;
        let (mut rest, mut ended) = (len, false);
        if self.at == At::Data {
            let data = rest.min(self.left);
            (self.left, rest) = (self.left - data, rest - data);
            if data > 0 {
                self.text = Text::default();
            }
            if self.left == 0 {
                self.at = At::Cr;
            }
        }
        // What stands behind data is known without being seen; so is the end of a line behind its `CR`.
        if rest > 0 && self.at == At::Cr {
            (self.at, rest) = (At::Lf, rest - 1);
        }
        if rest > 0 && matches!(self.at, At::Lf | At::LineEnd) {
            rest -= 1;
            ended = self.end_value_or_part();
        }
        self.place.len += len - rest;
        if rest > 0 && !matches!(self.at, At::Lost(_)) {
            self.at = At::Lost(Unframed::Hole);
        }
        match self.at {
            _ if ended => Next::Message(self.reply()),
            At::Lost(why) => Next::Lost(why),
            _ => Next::More,
        }
    }

    /// The next byte begins a reply.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether a reply has begun that has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        (self.values > 0 || self.depth > 0) && !matches!(self.at, At::Lost(_))
    }

    /// Where in the bytes that came last the reply began that is open.
    #[must_use]
    pub fn began(&self) -> Option<usize> {
        self.place.begin.filter(|_| self.is_open())
    }

    /// What the reply is that is open; known from its first byte on.
    #[must_use]
    pub fn kind(&self) -> Option<ReplyKind> {
        self.kind.filter(|_| self.is_open())
    }

    fn begin_bytes(&mut self) {
        if self.used_up {
            self.used_up = false;
            self.place.begin = None;
            self.place.end = 0;
        }
    }

    fn reply(&self) -> Reply<'_> {
        Reply {
            place: self.place,
            kind: self.kind.unwrap_or(ReplyKind::Null),
            code: self.code.as_ref().map(Code::as_str),
            word: self.word,
            elements: self.elements,
            errors: self.errors,
        }
    }

    /// Uses at least one byte, or is lost. Whether a reply ended.
    fn step(&mut self, bytes: &[u8], used: &mut usize, keep: &mut impl Keep) -> bool {
        let (byte, at) = (bytes[*used], *used);
        let valid = match self.at {
            At::Type => {
                if self.values == 0 && self.depth == 0 {
                    self.begin(at);
                }
                self.begin_value(byte)
            }
            At::Size(_) | At::PartSize => return self.size(bytes, used, keep),
            At::Line(of) => return self.line(of, bytes, used, keep),
            At::Data => {
                let available = bytes.len() - at;
                let len = usize::try_from(self.left).map_or(available, |left| left.min(available));
                self.data(&bytes[at..at + len], at, keep);
                *used += len;
                return false;
            }
            At::Cr if byte == b'\r' => {
                self.at = At::Lf;
                true
            }
            At::Lf | At::LineEnd if byte == b'\n' => {
                keep.keep(at..at + 1);
                *used += 1;
                return self.end_value_or_part();
            }
            At::Part if byte == b';' => {
                (self.at, self.number) = (At::PartSize, Number::default());
                true
            }
            At::Cr | At::Lf | At::LineEnd | At::Part | At::Lost(_) => false,
        };
        if !valid {
            self.at = At::Lost(Unframed::Malformed);
            return false;
        }
        keep.keep(at..at + 1);
        *used += 1;
        false
    }

    fn begin(&mut self, at: usize) {
        self.place = Place { begin: Some(at), end: 0, len: 0 };
        self.values = 1;
        self.kind = None;
        (self.elements, self.errors) = (0, 0);
        (self.word, self.first, self.code) = (None, false, None);
    }
}
