//! HTTP/1 on a connection: which direction carries requests, which response answers which request, and what
//! the end of the connection means for those that are open.
//!
//! Responses pair with requests in order (RFC 9112 section 9.3.2). That order is only as good as the
//! record stream, so after a hole that may hide a whole message nothing is paired across it. A
//! connection that was never seen to pipeline is taken to take turns: a request that follows the
//! other side's bytes finds nothing outstanding. One that did pipeline is put behind a *barrier*:
//! its exchanges are counted as lost until it was silent for a while.
//!
//! [`half`] says where in a message a direction stands, [`head`] where one begins and ends, [`pairing`] which response
//! answers which request, [`resync`] what holes cost, [`ending`] what ends and silence mean.

use remora_common::{policy, record::Direction};

use super::{
    Cx, Place, index,
    pending::{InProgress, Pending, Queue},
    wire::{Fragment, Noticed},
};
use crate::{
    exchange::{Detail, HttpExchange, Sink},
    protocol::{chunked::Progress, http1::RequestKind},
};

mod describe;
mod ending;
mod half;
mod head;
mod keeping;
mod mask;
mod pairing;
mod resync;

use half::{Half, State};
#[cfg(any(test, fuzzing))]
pub(crate) use mask::HeadMask;

/// An HTTP/1 connection, or one that may become one.
#[derive(Debug)]
pub(super) struct Http1 {
    /// The direction of requests; `None` as long as no head was seen.
    requests: Option<Direction>,
    halves: [Half; 2],
    open: Queue<InHttp>,
    /// A request came while another was not answered.
    pipelines: bool,
    /// Where the first request began that did.
    pipelined_pos: u64,
    /// Position of the responses when nothing was open for the last time.
    settled_pos: u64,
    asked_for_all: bool,
    /// What follows is another protocol.
    is_over: bool,
    /// It is HTTP/2.
    upgraded: Option<Upgraded>,
    /// Bytes that had to begin a head before any was seen, and do not.
    rejected: Option<Vec<u8>>,
    /// What the fragment that begins now was taken for because it looks like a head.
    guessed: bool,
    /// A message ended in the fragment.
    ended_message: bool,
}

/// A request that asked for HTTP/2 (`Upgrade: h2c`, RFC 7540 section 3.2) and is answered in it.
#[derive(Debug)]
pub(super) struct Upgraded {
    pub(super) request: Pending<Box<HttpExchange>>,
    /// Bytes at the end of the piece that come behind the head that agreed.
    pub(super) rest: usize,
}

/// What is kept of an exchange in progress.
#[derive(Debug, Default)]
struct InHttp {
    kind: RequestKind,
    http: Box<HttpExchange>,
}

impl InHttp {
    fn new(http: Box<HttpExchange>) -> Self {
        Self { kind: RequestKind::of(http.method.as_bytes()), http }
    }
}

impl InProgress for InHttp {
    fn settled(&self) -> Self {
        Self { kind: self.kind, http: Box::default() }
    }

    fn join(&mut self, request: Self) {
        self.kind = request.kind;
        let response = std::mem::replace(&mut self.http, request.http);
        self.http.status = response.status;
        self.http.response_content_len = response.response_content_len;
        self.http.response_head_len = response.response_head_len;
        self.http.response_headers = response.response_headers;
    }

    fn into_detail(self) -> Detail {
        Detail::Http(self.http)
    }
}

impl Http1 {
    pub(super) fn new(joined: bool) -> Self {
        let state = if joined { State::SKIP } else { State::Start };
        Self::with([Half::new(state), Half::new(state)])
    }

    /// The directions were at these positions when the connection was first seen.
    pub(super) fn begun_at(positions: [u64; 2]) -> Self {
        Self::with(
            positions.map(|pos| Half::new(if pos == 0 { State::Start } else { State::SKIP })),
        )
    }

    fn with(halves: [Half; 2]) -> Self {
        Self {
            requests: None,
            halves,
            open: Queue::default(),
            pipelines: false,
            pipelined_pos: 0,
            settled_pos: 0,
            asked_for_all: false,
            is_over: false,
            upgraded: None,
            rejected: None,
            guessed: false,
            ended_message: false,
        }
    }

    /// The direction of requests, as soon as a head was seen.
    pub(super) const fn requests(&self) -> Option<Direction> {
        self.requests
    }

    /// What follows is another protocol; captured by this policy.
    pub(super) fn leaves(&self) -> Option<u8> {
        self.is_over.then_some(policy::COUNT)
    }

    /// What follows is HTTP/2.
    pub(super) fn take_upgraded(&mut self) -> Option<Upgraded> {
        self.upgraded.take()
    }

    /// Bytes that had to begin a head before any was seen, and do not.
    pub(super) fn take_rejected(&mut self) -> Option<Vec<u8>> {
        self.rejected.take()
    }

    /// Whether a request waits for its response, or a response for its end.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        matches!(
            half_of(&self.halves, direction).state,
            State::Start | State::Skip { .. } | State::Blind
        )
    }

    pub(super) fn begins<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        self.leave_barrier(fragment, cx);
    }

    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        self.begin_piece(fragment);
        if fragment.is_first {
            let place = fragment.place;
            self.recognise(fragment, bytes, cx);
            fragment.place = place;
        }
        self.note_use(fragment);
        self.captured(bytes, hole_follows, fragment, cx);
        self.end_piece(bytes.len() as u64, fragment, cx);
    }

    pub(super) fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        self.begin_piece(fragment);
        self.note_use(fragment);
        self.not_captured(len, fragment, cx);
        self.end_piece(len, fragment, cx);
    }

    fn begin_piece(&mut self, fragment: &Fragment) {
        if !fragment.used {
            (self.guessed, self.ended_message) = (false, false);
        }
    }

    fn note_use(&self, fragment: &mut Fragment) {
        fragment.used |=
            !matches!(half_of(&self.halves, fragment.direction).state, State::Skip { .. });
    }

    fn end_piece<S: Sink>(&mut self, len: u64, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let half = half_mut(&mut self.halves, fragment.direction);
        if fragment.at + len == fragment.end && half.state == State::Blind {
            half.judge_tail();
            if half.tail_ends {
                cx.wire.make_due(fragment.mono_ns, cx.shared);
            }
        }
    }

    fn captured<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let mut rest = bytes;
        let begin = fragment.place;
        while !rest.is_empty() && !self.is_over {
            let place = begin.plus(bytes.len() - rest.len());
            fragment.place = place;
            let half = half_mut(&mut self.halves, fragment.direction);
            match half.state {
                State::Start => match self.first_of_head(rest, hole_follows, fragment, cx) {
                    Some(used) => rest = &rest[used..],
                    None => return,
                },
                State::Head => match self.more_of_head(rest, fragment, cx) {
                    Some(used) => rest = &rest[used..],
                    None => return,
                },
                State::Length(left) => {
                    let step = usize::try_from(left).map_or(rest.len(), |l| l.min(rest.len()));
                    rest = &rest[step..];
                    self.length(left, step as u64, fragment, cx);
                }
                State::Chunked(mut chunked) => {
                    cx.keep(|kept| kept.framing(place, rest, chunked));
                    let before = chunked.content_len();
                    let progress = chunked.feed(rest);
                    let decoded = chunked.content_len() - before;
                    match progress {
                        Progress::More => {
                            half.state = State::Chunked(chunked);
                            self.content(fragment, decoded);
                            return;
                        }
                        Progress::Done(used) => {
                            rest = &rest[used..];
                            self.content(fragment, decoded);
                            self.message_ended(fragment, cx);
                        }
                        // All of the piece is counted as content that nobody decodes.
                        Progress::Invalid | Progress::Blind => {
                            half.enter(State::Blind);
                        }
                    }
                }
                State::Blind => {
                    cx.keep(|kept| kept.end_of_content(place, rest));
                    half.note_tail(Some(rest));
                    self.content(fragment, rest.len() as u64);
                    return;
                }
                State::UntilClose => {
                    self.content(fragment, rest.len() as u64);
                    return;
                }
                State::Skip { .. } | State::Ended => return,
            }
        }
        if let Some(upgraded) = &mut self.upgraded {
            upgraded.rest = rest.len();
        }
    }

    /// `len` bytes that were counted and not captured.
    fn not_captured<S: Sink>(&mut self, len: u64, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let half = half_mut(&mut self.halves, fragment.direction);
        match half.state {
            State::Start => self.hole_for_head(fragment, cx),
            State::Head => self.head_cut(fragment, cx),
            State::Length(left) => {
                let step = left.min(len);
                self.length(left, step, fragment, cx);
                if len > step && !self.is_over {
                    self.not_captured(len - step, fragment, cx);
                }
            }
            State::Chunked(mut chunked) => {
                let before = chunked.content_len();
                let progress = chunked.skip(len);
                if progress == Progress::More {
                    half.state = State::Chunked(chunked);
                    self.content(fragment, chunked.content_len() - before);
                } else {
                    half.enter(State::Blind);
                    self.content(fragment, len);
                }
            }
            State::Blind => {
                half.note_tail(None);
                self.content(fragment, len);
            }
            State::UntilClose => self.content(fragment, len),
            State::Skip { .. } | State::Ended => {}
        }
    }

    fn length<S: Sink>(&mut self, left: u64, step: u64, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        self.content(fragment, step);
        if step == left {
            self.message_ended(fragment, cx);
        } else {
            half_mut(&mut self.halves, fragment.direction).state = State::Length(left - step);
        }
    }

    /// `len` bytes of content were moved.
    fn content(&mut self, fragment: &Fragment, len: u64) {
        let is_request = self.carries_requests(fragment.direction);
        let half = half_of(&self.halves, fragment.direction);
        let (owner, blind) = (half.owner, half.state == State::Blind);
        let Some(pending) = self.open.find(owner) else { return };
        let marks = &mut pending.marks;
        let http = &mut pending.detail.http;
        // Behind a cut head the rest of the head cannot be told from content: neither is counted.
        let (content_len, cut, estimated) = if is_request {
            let content_len = &mut http.request_content_len;
            (content_len, marks.request_head_cut, &mut marks.request_size_estimated)
        } else {
            pending.end_ns = fragment.mono_ns;
            let content_len = &mut http.response_content_len;
            (content_len, marks.response_head_cut, &mut marks.response_size_estimated)
        };
        if !cut {
            *content_len = content_len.saturating_add(len);
            *estimated |= blind && len > 0;
        }
    }

    fn carries_requests(&self, direction: Direction) -> bool {
        self.requests == Some(direction)
    }

    fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if !self.asked_for_all {
            self.asked_for_all = true;
            cx.capture(policy::ALL);
        }
    }

    /// Bytes of heads that wait for more.
    pub(super) fn heads_len(&self) -> usize {
        self.halves.iter().map(|half| half.head.len()).sum()
    }

    /// Gives the buffers of unfinished heads back.
    fn recycle_heads<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for half in &mut self.halves {
            cx.recycle(std::mem::take(&mut half.head));
        }
    }
}

fn half_of(halves: &[Half; 2], direction: Direction) -> &Half {
    &halves[index(direction)]
}

fn half_mut(halves: &mut [Half; 2], direction: Direction) -> &mut Half {
    &mut halves[index(direction)]
}
