//! Redis on a connection: where commands and replies begin and end in its two directions, and what holes cost.
//! [`talk`] says which reply answers which command.
//!
//! Replies come in the order of their commands. A hole within a value costs nothing, for its length stands before it.
//! One that hides where a command or a reply ends leaves the order unknown: what is open is lost, and nothing is
//! paired before a command that begins a turn, when all before it was answered. A connection on which commands were
//! sent while others were not answered never shows such a turn; there, only a silence ends it.

use remora_common::{policy, record::Direction};

use super::{
    Cx,
    connection::{Fragment, Noticed},
    conversation::Ended,
    index,
    kept::Keeping,
    pending::Begin,
};
use crate::{
    accounting::Lost,
    exchange::{Failure, Sink},
    protocol::{
        Next, Parse, Unframed,
        redis::{Commands, Replies, looks_like_commands},
    },
};

mod talk;

use talk::Talk;

/// Malformed messages after which a connection is taken for another protocol's.
const MAX_MALFORMED: u8 = 4;
/// A reply whose end is not seen is over after a silence this long.
const BLIND_SILENCE_NS: u64 = 1_000_000_000;

/// A Redis connection.
#[derive(Debug)]
pub(super) struct Redis {
    requests: Direction,
    commands: Commands,
    replies: Replies,
    /// When the message in progress began, by direction.
    begun: [Begin; 2],
    /// The framing of commands is lost until the next turn.
    commands_lost: bool,
    /// Likewise of replies.
    replies_lost: bool,
    /// The end of the only reply that is awaited cannot be seen: the next command shows it.
    blind: bool,
    malformed: u8,
    asked_for_all: bool,
    is_over: bool,
    talk: Talk,
}

impl Redis {
    /// Commands go in `requests`. `joined`: not from the connection's first byte on.
    pub(super) fn new<S: Sink>(requests: Direction, joined: bool, cx: &mut Cx<'_, S>) -> Self {
        cx.sink.capture(cx.wire.info.id, policy::EDGES);
        Self {
            requests,
            commands: Commands::default(),
            replies: Replies::default(),
            begun: [Begin::default(); 2],
            commands_lost: false,
            replies_lost: false,
            blind: false,
            malformed: 0,
            asked_for_all: false,
            is_over: false,
            talk: Talk::new(requests, joined),
        }
    }

    /// Whether what follows is no conversation of commands and replies.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        match direction == self.requests {
            true => !self.commands.is_open(),
            false => !self.replies.is_open(),
        }
    }

    /// After a silence nothing is outstanding.
    pub(super) fn begins<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        let silence_ns = fragment.mono_ns.saturating_sub(cx.wire.last_ns);
        if self.talk.is_unpaired()
            && fragment.direction == self.requests
            && silence_ns >= cx.shared.limits.resync_idle_ns
        {
            self.talk.lose_all(Lost::Gap, cx);
            self.talk.take_turns();
        }
    }

    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        match fragment.direction == self.requests {
            true => self.command_bytes(bytes, fragment, cx),
            false => self.reply_bytes(bytes, fragment, cx),
        }
    }

    fn command_bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        if fragment.is_first {
            self.command_may_begin(bytes, fragment, cx);
        }
        if self.commands_lost {
            return;
        }
        fragment.used = true;
        let at = index(self.requests);
        let (mut used, mut ended) = (0, 0);
        let why = loop {
            let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, bytes);
            match self.commands.next(bytes, &mut used, &mut keep) {
                Next::Message(command) => {
                    ended += 1;
                    let begin = match command.place.begin {
                        Some(_) => fragment.begin,
                        None => self.begun[at],
                    };
                    self.talk.command(&command, begin, fragment, cx);
                }
                Next::More => break None,
                Next::Lost(why) => break Some(why),
            }
        };
        if self.commands.began().is_some() {
            self.begun[at] = fragment.begin;
        }
        if ended > 1 {
            self.ask_for_all(cx);
        }
        match why {
            None => {}
            Some(why) => self.lose_commands(lost(why), cx),
        }
    }

    fn reply_bytes<S: Sink>(&mut self, bytes: &[u8], fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        if self.talk.leaves() {
            self.talk.left(fragment, cx);
            self.is_over = true;
            return;
        }
        if self.blind {
            fragment.used = true;
            return self.talk.reply_goes_on(fragment);
        }
        if self.replies_lost {
            return;
        }
        fragment.used = true;
        let at = index(fragment.direction);
        let mut used = 0;
        let why = loop {
            let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, bytes);
            match self.replies.next(bytes, &mut used, &mut keep) {
                Next::Message(reply) => {
                    let begin = match reply.place.begin {
                        Some(_) => fragment.begin,
                        None => self.begun[at],
                    };
                    self.is_over |= self.talk.reply(&reply, begin, fragment, cx);
                }
                Next::More => break None,
                Next::Lost(why) => break Some(why),
            }
        };
        if self.replies.began().is_some() {
            self.begun[at] = fragment.begin;
        }
        match why {
            None => {}
            Some(why) => self.lose_replies(lost(why), false, fragment, cx),
        }
    }

    /// `len` bytes of the fragment were not captured.
    pub(super) fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        let is_lost = match fragment.direction == self.requests {
            true => self.commands_lost,
            false => self.replies_lost && !self.blind,
        };
        fragment.used |= !is_lost;
        if !is_lost {
            self.skip(len, Lost::PipelineCut, fragment.direction, fragment, cx);
        }
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
        self.talk.mark_gap();
    }

    fn skip<S: Sink>(
        &mut self,
        len: u64,
        reason: Lost,
        direction: Direction,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let begin = self.begun[index(direction)];
        if direction == self.requests {
            if self.commands_lost {
                return;
            }
            let mut next = self.commands.skip(len);
            if let Next::Message(command) = next {
                self.talk.command(&command, begin, fragment, cx);
                next = self.commands.skip(0);
            }
            if let Next::Lost(_) = next {
                self.lose_commands(reason, cx);
            }
            return;
        }
        if self.blind {
            return self.talk.reply_goes_on(fragment);
        }
        if self.replies_lost {
            return;
        }
        // By its first byte what kind of reply it is is known.
        let has_begun = self.replies.is_open();
        let mut next = self.replies.skip(len);
        if let Next::Message(reply) = next {
            self.is_over |= self.talk.reply(&reply, begin, fragment, cx);
            next = self.replies.skip(0);
        }
        if let Next::Lost(_) = next {
            self.lose_replies(reason, has_begun, fragment, cx);
        }
    }

    /// A call of the client begins. If it begins a turn, all commands before it have been answered.
    fn command_may_begin<S: Sink>(
        &mut self,
        bytes: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let turned = fragment.other_pos > cx.wire.flow(self.requests).other_pos;
        let begins = || matches!(looks_like_commands(bytes), Parse::Parsed { .. });
        if self.blind && !self.commands.is_open() && turned {
            self.end_blind_reply(false, cx);
        }
        let is_lost = self.commands_lost || self.replies_lost || self.talk.is_unpaired();
        if is_lost && turned && !self.talk.multiplexes() && begins() {
            self.talk.lose_all(Lost::Gap, cx);
            self.talk.take_turns();
        }
        if !self.talk.is_unpaired() && (self.commands_lost || self.replies_lost) && begins() {
            self.commands.restart();
            self.replies.restart();
            (self.commands_lost, self.replies_lost) = (false, false);
        }
    }

    fn lose_commands<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.commands_lost = true;
        self.ask_for_all(cx);
        self.talk.miss(reason, cx);
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
        // Where the only reply that is awaited ends, the next command shows.
        if has_begun && self.talk.awaits_one() && self.talk.reply_begins(fragment) {
            self.blind = true;
            return;
        }
        self.replies_lost = true;
        self.talk.lose_all(reason, cx);
        self.talk.stop_pairing(reason);
        self.note_malformed(reason, cx);
    }

    fn note_malformed<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        if reason == Lost::Malformed {
            self.malformed += 1;
            if self.malformed >= MAX_MALFORMED {
                self.talk.lose_all(reason, cx);
                self.is_over = true;
            }
        }
    }

    fn end_blind_reply<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if self.blind {
            self.blind = false;
            self.replies.restart();
            self.talk.end_reply(inferred, cx);
        }
    }

    fn ask_for_all<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if !self.asked_for_all {
            self.asked_for_all = true;
            cx.sink.capture(cx.wire.info.id, policy::ALL);
        }
    }

    pub(super) fn ended<S: Sink>(&mut self, how: Ended, mono_ns: u64, cx: &mut Cx<'_, S>) {
        match how {
            Ended::Direction(direction) if direction == self.requests => {}
            Ended::Direction(_) | Ended::Connection => {
                self.end_blind_reply(false, cx);
                self.talk.fail_all(mono_ns, cx);
            }
            Ended::Silent => {
                self.end_blind_reply(true, cx);
                cx.wire.failure.get_or_insert((Failure::NoResponse, mono_ns));
                self.talk.fail_all(mono_ns, cx);
            }
            Ended::Stopped => {
                self.end_blind_reply(true, cx);
                self.talk.lose_all(Lost::Stopped, cx);
            }
            Ended::Replaced => self.talk.lose_all(Lost::Malformed, cx),
        }
    }

    /// Fails what is open some time after the transport did.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.talk.due(mono_ns, cx);
    }

    /// A reply whose end is not seen and that has gone on for nobody for a while is over.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let last_ns = cx.wire.flow(self.requests.flip()).last_ns;
        if self.blind && mono_ns.saturating_sub(last_ns) >= BLIND_SILENCE_NS {
            self.end_blind_reply(true, cx);
        }
    }
}

const fn lost(why: Unframed) -> Lost {
    match why {
        Unframed::Hole => Lost::PipelineCut,
        Unframed::Malformed => Lost::Malformed,
    }
}
