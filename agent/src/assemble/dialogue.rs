//! A conversation of requests and replies, each side's messages read by a reader of their own: what is common to the
//! protocols that are like that. What messages mean, and which reply belongs to which request, says a [`Talk`].
//!
//! A hole within a body costs nothing where its length stands before it. One that hides where messages end leaves their
//! order unknown. If exactly one answer is awaited, its end is seen at the next request, or told by its last bytes.
//! Otherwise what is open is lost, and nothing is paired before a request that begins a turn, when all before it was
//! answered. A connection on which requests were sent while others were not answered never shows such a turn; there,
//! only a silence ends it.

use std::fmt::Debug;

use remora_common::{policy, record::Direction};

use super::{
    Cx,
    connection::{Fragment, Noticed},
    conversation::Ended,
    index,
    kept::Keeping,
    pending::{Begin, InProgress, Queue},
};
use crate::{
    accounting::Lost,
    exchange::{Failure, Sink},
    protocol::{Next, Place, Unframed},
};

/// Malformed messages after which a connection is taken for another protocol's.
const MAX_MALFORMED: u8 = 4;
/// An answer whose end is not seen is over after a silence this long.
const BLIND_SILENCE_NS: u64 = 1_000_000_000;
/// Bytes of an answer's end that are held together to be recognised.
const TAIL: usize = 96;

/// Reads the messages of one direction.
pub(super) trait Reader: Debug {
    type Message<'a>
    where
        Self: 'a;

    /// Goes on by what `bytes` hold from `used` on, up to the end of a message.
    fn next<'a>(
        &'a mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut Keeping<'_>,
    ) -> Next<(Self::Message<'a>, Place)>;

    /// Goes on by `len` bytes that were not captured.
    fn skip(&mut self, len: u64) -> Next<(Self::Message<'_>, Place)>;

    /// The next byte begins a message.
    fn restart(&mut self);

    /// Whether a message has begun that has not ended.
    fn is_open(&self) -> bool;

    /// Where in the bytes that came last the message began that is open.
    fn began(&self) -> Option<usize>;
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// What comes behind it is no conversation of this protocol; captured by this policy.
    Leave(u8),
}

/// What messages mean.
pub(super) trait Talk: Debug {
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

    /// What comes from the client now is content of a request that is open: nothing is lost with its framing.
    fn takes_content(&self) -> bool {
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

/// A connection of such a protocol.
#[derive(Debug)]
pub(super) struct Dialogue<T: Talk> {
    requests: Direction,
    asked: T::Requests,
    answered: T::Replies,
    /// When the message in progress began, by direction.
    begun: [Begin; 2],
    /// Framing is lost until the next turn, by direction.
    lost: [bool; 2],
    /// The end of the only answer that is awaited cannot be seen.
    blind: bool,
    tail: Tail,
    malformed: u8,
    policy: u8,
    leaves: Option<u8>,
    talk: T,
}

/// The last bytes that were captured without a hole.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) -> &[u8] {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let more = (self.0.len() + bytes.len()).saturating_sub(TAIL);
        self.0.drain(..more);
        self.0.extend_from_slice(bytes);
        &self.0
    }
}

impl<T: Talk> Dialogue<T> {
    /// Requests go in `requests`.
    pub(super) fn new<S: Sink>(
        requests: Direction,
        asked: T::Requests,
        answered: T::Replies,
        talk: T,
        cx: &mut Cx<'_, S>,
    ) -> Self {
        cx.sink.capture(cx.wire.info.id, policy::EDGES);
        Self {
            requests,
            asked,
            answered,
            begun: [Begin::default(); 2],
            lost: [false; 2],
            blind: false,
            tail: Tail::default(),
            malformed: 0,
            policy: policy::EDGES,
            leaves: None,
            talk,
        }
    }

    /// What follows is none of it; captured by this policy.
    pub(super) const fn leaves(&self) -> Option<u8> {
        self.leaves
    }

    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        match direction == self.requests {
            true => !self.asked.is_open(),
            false => !self.answered.is_open(),
        }
    }

    /// After a silence nothing is outstanding.
    pub(super) fn begins<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let silence_ns = fragment.mono_ns.saturating_sub(cx.wire.last_ns);
        if self.talk.queue().barrier.is_some()
            && fragment.direction == self.requests
            && silence_ns >= cx.shared.limits.resync_idle_ns
        {
            self.lose_all(Lost::Gap, cx);
            self.take_turns();
        }
    }

    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        match fragment.direction == self.requests {
            true => self.request_bytes(bytes, fragment, cx),
            false => self.reply_bytes(bytes, fragment, cx),
        }
    }

    fn request_bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        if fragment.is_first {
            self.turn_may_begin(bytes, fragment, cx);
        }
        let at = index(fragment.direction);
        if self.lost[at] {
            return;
        }
        fragment.used = true;
        let mut used = 0;
        while self.leaves.is_none() {
            let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, bytes);
            let said = match self.asked.next(bytes, &mut used, &mut keep) {
                Next::Message((request, place)) => {
                    let begin = if place.begin.is_some() { fragment.begin } else { self.begun[at] };
                    let answered = &mut self.answered;
                    Next::Message(self.talk.request(request, answered, begin, fragment, cx))
                }
                Next::More => break,
                Next::Lost(why) => Next::Lost(why),
            };
            match said {
                Next::Lost(why) => return self.lose_requests(lost(why), cx),
                Next::Message(then) => self.then(then),
                Next::More => {}
            }
        }
        if self.asked.began().is_some() {
            self.begun[at] = fragment.begin;
        }
        if self.talk.wants_all() {
            self.ask_for_all(cx);
        }
    }

    fn reply_bytes<S: Sink>(&mut self, bytes: &[u8], fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        if let Some(then) = self.talk.other_bytes(fragment, cx) {
            fragment.used = true;
            return self.then(then);
        }
        if self.blind {
            fragment.used = true;
            return self.blind_bytes(bytes, fragment, cx);
        }
        let at = index(fragment.direction);
        if self.lost[at] {
            return;
        }
        fragment.used = true;
        let mut used = 0;
        while self.leaves.is_none() {
            let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, bytes);
            let said = match self.answered.next(bytes, &mut used, &mut keep) {
                Next::Message((reply, place)) => {
                    let begin = if place.begin.is_some() { fragment.begin } else { self.begun[at] };
                    Next::Message(self.talk.reply(reply, begin, fragment, cx))
                }
                Next::More => break,
                Next::Lost(why) => Next::Lost(why),
            };
            match said {
                Next::Lost(why) => return self.lose_replies(lost(why), false, fragment, cx),
                Next::Message(then) => self.then(then),
                Next::More => {}
            }
        }
        if self.answered.began().is_some() {
            self.begun[at] = fragment.begin;
        }
    }

    fn blind_bytes<S: Sink>(&mut self, bytes: &[u8], fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        self.talk.answer_goes_on(fragment);
        let (ends, used) = self.talk.ends_answer(self.tail.push(bytes));
        let from = bytes.len() - used.min(bytes.len());
        cx.keep(|kept| kept.literal(fragment.place.plus(from), &bytes[from..]));
        if ends {
            self.end_blind_answer(false, cx);
        }
    }

    /// `len` bytes of the fragment were not captured.
    pub(super) fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        let is_lost = self.lost[index(fragment.direction)];
        fragment.used |= !is_lost;
        self.skip(len, Lost::PipelineCut, fragment.direction, fragment, cx);
    }

    /// Bytes up to `to` were lost on the way here.
    pub(super) fn gap<S: Sink>(
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
                Next::Message((request, _)) => {
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
            Next::Message((reply, _)) => Next::Message(self.talk.reply(reply, begin, fragment, cx)),
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
    fn turn_may_begin<S: Sink>(&mut self, bytes: &[u8], fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let turned = fragment.other_pos > cx.wire.flow(self.requests).other_pos;
        if self.blind && !self.asked.is_open() && turned {
            self.end_blind_answer(false, cx);
        }
        let is_unpaired = self.talk.queue().barrier.is_some();
        if !is_unpaired && self.lost == [false; 2] {
            return;
        }
        let may_resume = if is_unpaired { turned && !self.talk.multiplexes() } else { true };
        if may_resume && T::begins_request(bytes) {
            self.lose_all(Lost::Gap, cx);
            self.take_turns();
            self.asked.restart();
            self.answered.restart();
            self.lost = [false; 2];
        }
    }

    fn lose_requests<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.lost[index(self.requests)] = true;
        if self.talk.takes_content() && reason != Lost::Malformed {
            return;
        }
        self.ask_for_all(cx);
        if self.talk.misses_more() {
            cx.lost(0, reason);
        }
        self.lose_all(reason, cx);
        self.talk.queue_mut().barrier.get_or_insert(reason);
        self.note_malformed(reason, cx);
    }

    fn lose_replies<S: Sink>(
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

    fn end_blind_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if self.blind {
            self.blind = false;
            self.tail = Tail::default();
            self.answered.restart();
            self.talk.end_answer(inferred, cx);
        }
    }

    fn lose_all<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().lose_all(reason, cx);
        self.talk.emptied(false);
    }

    fn fail_all<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().fail_all(self.requests, mono_ns, cx);
        self.talk.emptied(false);
    }

    /// Nothing is outstanding from here on.
    fn take_turns(&mut self) {
        let queue = self.talk.queue_mut();
        queue.barrier = None;
        queue.uncounted = 0;
        self.talk.emptied(true);
    }

    fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.policy != policy::ALL {
            self.policy = policy::ALL;
            cx.sink.capture(cx.wire.info.id, policy::ALL);
        }
    }

    fn then(&mut self, then: Then) {
        if let Then::Leave(policy) = then {
            self.leaves = Some(policy);
        }
    }

    pub(super) fn ended<S: Sink>(&mut self, how: Ended, mono_ns: u64, cx: &mut Cx<'_, S>) {
        match how {
            Ended::Direction(direction) if direction == self.requests => {}
            Ended::Direction(_) | Ended::Connection => {
                if cx.wire.failure.is_none() {
                    self.end_blind_answer(true, cx);
                }
                self.fail_all(mono_ns, cx);
            }
            Ended::Silent => {
                self.end_blind_answer(true, cx);
                cx.wire.failure.get_or_insert((Failure::NoResponse, mono_ns));
                self.fail_all(mono_ns, cx);
            }
            Ended::Stopped => {
                self.end_blind_answer(true, cx);
                self.lose_all(Lost::Stopped, cx);
            }
            Ended::Replaced => self.lose_all(Lost::Malformed, cx),
        }
    }

    /// Fails what is open some time after the transport did.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().due(self.requests, mono_ns, cx);
    }

    /// An answer whose end is not seen, and of which nothing has come for a while, is over.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let last_ns = cx.wire.flow(self.requests.flip()).last_ns;
        if self.blind && mono_ns.saturating_sub(last_ns) >= BLIND_SILENCE_NS {
            self.end_blind_answer(true, cx);
        }
    }
}

const fn lost(why: Unframed) -> Lost {
    match why {
        Unframed::Hole => Lost::PipelineCut,
        Unframed::Malformed => Lost::Malformed,
    }
}
