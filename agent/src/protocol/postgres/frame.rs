//! Messages as both sides frame them: a type, a length that counts itself, and a body. A client's first message has no
//! type. Of a body the first bytes are held, as far as somebody reads them and no hole comes before.

use crate::protocol::{Keep, Place, Unframed};

/// Longer messages are refused by servers (`PQ_LARGE_MESSAGE_LIMIT`).
const MAX_LEN: u32 = 1 << 30;
/// A startup packet is no longer (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_STARTUP: u32 = 10_000;

/// One side's vocabulary.
pub(super) trait Vocabulary {
    /// How many bytes of the body of a message of type `tag` are held; `None`: this side has no such message.
    fn held(tag: u8) -> Option<usize>;

    /// Says what a recording keeps of `body`, the bytes that are held so far: of those from `from` on, which stand at
    /// `at`. The others were told of before.
    fn keep(tag: u8, body: &[u8], from: usize, at: usize, keep: &mut impl Keep);
}

/// Where the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a header, of which so many bytes have come.
    Header(u8),
    /// In a body of which so many bytes are left.
    Body(u32),
    Lost(Unframed),
}

/// The messages of one direction.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    at: At,
    header: [u8; 5],
    /// The first message has no type.
    untyped: bool,
    /// How much more of the body is to be held.
    wanted: usize,
    held: Vec<u8>,
    place: Place,
    used_up: bool,
}

/// A whole message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// 0: it has none.
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
    /// Of the whole body.
    pub(super) len: u32,
    pub(super) place: Place,
}

/// As [`crate::protocol::Next`], of frames.
pub(super) enum Step {
    Message,
    More,
    Lost(Unframed),
}

impl Frames {
    pub(super) fn new(untyped: bool) -> Self {
        Self {
            at: At::Header(0),
            header: [0; 5],
            untyped,
            wanted: 0,
            held: Vec::new(),
            place: Place::default(),
            used_up: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.at, At::Header(0) | At::Lost(_))
    }

    pub(super) fn began(&self) -> Option<usize> {
        self.place.begin.filter(|_| self.is_open())
    }

    /// The next byte begins a message.
    pub(super) fn restart(&mut self) {
        *self = Self::new(false);
    }

    /// The message that has ended.
    pub(super) fn frame(&self) -> Frame<'_> {
        Frame { tag: self.header[0], body: &self.held, len: self.body_len(), place: self.place }
    }

    fn body_len(&self) -> u32 {
        u32::from_be_bytes([self.header[1], self.header[2], self.header[3], self.header[4]])
            .saturating_sub(4)
    }

    fn begin_bytes(&mut self) {
        if self.used_up {
            self.used_up = false;
            self.place.begin = None;
            self.place.end = 0;
        }
    }

    /// One more message without a type follows.
    pub(super) fn expect_untyped(&mut self) {
        self.untyped = true;
    }

    /// Goes on by what `bytes` hold from `used` on, up to the end of a message.
    pub(super) fn next<V: Vocabulary>(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Step {
        self.begin_bytes();
        while *used < bytes.len() {
            match self.at {
                At::Lost(why) => return Step::Lost(why),
                At::Header(_) => self.header_bytes::<V>(bytes, used, keep),
                At::Body(left) => {
                    let step = (bytes.len() - *used).min(left as usize);
                    let held = step.min(self.wanted);
                    if held > 0 {
                        let from = self.held.len();
                        self.held.extend_from_slice(&bytes[*used..*used + held]);
                        self.wanted -= held;
                        V::keep(self.header[0], &self.held, from, *used, keep);
                    }
                    *used += step;
                    self.place.len += step as u64;
                    self.at = At::Body(left - step as u32);
                }
            }
            if self.at == At::Body(0) {
                self.at = At::Header(0);
                self.place.end = *used;
                return Step::Message;
            }
        }
        self.used_up = true;
        if self.at == At::Header(0) && self.held.capacity() > 256 {
            self.held = Vec::new();
        }
        match self.at {
            At::Lost(why) => Step::Lost(why),
            _ => Step::More,
        }
    }

    fn header_bytes<V: Vocabulary>(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) {
        let At::Header(mut have) = self.at else { return };
        if have == 0 {
            self.place = Place { begin: Some(*used), end: 0, len: 0 };
            self.held.clear();
            if self.untyped {
                (self.header[0], have) = (0, 1);
            }
        }
        let from = *used;
        while have < 5 && *used < bytes.len() {
            self.header[usize::from(have)] = bytes[*used];
            (have, *used) = (have + 1, *used + 1);
        }
        keep.keep(from..*used);
        self.place.len += (*used - from) as u64;
        self.at = At::Header(have);
        if have == 5 {
            self.begin_body::<V>();
        }
    }

    fn begin_body<V: Vocabulary>(&mut self) {
        let [_, length @ ..] = self.header;
        let len = u32::from_be_bytes(length);
        let most = if self.untyped { MAX_STARTUP } else { MAX_LEN };
        let held = V::held(self.header[0]);
        self.untyped = false;
        match held {
            Some(held) if (4..=most).contains(&len) => {
                self.wanted = held;
                self.at = At::Body(len - 4);
            }
            _ => self.at = At::Lost(Unframed::Malformed),
        }
    }

    /// Goes on by `len` bytes that were not captured.
    pub(super) fn skip(&mut self, len: u64) -> Step {
        self.begin_bytes();
        self.used_up = true;
        let mut rest = len;
        if let At::Body(left) = self.at {
            let step = rest.min(left.into());
            rest -= step;
            self.place.len += step;
            self.wanted = 0;
            self.at = At::Body(left - step as u32);
        }
        if rest > 0 && !matches!(self.at, At::Lost(_)) && self.at != At::Body(0) {
            self.at = At::Lost(Unframed::Hole);
        }
        match self.at {
            At::Body(0) => {
                self.at = if rest > 0 { At::Lost(Unframed::Hole) } else { At::Header(0) };
                Step::Message
            }
            At::Lost(why) => Step::Lost(why),
            _ => Step::More,
        }
    }
}
