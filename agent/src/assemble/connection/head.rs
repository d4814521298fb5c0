//! Where a head begins and ends in the pieces of a direction, and what becomes of bytes that had to
//! be one and are not, or are not all there.

use remora_common::{policy, record::Direction};

use super::{Begin, Connection, Fragment, Mode, half_mut, half_of};
use crate::{
    accounting::Lost,
    assemble::{Cx, half::State, index, pending::Stage},
    exchange::Sink,
    protocol::{
        Parse,
        http1::{self, NotHttp, Request, Response, Side},
    },
    recording::mask::HeadMask,
};

/// Turns without a recognisable head after which a connection is taken for another protocol.
const MAX_REJECTED_TURNS: u8 = 4;
/// An unfinished head up to this long is parsed at every piece, to notice early that it is none.
const EAGER_HEAD_LEN: usize = 256;

pub(super) enum Head<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
}

impl Connection {
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
        let place = fragment.place;
        let sure = !std::mem::take(&mut fragment.guessed);
        match self.parse(fragment.direction, bytes) {
            Parse::Parsed { value, used } => {
                cx.keep(|kept| {
                    kept.head_bytes(place, &bytes[..used], sure, &mut HeadMask::new());
                });
                self.head_ended(value, used, fragment.begin, fragment, cx);
                Some(empty + used)
            }
            Parse::NotThis(reason) if bytes != b"\r" => {
                self.not_a_head(reason, bytes, fragment, cx);
                None
            }
            Parse::NeedMore | Parse::NotThis(_) => {
                let half = half_mut(&mut self.halves, fragment.direction);
                half.enter(State::Head);
                half.begin = fragment.begin;
                if half.head.capacity() == 0 {
                    half.head = cx.buffer();
                }
                half.head.extend_from_slice(bytes);
                cx.keep(|kept| {
                    let certain = sure && http1::cut_request(bytes).is_some();
                    let mask = half.mask.insert(Box::new(HeadMask::new()));
                    kept.head_bytes(place, bytes, certain, mask);
                });
                if hole_follows && fragment.ended_message {
                    // The hole may hide any number of further messages.
                    self.pipeline_cut(fragment, cx);
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
        let room = max_head_len.saturating_sub(before).min(bytes.len());
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
                Parse::NotThis(reason) => {
                    cx.keep(|kept| kept.junk(place, bytes));
                    self.not_a_head(reason, &head, fragment, cx);
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
        match self.mode {
            Mode::Http { requests } if requests == direction => Some(Side::Request),
            Mode::Http { .. } => Some(Side::Response),
            Mode::Unknown { .. } | Mode::Other => http1::side(bytes),
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
    pub(super) fn head_cut<S: Sink>(&mut self, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
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
    pub(super) fn hole_for_head<S: Sink>(&mut self, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        if fragment.ended_message {
            return self.pipeline_cut(fragment, cx);
        }
        let half = half_mut(&mut self.halves, fragment.direction);
        match self.mode {
            Mode::Unknown { .. } => {
                half.enter(State::Skip { until_other_beyond: None });
                self.reject_turn(&[], fragment, cx);
            }
            Mode::Http { requests } if requests == fragment.direction => {
                half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
                self.missed_request(Lost::HeadCut, cx);
            }
            Mode::Http { .. } => self.unreadable_response(Lost::HeadCut, cx),
            Mode::Other => {}
        }
    }

    /// Messages follow one another within a fragment, and a hole hides where.
    pub(super) fn pipeline_cut<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        self.ask_for_all(cx);
        self.pipelines = true;
        let half = half_mut(&mut self.halves, fragment.direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.owner = 0;
        if fragment.direction == requests {
            half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
            self.missed_request(Lost::PipelineCut, cx);
        } else {
            half.enter(State::Blind);
            let was_open = !self.open.is_empty();
            self.lose_open(Lost::PipelineCut, cx);
            if was_open {
                self.raise_barrier(Lost::PipelineCut);
            }
        }
    }

    pub(super) fn not_a_head<S: Sink>(
        &mut self,
        _reason: NotHttp,
        bytes: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let half = half_mut(&mut self.halves, fragment.direction);
        match self.mode {
            Mode::Unknown { .. } => {
                half.enter(State::Skip { until_other_beyond: None });
                self.reject_turn(bytes, fragment, cx);
            }
            Mode::Http { .. } if half.tentative => {
                half.enter(State::Blind);
                self.content(fragment, bytes.len() as u64);
            }
            Mode::Http { requests } if requests == fragment.direction => {
                half.enter(State::Skip { until_other_beyond: Some(fragment.other_pos) });
                half.owner = 0;
                self.missed_request(Lost::Malformed, cx);
            }
            Mode::Http { .. } => self.unreadable_response(Lost::Malformed, cx),
            Mode::Other => {}
        }
    }

    /// Bytes of a connection whose protocol is not known are not the beginning of a head.
    pub(super) fn reject_turn<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let Mode::Unknown { mut rejected, mut turns } = self.mode else { return };
        if is_tls(bytes) {
            cx.keep(|kept| kept.literal(fragment.place, &bytes[..TLS_HEADER_LEN]));
            return self.become_other(policy::CIPHERTEXT, cx);
        }
        let half = half_of(&self.halves, fragment.direction);
        let at = index(fragment.direction);
        if !rejected[at] || fragment.other_pos > half.other_pos {
            turns += 1;
        }
        rejected[at] = true;
        self.mode = Mode::Unknown { rejected, turns };
        if turns >= MAX_REJECTED_TURNS || (rejected == [true; 2] && !self.info.joined) {
            self.become_other(policy::COUNT, cx);
        }
    }

    /// A request exists of which nothing can be told; its response must not become another's.
    pub(super) fn missed_request<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        cx.lost(0, reason);
        self.uncounted += 1;
        if !self.open.is_empty() || self.pipelines {
            self.raise_barrier(reason);
        }
    }

    /// Something that cannot be read came where a response had to begin.
    pub(super) fn unreadable_response<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let half = half_mut(&mut self.halves, requests.flip());
        half.enter(State::Blind);
        half.owner = 0;
        if self.pipelines && !self.open.is_empty() {
            // Whether this stands for the next response or belongs to the last one cannot be told.
            self.lose_open(reason, cx);
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

/// How many bytes of a record header [`is_tls`] looks at.
const TLS_HEADER_LEN: usize = 3;

/// A TLS record header (RFC 8446 section 5.1): content type 20 to 23, legacy version 3.x.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}
