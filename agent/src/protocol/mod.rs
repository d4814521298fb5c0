//! What the bytes of a protocol mean: pure, total functions on `&[u8]` that never panic, never
//! allocate without bound and know nothing of records, clocks or spans.
//!
//! A protocol of many messages on one connection has a reader for each direction. It is given bytes where they were
//! captured (`next`), told how many were not where they were not (`skip`), and yields [`Next`]. It says which bytes it
//! relied on ([`Keep`]), so that a recording holds those and no others.

pub mod chunked;
pub mod http1;
pub mod http2;
pub mod postgres;
pub mod redis;
#[cfg(any(test, fuzzing))]
pub(crate) mod replay;
pub mod sql;

use std::ops::Range;

/// What a parser can say about the bytes at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T, R> {
    /// The first `used` bytes are a `value`.
    Parsed { value: T, used: usize },
    /// All of the input may be the beginning of one.
    NeedMore,
    /// It is none, however it goes on.
    NotThis(R),
}

/// How sure it is that a connection speaks a protocol whose shape its first bytes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sure {
    /// No other protocol looks like this.
    Yes,
    /// Others do. It is sure if the other side's bytes look like it, too.
    IfAnswered,
}

/// What a reader of one direction of a connection has to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<M> {
    /// A message ended. There may be more of them in the same bytes.
    Message(M),
    /// All bytes were used.
    More,
    /// Where messages begin and end can no longer be told. The reader says nothing else from now on, until its
    /// `restart` says that the next byte begins a message.
    Lost(Unframed),
}

/// Why the framing of a direction was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unframed {
    /// It lies in bytes that were not captured.
    Hole,
    /// The bytes do not follow the protocol.
    Malformed,
}

impl Unframed {
    /// The value of a `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hole => "hole",
            Self::Malformed => "malformed",
        }
    }
}

/// Where a message stands in the bytes that its reader was given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Its first byte; `None` if that came before them.
    pub begin: Option<usize>,
    /// Behind its last byte.
    pub end: usize,
    /// Its length in all, with bytes that were not captured.
    pub len: u64,
}

/// Told by a reader which of the bytes it was given it relied on. A recording zeroes all others, and replays to the
/// same messages. Every byte is told of at most once, while it is read: a recording need not wait for the next ones.
pub trait Keep {
    /// These mean something as they are.
    fn keep(&mut self, range: Range<usize>);
    /// Of these only their number matters, or their kind: `byte` in place of each does as well.
    fn mask(&mut self, range: Range<usize>, byte: u8);
    /// Whether anybody listens.
    fn listens(&self) -> bool {
        true
    }
}

/// For whoever records nothing.
impl Keep for () {
    #[inline]
    fn keep(&mut self, _: Range<usize>) {}
    #[inline]
    fn mask(&mut self, _: Range<usize>, _: u8) {}
    #[inline]
    fn listens(&self) -> bool {
        false
    }
}
