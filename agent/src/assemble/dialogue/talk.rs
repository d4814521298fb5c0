//! What a protocol says of itself to be a [`super::Dialogue`]: how its messages are read, and what they mean.

use std::fmt::Debug;

use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        kept::Keeping,
        pending::{Begin, InProgress, Queue},
        wire::Fragment,
    },
    exchange::Sink,
    protocol::{Next, Place},
};

/// Reads the messages of one direction.
pub(in crate::assemble) trait Reader: Debug {
    type Message<'a>
    where
        Self: 'a;

    /// Goes on by what `bytes` hold from `used` on, up to the end of a message.
    fn next<'a>(
        &'a mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut Keeping<'_>,
    ) -> Next<Self::Message<'a>>;

    /// Goes on by `len` bytes that were not captured.
    fn skip(&mut self, len: u64) -> Next<Self::Message<'_>>;

    /// Where a message stands.
    fn place(message: &Self::Message<'_>) -> Place;

    /// The next byte begins a message.
    fn restart(&mut self);

    /// Whether a message has begun that has not ended.
    fn is_open(&self) -> bool;

    /// Where in the bytes that came last the message began that is open.
    fn began(&self) -> Option<usize>;
}

/// A protocol's reader, whose own methods have these names, as a [`Reader`]; `$place` says where a message stands.
macro_rules! reader {
    ($reader:ty, $message:ty, $place:expr) => {
        impl $crate::assemble::dialogue::Reader for $reader {
            type Message<'a> = $message;

            fn next<'a>(
                &'a mut self,
                bytes: &[u8],
                used: &mut usize,
                keep: &mut $crate::assemble::kept::Keeping<'_>,
            ) -> $crate::protocol::Next<Self::Message<'a>> {
                self.next(bytes, used, keep)
            }

            fn skip(&mut self, len: u64) -> $crate::protocol::Next<Self::Message<'_>> {
                self.skip(len)
            }

            fn place(message: &Self::Message<'_>) -> $crate::protocol::Place {
                $place(message)
            }

            fn restart(&mut self) {
                self.restart();
            }

            fn is_open(&self) -> bool {
                self.is_open()
            }

            fn began(&self) -> Option<usize> {
                self.began()
            }
        }
    };
}
pub(in crate::assemble) use reader;

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::assemble) enum Then {
    GoOn,
    /// What comes behind it is no conversation of this protocol; captured by this policy.
    Leave(u8),
}

/// What messages mean.
pub(in crate::assemble) trait Talk: Debug {
    type Requests: Reader;
    type Replies: Reader;
    type InProgress: InProgress;

    /// Whether a request begins with `bytes`.
    fn begins_request(bytes: &[u8]) -> bool;

    /// A request is whole: it began at `begin` and ends in `fragment`.
    fn request<S: Sink>(
        &mut self,
        request: <Self::Requests as Reader>::Message<'_>,
        replies: &mut Self::Replies,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then;

    /// A message of the other side is whole.
    fn reply<S: Sink>(
        &mut self,
        reply: <Self::Replies as Reader>::Message<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then;

    /// Bytes of the other side come that are no messages, for what was requested last changes that: takes them.
    fn other_bytes<S: Sink>(&mut self, _: &Fragment, _: &mut Cx<'_, S>) -> Option<Then> {
        None
    }

    /// Every byte is needed: requests come many at a time.
    fn wants_all(&self) -> bool {
        false
    }

    /// Whether exactly one answer is awaited.
    fn awaits_one(&self) -> bool;

    /// Whether messages of that answer have come.
    fn is_answering(&self) -> bool;

    /// Bytes of an answer moved whose end is not seen; `false`: it is nobody's.
    fn answer_goes_on(&mut self, fragment: &Fragment) -> bool;

    /// Whether `tail`, the last bytes of an answer so far, end it; and how many of them say so, or may be the beginning
    /// of what does.
    fn ends_answer(&mut self, _tail: &[u8]) -> (bool, usize) {
        (false, 0)
    }

    /// The answer whose end was not seen is over; `inferred`: only silence says so.
    fn end_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>);

    /// Requests were sent while others were not answered.
    fn multiplexes(&self) -> bool;

    /// Framing of requests is lost, and nothing with it: what comes from the client is more of what is open.
    fn absorbs_loss(&mut self, _reason: Lost) -> bool {
        false
    }

    /// What is open is over when the next turn begins, and not before.
    fn is_unbounded(&self) -> bool {
        false
    }

    /// Whether what was lost is not among the requests that are open.
    fn misses_more(&self) -> bool;

    /// What is open.
    fn queue(&self) -> &Queue<Self::InProgress>;

    fn queue_mut(&mut self) -> &mut Queue<Self::InProgress>;

    /// Nothing is open any more; `turn`: nor outstanding.
    fn emptied(&mut self, turn: bool);
}
