//! What holes and losses cost, and where pairing is taken up again.

use remora_common::{policy, record::Direction};

use super::{Dialogue, Reader, Tail, Talk};
use crate::{
    accounting::Lost,
    assemble::{
        Cx, index,
        wire::{Fragment, Noticed},
    },
    exchange::Sink,
    protocol::Next,
};

/// Malformed messages after which a connection is taken for another protocol's.
const MAX_MALFORMED: u8 = 4;
/// Long records after which no more than their edges are wanted, if nothing else speaks against it.
const BULKY: u8 = 16;

impl<T: Talk> Dialogue<T> {
    /// `len` bytes of the fragment were not captured.
    pub(in crate::assemble) fn hole<S: Sink>(
        &mut self,
        len: u64,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let is_lost = self.lost[index(fragment.direction)];
        fragment.used |= !is_lost;
        self.skip(len, Lost::PipelineCut, fragment.direction, fragment, cx);
    }

    /// Bytes up to `to` were lost on the way here.
    pub(in crate::assemble) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        let len = cx.wire.jump(direction, to, cx.shared);
        if noticed == Noticed::AtClose && self.is_between_messages(direction) {
            // Whether a message was in it does not matter to any that is known; what is open fails.
            return;
        }
        self.skip(len, Lost::Gap, direction, fragment, cx);
        for pending in self.talk.queue_mut().iter_mut() {
            pending.marks.gap = true;
        }
    }

    fn skip<S: Sink>(
        &mut self,
        len: u64,
        reason: Lost,
        direction: Direction,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let at = index(direction);
        let begin = self.begun[at];
        if direction == self.requests {
            if self.lost[at] {
                return;
            }
            let said = match self.asked.skip(len) {
                Next::Message(request) => {
                    let answered = &mut self.answered;
                    Next::Message(self.talk.request(request, answered, begin, fragment, cx))
                }
                Next::More => Next::More,
                Next::Lost(why) => Next::Lost(why),
            };
            let hidden = match said {
                Next::Message(then) => {
                    self.then(then);
                    matches!(self.asked.skip(0), Next::Lost(_))
                }
                Next::More => false,
                Next::Lost(_) => true,
            };
            if hidden {
                self.lose_requests(reason, cx);
            }
            return;
        }
        if self.blind {
            self.tail.0.clear();
            self.talk.answer_goes_on(fragment);
            return;
        }
        if self.lost[at] {
            return;
        }
        // Where an answer has begun, its first bytes have said what kind of answer it is.
        let has_begun = self.answered.is_open() || self.talk.is_answering();
        let said = match self.answered.skip(len) {
            Next::Message(reply) => Next::Message(self.talk.reply(reply, begin, fragment, cx)),
            Next::More => Next::More,
            Next::Lost(why) => Next::Lost(why),
        };
        let hidden = match said {
            Next::Message(then) => {
                self.then(then);
                matches!(self.answered.skip(0), Next::Lost(_))
            }
            Next::More => false,
            Next::Lost(_) => true,
        };
        if hidden {
            self.lose_replies(reason, has_begun, fragment, cx);
        }
    }

    /// A call of the client begins. If it begins a turn, all requests before it have been answered.
    pub(super) fn turn_may_begin<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let turned = fragment.other_pos > cx.wire.flow(self.requests).other_pos;
        if turned && self.talk.is_unbounded() {
            self.end_answer(false, cx);
        } else if self.blind && !self.asked.is_open() && turned {
            self.end_blind_answer(false, cx);
        }
        let is_unpaired = self.talk.queue().barrier.is_some();
        if !is_unpaired && self.lost == [false; 2] {
            return;
        }
        let may_resume =
            turned && !self.talk.multiplexes() || !is_unpaired && !self.lost[index(self.requests)];
        if may_resume && T::begins_request(bytes) {
            self.lose_all(Lost::Gap, cx);
            self.take_turns();
            self.asked.restart();
            self.answered.restart();
            self.lost = [false; 2];
        }
    }

    pub(super) fn lose_requests<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.lost[index(self.requests)] = true;
        self.ask_for_all(cx);
        if self.talk.absorbs_loss(reason) {
            return;
        }
        if self.talk.misses_more() {
            cx.lost(0, reason);
        }
        self.lose_all(reason, cx);
        self.talk.queue_mut().barrier.get_or_insert(reason);
        self.note_malformed(reason, cx);
    }

    pub(super) fn lose_replies<S: Sink>(
        &mut self,
        reason: Lost,
        has_begun: bool,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        self.ask_for_all(cx);
        if has_begun && self.talk.awaits_one() && self.talk.answer_goes_on(fragment) {
            self.blind = true;
            self.tail.0.clear();
            return;
        }
        self.lost[index(self.requests.flip())] = true;
        self.lose_all(reason, cx);
        self.talk.queue_mut().barrier.get_or_insert(reason);
        self.note_malformed(reason, cx);
    }

    fn note_malformed<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        if reason == Lost::Malformed {
            self.malformed += 1;
            if self.malformed >= MAX_MALFORMED {
                self.lose_all(reason, cx);
                self.leaves = Some(policy::COUNT);
            }
        }
    }

    pub(super) fn end_blind_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if self.blind || self.talk.is_unbounded() {
            self.end_answer(inferred, cx);
        }
    }

    fn end_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        self.blind = false;
        self.tail = Tail::default();
        self.answered.restart();
        self.talk.end_answer(inferred, cx);
    }

    pub(super) fn lose_all<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().lose_all(reason, cx);
        self.talk.emptied(false);
    }

    pub(super) fn fail_all<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().fail_all(self.requests, mono_ns, cx);
        self.talk.emptied(false);
    }

    /// Nothing is outstanding from here on.
    pub(super) fn take_turns(&mut self) {
        let queue = self.talk.queue_mut();
        queue.barrier = None;
        queue.uncounted = 0;
        self.talk.emptied(true);
    }

    /// Every byte is needed, now and later.
    pub(super) fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        self.needs_all = true;
        self.capture(policy::ALL, cx);
    }

    /// Where long messages come one at a time, their edges will do: what lies between is followed by its length, or ends
    /// with the turn.
    pub(super) fn note_bulk<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let edges = u64::from(policy::EDGE_FIRST + policy::EDGE_LAST);
        if self.needs_all || !(fragment.continues || fragment.end - fragment.pos > edges) {
            return;
        }
        self.bulky = self.bulky.saturating_add(1);
        if self.bulky >= BULKY {
            self.capture(policy::EDGES, cx);
        }
    }

    fn capture<S: Sink>(&mut self, policy: u8, cx: &mut Cx<'_, S>) {
        if self.policy != policy {
            self.policy = policy;
            cx.capture(policy);
        }
    }
}
