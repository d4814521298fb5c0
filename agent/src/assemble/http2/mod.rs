//! HTTP/2 on a connection: which frames belong to which exchange, and what holes cost.
//!
//! Streams have numbers, so the order of the two directions does not matter and nothing is ever paired wrongly. A hole
//! within content costs nothing. One that may hide frames leaves it unknown where the next one begins, until a fragment
//! begins with one, and the table of header fields of that direction ([`crate::protocol::http2`]). If it was the server's
//! direction, ends of responses may be in it: what was open is lost. If it was the client's, exchanges go on, and the
//! numbers of later streams tell how many requests were missed.
//!
//! [`streams`] knows what is open, [`in_stream`] what is kept of an exchange.

use remora_common::{frames::HTTP2_ROW, policy, record::Direction};

use super::{
    Cx,
    conversation::Ended,
    index,
    kept::Keeping,
    pending::{Begin, Pending},
    wire::{Fragment, Noticed},
};
use crate::{
    accounting::Lost,
    exchange::{HttpExchange, Sink},
    protocol::{
        Next, Unframed,
        http2::{Message, Reader, frames, keep_heads},
    },
};

mod in_stream;
mod streams;

use streams::Streams;

/// How connections are captured that may carry much content. The kernel side begins so at the preface.
const FRAMES: u8 = policy::FRAMES + HTTP2_ROW;
/// And those of which content is short: to copy it costs less than to walk over frames.
const WHOLE: u8 = policy::ALL;
/// Content in one piece is long from so many bytes on.
const LONG: u64 = 1024;
/// Content is taken to be short where none was long until so many heads have come. Where it was once, frames are walked over to
/// the end: to find where they begin takes a quiet moment.
const SHORT_AFTER: u8 = 200;
/// Losses by malformed frames or blocks, without a good block between, after which a connection is another protocol's.
const MAX_MALFORMED: u8 = 4;

/// One direction.
#[derive(Debug)]
struct Half {
    reader: Reader,
    /// Where the next frame begins is not known.
    lost: bool,
    /// When the frame or the block in progress began.
    begun: Begin,
}

/// A connection of HTTP/2.
#[derive(Debug)]
pub(super) struct Http2 {
    /// The direction of requests.
    requests: Direction,
    halves: [Half; 2],
    streams: Streams,
    malformed: u8,
    /// Heads so far, and whether content was long.
    heads: u8,
    has_long: bool,
    leaves: Option<u8>,
}

/// How a connection was found to speak it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// By the client's first bytes.
    Preface,
    /// By frames, in mid-stream.
    Frames,
    /// The server has agreed to change to it; what it sends from here on are frames, and the client's next bytes are
    /// the preface.
    Upgrade,
}

impl Http2 {
    pub(super) fn begin<S: Sink>(
        requests: Direction,
        beginning: Beginning,
        cx: &mut Cx<'_, S>,
    ) -> Self {
        cx.capture(FRAMES);
        let begins = beginning != Beginning::Frames;
        let half = |direction: Direction| {
            let preface = begins && direction == requests;
            // Of a server that spoke first the settings may have been missed, but no header block.
            let reader = Reader::new(preface, begins, cx.shared.limits.max_head_len);
            let lost = match beginning {
                Beginning::Upgrade => false,
                Beginning::Preface => direction != requests && cx.wire.flow(direction).pos > 0,
                Beginning::Frames => true,
            };
            Half { reader, lost, begun: Begin::default() }
        };
        Self {
            requests,
            halves: [half(Direction::Rx), half(Direction::Tx)],
            streams: Streams::new(requests, begins),
            malformed: 0,
            heads: 0,
            has_long: false,
            leaves: None,
        }
    }

    /// The request that asked for the change is answered on the first stream.
    pub(super) fn upgraded(&mut self, request: Pending<Box<HttpExchange>>) {
        self.streams.upgraded(request);
    }

    /// What follows is none of it; captured by this policy.
    pub(super) const fn leaves(&self) -> Option<u8> {
        self.leaves
    }

    /// The exchange of an open stream, if it was announced.
    pub(super) fn serial_of(&self, stream: u32) -> Option<u64> {
        self.streams.serial_of(stream)
    }

    pub(super) fn has_open(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Both directions move at once, so one says nothing of what is missing in the other.
    #[expect(clippy::unused_self, reason = "asked of every protocol")]
    pub(super) const fn is_between_messages(&self, _: Direction) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "asked of every protocol")]
    pub(super) const fn begins<S: Sink>(&self, _: &Fragment, _: &Cx<'_, S>) {}

    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        _hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let half = &mut self.halves[index(fragment.direction)];
        let begins_frame = fragment.begins_frame && fragment.at == fragment.pos;
        if half.lost || half.reader.is_passed() {
            let is_found = begins_frame || fragment.is_first && frames(bytes).is_some();
            if !is_found {
                half.lost = true;
                return self.pass_unread(fragment.direction, fragment.end, Lost::PipelineCut, cx);
            }
            half.lost = false;
            half.reader.restart(false);
            if !begins_frame {
                keep_heads(bytes, &mut Keeping::of(&mut cx.shared.kept, fragment.place, bytes));
            }
        }
        fragment.used = true;
        half.reader.next_piece();
        let mut used = 0;
        while self.leaves.is_none() {
            let half = &mut self.halves[index(fragment.direction)];
            let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, bytes);
            match half.reader.next(bytes, &mut used, &mut keep) {
                Next::Message(message) => {
                    let (streams, begun) = (&mut self.streams, half.begun);
                    let malformed = told(&message, streams, self.requests, begun, fragment, cx);
                    let len = content(&message);
                    self.note(malformed, cx);
                    self.choose(len, cx);
                }
                Next::More => break,
                Next::Lost(why) => {
                    return self.lose(fragment.direction, fragment.end, lost(why), cx);
                }
            }
        }
        let half = &mut self.halves[index(fragment.direction)];
        if half.reader.is_open() && half.reader.began_here() {
            half.begun = fragment.begin;
        }
    }

    pub(super) fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        let half = &mut self.halves[index(fragment.direction)];
        fragment.used |= !half.lost;
        if fragment.walked && !half.lost {
            half.reader.next_piece();
            if let Next::Message(message) = half.reader.step_over(len) {
                told(&message, &mut self.streams, self.requests, half.begun, fragment, cx);
                let len = content(&message);
                self.choose(len, cx);
            }
            return;
        }
        let until = fragment.at + len;
        self.skip((len, until), Lost::PipelineCut, fragment.direction, fragment, cx);
    }

    pub(super) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        _: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        let len = cx.wire.jump(direction, to, cx.shared);
        self.streams.mark_gap();
        self.skip((len, to), Lost::Gap, direction, fragment, cx);
    }

    /// `len` bytes of `direction`, `until` that position, were not captured.
    fn skip<S: Sink>(
        &mut self,
        (len, until): (u64, u64),
        reason: Lost,
        direction: Direction,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let half = &mut self.halves[index(direction)];
        if half.lost {
            return self.pass_unread(direction, until, reason, cx);
        }
        let begun = half.begun;
        let fragment = Fragment { direction, ..*fragment };
        half.reader.next_piece();
        let hidden = match half.reader.skip(len) {
            Next::Message(message) => {
                told(&message, &mut self.streams, self.requests, begun, &fragment, cx);
                matches!(half.reader.skip(0), Next::Lost(_))
            }
            Next::More => false,
            Next::Lost(_) => true,
        };
        if hidden {
            self.lose(direction, until, reason, cx);
        }
    }

    /// Frames may have been missed, `until` this position.
    fn lose<S: Sink>(
        &mut self,
        direction: Direction,
        until: u64,
        reason: Lost,
        cx: &mut Cx<'_, S>,
    ) {
        self.halves[index(direction)].lost = true;
        self.pass_unread(direction, until, reason, cx);
        if reason == Lost::Malformed {
            self.note(Some(true), cx);
        }
    }

    /// What comes until this position is not read: frames of any kind may be in it.
    fn pass_unread<S: Sink>(
        &mut self,
        direction: Direction,
        until: u64,
        reason: Lost,
        cx: &mut Cx<'_, S>,
    ) {
        self.halves[index(direction)].reader.restart(true);
        if direction == self.requests {
            self.streams.requests_missed();
        } else {
            self.streams.responses_missed(until, reason, cx);
        }
    }

    /// Says how the connection is captured from here on, where so much content has come, or something else.
    fn choose<S: Sink>(&mut self, content: Option<u64>, cx: &mut Cx<'_, S>) {
        if self.has_long {
            return;
        }
        match content {
            Some(len) if len > LONG => {
                self.has_long = true;
                if self.heads >= SHORT_AFTER {
                    cx.capture(FRAMES);
                }
            }
            Some(_) => {}
            None => {
                self.heads = self.heads.saturating_add(1);
                if self.heads == SHORT_AFTER {
                    cx.capture(WHOLE);
                }
            }
        }
    }

    /// Whether something was malformed; `None`: that cannot be told.
    fn note<S: Sink>(&mut self, malformed: Option<bool>, cx: &mut Cx<'_, S>) {
        match malformed {
            Some(true) => self.malformed += 1,
            Some(false) => self.malformed = 0,
            None => {}
        }
        if self.malformed >= MAX_MALFORMED {
            self.streams.lose_all(Lost::Malformed, cx);
            self.leaves = Some(policy::COUNT);
        }
    }

    pub(super) fn ended<S: Sink>(&mut self, how: Ended, mono_ns: u64, cx: &mut Cx<'_, S>) {
        match how {
            Ended::Direction(direction) if direction == self.requests => {}
            Ended::Direction(_) | Ended::Connection => self.streams.fail_all(mono_ns, cx),
            Ended::Forgotten(why) => self.streams.lose_all(why, cx),
            Ended::Stopped => self.streams.lose_all(Lost::Stopped, cx),
            Ended::Replaced => self.streams.lose_all(Lost::Malformed, cx),
        }
    }

    /// Silence ends nothing.
    #[expect(clippy::unused_self, reason = "asked of every protocol")]
    pub(super) const fn sweep<S: Sink>(&self, _: u64, _: &Cx<'_, S>) {}

    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.streams.due(mono_ns, cx);
    }
}

/// Something has come; whether a header block was malformed. `begun`: when what goes on from an earlier piece began.
fn told<S: Sink>(
    message: &Message<'_>,
    streams: &mut Streams,
    requests: Direction,
    begun: Begin,
    fragment: &Fragment,
    cx: &mut Cx<'_, S>,
) -> Option<bool> {
    let asks = fragment.direction == requests;
    match *message {
        Message::Head(ref head) => {
            let begin = if head.began_here { fragment.begin } else { begun };
            match asks {
                _ if head.promised => {}
                true => streams.request(head, begin, fragment, cx),
                false => streams.response(head, begin, fragment, cx),
            }
            return Some(head.malformed);
        }
        Message::Content { stream, len, .. } if asks => {
            streams.request_content(stream, len);
        }
        Message::Content { stream, len, ended } => {
            streams.response_content(stream, (len, ended), fragment, cx);
        }
        Message::Reset { stream, code } => streams.reset(stream, code, fragment, cx),
        Message::GoAway { last_stream: Some(last), code } if !asks => {
            streams.going_away(last, code, fragment, cx);
        }
        Message::GoAway { .. } => {}
    }
    None
}

/// How much content it tells of.
const fn content(message: &Message<'_>) -> Option<u64> {
    match *message {
        Message::Content { len, .. } => Some(len),
        _ => None,
    }
}

const fn lost(why: Unframed) -> Lost {
    match why {
        Unframed::Hole => Lost::PipelineCut,
        Unframed::Malformed => Lost::Malformed,
    }
}
