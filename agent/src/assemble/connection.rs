//! One connection: which direction carries requests, which response answers which request, and what
//! the end of the connection means for those that are open.
//!
//! Responses pair with requests in order (RFC 9112 section 9.3.2). That order is only as good as the
//! record stream, so after a hole that may hide a whole message nothing is paired across it. A
//! connection that was never seen to pipeline is taken to take turns: a request that follows the
//! other side's bytes finds nothing outstanding. One that did pipeline is put behind a *barrier*:
//! its exchanges are counted as lost until it was silent for a while.

use std::{collections::VecDeque, sync::Arc};

use remora_common::{
    capture,
    record::{self, CloseCause, Direction, Open, Source, data_flag, open_flag},
};

use super::{
    Cx, endpoint,
    half::{Half, State},
    http, index,
    pending::{Begin, Pending, Stage},
};
use crate::{
    accounting::Lost,
    decode::Data,
    exchange::{self, Endpoint, Failure, Sink},
    protocol::{
        Parse,
        chunked::{Chunked, Progress},
        http1::{self, Framing, NotHttp, Request, RequestKind, Response, Side},
    },
};

/// Turns without a recognisable head after which a connection is taken for another protocol.
const MAX_REJECTED_TURNS: u8 = 4;
/// An unfinished head up to this long is parsed at every piece, to notice early that it is none.
const EAGER_HEAD_LEN: usize = 256;

/// What is known of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No head was seen. Which directions had bytes that are none, and in how many turns.
    Unknown { rejected: [bool; 2], turns: u8 },
    /// HTTP/1, with requests in this direction.
    Http { requests: Direction },
    /// Something else, or not HTTP any more.
    Other,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    info: Arc<exchange::Connection>,
    mode: Mode,
    halves: [Half; 2],
    /// In the order of the requests.
    open: VecDeque<Pending>,
    /// A request came while another was not answered.
    pipelines: bool,
    /// Why new requests cannot be paired.
    barrier: Option<Lost>,
    /// Requests already counted as lost whose responses may still come.
    uncounted: u32,
    /// Position of the responses when nothing was open for the last time.
    settled_pos: u64,
    /// First byte of the last response that was given up for want of a request.
    unrequested_ns: u64,
    failure: Option<(Failure, u64)>,
    last_ns: u64,
    is_due: bool,
    asked_for_all: bool,
}

/// What a record says of its bytes as a whole.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    direction: Direction,
    /// Position of the first byte, and the opposite direction's position.
    pos: u64,
    other_pos: u64,
    mono_ns: u64,
    begin: Begin,
    /// Where the fragment ends.
    end: u64,
    /// A message ended in it.
    ended_message: bool,
}

enum Head<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
}

/// How a hole in positions was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// By the next record of the same direction.
    Directly,
    /// By a record of the opposite direction, which comes after the hole.
    FromOpposite,
    /// By the end of the connection.
    AtClose,
}

impl Connection {
    pub(super) fn new(info: Arc<exchange::Connection>, mono_ns: u64) -> Self {
        let mut connection = Self {
            mode: Mode::Unknown { rejected: [false; 2], turns: 0 },
            halves: [Half::new(), Half::new()],
            open: VecDeque::new(),
            pipelines: false,
            barrier: None,
            uncounted: 0,
            settled_pos: 0,
            unrequested_ns: 0,
            failure: None,
            last_ns: mono_ns,
            is_due: false,
            asked_for_all: false,
            info,
        };
        if connection.info.joined {
            for half in &mut connection.halves {
                half.enter(State::Skip { until_other_beyond: None });
            }
        }
        connection
    }

    /// The first record that is seen is at `pos`, with the opposite direction at `other_pos`.
    pub(super) fn begin_at(&mut self, direction: Direction, pos: u64, other_pos: u64) {
        for (at, pos) in [(index(direction), pos), (index(direction.flip()), other_pos)] {
            let half = &mut self.halves[at];
            half.pos = pos;
            half.enter(match pos {
                0 => State::Start,
                _ => State::Skip { until_other_beyond: None },
            });
        }
    }

    /// The record that should have come first came later.
    pub(super) fn announced(&mut self, open: &Open) {
        if self.info.local == Endpoint::Unknown && self.info.remote == Endpoint::Unknown {
            let joined = open.flags & open_flag::JOINED != 0;
            self.info = Arc::new(endpoint::describe(open, self.info.source, joined));
        }
    }

    pub(super) fn is_idle(&self, mono_ns: u64, idle_ns: u64) -> bool {
        mono_ns.saturating_sub(self.last_ns) >= idle_ns
    }

    /// Takes bytes that moved.
    pub(super) fn data<S: Sink>(&mut self, data: &Data<'_>, cx: &mut Cx<'_, S>) {
        let header = data.header;
        if data.source != self.info.source && !self.source_changed(data, cx) {
            cx.shared.stats.records_other_protocol += 1;
            return;
        }
        let direction = data.direction;
        let half = &self.halves[index(direction)];
        let end = header.pos.checked_add(u64::from(header.total_len));
        let Some(end) = end.filter(|_| header.total_len > 0) else {
            cx.shared.stats.records_empty += 1;
            return;
        };
        if self.mode == Mode::Other {
            cx.shared.stats.records_other_protocol += 1;
            self.last_ns = self.last_ns.max(header.mono_ns);
            return;
        }
        if end <= half.pos || half.state == State::Ended {
            cx.shared.stats.records_duplicate += 1;
            return;
        }
        let known_begin = direction == Direction::Tx && header.begin_ns != 0;
        let begin_ns =
            if known_begin { header.begin_ns.min(header.mono_ns) } else { header.mono_ns };
        let mut fragment = Fragment {
            direction,
            pos: header.pos,
            other_pos: header.other_pos,
            mono_ns: header.mono_ns,
            begin: Begin {
                mono_ns: begin_ns,
                tid: header.tid,
                context: header.context,
                pos: header.pos,
            },
            end,
            ended_message: false,
        };
        self.leave_barrier(&fragment, cx);
        let opposite = direction.flip();
        if half_of(&self.halves, direction).is_between_messages()
            && header.other_pos > half_of(&self.halves, opposite).pos
        {
            self.gap(opposite, header.other_pos, &fragment, Noticed::FromOpposite, cx);
        }
        if header.pos > half_of(&self.halves, direction).pos {
            self.gap(direction, header.pos, &fragment, Noticed::Directly, cx);
        }
        let known = half_of(&self.halves, direction).pos - header.pos;
        if known == 0 && header.flags & data_flag::CONTINUED == 0 && !data.head.is_empty() {
            self.recognise(&fragment, data.head, cx);
        }
        let skipping = matches!(half_of(&self.halves, direction).state, State::Skip { .. });
        if skipping {
            cx.shared.stats.records_skipped += 1;
        } else {
            cx.shared.stats.parsed += 1;
        }
        self.pieces(data, known, &mut fragment, cx);

        let half = &mut self.halves[index(direction)];
        half.pos = end;
        half.other_pos = half.other_pos.max(header.other_pos);
        half.last_ns = half.last_ns.max(header.mono_ns);
        self.last_ns = self.last_ns.max(header.mono_ns);
        if half.state == State::Blind {
            half.judge_tail();
            if half.tail_ends {
                self.make_due(header.mono_ns, cx);
            }
        }
    }

    /// The captured bytes of a fragment, the hole behind them, and what is known behind the hole;
    /// without the first `known` ones.
    fn pieces<S: Sink>(
        &mut self,
        data: &Data<'_>,
        known: u64,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let total = u64::from(data.header.total_len);
        let head_end = data.head.len() as u64;
        let tail_len = match data.header.flags & data_flag::TAIL {
            0 => 0,
            _ => total.min(data.header.tail.len() as u64),
        };
        let tail_start = (total - tail_len).max(head_end).max(known);
        let hole = tail_start - head_end.max(known);
        if known < head_end {
            self.captured(&data.head[known as usize..], hole > 0, fragment, cx);
        }
        if hole > 0 {
            self.hole(hole, fragment, cx);
        }
        if tail_start < total {
            let tail = &data.header.tail[data.header.tail.len() - (total - tail_start) as usize..];
            self.captured(tail, false, fragment, cx);
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
        while !rest.is_empty() && self.mode != Mode::Other {
            let half = &mut self.halves[index(fragment.direction)];
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
                    let before = chunked.content_len();
                    let progress = chunked.feed(rest);
                    let decoded = chunked.content_len() - before;
                    self.content(fragment, decoded);
                    match progress {
                        Progress::More => {
                            half_mut(&mut self.halves, fragment.direction).state =
                                State::Chunked(chunked);
                            return;
                        }
                        Progress::Done(used) => {
                            rest = &rest[used..];
                            self.message_ended(fragment, cx);
                        }
                        Progress::Invalid | Progress::Blind => {
                            half_mut(&mut self.halves, fragment.direction).enter(State::Blind);
                        }
                    }
                }
                State::Blind => {
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
    }

    /// `len` bytes that were counted and not captured.
    fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        let half = half_mut(&mut self.halves, fragment.direction);
        match half.state {
            State::Start => self.hole_for_head(fragment, cx),
            State::Head => self.head_cut(fragment, cx),
            State::Length(left) => {
                let step = left.min(len);
                self.length(left, step, fragment, cx);
                if len > step && self.mode != Mode::Other {
                    self.hole(len - step, fragment, cx);
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

    fn length<S: Sink>(
        &mut self,
        left: u64,
        step: u64,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
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
        let owner = half_of(&self.halves, fragment.direction).owner;
        let Some(pending) = find(&mut self.open, owner) else { return };
        // Behind a cut head the rest of the head cannot be told from content: neither is counted.
        let (content_len, end_ns, cut) = if is_request {
            let content_len = &mut pending.http.request_content_len;
            (content_len, &mut pending.request_end_ns, pending.marks.request_head_cut)
        } else {
            let content_len = &mut pending.http.response_content_len;
            (content_len, &mut pending.end_ns, pending.marks.response_head_cut)
        };
        *end_ns = fragment.mono_ns;
        if !cut {
            *content_len = content_len.saturating_add(len);
        }
    }

    // ---- heads ----

    /// A head begins. How many bytes were used, `None` if the rest of the piece is of no use.
    fn first_of_head<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Option<usize> {
        let empty = http1::empty_lines(bytes);
        let bytes = &bytes[empty..];
        if bytes.is_empty() {
            return Some(empty);
        }
        match self.parse(fragment.direction, bytes) {
            Parse::Parsed { value, used } => {
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
                if hole_follows && fragment.ended_message {
                    // The hole may hide any number of further messages.
                    self.pipeline_cut(fragment, cx);
                }
                None
            }
        }
    }

    /// A head goes on. As [`Self::first_of_head`].
    fn more_of_head<S: Sink>(
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
        let empty = if before == 1 { http1::empty_lines(&half.head) } else { 0 };
        if empty > 0 {
            // What was kept was the first half of an empty line before the message.
            half.head.drain(..empty);
            half.begin = fragment.begin;
            if half.head.is_empty() {
                cx.recycle(std::mem::take(&mut half.head));
                half.enter(State::Start);
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
                    return Some(used + empty - before);
                }
                Parse::NotThis(reason) => {
                    self.not_a_head(reason, &head, fragment, cx);
                    cx.recycle(head);
                    return None;
                }
                Parse::NeedMore => half_mut(&mut self.halves, fragment.direction).head = head,
            }
        }
        if room < bytes.len() {
            self.head_cut(fragment, cx);
            self.content(fragment, (bytes.len() - room) as u64);
        }
        None
    }

    fn parse<'a>(&self, direction: Direction, bytes: &'a [u8]) -> Parse<Head<'a>, NotHttp> {
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
    fn side(&self, direction: Direction, bytes: &[u8]) -> Option<Side> {
        match self.mode {
            Mode::Http { requests } if requests == direction => Some(Side::Request),
            Mode::Http { .. } => Some(Side::Response),
            Mode::Unknown { .. } | Mode::Other => http1::side(bytes),
        }
    }

    fn head_ended<S: Sink>(
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

    fn request<S: Sink>(
        &mut self,
        request: &Request<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let requests = fragment.direction;
        self.mode = Mode::Http { requests };
        self.end_blind_response(cx);
        let owner = self.admit(request, len, cut, begin, fragment, cx);
        let half = half_mut(&mut self.halves, requests);
        half.owner = owner;
        match request.framing() {
            _ if cut => half.enter(State::Blind),
            Framing::Length(len) => half.enter(State::Length(len)),
            Framing::Chunked => half.enter(State::Chunked(Chunked::default())),
            Framing::None => self.message_ended(fragment, cx),
            Framing::Unknown | Framing::UntilClose | Framing::Tunnel => half.enter(State::Blind),
        }
    }

    /// Gives a request its place; 0 if it cannot have one.
    fn admit<S: Sink>(
        &mut self,
        request: &Request<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> u64 {
        if self.barrier.is_none() && self.open.len() >= cx.shared.limits.max_open_per_connection {
            self.barrier = Some(Lost::TooManyOpen);
        }
        if let Some(reason) = self.barrier {
            cx.lost(0, reason);
            self.uncounted += 1;
            return 0;
        }
        if begin.mono_ns <= self.unrequested_ns {
            cx.lost(0, Lost::Gap); // its response was given up before
            return 0;
        }
        let mut pending = Pending::request(0, begin, http::describe(request, len));
        pending.marks.request_head_cut = cut;
        pending.request_end_ns = fragment.mono_ns;
        let requests = fragment.direction;
        if let Some(front) = self.open.front_mut().filter(|front| front.is_unrequested()) {
            if begin.mono_ns <= front.first_byte_ns {
                let done = front.stage == Stage::UnrequestedDone;
                front.adopt(pending);
                let serial = front.serial;
                cx.started(&front.announcement(&self.info, requests));
                if done {
                    self.finish_front(None, cx);
                } else if front_kind_has_no_content(front) {
                    let responses = half_mut(&mut self.halves, requests.flip());
                    responses.enter(State::Start);
                    self.finish_front(None, cx);
                }
                return serial;
            }
            self.give_up_unrequested(cx);
        }
        if self.open.is_empty() {
            self.uncounted = 0;
            let responses = half_mut(&mut self.halves, requests.flip());
            let settled = matches!(responses.state, State::Start | State::Head | State::Ended);
            if !settled && responses.other_pos > begin.pos {
                // Bytes that nobody asked for came in the middle of this request: its response?
                cx.lost(0, Lost::Gap);
                return 0;
            }
            if !settled && !self.pipelines {
                responses.enter(State::Start);
                responses.owner = 0;
            }
        } else {
            self.pipelines = true;
            self.ask_for_all(cx);
        }
        pending.serial = cx.next_serial();
        let serial = pending.serial;
        cx.started(&pending.announcement(&self.info, requests));
        self.open.push_back(pending);
        serial
    }

    fn response<S: Sink>(
        &mut self,
        response: &Response<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let responses = fragment.direction;
        self.mode = Mode::Http { requests: responses.flip() };
        if response.is_interim() && !cut {
            half_mut(&mut self.halves, responses).enter(State::Start);
            return;
        }
        if self.open.front().is_some_and(|front| front.stage == Stage::UnrequestedDone) {
            self.give_up_unrequested(cx);
        }
        if self.open.is_empty() {
            if self.uncounted > 0 {
                self.uncounted -= 1;
            } else if let Some(reason) = self.barrier {
                cx.lost(0, reason);
            } else {
                let serial = cx.next_serial();
                self.open.push_back(Pending::unrequested(serial));
            }
        }
        let mut kind = RequestKind::Other;
        let mut owner = 0;
        if let Some(front) = self.open.front_mut() {
            (kind, owner) = (front.kind, front.serial);
            front.answered = true;
            front.first_byte_ns = begin.mono_ns;
            front.end_ns = fragment.mono_ns;
            front.marks.response_head_cut = cut;
            front.http.status = response.status;
            front.http.response_head_len = u32::try_from(len).unwrap_or(u32::MAX);
        }
        let half = half_mut(&mut self.halves, responses);
        half.owner = owner;
        half.last_ns = fragment.mono_ns;
        match response.framing(kind) {
            _ if cut => half.enter(State::Blind),
            Framing::None => self.message_ended(fragment, cx),
            Framing::Length(len) => half.enter(State::Length(len)),
            Framing::Chunked => half.enter(State::Chunked(Chunked::default())),
            Framing::UntilClose => half.enter(State::UntilClose),
            Framing::Unknown => half.enter(State::Blind),
            Framing::Tunnel => {
                if let Some(front) = self.open.front_mut() {
                    front.http.upgraded = true;
                }
                self.message_ended(fragment, cx);
                self.lose_open(Lost::Malformed, cx);
                self.become_other(capture::COUNT, cx);
            }
        }
    }

    /// The message in the fragment's direction is complete.
    fn message_ended<S: Sink>(&mut self, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        fragment.ended_message = true;
        let is_request = self.carries_requests(fragment.direction);
        let half = half_mut(&mut self.halves, fragment.direction);
        let owner = std::mem::take(&mut half.owner);
        half.enter(State::Start);
        if is_request {
            if let Some(pending) = find(&mut self.open, owner) {
                pending.request_end_ns = fragment.mono_ns;
            }
            return;
        }
        let Some(front) = self.open.front_mut().filter(|front| front.serial == owner) else {
            self.note_settled(fragment.end);
            return;
        };
        front.end_ns = fragment.mono_ns;
        if front.stage == Stage::Unrequested {
            front.stage = Stage::UnrequestedDone;
            self.make_due(fragment.mono_ns, cx);
        } else {
            self.finish_front(None, cx);
        }
        self.note_settled(fragment.end);
    }

    fn note_settled(&mut self, pos: u64) {
        if self.open.iter().all(|pending| pending.stage == Stage::UnrequestedDone) {
            self.settled_pos = pos;
        }
    }

    // ---- what is not a head, or not all of one ----

    fn not_a_head<S: Sink>(
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
    fn reject_turn<S: Sink>(&mut self, bytes: &[u8], fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let Mode::Unknown { mut rejected, mut turns } = self.mode else { return };
        if is_tls(bytes) {
            return self.become_other(capture::CIPHERTEXT, cx);
        }
        let half = half_of(&self.halves, fragment.direction);
        let at = index(fragment.direction);
        if !rejected[at] || fragment.other_pos > half.other_pos {
            turns += 1;
        }
        rejected[at] = true;
        self.mode = Mode::Unknown { rejected, turns };
        if turns >= MAX_REJECTED_TURNS || (rejected == [true; 2] && !self.info.joined) {
            self.become_other(capture::COUNT, cx);
        }
    }

    fn become_other<S: Sink>(&mut self, mode: u8, cx: &mut Cx<'_, S>) {
        if matches!(self.mode, Mode::Unknown { .. }) {
            cx.shared.stats.connections_other_protocol += 1;
        }
        self.mode = Mode::Other;
        self.open = VecDeque::new();
        for half in &mut self.halves {
            cx.recycle(std::mem::take(&mut half.head));
        }
        cx.sink.capture(self.info.id, mode);
    }

    /// A request exists of which nothing can be told; its response must not become another's.
    fn missed_request<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        cx.lost(0, reason);
        self.uncounted += 1;
        if !self.open.is_empty() || self.pipelines {
            self.raise_barrier(reason);
        }
    }

    /// Something that cannot be read came where a response had to begin.
    fn unreadable_response<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
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

    /// The bytes that begin a message were not captured.
    fn hole_for_head<S: Sink>(&mut self, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
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
    fn pipeline_cut<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
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

    /// A head is longer than what was captured of it, or than what is put together.
    fn head_cut<S: Sink>(&mut self, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
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

    // ---- finding the way again ----

    /// Decides at the start of a fragment whether it begins a message, where that is not certain.
    fn recognise<S: Sink>(&mut self, fragment: &Fragment, bytes: &[u8], cx: &mut Cx<'_, S>) {
        let half = half_of(&self.halves, fragment.direction);
        let bytes = &bytes[http1::empty_lines(bytes)..];
        let looks_like_head = match self.side(fragment.direction, bytes) {
            Some(Side::Request) => http1::cut_request(bytes).is_some(),
            Some(Side::Response) => http1::cut_response(bytes).is_some(),
            None => false,
        };
        match half.state {
            State::Skip { until_other_beyond } => {
                let in_turn = until_other_beyond.is_none_or(|pos| fragment.other_pos > pos);
                match (looks_like_head, in_turn) {
                    (true, true) => {
                        half_mut(&mut self.halves, fragment.direction).enter(State::Start);
                    }
                    (true, false) => self.out_of_turn(fragment, cx),
                    (false, true) => self.reject_turn(bytes, fragment, cx),
                    (false, false) => {}
                }
            }
            State::Blind => {
                if !self.blind_may_end(fragment) {
                    return;
                }
                // Where a head is due, its first piece may be too short to look like one.
                let is_request = self.carries_requests(fragment.direction);
                let due = half.tail_ends || (is_request && !self.pipelines);
                let begins = looks_like_head
                    || (due && !matches!(self.parse(fragment.direction, bytes), Parse::NotThis(_)));
                if !begins {
                    return;
                }
                if !is_request {
                    self.end_front_if_blind(cx);
                }
                let half = half_mut(&mut self.halves, fragment.direction);
                half.enter(State::Start);
                half.tentative = is_request && !looks_like_head;
            }
            _ => {}
        }
    }

    /// A message begins after a hole, in the same turn as the hole: what was before it is unknown.
    fn out_of_turn<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        if self.carries_requests(fragment.direction) {
            cx.lost(0, Lost::Gap);
            self.uncounted += 1;
            self.raise_barrier(Lost::Gap);
        } else if self.uncounted > 0 {
            self.uncounted -= 1;
        } else {
            cx.lost(0, self.barrier.unwrap_or(Lost::Gap));
        }
    }

    /// Whether content without a visible end may have ended before this fragment, which looks like
    /// a head. If not, it is content that looks like one.
    fn blind_may_end(&self, fragment: &Fragment) -> bool {
        let half = half_of(&self.halves, fragment.direction);
        let owner = self.open.iter().find(|pending| pending.serial == half.owner);
        match owner {
            None => half.tail_ends || self.pipelines || fragment.other_pos > half.other_pos,
            Some(_) if half.tail_ends => true,
            Some(owner) if self.carries_requests(fragment.direction) => {
                owner.answered && fragment.other_pos > half.other_pos
            }
            Some(_) => self.open.len() > 1,
        }
    }

    /// A request begins: a response whose end nothing shows is over, if the connection takes turns.
    fn end_blind_response<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let tail_ends = half_of(&self.halves, requests.flip()).tail_ends;
        if tail_ends || (self.open.len() == 1 && !self.pipelines) {
            self.end_front_if_blind(cx);
        }
    }

    /// Ends the front exchange at its last byte, if its response is content without a visible end.
    fn end_front_if_blind<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let half = half_mut(&mut self.halves, requests.flip());
        let Some(front) = self.open.front_mut() else { return };
        if half.state != State::Blind || half.owner != front.serial {
            return;
        }
        front.marks.end_inferred |= !half.tail_ends;
        half.owner = 0;
        half.tail_ends = false;
        let pos = half.pos;
        if front.stage == Stage::Unrequested {
            front.stage = Stage::UnrequestedDone;
            let end_ns = front.end_ns;
            self.make_due(end_ns, cx);
        } else {
            self.finish_front(None, cx);
        }
        self.note_settled(pos);
    }

    fn raise_barrier(&mut self, reason: Lost) {
        self.pipelines = true;
        self.barrier.get_or_insert(reason);
    }

    /// After a long silence nothing is outstanding any more.
    fn leave_barrier<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let silence_ns = fragment.mono_ns.saturating_sub(self.last_ns);
        if self.barrier.is_none()
            || silence_ns < cx.shared.limits.resync_idle_ns
            || !self.carries_requests(fragment.direction)
        {
            return;
        }
        self.lose_open(Lost::Gap, cx);
        self.barrier = None;
        self.pipelines = false;
        self.uncounted = 0;
        let [rx, tx] = &mut self.halves;
        for half in [rx, tx] {
            if half.state != State::Ended {
                half.enter(State::Skip { until_other_beyond: None });
                half.owner = 0;
                cx.recycle(std::mem::take(&mut half.head));
            }
        }
    }

    // ---- holes in positions ----

    /// The bytes of `direction` up to `to` were moved and not told of.
    fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        let is_request = self.carries_requests(direction);
        let half = half_mut(&mut self.halves, direction);
        let len = to - half.pos;
        half.pos = to;
        cx.shared.stats.gaps += 1;
        cx.shared.stats.gap_bytes += len;
        let same_turn = noticed == Noticed::Directly && fragment.other_pos == half.other_pos;
        match half.state {
            State::Length(left) if len < left => {
                half.state = State::Length(left - len);
                return self.gap_in_content(direction, len);
            }
            State::UntilClose => return self.gap_in_content(direction, len),
            State::Chunked(mut chunked) => {
                if chunked.skip(len) == Progress::More {
                    half.state = State::Chunked(chunked);
                    return self.gap_in_content(direction, len);
                }
                if same_turn && !self.pipelines {
                    half.enter(State::Blind);
                    return self.gap_in_content(direction, len);
                }
            }
            State::Blind if same_turn && !self.pipelines && half.owner != 0 => {
                half.note_tail(None);
                return self.gap_in_content(direction, len);
            }
            State::Length(left) if len == left && is_request => {
                half.enter(State::Start);
                self.gap_in_content(direction, len);
                half_mut(&mut self.halves, direction).owner = 0;
                return;
            }
            State::Ended => return,
            _ => {}
        }
        let opposite = direction.flip();
        if noticed == Noticed::Directly && fragment.other_pos > half_of(&self.halves, opposite).pos
        {
            self.gap(opposite, fragment.other_pos, fragment, Noticed::FromOpposite, cx);
        }
        match self.mode {
            Mode::Http { requests } if requests == direction => {
                self.lose_requests(direction, fragment, noticed, cx);
            }
            Mode::Http { .. } => self.lose_responses(direction, fragment, noticed, cx),
            Mode::Unknown { .. } | Mode::Other => {
                let half = half_mut(&mut self.halves, direction);
                cx.recycle(std::mem::take(&mut half.head));
                let turned = noticed == Noticed::Directly && fragment.other_pos > half.other_pos;
                let beyond = match noticed {
                    Noticed::FromOpposite => fragment.pos,
                    _ if turned => half.other_pos,
                    _ => fragment.other_pos,
                };
                half.enter(State::Skip { until_other_beyond: Some(beyond) });
            }
        }
    }

    /// The hole lies in content whose end does not depend on it.
    fn gap_in_content(&mut self, direction: Direction, len: u64) {
        let is_request = self.carries_requests(direction);
        let owner = half_of(&self.halves, direction).owner;
        let Some(pending) = find(&mut self.open, owner) else { return };
        pending.marks.gap = true;
        let http = &mut pending.http;
        let content_len = match is_request {
            true => &mut http.request_content_len,
            false => &mut http.response_content_len,
        };
        *content_len = content_len.saturating_add(len);
    }

    /// Requests may be in the hole.
    fn lose_requests<S: Sink>(
        &mut self,
        direction: Direction,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        self.end_blind_response(cx);
        let half = half_mut(&mut self.halves, direction);
        let head = std::mem::take(&mut half.head);
        let had_head = half.state == State::Head;
        cx.recycle(head);
        half.owner = 0;
        let quiet = self.open.iter().all(Pending::is_unrequested);
        let beyond = match noticed {
            Noticed::FromOpposite => fragment.pos,
            // Responses were moved since all was answered, so this may be the next turn's beginning.
            _ if quiet && fragment.other_pos > self.settled_pos => self.settled_pos,
            _ => fragment.other_pos,
        };
        half.enter(State::Skip { until_other_beyond: Some(beyond) });
        if had_head {
            cx.lost(0, Lost::Gap);
            self.uncounted += 1;
        }
        if !quiet || self.pipelines {
            self.raise_barrier(Lost::Gap);
        }
    }

    /// Responses, or the end of one, may be in the hole.
    fn lose_responses<S: Sink>(
        &mut self,
        direction: Direction,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        if half_of(&self.halves, direction).tail_ends {
            self.end_front_if_blind(cx);
        }
        self.lose_open(Lost::Gap, cx);
        let half = half_mut(&mut self.halves, direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.owner = 0;
        let beyond = match noticed {
            Noticed::FromOpposite => fragment.pos,
            Noticed::Directly | Noticed::AtClose => fragment.other_pos,
        };
        half.enter(State::Skip { until_other_beyond: Some(beyond) });
        self.settled_pos = half.pos;
        if self.pipelines {
            self.raise_barrier(Lost::Gap);
        }
    }

    // ---- ends ----

    /// Takes an end of the connection; whether that was all of it.
    pub(super) fn close<S: Sink>(
        &mut self,
        cause: CloseCause,
        close: &record::Close,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        self.last_ns = self.last_ns.max(close.mono_ns);
        match cause {
            CloseCause::EndOfFile => self.end_direction(Direction::Rx, close, cx),
            CloseCause::LocalFin => self.end_direction(Direction::Tx, close, cx),
            CloseCause::Error => {
                // A response may still be there to be read, or its end to be confirmed.
                self.failure.get_or_insert((failure_of(close.errno), close.mono_ns));
                self.make_due(close.mono_ns, cx);
            }
            CloseCause::Gone => {
                self.end_direction(Direction::Rx, close, cx);
                self.end_direction(Direction::Tx, close, cx);
                self.fail_open(close.mono_ns, cx);
                for half in &mut self.halves {
                    cx.recycle(std::mem::take(&mut half.head));
                }
                return true;
            }
        }
        false
    }

    /// No more bytes come in `direction`.
    fn end_direction<S: Sink>(
        &mut self,
        direction: Direction,
        close: &record::Close,
        cx: &mut Cx<'_, S>,
    ) {
        let (pos, other_pos) = match direction {
            Direction::Rx => (close.pos_rx, close.pos_tx),
            Direction::Tx => (close.pos_tx, close.pos_rx),
        };
        let half = half_of(&self.halves, direction);
        if half.state == State::Ended || self.mode == Mode::Other {
            return;
        }
        if pos > half.pos {
            let fragment = Fragment {
                direction,
                pos,
                other_pos,
                mono_ns: close.mono_ns,
                begin: Begin::default(),
                end: pos,
                ended_message: false,
            };
            self.gap(direction, pos, &fragment, Noticed::AtClose, cx);
        }
        let is_responses = match self.mode {
            Mode::Http { requests } => requests != direction,
            Mode::Unknown { .. } | Mode::Other => false,
        };
        if is_responses {
            let failed = self.failure.is_some();
            let half = half_of(&self.halves, direction);
            match half.state {
                State::UntilClose if !failed => {
                    let (owner, end_ns) = (half.owner, half.last_ns);
                    if let Some(front) = self.open.front_mut().filter(|p| p.serial == owner) {
                        front.end_ns = end_ns;
                        self.finish_front(None, cx);
                    }
                }
                State::Blind if half.tail_ends || !failed => self.end_front_if_blind(cx),
                _ => {}
            }
            self.fail_open(close.mono_ns, cx);
        }
        let half = half_mut(&mut self.halves, direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.enter(State::Ended);
    }

    /// Ends whatever is open with the connection's failure.
    fn fail_open<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let (failure, end_ns) = self.failure.unwrap_or((Failure::Closed, mono_ns));
        while let Some(front) = self.open.front_mut() {
            front.end_ns = end_ns;
            self.finish_front(Some(failure), cx);
        }
    }

    /// Takes the front exchange off the queue and settles it, if it is not.
    fn finish_front<S: Sink>(&mut self, failure: Option<Failure>, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let Some(front) = self.open.pop_front() else { return };
        match front.stage {
            Stage::Open => {
                let end_ns = front.end_ns;
                cx.finished(front.into_exchange(&self.info, requests, failure, end_ns));
            }
            Stage::Settled => {}
            Stage::Unrequested | Stage::UnrequestedDone => {
                self.unrequested_ns = self.unrequested_ns.max(front.first_byte_ns);
                cx.lost(0, Lost::NoRequest);
            }
        }
    }

    fn give_up_unrequested<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        if self.open.front().is_some_and(|front| front.stage == Stage::Unrequested) {
            // Its content goes on, for nobody.
            half_mut(&mut self.halves, requests.flip()).owner = 0;
        }
        self.finish_front(None, cx);
    }

    fn lose_open<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        for pending in self.open.drain(..) {
            match pending.stage {
                Stage::Open => {
                    self.uncounted += 1;
                    cx.lost(pending.serial, reason);
                }
                Stage::Settled => self.uncounted += 1,
                Stage::Unrequested | Stage::UnrequestedDone => {
                    self.unrequested_ns = self.unrequested_ns.max(pending.first_byte_ns);
                    cx.lost(0, Lost::NoRequest);
                }
            }
        }
    }

    // ---- time ----

    fn make_due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        if !self.is_due {
            self.is_due = true;
            let when_ns = mono_ns.saturating_add(cx.shared.limits.end_grace_ns);
            cx.shared.due.push_back((when_ns, self.info.id));
        }
    }

    /// Settles what was waited with.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.is_due = false;
        let Mode::Http { requests } = self.mode else { return };
        let grace_ns = cx.shared.limits.end_grace_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= grace_ns;
        let mut waits_since = None;
        let half = half_of(&self.halves, requests.flip());
        if half.tail_ends && self.open.front().is_some_and(|front| front.serial == half.owner) {
            match over(half.last_ns) {
                true => self.end_front_if_blind(cx),
                false => waits_since = Some(half.last_ns),
            }
        }
        if let Some(front) = self.open.front().filter(|p| p.stage == Stage::UnrequestedDone) {
            match over(front.end_ns) {
                true => self.give_up_unrequested(cx),
                false => waits_since = Some(front.end_ns),
            }
        }
        if let Some((_, failed_ns)) = self.failure {
            if over(failed_ns) {
                self.fail_open(failed_ns, cx);
                let half = half_mut(&mut self.halves, requests.flip());
                if half.state != State::Ended {
                    half.enter(State::Blind);
                    half.owner = 0;
                }
            } else {
                waits_since = Some(failed_ns);
            }
        }
        if let Some(since_ns) = waits_since {
            self.make_due(since_ns, cx);
        }
    }

    /// Gives up requests that had no response for too long; a late one is still theirs.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let no_response_ns = cx.shared.limits.no_response_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= no_response_ns;
        for pending in &mut self.open {
            let since_ns = pending.request_end_ns.max(pending.begin.mono_ns);
            if pending.stage == Stage::Open && !pending.answered && over(since_ns) {
                let settled = pending.settle();
                let failure = Some(Failure::NoResponse);
                cx.finished(settled.into_exchange(&self.info, requests, failure, mono_ns));
            }
        }
        if over(half_of(&self.halves, requests.flip()).last_ns) {
            self.end_front_if_blind(cx);
        }
    }

    /// The connection is forgotten for its silence.
    pub(super) fn give_up<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.end_front_if_blind(cx);
        self.failure.get_or_insert((Failure::NoResponse, mono_ns));
        self.fail_open(mono_ns, cx);
    }

    /// The agent stops.
    pub(super) fn stop<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.halves.iter().any(|half| half.tail_ends) {
            self.end_blind_response(cx);
        }
        self.lose_open(Lost::Stopped, cx);
    }

    // ---- small things ----

    fn carries_requests(&self, direction: Direction) -> bool {
        self.mode == Mode::Http { requests: direction }
    }

    fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if !self.asked_for_all {
            self.asked_for_all = true;
            cx.sink.capture(self.info.id, capture::ALL);
        }
    }

    /// Plaintext takes the place of ciphertext; what was known of the latter means nothing for it.
    /// Whether the record counts.
    fn source_changed<S: Sink>(&mut self, data: &Data<'_>, cx: &mut Cx<'_, S>) -> bool {
        if self.info.source != Source::Socket {
            return false;
        }
        self.lose_open(Lost::Malformed, cx);
        for half in &mut self.halves {
            cx.recycle(std::mem::take(&mut half.head));
        }
        let mut info = exchange::Connection::clone(&self.info);
        info.source = data.source;
        let due = self.is_due;
        *self = Self { is_due: due, ..Self::new(Arc::new(info), data.header.mono_ns) };
        self.begin_at(data.direction, data.header.pos, data.header.other_pos);
        true
    }
}

/// A response to this request has no content, whatever it was taken for when it came first.
fn front_kind_has_no_content(pending: &Pending) -> bool {
    pending.kind == RequestKind::Head && pending.answered
}

fn half_of(halves: &[Half; 2], direction: Direction) -> &Half {
    &halves[index(direction)]
}

fn half_mut(halves: &mut [Half; 2], direction: Direction) -> &mut Half {
    &mut halves[index(direction)]
}

/// The exchange with this serial; the newest are asked first, as requests in progress are new.
fn find(open: &mut VecDeque<Pending>, serial: u64) -> Option<&mut Pending> {
    open.iter_mut().rev().find(|pending| pending.serial == serial)
}

/// A TLS record header (RFC 8446 section 5.1): content type 20 to 23, legacy version 3.x.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}

fn failure_of(errno: u32) -> Failure {
    match i32::try_from(errno) {
        Ok(libc::ECONNRESET | libc::EPIPE) => Failure::Reset,
        Ok(libc::ETIMEDOUT) => Failure::TimedOut,
        Ok(errno) => Failure::Errno(errno),
        Err(_) => Failure::Errno(i32::MAX),
    }
}
