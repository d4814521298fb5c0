//! The few words of replies that are read: codes of errors, and what tells something of the connection.

use crate::protocol::Keep;

/// Bytes of an error's code that are held. The longest of Redis has 11.
const MAX_LEN: usize = 24;

/// A word that tells something of the connection: a simple string, or the first element of an array or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Ok,
    /// The command waits for `EXEC`.
    Queued,
    Pong,
    FullResync,
    Continue,
    Subscribe,
    Unsubscribe,
    PatternSubscribe,
    PatternUnsubscribe,
    ShardSubscribe,
    ShardUnsubscribe,
    Message,
    PatternMessage,
    ShardMessage,
    Invalidate,
}

const WORDS: &[(&[u8], Word)] = &[
    (b"OK", Word::Ok),
    (b"QUEUED", Word::Queued),
    (b"PONG", Word::Pong),
    (b"pong", Word::Pong),
    (b"FULLRESYNC", Word::FullResync),
    (b"CONTINUE", Word::Continue),
    (b"subscribe", Word::Subscribe),
    (b"unsubscribe", Word::Unsubscribe),
    (b"psubscribe", Word::PatternSubscribe),
    (b"punsubscribe", Word::PatternUnsubscribe),
    (b"ssubscribe", Word::ShardSubscribe),
    (b"sunsubscribe", Word::ShardUnsubscribe),
    (b"message", Word::Message),
    (b"pmessage", Word::PatternMessage),
    (b"smessage", Word::ShardMessage),
    (b"invalidate", Word::Invalidate),
];

impl Word {
    fn of(bytes: &[u8]) -> Option<Self> {
        WORDS.iter().find(|(word, _)| *word == bytes).map(|(_, word)| *word)
    }

    fn begins(bytes: &[u8]) -> bool {
        WORDS.iter().any(|(word, _)| word.starts_with(bytes))
    }

    /// Whether a server sends it by itself where it stands first.
    #[must_use]
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::PatternMessage | Self::ShardMessage | Self::Invalidate)
    }

    /// Whether it answers [`super::Kind::Subscription`], once for each channel.
    #[must_use]
    pub const fn is_subscription(self) -> bool {
        matches!(
            self,
            Self::Subscribe
                | Self::Unsubscribe
                | Self::PatternSubscribe
                | Self::PatternUnsubscribe
                | Self::ShardSubscribe
                | Self::ShardUnsubscribe
        )
    }
}

/// The code of an error: `WRONGTYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Code {
    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// What a text is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Wanted {
    #[default]
    Nothing,
    /// One of [`Word`], up to a space.
    Word,
    /// One of [`Word`], and nothing else.
    WholeWord,
    /// An error's code, up to a space.
    Code,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Word(Word),
    Code(Code),
}

/// A text in progress, as long as it may become what is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text {
    wanted: Wanted,
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Text {
    pub(super) fn begin(&mut self, wanted: Wanted) {
        (self.wanted, self.len) = (wanted, 0);
    }

    /// More of it, which stands at `at` in what `keep` is told of. Not to be called without need.
    pub(super) fn bytes(&mut self, bytes: &[u8], at: usize, keep: &mut impl Keep) -> Found {
        for (&byte, at) in bytes.iter().zip(at..) {
            if self.wanted == Wanted::Nothing {
                break;
            }
            let len = usize::from(self.len);
            if byte == b' ' && len > 0 && self.wanted != Wanted::WholeWord {
                keep.keep(at..at + 1);
                return self.end();
            }
            let fits = len < MAX_LEN && {
                self.bytes[len] = byte;
                match self.wanted {
                    Wanted::Word | Wanted::WholeWord => Word::begins(&self.bytes[..=len]),
                    _ => byte.is_ascii_uppercase() || len > 0 && is_code(byte),
                }
            };
            if !fits {
                self.wanted = Wanted::Nothing;
                break;
            }
            self.len += 1;
            keep.keep(at..at + 1);
        }
        Found::Nothing
    }

    /// It has ended, or its first word has.
    pub(super) fn end(&mut self) -> Found {
        let bytes = &self.bytes[..usize::from(self.len)];
        match std::mem::take(&mut self.wanted) {
            Wanted::Word | Wanted::WholeWord => Word::of(bytes).map_or(Found::Nothing, Found::Word),
            Wanted::Code if self.len > 0 => Found::Code(Code { bytes: self.bytes, len: self.len }),
            Wanted::Code | Wanted::Nothing => Found::Nothing,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted != Wanted::Nothing
    }
}

const fn is_code(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-')
}
