//! What the frames of one direction tell.

use super::fields::Fields;

/// What happened.
#[derive(Debug)]
pub enum Message<'a> {
    Head(Head<'a>),
    /// `len` bytes of content were moved, without padding; `ended`: they were the last ones of the message.
    Content {
        stream: u32,
        len: u64,
        ended: bool,
    },
    /// `RST_STREAM`; `None`: its code was not captured.
    Reset {
        stream: u32,
        code: Option<u32>,
    },
    /// `GOAWAY`; `None`: not captured.
    GoAway {
        last_stream: Option<u32>,
        code: Option<u32>,
    },
}

/// A header block: the head of a message, an interim response, or trailers.
#[derive(Debug)]
pub struct Head<'a> {
    pub stream: u32,
    /// The message ends with it.
    pub ends_stream: bool,
    /// The server promises to answer a request that nobody has made.
    pub promised: bool,
    pub fields: &'a Fields,
    /// Its bytes, in all frames.
    pub len: u64,
    /// Its frame began in the bytes that were given last.
    pub began_here: bool,
    /// It was no header block.
    pub malformed: bool,
}
