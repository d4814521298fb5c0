//! What holes in the positions cost, and where the messages are found again behind them.
//!
//! A hole whose every byte lies in content costs a mark. One that may hide the end of a message or a
//! whole one leaves the order of responses unknown: nothing is paired across it.

use remora_common::record::Direction;

use super::{Fragment, Http1, InHttp, Noticed, Place, half::State, half_mut, half_of};
use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        pending::{Begin, Pending},
    },
    exchange::Sink,
    protocol::{
        Parse,
        chunked::Progress,
        http1::{self, Side},
    },
};

impl Http1 {
    /// Decides at the start of a fragment whether it begins a message, where that is not certain.
    pub(super) fn recognise<S: Sink>(
        &mut self,
        fragment: &mut Fragment,
        bytes: &[u8],
        cx: &mut Cx<'_, S>,
    ) {
        let half = half_of(&self.halves, fragment.direction);
        let (empty, bytes) = bytes.split_at(http1::empty_lines(bytes));
        fragment.place = Place::Head(empty.len());
        self.guessed = matches!(half.state, State::Skip { .. } | State::Blind);
        let place = fragment.place;
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
                    (true, false) => {
                        cx.keep(|kept| {
                            kept.literal(Place::Head(0), empty);
                            kept.start_line(place, bytes);
                        });
                        self.out_of_turn(fragment, cx);
                    }
                    (false, true) if self.may_begin_head(fragment, bytes, cx) => {
                        half_mut(&mut self.halves, fragment.direction).enter(State::Start);
                    }
                    (false, true) => {
                        cx.keep(|kept| kept.literal(Place::Head(0), empty));
                        self.rejected = Some(bytes.to_vec());
                    }
                    (false, false) => {}
                }
            }
            State::Blind => {
                if !self.blind_may_end(fragment, cx) {
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

    /// Whether the first bytes of a turn, too few to look like a head, may be the beginning of one.
    fn may_begin_head<S: Sink>(&self, fragment: &Fragment, bytes: &[u8], cx: &Cx<'_, S>) -> bool {
        let first = fragment.pos == 0 && fragment.other_pos == 0;
        let before = cx.wire.flow(fragment.direction).other_pos;
        let begins_turn = fragment.other_pos > before || first;
        // `GET / HTTP/1.0` is whole; text that is no head seldom begins with three capitals.
        let short = bytes.len() < 16 && bytes.iter().take(3).all(u8::is_ascii_uppercase);
        begins_turn && short && matches!(self.parse(fragment.direction, bytes), Parse::NeedMore)
    }

    /// A message begins after a hole, in the same turn as the hole: what was before it is unknown.
    pub(super) fn out_of_turn<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        if self.carries_requests(fragment.direction) {
            cx.lost(0, Lost::Gap);
            self.open.uncounted += 1;
            if self.pipelines {
                self.raise_barrier(Lost::Gap);
            }
        } else if self.open.uncounted > 0 {
            self.open.uncounted -= 1;
        } else {
            cx.lost(0, self.open.barrier.unwrap_or(Lost::Gap));
        }
    }

    /// Whether content without a visible end may have ended before this fragment, which looks like
    /// a head. If not, it is content that looks like one.
    pub(super) fn blind_may_end<S: Sink>(&self, fragment: &Fragment, cx: &Cx<'_, S>) -> bool {
        let half = half_of(&self.halves, fragment.direction);
        let owner = self.open.iter().find(|pending| pending.serial == half.owner);
        let turned = fragment.other_pos > cx.wire.flow(fragment.direction).other_pos;
        match owner {
            None => half.tail_ends || self.pipelines || turned,
            Some(_) if half.tail_ends => true,
            Some(owner) if self.carries_requests(fragment.direction) => owner.answered && turned,
            Some(_) => self.open.len() > 1,
        }
    }

    /// The bytes of `direction` up to `to` were moved and not told of.
    pub(in crate::assemble) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        let is_request = self.carries_requests(direction);
        let answer_begins = noticed == (Noticed::FromOpposite { behind_hole: false })
            && half_of(&self.halves, fragment.direction).state == State::Start;
        let len = cx.wire.jump(direction, to, cx.shared);
        let other_pos = cx.wire.flow(direction).other_pos;
        let same_turn = noticed == Noticed::Directly && fragment.other_pos == other_pos;
        let half = half_mut(&mut self.halves, direction);
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
                if (same_turn || is_request && answer_begins) && !self.pipelines {
                    half.enter(State::Blind);
                    return self.gap_in_content(direction, len);
                }
            }
            State::Blind if same_turn && !self.pipelines && half.owner != 0 => {
                half.note_tail(None);
                return self.gap_in_content(direction, len);
            }
            // The hole is the rest of the message, and nothing else.
            State::Length(left) if len == left => {
                self.gap_in_content(direction, len);
                if !is_request {
                    let begin = Begin::default(); // nobody knows which thread moved it
                    let rest = Fragment { direction, begin, end: to, ..*fragment };
                    self.message_ended(&rest, cx);
                    self.ended_message = false;
                    return;
                }
                let half = half_mut(&mut self.halves, direction);
                half.enter(State::Start);
                half.owner = 0;
                return self.finish_answered(cx);
            }
            State::Ended => return,
            _ => {}
        }
        let opposite = direction.flip();
        if noticed == Noticed::Directly && fragment.other_pos > cx.wire.flow(opposite).pos {
            let noticed = Noticed::FromOpposite { behind_hole: true };
            self.gap(opposite, fragment.other_pos, fragment, noticed, cx);
        }
        match self.requests {
            Some(requests) if requests == direction => {
                self.lose_requests(direction, fragment, noticed, cx);
            }
            Some(_) => self.lose_responses(direction, fragment, noticed, cx),
            None => {
                let half = half_mut(&mut self.halves, direction);
                cx.recycle(std::mem::take(&mut half.head));
                let turned = matches!(noticed, Noticed::Directly | Noticed::NextTurn)
                    && fragment.other_pos > other_pos;
                let beyond = match noticed {
                    Noticed::FromOpposite { .. } => fragment.pos,
                    _ if turned => other_pos,
                    _ => fragment.other_pos,
                };
                half.enter(State::Skip { until_other_beyond: Some(beyond) });
            }
        }
    }

    /// The hole lies in content whose end does not depend on it.
    pub(super) fn gap_in_content(&mut self, direction: Direction, len: u64) {
        let is_request = self.carries_requests(direction);
        let owner = half_of(&self.halves, direction).owner;
        let Some(pending) = self.open.find(owner) else { return };
        pending.marks.gap = true;
        let http = &mut pending.detail.http;
        let content_len = match is_request {
            true => &mut http.request_content_len,
            false => &mut http.response_content_len,
        };
        *content_len = content_len.saturating_add(len);
    }

    /// Requests may be in the hole.
    pub(super) fn lose_requests<S: Sink>(
        &mut self,
        direction: Direction,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        self.finish_answered(cx);
        self.end_blind_response(cx);
        let half = half_mut(&mut self.halves, direction);
        let head = std::mem::take(&mut half.head);
        let had_head = half.state == State::Head;
        cx.recycle(head);
        half.owner = 0;
        let quiet = self.open.iter().all(Pending::is_unrequested);
        let until_other_beyond = match noticed {
            Noticed::FromOpposite { .. } => Some(fragment.pos),
            Noticed::NextTurn => None,
            // Responses were moved since all was answered, so this may be the next turn's beginning.
            _ if quiet && fragment.other_pos > self.settled_pos => Some(self.settled_pos),
            _ => Some(fragment.other_pos),
        };
        half.enter(State::Skip { until_other_beyond });
        let response_counts = noticed == Noticed::NextTurn && !self.open.is_empty();
        if had_head && !response_counts {
            cx.lost(0, Lost::Gap);
            self.open.uncounted += 1;
        }
        if noticed == Noticed::NextTurn && !self.pipelines {
            // On a connection that takes turns, the response to what is missing is known or missing, too.
            self.open.lose_all(Lost::Gap, cx);
            self.open.uncounted = 0;
        } else if self.pipelines
            || (!quiet && noticed != (Noticed::FromOpposite { behind_hole: true }))
        {
            // Requests came while others were not answered.
            self.raise_barrier(Lost::Gap);
        } else if !quiet {
            // On a connection that takes turns, what was open was answered in the response's hole.
            self.open.lose_all(Lost::Gap, cx);
            self.open.uncounted = 0;
        }
    }

    /// Responses, or the end of one, may be in the hole.
    pub(super) fn lose_responses<S: Sink>(
        &mut self,
        direction: Direction,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        self.finish_answered(cx);
        if half_of(&self.halves, direction).tail_ends {
            self.end_front_if_blind(cx);
        }
        let newest_stays = noticed == Noticed::NextTurn && self.lose_answered_in_gap(cx);
        if !newest_stays {
            self.open.lose_all(Lost::Gap, cx);
        }
        let until_other_beyond = match noticed {
            _ if newest_stays => None,
            Noticed::FromOpposite { .. } => Some(fragment.pos),
            Noticed::Directly | Noticed::NextTurn | Noticed::AtClose => Some(fragment.other_pos),
        };
        let half = half_mut(&mut self.halves, direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.owner = 0;
        half.enter(State::Skip { until_other_beyond });
        self.settled_pos = cx.wire.flow(direction).pos;
        if self.pipelines {
            self.raise_barrier(Lost::Gap);
        }
    }

    /// The missing bytes of responses moved before the latest ones of requests, so what stands behind them
    /// belongs to the newest request. If they alone make the connection one that pipelines, they answered the
    /// one before it. Whether that is so.
    fn lose_answered_in_gap<S: Sink>(&mut self, cx: &mut Cx<'_, S>) -> bool {
        let unanswered =
            |pending: &&Pending<InHttp>| !pending.answered && !pending.is_unrequested();
        let Some(newest) = self.open.back().filter(unanswered) else { return false };
        if self.pipelines && (self.open.len() > 2 || self.pipelined_pos != newest.begin.pos) {
            return false;
        }
        let uncounted = self.open.uncounted;
        self.open.lose_first(self.open.len() - 1, Lost::Gap, cx);
        self.open.uncounted = uncounted;
        self.pipelines = false;
        true
    }

    pub(super) fn raise_barrier(&mut self, reason: Lost) {
        self.pipelines = true;
        self.open.barrier.get_or_insert(reason);
    }

    /// After a long silence nothing is outstanding any more.
    pub(super) fn leave_barrier<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let silence_ns = fragment.mono_ns.saturating_sub(cx.wire.last_ns);
        if self.open.barrier.is_none()
            || silence_ns < cx.shared.limits.resync_idle_ns
            || !self.carries_requests(fragment.direction)
        {
            return;
        }
        self.finish_answered(cx);
        self.open.lose_all(Lost::Gap, cx);
        self.open.barrier = None;
        self.pipelines = false;
        self.open.uncounted = 0;
        let [rx, tx] = &mut self.halves;
        for half in [rx, tx] {
            if half.state != State::Ended {
                half.enter(State::SKIP);
                half.owner = 0;
                cx.recycle(std::mem::take(&mut half.head));
            }
        }
    }
}
