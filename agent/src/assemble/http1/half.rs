//! One direction of a connection: where in a message its next byte stands.

use super::mask::HeadMask;
use crate::{
    assemble::pending::Begin,
    protocol::chunked::{self, Chunked},
};

/// Where the next byte of a direction falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Before a message.
    Start,
    /// In a head whose beginning is in [`Half::head`].
    Head,
    /// In content with this many bytes left, at least 1.
    Length(u64),
    /// In chunked content whose framing was captured so far.
    Chunked(Chunked),
    /// In a message whose end cannot be computed: it is over when another one begins.
    Blind,
    /// In content that ends with the connection.
    UntilClose,
    /// Bytes were lost or never seen; a message can be recognised at the start of a fragment that
    /// finds the opposite direction beyond this position (`None`: of any fragment).
    Skip { until_other_beyond: Option<u64> },
    /// No more bytes come.
    Ended,
}

impl State {
    /// Of a connection that was joined in mid-stream.
    pub(super) const SKIP: Self = Self::Skip { until_other_beyond: None };

    /// In content whose end is still to come, and will be seen.
    pub(super) const fn is_in_content(self) -> bool {
        matches!(self, Self::Length(_) | Self::Chunked(_))
    }
}

/// A direction of a connection.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) state: State,
    /// The beginning of an unfinished head; empty in any other state.
    pub(super) head: Vec<u8>,
    /// How far `head` was searched for its end.
    searched: usize,
    pub(super) begin: Begin,
    /// Serial of the exchange that the message belongs to; 0: none that is of interest.
    pub(super) owner: u64,
    /// The last bytes, as far as they are known without a hole.
    tail: Tail,
    /// The last fragment of [`State::Blind`] content seemed to end it.
    pub(super) tail_ends: bool,
    /// What of `head` may be kept, while a recording is made.
    pub(super) mask: Option<Box<HeadMask>>,
    /// [`State::Head`] may turn out to be more of what was [`State::Blind`].
    pub(super) tentative: bool,
}

/// Up to 8 bytes; the last one is in the lowest byte.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    bytes: u64,
    len: u8,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(8)..] {
            self.bytes = self.bytes << 8 | u64::from(byte);
            self.len = (self.len + 1).min(8);
        }
    }
}

impl Half {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            head: Vec::new(),
            searched: 0,
            begin: Begin::default(),
            owner: 0,
            tail: Tail::default(),
            tail_ends: false,
            mask: None,
            tentative: false,
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        self.tentative &= matches!((self.state, state), (State::Start, State::Head));
        self.state = state;
        self.searched = 0;
        self.tail_ends = false;
        self.tail = Tail::default();
    }

    /// Takes note of the bytes a fragment ended with: `captured` ones, or (`None`) of a hole.
    pub(super) fn note_tail(&mut self, captured: Option<&[u8]>) {
        match captured {
            Some(bytes) => self.tail.push(bytes),
            None => self.tail = Tail::default(),
        }
    }

    /// To be called at the end of a fragment.
    pub(super) fn judge_tail(&mut self) {
        let bytes = self.tail.bytes.to_be_bytes();
        self.tail_ends = matches!(self.state, State::Blind)
            && chunked::tail_ends_content(&bytes[8 - usize::from(self.tail.len)..]);
    }

    /// Whether [`Half::head`] has got the empty line that ends it. Linear however many pieces it
    /// comes in.
    pub(super) fn head_is_complete(&mut self) -> bool {
        let from = self.searched.saturating_sub(2);
        let found = memchr::memchr_iter(b'\n', &self.head[from..]).any(|at| {
            let rest = &self.head[from + at + 1..];
            matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..])
        });
        self.searched = self.head.len();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_head_that_comes_byte_by_byte() {
        for head in [&b"GET / HTTP/1.1\r\nA: b\r\n\r\n"[..], b"GET / HTTP/1.1\nA: b\n\n"] {
            let mut half = Half::new(State::Start);
            for (at, &byte) in head.iter().enumerate() {
                half.head.push(byte);
                assert_eq!(half.head_is_complete(), at + 1 == head.len());
            }
        }
    }

    #[test]
    fn the_last_chunk_is_seen_across_fragments_and_forgotten_after_a_hole() {
        let mut half = Half::new(State::Start);
        half.enter(State::Blind);
        half.note_tail(Some(b"abc\r\n"));
        half.note_tail(Some(b"0\r\n\r\n"));
        half.judge_tail();
        assert!(half.tail_ends);
        half.note_tail(None);
        half.note_tail(Some(b"0\r\n\r\n"));
        half.judge_tail();
        assert!(!half.tail_ends);
    }
}
