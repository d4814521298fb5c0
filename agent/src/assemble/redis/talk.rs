//! Which reply answers which command, which commands are one batch, and what a connection remembers between them.
//!
//! Commands that one call of the client sends are a pipeline, `MULTI` and what follows up to `EXEC` are a transaction:
//! each is one exchange. Messages of subscriptions are none, for nobody asked for them.

use std::{borrow::Cow, sync::Arc};

use remora_common::record::Direction;

use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        connection::Fragment,
        pending::{Begin, InProgress, Pending, Queue},
    },
    exchange::{DbExchange, Detail, Sink},
    protocol::redis::{Command, Kind, Reply, ReplyKind, Word},
};

/// Bytes of the text of a batch, of which more is not told.
const MAX_BATCH_TEXT: usize = 1024;

/// What is said on a connection.
#[derive(Debug)]
pub(super) struct Talk {
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

/// A command or a batch that is not over.
#[derive(Debug, Default)]
struct InRedis {
    db: Box<DbExchange>,
    /// `db.query_text` so far.
    text: String,
    /// Commands without those that only begin and end a transaction.
    commands: u32,
    /// Replies that are due, and those that have come.
    expected: u32,
    replied: u32,
    /// Not all commands have one name.
    mixed: bool,
    transaction: bool,
    /// More commands will come.
    unfinished: bool,
    subscribes: bool,
    monitors: bool,
    /// The database before a `SELECT` that may fail.
    selected_from: Option<Option<Arc<str>>>,
}

impl InProgress for InRedis {
    fn settled(&self) -> Self {
        Self { expected: self.expected, replied: self.replied, ..Self::default() }
    }

    fn join(&mut self, request: Self) {
        let (code, failed) = (self.db.status_code.take(), self.db.failed);
        let replied = self.replied;
        *self = request;
        self.replied = replied;
        (self.db.status_code, self.db.failed) = (code, failed);
    }

    fn into_detail(mut self) -> Detail {
        let kind = match self.transaction {
            true => Some("MULTI"),
            false if self.commands > 1 => Some("PIPELINE"),
            false => None,
        };
        if let Some(kind) = kind {
            self.db.batch_size = self.commands;
            self.db.operation = match self.mixed || self.commands == 0 {
                true => Cow::Borrowed(kind),
                false => Cow::Owned(format!("{kind} {}", self.db.operation)),
            };
        }
        if !self.text.is_empty() {
            self.db.query_text = Some(self.text.into());
        }
        Detail::Redis(self.db)
    }
}

impl Talk {
    pub(super) fn new(requests: Direction, joined: bool) -> Self {
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

    /// Whether commands are not paired with replies now.
    pub(super) fn is_unpaired(&self) -> bool {
        self.open.barrier.is_some()
    }

    pub(super) const fn multiplexes(&self) -> bool {
        self.multiplexes
    }

    /// Whether the server speaks by itself behind what comes next.
    pub(super) const fn leaves(&self) -> bool {
        self.leaves
    }

    /// From here on nothing is outstanding.
    pub(super) fn take_turns(&mut self) {
        self.open.barrier = None;
        self.open.uncounted = 0;
        self.multiplexes = false;
    }

    pub(super) fn stop_pairing(&mut self, reason: Lost) {
        self.open.barrier.get_or_insert(reason);
        self.batch = None;
        self.transaction = None;
    }

    pub(super) fn lose_all<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.open.lose_all(reason, cx);
        self.batch = None;
        self.transaction = None;
    }

    /// Commands were sent of which nothing can be told.
    pub(super) fn miss<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        if self.batch.is_none() || self.open.is_empty() {
            cx.lost(0, reason);
        }
        self.lose_all(reason, cx);
        self.stop_pairing(reason);
    }

    pub(super) fn mark_gap(&mut self) {
        for pending in self.open.iter_mut() {
            pending.marks.gap = true;
        }
    }

    /// A command is whole. It began at `begin` and ends in `fragment`.
    pub(super) fn command<S: Sink>(
        &mut self,
        command: &Command<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let kind = command.kind();
        let replies = self.replies_to(command, kind);
        if let Some(serial) = self.joins(fragment)
            && let Some(pending) = self.open.find(serial)
        {
            pending.detail.add(command, kind, replies);
            pending.request_end_ns = fragment.mono_ns;
            self.remember(command, kind, serial);
            self.note_batch(serial, fragment);
            return;
        }
        self.multiplexes |= !self.open.is_empty();
        if !self.open.admits(begin, cx) {
            return;
        }
        let mut detail = InRedis::default();
        detail.db.namespace.clone_from(&self.namespace);
        detail.add(command, kind, replies);
        let mut pending = Pending::request(0, begin, detail);
        pending.request_end_ns = fragment.mono_ns;
        if replies == 0 {
            pending.end_ns = fragment.mono_ns;
            return self.open.finish_alone(pending, self.requests, cx);
        }
        let serial = self.open.push_or_adopt(pending, self.requests, cx);
        self.remember(command, kind, serial);
        self.note_batch(serial, fragment);
        self.finish_answered(cx);
    }

    /// The exchange that a command in `fragment` is part of.
    fn joins(&self, fragment: &Fragment) -> Option<u64> {
        if self.transaction.is_some() {
            return self.transaction;
        }
        let batch = self.batch?;
        let same_call =
            fragment.pos < batch.call_end || fragment.continues && fragment.pos == batch.call_end;
        let commands = self.open.back().map_or(0, |last| last.detail.commands);
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
                    pending.detail.selected_from = Some(before);
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

    /// A reply is whole; whether the server speaks by itself from now on.
    pub(super) fn reply<S: Sink>(
        &mut self,
        reply: &Reply<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        let confirms = reply.word.is_some_and(is_confirmation);
        let by_itself = reply.kind == ReplyKind::Push || reply.word.is_some_and(Word::is_message);
        let subscribing = self.open.front().is_some_and(|front| front.detail.subscribes);
        if by_itself && !(confirms && subscribing) || confirms && !subscribing {
            return false;
        }
        if self.open.is_empty() {
            if self.open.uncounted > 0 {
                self.open.uncounted -= 1;
                return false;
            }
            if self.is_unpaired() {
                return false;
            }
            self.open.push_unrequested(cx);
        }
        let Some(front) = self.open.front_mut() else { return false };
        if !front.answered {
            front.answered = true;
            front.first_byte_ns = begin.mono_ns;
        }
        front.end_ns = fragment.mono_ns;
        front.response_tid = fragment.begin.tid;
        let detail = &mut front.detail;
        detail.replied += 1;
        let failed = reply.kind == ReplyKind::Error || reply.errors > 0;
        if failed && !detail.db.failed {
            detail.db.failed = true;
            detail.db.status_code = Some(reply.code.unwrap_or("ERR").into());
        }
        let monitors = detail.monitors && !failed;
        if failed && let Some(before) = detail.selected_from.take() {
            self.namespace = before;
        }
        if front.is_unrequested() {
            front.stage = crate::assemble::pending::Stage::UnrequestedDone;
            cx.wire.make_due(fragment.mono_ns, cx.shared);
            return false;
        }
        self.finish_answered(cx);
        monitors
    }

    /// Finishes the front exchange if all its replies have come.
    fn finish_answered<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(front) = self.open.front() else { return };
        let detail = &front.detail;
        if front.is_unrequested() || detail.unfinished || detail.replied < detail.expected {
            return;
        }
        if self.batch.is_some_and(|batch| batch.serial == front.serial) {
            self.batch = None;
        }
        self.open.finish_front(self.requests, None, cx);
    }

    /// Whether exactly one reply is awaited.
    pub(super) fn awaits_one(&self) -> bool {
        let detail = self.open.front().filter(|front| !front.is_unrequested());
        self.open.len() == 1
            && !self.multiplexes
            && detail.is_some_and(|front| {
                !front.detail.unfinished && front.detail.expected - front.detail.replied == 1
            })
    }

    /// A reply has begun whose end will not be seen; whether it is somebody's.
    pub(super) fn reply_begins(&mut self, fragment: &Fragment) -> bool {
        let Some(front) = self.open.front_mut() else { return false };
        if !front.answered {
            front.answered = true;
            front.first_byte_ns = fragment.mono_ns;
        }
        self.reply_goes_on(fragment);
        true
    }

    pub(super) fn reply_goes_on(&mut self, fragment: &Fragment) {
        if let Some(front) = self.open.front_mut() {
            front.end_ns = fragment.mono_ns;
            front.response_tid = fragment.begin.tid;
        }
    }

    /// The reply whose end was not seen is over; `inferred`: only silence says so.
    pub(super) fn end_reply<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if let Some(front) = self.open.front_mut() {
            front.marks.end_inferred |= inferred;
            front.detail.replied += 1;
            self.finish_answered(cx);
        }
    }

    /// What begins with the first bytes that answer the last command is not a reply as others are.
    pub(super) fn left<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        while !self.open.is_empty() {
            self.reply_begins(fragment);
            self.open.finish_front(self.requests, None, cx);
        }
    }

    pub(super) fn fail_all<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.open.fail_all(self.requests, mono_ns, cx);
        self.batch = None;
        self.transaction = None;
    }

    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.open.due(self.requests, mono_ns, cx);
    }
}

impl InRedis {
    fn add(&mut self, command: &Command<'_>, kind: Kind, replies: u32) {
        self.expected += replies;
        self.subscribes |= kind == Kind::Subscription;
        self.monitors |= kind == Kind::Monitor;
        match kind {
            Kind::Multi => {
                self.transaction |= self.commands == 0;
                self.unfinished = true;
                return;
            }
            Kind::Exec | Kind::Discard => {
                self.unfinished = false;
                if self.transaction {
                    return;
                }
            }
            _ => {}
        }
        let operation = match command.spec() {
            Some(spec) => Cow::Borrowed(spec.name),
            None => Cow::Owned(command.name().to_owned()),
        };
        self.commands += 1;
        match self.commands {
            1 => {
                self.db.operation = operation;
                self.db.stored_procedure = command.script().map(Into::into);
            }
            _ => {
                self.mixed |= self.db.operation != operation;
                self.db.stored_procedure = None;
            }
        }
        self.add_text(command);
    }

    fn add_text(&mut self, command: &Command<'_>) {
        if self.text.len() >= MAX_BATCH_TEXT {
            self.db.text_cut = true;
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        command.query_text(&mut self.text);
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
