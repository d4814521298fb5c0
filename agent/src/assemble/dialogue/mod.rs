//! A conversation of requests and replies, each side's messages read by a reader of their own: what is common to the
//! protocols that are like that. What messages mean, and which reply belongs to which request, says a [`Talk`].
//!
//! A hole within a body costs nothing where its length stands before it. One that hides where messages end leaves their
//! order unknown. If exactly one answer is awaited, its end is seen at the next request, or told by its last bytes.
//! Otherwise what is open is lost, and nothing is paired before a request that begins a turn, when all before it was
//! answered. A connection on which requests were sent while others were not answered never shows such a turn; there,
//! only a silence ends it.

use remora_common::{policy, record::Direction};

use super::{Cx, conversation::Ended, index, kept::Keeping, pending::Begin, wire::Fragment};
use crate::{
    accounting::Lost,
    exchange::Sink,
    protocol::{Next, Unframed},
};

mod holes;
mod talk;

pub(super) use talk::{Reader, Talk, Then, reader};

/// An answer whose end is not seen is over after a silence this long.
const BLIND_SILENCE_NS: u64 = 1_000_000_000;
/// Bytes of an answer's end that are held together to be recognised.
const TAIL: usize = 96;

/// A connection of such a protocol.
#[derive(Debug)]
pub(in crate::assemble) struct Dialogue<T: Talk> {
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
    /// Requests come many at a time, or something was lost for want of bytes.
    needs_all: bool,
    /// Records longer than what is copied by edges.
    bulky: u8,
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
    pub(in crate::assemble) fn new<S: Sink>(
        requests: Direction,
        asked: T::Requests,
        answered: T::Replies,
        talk: T,
        cx: &mut Cx<'_, S>,
    ) -> Self {
        cx.capture(policy::ALL);
        Self {
            requests,
            asked,
            answered,
            begun: [Begin::default(); 2],
            lost: [false; 2],
            blind: false,
            tail: Tail::default(),
            malformed: 0,
            policy: policy::ALL,
            needs_all: false,
            bulky: 0,
            leaves: None,
            talk,
        }
    }

    /// What follows is none of it; captured by this policy.
    pub(in crate::assemble) const fn leaves(&self) -> Option<u8> {
        self.leaves
    }

    /// Whether a request waits for its answer, or an answer for its end.
    pub(in crate::assemble) fn has_open(&self) -> bool {
        !self.talk.queue().is_empty()
    }

    pub(in crate::assemble) fn is_between_messages(&self, direction: Direction) -> bool {
        match direction == self.requests {
            true => !self.asked.is_open(),
            false => !self.answered.is_open(),
        }
    }

    /// After a silence nothing is outstanding.
    pub(in crate::assemble) fn begins<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let silence_ns = fragment.mono_ns.saturating_sub(cx.wire.last_ns);
        if self.talk.queue().barrier.is_some()
            && fragment.direction == self.requests
            && silence_ns >= cx.shared.limits.resync_idle_ns
        {
            self.lose_all(Lost::Gap, cx);
            self.take_turns();
        }
    }

    pub(in crate::assemble) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        _hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        match fragment.direction == self.requests {
            true => self.request_bytes(bytes, fragment, cx),
            false => self.reply_bytes(bytes, fragment, cx),
        }
        self.note_bulk(fragment, cx);
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
                Next::Message(request) => {
                    let begin = match T::Requests::place(&request).begin {
                        Some(0) => fragment.begin_here(),
                        Some(_) => fragment.begin,
                        None => self.begun[at],
                    };
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
        if let Some(offset) = self.asked.began() {
            self.begun[at] = if offset == 0 { fragment.begin_here() } else { fragment.begin };
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
                Next::Message(reply) => {
                    let began_here = T::Replies::place(&reply).begin.is_some();
                    let begin = if began_here { fragment.begin } else { self.begun[at] };
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

    fn then(&mut self, then: Then) {
        if let Then::Leave(policy) = then {
            self.leaves = Some(policy);
        }
    }

    pub(in crate::assemble) fn ended<S: Sink>(
        &mut self,
        how: Ended,
        mono_ns: u64,
        cx: &mut Cx<'_, S>,
    ) {
        match how {
            Ended::Direction(direction) if direction == self.requests => {}
            Ended::Direction(_) | Ended::Connection => {
                if cx.wire.failure.is_none() {
                    self.end_blind_answer(true, cx);
                }
                self.fail_all(mono_ns, cx);
            }
            Ended::Forgotten(why) => {
                self.end_blind_answer(true, cx);
                self.lose_all(why, cx);
            }
            Ended::Stopped => {
                self.end_blind_answer(true, cx);
                self.lose_all(Lost::Stopped, cx);
            }
            Ended::Replaced => self.lose_all(Lost::Malformed, cx),
        }
    }

    /// Fails what is open some time after the transport did.
    pub(in crate::assemble) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.talk.queue_mut().due(self.requests, mono_ns, cx);
    }

    /// An answer whose end is not seen, and of which nothing has come for a while, is over.
    pub(in crate::assemble) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let last_ns = cx.wire.flow(self.requests.flip()).last_ns;
        if mono_ns.saturating_sub(last_ns) >= BLIND_SILENCE_NS {
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
