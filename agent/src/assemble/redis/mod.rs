//! Redis on a connection: which reply answers which command, which commands are one batch, and what is remembered
//! between them. [`super::dialogue`] knows where they begin and end.
//!
//! Commands that one call of the client sends are a pipeline, `MULTI` and what follows up to `EXEC` are a transaction:
//! each is one exchange. Messages of subscriptions are none, for nobody asked for them.

use std::sync::Arc;

use remora_common::{policy, record::Direction};

use super::{
    Cx,
    dialogue::{Dialogue, Talk, Then, reader},
    pending::{Begin, Pending, Queue, Stage},
    wire::Fragment,
};
use crate::{
    accounting::Lost,
    exchange::Sink,
    protocol::{
        Parse,
        redis::{Command, Commands, Kind, Replies, Reply, ReplyKind, Word, looks_like_commands},
    },
};

mod batch;

use batch::InRedis;

/// A Redis connection.
pub(super) type Redis = Dialogue<RedisTalk>;

impl Redis {
    /// Commands go in `requests`. `joined`: not from the connection's first byte on.
    pub(super) fn begin<S: Sink>(requests: Direction, joined: bool, cx: &mut Cx<'_, S>) -> Self {
        let talk = RedisTalk::new(requests, joined);
        Self::new(requests, Commands::default(), Replies::default(), talk, cx)
    }
}

reader!(Commands, Command<'a>, |command: &Command<'_>| command.place);
reader!(Replies, Reply<'a>, |reply: &Reply<'_>| reply.place);

/// What is said on a connection.
#[derive(Debug)]
pub(super) struct RedisTalk {
    requests: Direction,
    open: Queue<InRedis>,
    /// The database; `None` where it was chosen before the connection was seen.
    namespace: Option<Arc<str>>,
    batch: Option<Batch>,
    /// Serial of the transaction that has begun and not ended.
    transaction: Option<u64>,
    /// Commands were sent while others, of other calls, were not answered.
    multiplexes: bool,
    /// After the next reply the server speaks by itself.
    leaves: bool,
    silenced: Silenced,
}

/// The pipeline that the next command may be part of.
#[derive(Clone, Copy, Debug)]
struct Batch {
    serial: u64,
    tid: u32,
    /// Position of the replies when its first command was sent.
    other_pos: u64,
    /// Where the call ends that sent its last command.
    call_end: u64,
}

/// `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silenced {
    No,
    /// For the next command.
    Once,
    Yes,
}

impl RedisTalk {
    fn new(requests: Direction, joined: bool) -> Self {
        Self {
            requests,
            open: Queue::default(),
            namespace: (!joined).then(|| "0".into()),
            batch: None,
            transaction: None,
            multiplexes: false,
            leaves: false,
            silenced: Silenced::No,
        }
    }

    /// The exchange that a command in `fragment` is part of.
    fn joins(&self, fragment: &Fragment) -> Option<u64> {
        if self.transaction.is_some() {
            return self.transaction;
        }
        let batch = self.batch?;
        let continues = fragment.continues && fragment.pos == batch.call_end;
        let same_call = fragment.pos < batch.call_end || continues;
        let commands = self.open.back().map_or(0, |last| last.detail.commands);
        // A long pipeline takes several calls, one behind the other.
        let goes_on = commands > 1
            && batch.tid == fragment.begin.tid
            && batch.other_pos == fragment.other_pos
            && fragment.pos == batch.call_end;
        (same_call || goes_on).then_some(batch.serial)
    }

    fn note_batch(&mut self, serial: u64, fragment: &Fragment) {
        let other_pos = match self.batch {
            Some(batch) if batch.serial == serial => batch.other_pos,
            _ => fragment.other_pos,
        };
        let (tid, call_end) = (fragment.begin.tid, fragment.end);
        self.batch = Some(Batch { serial, tid, other_pos, call_end });
    }

    fn remember(&mut self, command: &Command<'_>, kind: Kind, serial: u64) {
        match kind {
            Kind::Multi => self.transaction = Some(serial),
            Kind::Exec | Kind::Discard => self.transaction = None,
            Kind::Select => {
                let Some(database) = command.database() else { return };
                let before = self.namespace.replace(database.to_string().into());
                if let Some(pending) = self.open.find(serial) {
                    pending.detail.selected_from = Some((pending.detail.expected, before));
                }
            }
            Kind::Reset => self.namespace = Some("0".into()),
            Kind::Replication => self.leaves = true,
            _ => {}
        }
    }

    /// How many replies a command has.
    fn replies_to(&mut self, command: &Command<'_>, kind: Kind) -> u32 {
        if kind == Kind::Reply {
            let how = command.shown(2).unwrap_or_default();
            self.silenced = match how {
                _ if how.eq_ignore_ascii_case("off") => Silenced::Yes,
                _ if how.eq_ignore_ascii_case("skip") => Silenced::Once,
                _ => Silenced::No,
            };
            return u32::from(self.silenced == Silenced::No);
        }
        match self.silenced {
            Silenced::Yes => return 0,
            Silenced::Once => {
                self.silenced = Silenced::No;
                return 0;
            }
            Silenced::No => {}
        }
        match kind {
            Kind::Subscription => command.argument_count().max(1),
            _ => 1,
        }
    }

    /// Finishes the front exchange if all its replies have come.
    fn finish_answered<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(front) = self.open.front() else { return };
        let detail = &front.detail;
        let waits = detail.unfinished || detail.unbounded || detail.replied < detail.expected;
        if front.is_unrequested() || waits {
            return;
        }
        if self.batch.is_some_and(|batch| batch.serial == front.serial) {
            self.batch = None;
        }
        self.open.finish_front(self.requests, None, cx);
    }

    /// Of a message of the server: whether it answers what is in front of the queue.
    fn is_answer(&self, reply: &Reply<'_>) -> bool {
        let confirms = reply.word.is_some_and(is_confirmation);
        if confirms {
            return self.open.front().is_some_and(|front| front.detail.subscribes);
        }
        reply.kind != ReplyKind::Push && !reply.word.is_some_and(Word::is_message)
    }
}

impl Talk for RedisTalk {
    type Requests = Commands;
    type Replies = Replies;
    type InProgress = InRedis;

    fn begins_request(bytes: &[u8]) -> bool {
        matches!(looks_like_commands(bytes), Parse::Parsed { .. })
    }

    fn request<S: Sink>(
        &mut self,
        command: Command<'_>,
        _: &mut Replies,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then {
        let kind = command.kind();
        let replies = self.replies_to(&command, kind);
        if let Some(serial) = self.joins(fragment)
            && let Some(pending) = self.open.find(serial)
        {
            pending.detail.add(&command, kind, replies);
            self.remember(&command, kind, serial);
            self.note_batch(serial, fragment);
            return Then::GoOn;
        }
        self.multiplexes |= self.open.iter().any(|pending| !pending.is_unrequested());
        if !self.open.admits(begin, self.requests, cx) {
            return Then::GoOn;
        }
        let mut detail = InRedis::default();
        detail.db.namespace.clone_from(&self.namespace);
        detail.add(&command, kind, replies);
        let mut pending = Pending::request(0, begin, detail);
        if replies == 0 {
            pending.end_ns = fragment.mono_ns;
            self.open.finish_alone(pending, self.requests, cx);
            return Then::GoOn;
        }
        let serial = self.open.push_or_adopt(pending, self.requests, cx);
        self.remember(&command, kind, serial);
        self.note_batch(serial, fragment);
        self.finish_answered(cx);
        Then::GoOn
    }

    fn reply<S: Sink>(
        &mut self,
        reply: Reply<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then {
        if !self.is_answer(&reply) {
            return Then::GoOn;
        }
        if self.open.is_empty() {
            if self.open.uncounted > 0 {
                self.open.uncounted -= 1;
                return Then::GoOn;
            }
            if self.open.barrier.is_some() {
                return Then::GoOn;
            }
            self.open.push_unrequested(cx);
        }
        let Some(front) = self.open.front_mut() else { return Then::GoOn };
        if !front.answered {
            front.answered = true;
            front.first_byte_ns = begin.mono_ns;
        }
        front.response_moved(fragment);
        let detail = &mut front.detail;
        detail.replied += 1;
        let failed = reply.kind == ReplyKind::Error || reply.errors > 0;
        if failed && !detail.db.failed {
            detail.db.failed = true;
            detail.db.status_code = Some(reply.code.unwrap_or("ERR").into());
        }
        let monitors = detail.monitors && !failed;
        if let Some((reply, before)) = &detail.selected_from
            && *reply == detail.replied
            && failed
        {
            self.namespace.clone_from(before);
        }
        if front.is_unrequested() {
            front.stage = Stage::UnrequestedDone;
            cx.wire.make_due(fragment.mono_ns, cx.shared);
            return Then::GoOn;
        }
        self.finish_answered(cx);
        if monitors { Then::Leave(policy::COUNT) } else { Then::GoOn }
    }

    /// What answers a replica is not a reply as others are.
    fn other_bytes<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) -> Option<Then> {
        if !self.leaves {
            return None;
        }
        while !self.open.is_empty() {
            self.answer_goes_on(fragment);
            self.open.finish_front(self.requests, None, cx);
        }
        Some(Then::Leave(policy::COUNT))
    }

    /// A pipeline may be longer than what is copied of a call.
    fn wants_all(&self) -> bool {
        self.open.back().is_some_and(|last| last.detail.commands > 1)
    }

    /// A pipeline that is longer than what is copied is over at the next turn.
    fn absorbs_loss(&mut self, reason: Lost) -> bool {
        let alone = self.open.len() == 1 && !self.multiplexes && self.transaction.is_none();
        let batch = self.batch.map(|batch| batch.serial);
        let Some(front) = self.open.front_mut().filter(|front| Some(front.serial) == batch) else {
            return false;
        };
        let absorbs = alone && reason == Lost::PipelineCut;
        front.detail.unbounded |= absorbs;
        absorbs
    }

    fn is_unbounded(&self) -> bool {
        self.open.front().is_some_and(|front| front.detail.unbounded)
    }

    fn awaits_one(&self) -> bool {
        let awaits = |front: &Pending<InRedis>| {
            let detail = &front.detail;
            let one = detail.unbounded || detail.expected.saturating_sub(detail.replied) == 1;
            !front.is_unrequested() && !detail.unfinished && one
        };
        self.open.len() == 1 && !self.multiplexes && self.open.front().is_some_and(awaits)
    }

    /// One reply is one message.
    fn is_answering(&self) -> bool {
        false
    }

    fn answer_goes_on(&mut self, fragment: &Fragment) -> bool {
        let Some(front) = self.open.front_mut() else { return false };
        if !front.answered {
            front.answered = true;
            front.first_byte_ns = fragment.mono_ns;
        }
        front.response_moved(fragment);
        true
    }

    fn end_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if let Some(front) = self.open.front_mut() {
            front.marks.end_inferred |= inferred;
            if !front.detail.unbounded {
                front.detail.replied += 1;
            }
            front.detail.expected = front.detail.replied;
            self.batch = None;
            self.open.finish_front(self.requests, None, cx);
        }
    }

    fn multiplexes(&self) -> bool {
        self.multiplexes
    }

    fn misses_more(&self) -> bool {
        self.batch.is_none() || self.open.is_empty()
    }

    fn queue(&self) -> &Queue<InRedis> {
        &self.open
    }

    fn queue_mut(&mut self) -> &mut Queue<InRedis> {
        &mut self.open
    }

    fn emptied(&mut self, turn: bool) {
        self.batch = None;
        self.transaction = None;
        self.multiplexes &= !turn;
    }
}

/// What a server says of a subscription.
const fn is_confirmation(word: Word) -> bool {
    matches!(
        word,
        Word::Subscribe
            | Word::Unsubscribe
            | Word::PatternSubscribe
            | Word::PatternUnsubscribe
            | Word::ShardSubscribe
            | Word::ShardUnsubscribe
    )
}
