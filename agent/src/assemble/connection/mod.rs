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
    policy,
    record::{Direction, Open, Source, data_flag, open_flag},
};

use super::{
    Cx, Place, endpoint,
    half::{Half, State},
    index,
    pending::{Begin, Pending},
};
use crate::{
    accounting::Lost,
    decode::Data,
    exchange::{self, Endpoint, Failure, Sink},
    protocol::chunked::Progress,
};

mod ending;
mod head;
mod pairing;
mod resync;

use resync::Noticed;

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
    /// Where the first request began that did.
    pipelined_pos: u64,
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
    /// Where in the record the bytes are that are looked at.
    place: Place,
    /// What it begins with was taken for a head because it looks like one.
    guessed: bool,
    /// A message ended in it.
    ended_message: bool,
}

impl Connection {
    pub(super) fn new(info: Arc<exchange::Connection>, mono_ns: u64) -> Self {
        let mut connection = Self {
            mode: Mode::Unknown { rejected: [false; 2], turns: 0 },
            halves: [Half::new(), Half::new()],
            open: VecDeque::new(),
            pipelines: false,
            pipelined_pos: 0,
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
            place: Place::Head(0),
            guessed: false,
            ended_message: false,
        };
        self.leave_barrier(&fragment, cx);
        let opposite = direction.flip();
        let noticed = match header.flags & data_flag::MISSING_BEFORE_TURN {
            0 => Noticed::Directly,
            // What is latest in the opposite direction is not known if records of it were lost.
            _ if header.other_pos > half_of(&self.halves, opposite).pos => Noticed::Directly,
            _ => Noticed::NextTurn,
        };
        if half_of(&self.halves, direction).is_between_messages()
            && header.other_pos > half_of(&self.halves, opposite).pos
        {
            let behind_hole = header.pos > half_of(&self.halves, direction).pos;
            let noticed = Noticed::FromOpposite { behind_hole };
            self.gap(opposite, header.other_pos, &fragment, noticed, cx);
        }
        if header.pos > half_of(&self.halves, direction).pos {
            self.gap(direction, header.pos, &fragment, noticed, cx);
        }
        let known = half_of(&self.halves, direction).pos - header.pos;
        if known == 0 && header.flags & data_flag::CONTINUED == 0 && !data.head.is_empty() {
            self.recognise(&mut fragment, data.head, cx);
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
            fragment.place = Place::Head(known as usize);
            self.captured(&data.head[known as usize..], hole > 0, fragment, cx);
        }
        if hole > 0 {
            self.hole(hole, fragment, cx);
        }
        if tail_start < total {
            let at = data.header.tail.len() - (total - tail_start) as usize;
            fragment.place = Place::Tail(at);
            let tail = &data.header.tail[at..];
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
        let begin = fragment.place;
        while !rest.is_empty() && self.mode != Mode::Other {
            let place = begin.plus(bytes.len() - rest.len());
            fragment.place = place;
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
                    cx.keep(|kept| kept.framing(place, rest, chunked));
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
        let half = half_of(&self.halves, fragment.direction);
        let (owner, blind) = (half.owner, half.state == State::Blind);
        let Some(pending) = find(&mut self.open, owner) else { return };
        let marks = &mut pending.marks;
        // Behind a cut head the rest of the head cannot be told from content: neither is counted.
        let (content_len, end_ns, cut, estimated) = if is_request {
            let content_len = &mut pending.http.request_content_len;
            let estimated = &mut marks.request_size_estimated;
            (content_len, &mut pending.request_end_ns, marks.request_head_cut, estimated)
        } else {
            let content_len = &mut pending.http.response_content_len;
            let estimated = &mut marks.response_size_estimated;
            (content_len, &mut pending.end_ns, marks.response_head_cut, estimated)
        };
        *end_ns = fragment.mono_ns;
        if !cut {
            *content_len = content_len.saturating_add(len);
            *estimated |= blind && len > 0;
        }
    }

    fn become_other<S: Sink>(&mut self, policy: u8, cx: &mut Cx<'_, S>) {
        if matches!(self.mode, Mode::Unknown { .. }) {
            cx.shared.stats.connections_other_protocol += 1;
        }
        self.mode = Mode::Other;
        self.open = VecDeque::new();
        for half in &mut self.halves {
            cx.recycle(std::mem::take(&mut half.head));
        }
        cx.sink.capture(self.info.id, policy);
    }

    fn carries_requests(&self, direction: Direction) -> bool {
        self.mode == Mode::Http { requests: direction }
    }

    fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if !self.asked_for_all {
            self.asked_for_all = true;
            cx.sink.capture(self.info.id, policy::ALL);
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
