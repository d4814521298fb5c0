//! Where a head begins and ends in the pieces of a direction, and what becomes of bytes that had to
//! be one and are not, or are not all there.

use remora_common::record::Direction;

use super::{Fragment, Http1, half::State, half_mut, mask::HeadMask};
use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        pending::{Begin, Stage},
    },
    exchange::Sink,
    protocol::{
        Parse,
        http1::{self, NotHttp, Request, Response, Side},
    },
};

/// An unfinished head up to this long is parsed at every piece, to notice early that it is none.
const EAGER_HEAD_LEN: usize = 256;

pub(super) enum Head<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
}

impl Http1 {
    /// A head begins. How many bytes were used, `None` if the rest of the piece is of no use.
    pub(super) fn first_of_head<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Option<usize> {
        let empty = http1::empty_lines(bytes);
        cx.keep(|kept| kept.literal(fragment.place, &bytes[..empty]));
        let bytes = &bytes[empty..];
        if bytes.is_empty() {
            return Some(empty);
        }
        fragment.place = fragment.place.plus(empty);
        let (place, begin) = (fragment.place, fragment.begin_here());
        let sure = !std::mem::take(&mut self.guessed);
        match self.parse(fragment.direction, bytes) {
            Parse::Parsed { value, used } => {
                cx.keep(|kept| {
                    kept.head_bytes(place, &bytes[..used], sure, &mut HeadMask::new());
                });
                self.head_ended(value, used, begin, fragment, cx);
                Some(empty + used)
            }
            Parse::NotThis(_) if bytes != b"\r" => {
                self.not_a_head(bytes, fragment, cx);
                None
            }
            Parse::NeedMore | Parse::NotThis(_) => {
                let half = half_mut(&mut self.halves, fragment.direction);
                half.enter(State::Head);
                half.begin = begin;
                if half.head.capacity() == 0 {
                    half.head = cx.buffer();
                }
                half.head.extend_from_slice(bytes);
                let room = cx.room_for_head(bytes.len());
                let is_whole = room == bytes.len();
                cx.shared.heads_len += bytes.len() - room; // until it is cut below
                cx.keep(|kept| {
                    let certain = sure && http1::cut_request(bytes).is_some();
                    let mask = half.mask.insert(Box::new(HeadMask::new()));
                    kept.head_bytes(place, bytes, certain, mask);
                });
                if hole_follows && self.ended_message {
                    // The hole may hide any number of further messages.
                    self.pipeline_cut(fragment, cx);
                } else if !is_whole {
                    self.head_cut(fragment, cx);
                }
                None
            }
        }
    }

    /// A head goes on. As [`Self::first_of_head`].
    pub(super) fn more_of_head<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Option<usize> {
        let max_head_len = cx.shared.limits.max_head_len;
        let half = half_mut(&mut self.halves, fragment.direction);
        let mut before = half.head.len();
        let room = cx.room_for_head(max_head_len.saturating_sub(before).min(bytes.len()));
        half.head.extend_from_slice(&bytes[..room]);
        let place = fragment.place;
        let mask = half.mask.take();
        let keep = |cx: &mut Cx<'_, S>, len: usize| {
            let mut mask = mask?;
            cx.keep(|kept| kept.head_bytes(place, &bytes[..len], false, &mut mask));
            Some(mask)
        };
        let empty = if before == 1 { http1::empty_lines(&half.head) } else { 0 };
        if empty > 0 {
            // What was kept was the first half of an empty line before the message.
            half.head.drain(..empty);
            cx.shared.heads_len = cx.shared.heads_len.saturating_sub(empty);
            half.begin = fragment.begin;
            if half.head.is_empty() {
                cx.recycle(std::mem::take(&mut half.head));
                half.enter(State::Start);
                keep(cx, empty - before);
                return Some(empty - before);
            }
        }
        if half.head_is_complete() || half.head.len() <= EAGER_HEAD_LEN {
            let begin = half.begin;
            let head = std::mem::take(&mut half.head);
            match self.parse(fragment.direction, &head) {
                Parse::Parsed { value, used } => {
                    half_mut(&mut self.halves, fragment.direction).enter(State::Start);
                    self.head_ended(value, used, begin, fragment, cx);
                    before = before.min(used + empty);
                    cx.recycle(head);
                    keep(cx, used + empty - before);
                    return Some(used + empty - before);
                }
                Parse::NotThis(_) => {
                    cx.keep(|kept| kept.junk(place, bytes));
                    self.not_a_head(&head, fragment, cx);
                    cx.recycle(head);
                    return None;
                }
                Parse::NeedMore => half_mut(&mut self.halves, fragment.direction).head = head,
            }
        }
        half_mut(&mut self.halves, fragment.direction).mask = keep(cx, room);
        if room < bytes.len() {
            self.head_cut(fragment, cx);
            self.content(fragment, (bytes.len() - room) as u64);
        }
        None
    }

    pub(super) fn parse<'a>(
        &self,
        direction: Direction,
        bytes: &'a [u8],
    ) -> Parse<Head<'a>, NotHttp> {
        match self.side(direction, bytes) {
            Some(Side::Request) => match http1::request(bytes) {
                Parse::Parsed { value, used } => {
                    Parse::Parsed { value: Head::Request(value), used }
                }
                Parse::NeedMore => Parse::NeedMore,
                Parse::NotThis(reason) => Parse::NotThis(reason),
            },
            Some(Side::Response) => match http1::response(bytes) {
                Parse::Parsed { value, used } => {
                    Parse::Parsed { value: Head::Response(value), used }
                }
                Parse::NeedMore => Parse::NeedMore,
                Parse::NotThis(reason) => Parse::NotThis(reason),
            },
            None => Parse::NeedMore,
        }
    }

    /// Which kind of message a head in `direction` that begins with `bytes` would be.
    pub(super) fn side(&self, direction: Direction, bytes: &[u8]) -> Option<Side> {
        match self.requests {
            Some(requests) if requests == direction => Some(Side::Request),
            Some(_) => Some(Side::Response),
            None => http1::side(bytes),
        }
    }

    pub(super) fn head_ended<S: Sink>(
        &mut self,
        head: Head<'_>,
        len: usize,
        begin: Begin,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        match head {
            Head::Request(request) => {
                self.request(&request, len, false, begin, fragment, cx);
            }
            Head::Response(response) => {
                self.response(&response, len, false, begin, fragment, cx);
            }
        }
    }

    /// A head is longer than what was captured of it, or than what is put together.
    pub(super) fn head_cut<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let half = half_mut(&mut self.halves, fragment.direction);
        let begin = half.begin;
        let head = std::mem::take(&mut half.head);
        half.enter(State::Start);
        match self.side(fragment.direction, &head) {
            Some(Side::Request) => match http1::cut_request(&head) {
                Some(request) => self.request(&request, head.len(), true, begin, fragment, cx),
                None => self.hole_for_head(fragment, cx),
            },
            Some(Side::Response) => match http1::cut_response(&head) {
                Some(response) => self.response(&response, head.len(), true, begin, fragment, cx),
                None => self.hole_for_head(fragment, cx),
            },
            None => self.hole_for_head(fragment, cx),
        }
        cx.recycle(head);
    }

    /// The bytes that begin a message were not captured.
    pub(super) fn hole_for_head<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        if self.ended_message {
            return self.pipeline_cut(fragment, cx);
        }
        let half = half_mut(&mut self.halves, fragment.direction);
        match self.requests {
            None => {
                half.enter(State::SKIP);
                self.rejected = Some(Vec::new());
            }
            Some(requests) if requests == fragment.direction => {
                half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
                self.missed_request(Lost::HeadCut, cx);
            }
            Some(_) => self.unreadable_response(Lost::HeadCut, cx),
        }
    }

    /// Messages follow one another within a fragment, and a hole hides where.
    pub(super) fn pipeline_cut<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        self.ask_for_all(cx);
        self.pipelines = true;
        self.finish_answered(cx);
        let half = half_mut(&mut self.halves, fragment.direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.owner = 0;
        if fragment.direction == requests {
            half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
            self.missed_request(Lost::PipelineCut, cx);
        } else {
            half.enter(State::Blind);
            let was_open = !self.open.is_empty();
            self.open.lose_all(Lost::PipelineCut, cx);
            if was_open {
                self.raise_barrier(Lost::PipelineCut);
            }
        }
    }

    pub(super) fn not_a_head<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let half = half_mut(&mut self.halves, fragment.direction);
        match self.requests {
            None => {
                half.enter(State::SKIP);
                self.rejected = Some(bytes.to_vec());
            }
            Some(_) if half.tentative => {
                half.enter(State::Blind);
                self.content(fragment, bytes.len() as u64);
            }
            Some(requests) if requests == fragment.direction => {
                half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
                half.owner = 0;
                self.missed_request(Lost::Malformed, cx);
            }
            Some(_) => self.unreadable_response(Lost::Malformed, cx),
        }
    }

    /// A request exists of which nothing can be told; its response must not become another's.
    pub(super) fn missed_request<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        cx.lost(0, reason);
        self.open.uncounted += 1;
        if !self.open.is_empty() || self.pipelines {
            self.raise_barrier(reason);
        }
    }

    /// Something that cannot be read came where a response had to begin.
    pub(super) fn unreadable_response<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        self.finish_answered(cx);
        let half = half_mut(&mut self.halves, requests.flip());
        half.enter(State::Blind);
        half.owner = 0;
        if self.pipelines && !self.open.is_empty() {
            // Whether this stands for the next response or belongs to the last one cannot be told.
            self.open.lose_all(reason, cx);
            return self.raise_barrier(reason);
        }
        let Some(front) = self.open.front_mut() else { return };
        if front.stage == Stage::Open {
            cx.lost(front.settle().serial, reason);
        }
        front.answered = true;
        half.owner = front.serial;
    }
}
