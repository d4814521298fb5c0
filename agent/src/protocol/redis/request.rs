//! What clients send: arrays of bulk strings, or inline commands.

pub use super::command::{Argument, Command};
use super::{
    arguments::Arguments,
    inline::Token,
    number::{Number, Size, Step},
};
use crate::protocol::{Keep, Next, Place, Unframed};

/// More words than any server takes (`INT_MAX`).
const MAX_COUNT: u64 = i32::MAX as u64;
/// Longer than any argument that a server takes, whatever `proto-max-bulk-len` says.
const MAX_LEN: u64 = 1 << 40;
/// An inline command may be as long (`PROTO_INLINE_MAX_SIZE`).
const MAX_INLINE: u64 = 64 * 1024;

/// Where the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Between commands.
    Start,
    /// Behind `*`.
    Count,
    /// Where an argument has to begin.
    Argument,
    /// Behind `$`.
    Len,
    Data,
    /// Behind an argument: `CR`, then `LF`.
    Cr,
    Lf,
    Inline(Token),
    Lost(Unframed),
}

/// The commands of one direction.
#[derive(Clone, Debug)]
pub struct Commands {
    pub(super) at: At,
    number: Number,
    /// Bytes that the argument in progress still has.
    left: u64,
    place: Place,
    pub(super) arguments: Arguments,
    /// The bytes that `place` refers to are used up.
    used_up: bool,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            at: At::Start,
            number: Number::default(),
            left: 0,
            place: Place::default(),
            arguments: Arguments::default(),
            used_up: false,
        }
    }
}

impl Commands {
    /// Goes on by what `bytes` hold from `used` on, up to the end of a command. To be called with the same bytes until
    /// it says [`Next::More`], or not again.
    pub fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Next<Command<'_>> {
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
                return Next::Message(Command::new(self.place, &self.arguments));
            }
        }
        self.used_up = true;
        if self.at == At::Start {
            self.arguments.release();
        }
        match self.at {
            At::Lost(why) => Next::Lost(why),
            _ => Next::More,
        }
    }

    /// Goes on by `len` bytes that were not captured. They may end a command, and hide the next one, which the call
    /// after that tells.
    pub fn skip(&mut self, len: u64) -> Next<Command<'_>> {
        self.begin_bytes();
        self.used_up = true;
        let (mut rest, mut ended) = (len, false);
        if self.at == At::Data {
            let data = rest.min(self.left);
            self.arguments.hole(data);
            (self.left, rest) = (self.left - data, rest - data);
            if self.left == 0 {
                self.at = At::Cr;
            }
        }
        // What stands behind an argument is known without being seen.
        if rest > 0 && self.at == At::Cr {
            (self.at, rest) = (At::Lf, rest - 1);
        }
        if rest > 0 && self.at == At::Lf {
            rest -= 1;
            ended = self.end_argument();
        }
        self.place.len += len - rest;
        if rest > 0 && !matches!(self.at, At::Lost(_)) {
            self.at = At::Lost(Unframed::Hole);
        }
        match self.at {
            _ if ended => Next::Message(Command::new(self.place, &self.arguments)),
            At::Lost(why) => Next::Lost(why),
            _ => Next::More,
        }
    }

    /// The next byte begins a command.
    pub fn restart(&mut self) {
        self.at = At::Start;
        self.used_up = false;
    }

    /// Whether a command has begun that has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.at, At::Start | At::Lost(_))
    }

    /// Where in the bytes that came last the command began that is open.
    #[must_use]
    pub fn began(&self) -> Option<usize> {
        self.place.begin.filter(|_| self.is_open())
    }

    fn begin_bytes(&mut self) {
        if self.used_up {
            self.used_up = false;
            self.place.begin = None;
            self.place.end = 0;
        }
    }

    /// Uses at least one byte, or is lost. Whether a command ended.
    fn step(&mut self, bytes: &[u8], used: &mut usize, keep: &mut impl Keep) -> bool {
        let (byte, at) = (bytes[*used], *used);
        match self.at {
            At::Start => {
                self.begin(byte, at);
                match byte {
                    b'*' => self.at = At::Count,
                    // An empty line, which is no command.
                    b'\r' | b'\n' => {}
                    _ => {
                        self.arguments.begin(None);
                        self.at = At::Inline(Token::default());
                        return self.inline(bytes, used, keep);
                    }
                }
            }
            At::Count | At::Len => {
                while let Some(&byte) = bytes.get(*used) {
                    match self.number.push(byte) {
                        Step::More => *used += 1,
                        Step::Invalid => return self.malformed(keep, at, *used),
                        Step::Done(size) => {
                            if !self.sized(size) {
                                return self.malformed(keep, at, *used);
                            }
                            *used += 1;
                            break;
                        }
                    }
                }
                keep.keep(at..*used);
                return false;
            }
            At::Argument if byte == b'$' => (self.at, self.number) = (At::Len, Number::default()),
            At::Data => {
                let available = bytes.len() - at;
                let len = usize::try_from(self.left).map_or(available, |left| left.min(available));
                self.arguments.bytes(&bytes[at..at + len], at, keep);
                self.left -= len as u64;
                *used += len;
                if self.left == 0 {
                    self.at = At::Cr;
                }
                return false;
            }
            At::Cr if byte == b'\r' => self.at = At::Lf,
            At::Lf if byte == b'\n' => {
                keep.keep(at..at + 1);
                *used += 1;
                return self.end_argument();
            }
            At::Inline(_) => return self.inline(bytes, used, keep),
            At::Argument | At::Cr | At::Lf => return self.malformed(keep, at, at),
            At::Lost(_) => return false,
        }
        keep.keep(at..at + 1);
        *used += 1;
        false
    }

    fn begin(&mut self, byte: u8, at: usize) {
        if byte != b'\r' && byte != b'\n' {
            self.place = Place { begin: Some(at), end: 0, len: 0 };
        }
        self.number = Number::default();
    }

    fn malformed(&mut self, keep: &mut impl Keep, from: usize, to: usize) -> bool {
        keep.keep(from..to);
        self.at = At::Lost(Unframed::Malformed);
        false
    }

    /// A count or a length is known. Whether it can be one.
    fn sized(&mut self, size: Size) -> bool {
        match (self.at, size) {
            // As empty lines, these are no commands.
            (At::Count, Size::Of(0) | Size::Null) => self.at = At::Start,
            (At::Count, Size::Of(count @ 1..=MAX_COUNT)) => {
                self.arguments.begin(Some(count as u32));
                self.at = At::Argument;
            }
            (At::Len, Size::Of(len @ 0..=MAX_LEN)) => {
                self.arguments.begin_argument(len);
                self.left = len;
                self.at = if len == 0 { At::Cr } else { At::Data };
            }
            _ => return false,
        }
        true
    }

    /// Whether it was the last one.
    fn end_argument(&mut self) -> bool {
        self.arguments.end_argument();
        let ended = self.arguments.count.is_some_and(|count| self.arguments.index >= count);
        self.at = if ended { At::Start } else { At::Argument };
        ended
    }

    fn inline(&mut self, bytes: &[u8], used: &mut usize, keep: &mut impl Keep) -> bool {
        let At::Inline(mut token) = self.at else { return false };
        let from = *used;
        while let Some(&byte) = bytes.get(*used) {
            if self.place.len + (*used - from) as u64 >= MAX_INLINE {
                return self.malformed(keep, *used, *used);
            }
            if !token.push(byte, *used, &mut self.arguments, keep) {
                return self.malformed(keep, *used, *used);
            }
            *used += 1;
            if byte == b'\n' {
                self.at = At::Start;
                return true;
            }
        }
        self.at = At::Inline(token);
        false
    }
}
