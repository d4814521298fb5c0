//! One connection as a transport: how far the bytes of its two directions are known, which of them were lost, and
//! how it ends. What the bytes mean is the business of the [`Conversation`] that it holds.

use std::sync::Arc;

use remora_common::{
    policy::UNDECIDED,
    record::{self, CloseCause, Direction, Open, Role, Source, data_flag, open_flag},
};

use super::{
    Cx, Limits, Place, Shared,
    conversation::{Conversation, Ended},
    endpoint,
    wire::{Flow, Fragment, Noticed, Wire},
};
use crate::{
    accounting::Lost,
    decode::Data,
    exchange::{self, Endpoint, Failure, Sink},
};

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    conversation: Conversation,
}

impl Connection {
    pub(super) fn new(info: Arc<exchange::Connection>, role: Role, mono_ns: u64) -> Self {
        Self {
            conversation: Conversation::new(info.joined),
            wire: Wire {
                info,
                role,
                flows: [Flow::default(); 2],
                failure: None,
                peer_done_at: None,
                last_ns: mono_ns,
                wanted: None,
                is_due: false,
            },
        }
    }

    /// The first record that is seen is at `pos`, with the opposite direction at `other_pos`.
    pub(super) fn begin_at(&mut self, direction: Direction, pos: u64, other_pos: u64) {
        self.wire.flow_mut(direction).pos = pos;
        self.wire.flow_mut(direction.flip()).pos = other_pos;
        let [rx, tx] = &self.wire.flows;
        self.conversation = Conversation::begun_at([rx.pos, tx.pos]);
    }

    /// The record that should have come first came later.
    pub(super) fn announced(&mut self, role: Role, open: &Open) {
        let info = &mut self.wire.info;
        if info.local == Endpoint::Unknown && info.remote == Endpoint::Unknown {
            let joined = open.flags & open_flag::JOINED != 0;
            *info = Arc::new(endpoint::describe(open, info.source, joined));
            self.wire.role = role;
        }
    }

    /// Whether nothing was heard of it for so long that it may be forgotten.
    pub(super) fn is_idle(&self, mono_ns: u64, limits: &Limits) -> bool {
        let limit_ns = match self.conversation.has_open() {
            true => limits.exchange_idle_ns,
            false => limits.idle_ns,
        };
        mono_ns.saturating_sub(self.wire.last_ns) >= limit_ns
    }

    /// Takes bytes that moved.
    pub(super) fn data<S: Sink>(&mut self, data: &Data<'_>, shared: &mut Shared, sink: &mut S) {
        let header = data.header;
        if data.source != self.wire.info.source && !self.source_changed(data, shared, sink) {
            shared.stats.records_other_protocol += 1;
            return;
        }
        if let Some(policy) = self.wire.wanted.filter(|_| header.policy == UNDECIDED) {
            // Another connection may have taken the place of the advice before it was heard.
            sink.capture(self.wire.info.id, policy);
        }
        let flow = self.wire.flow(data.direction);
        let end = header.pos.checked_add(u64::from(header.total_len));
        let Some(end) = end.filter(|_| header.total_len > 0) else {
            shared.stats.records_empty += 1;
            return;
        };
        if matches!(self.conversation, Conversation::Opaque) {
            shared.stats.records_other_protocol += 1;
            self.wire.last_ns = self.wire.last_ns.max(header.mono_ns);
            return;
        }
        if end <= flow.pos || flow.ended {
            shared.stats.records_duplicate += 1;
            return;
        }
        let mut fragment = Fragment::of(data, end);
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.begins(&fragment, cx);
        self.gaps_before(data, &fragment, shared, sink);
        self.pieces(data, &mut fragment, shared, sink);
        match fragment.used {
            true => shared.stats.parsed += 1,
            false => shared.stats.records_skipped += 1,
        }
        let flow = self.wire.flow_mut(data.direction);
        flow.pos = end;
        flow.other_pos = flow.other_pos.max(header.other_pos);
        flow.last_ns = flow.last_ns.max(header.mono_ns);
        self.wire.last_ns = self.wire.last_ns.max(header.mono_ns);
    }

    /// Bytes that must have moved before this fragment, and were not told of.
    fn gaps_before<S: Sink>(
        &mut self,
        data: &Data<'_>,
        fragment: &Fragment,
        shared: &mut Shared,
        sink: &mut S,
    ) {
        let (direction, opposite) = (fragment.direction, fragment.direction.flip());
        let opposite_missing = fragment.other_pos > self.wire.flow(opposite).pos;
        let noticed = match data.header.flags & data_flag::MISSING_BEFORE_TURN {
            0 => Noticed::Directly,
            // What is latest in the opposite direction is not known if records of it were lost.
            _ if opposite_missing => Noticed::Directly,
            _ => Noticed::NextTurn,
        };
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        let behind_hole = fragment.pos > cx.wire.flow(direction).pos;
        let from_opposite = Noticed::FromOpposite { behind_hole };
        let begins_message = self.conversation.is_between_messages(direction);
        if opposite_missing && begins_message {
            self.conversation.gap(opposite, fragment.other_pos, fragment, from_opposite, cx);
        }
        if behind_hole {
            self.conversation.gap(direction, fragment.pos, fragment, noticed, cx);
            // The hole may have been the rest of a message. Then the next message begins here.
            if opposite_missing
                && !begins_message
                && self.conversation.is_between_messages(direction)
            {
                self.conversation.gap(opposite, fragment.other_pos, fragment, from_opposite, cx);
            }
        }
    }

    /// The captured bytes of a fragment, the hole behind them, and what is known behind the hole;
    /// without what was known before.
    fn pieces<S: Sink>(
        &mut self,
        data: &Data<'_>,
        fragment: &mut Fragment,
        shared: &mut Shared,
        sink: &mut S,
    ) {
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        let known = cx.wire.flow(fragment.direction).pos - fragment.pos;
        let total = u64::from(data.header.total_len);
        let head_end = data.head.len() as u64;
        let tail_len = match data.header.flags & data_flag::TAIL {
            0 => 0,
            _ => total.min(data.header.tail.len() as u64),
        };
        let tail_start = (total - tail_len).max(head_end).max(known);
        let hole = tail_start - head_end.max(known);
        fragment.is_first = known == 0 && !fragment.continues && !data.head.is_empty();
        if known < head_end {
            fragment.place = Place::Head(known as usize);
            fragment.at = fragment.pos + known;
            self.conversation.bytes(&data.head[known as usize..], hole > 0, fragment, cx);
            fragment.is_first = false;
        }
        if hole > 0 {
            fragment.at = fragment.pos + tail_start - hole;
            self.conversation.hole(hole, fragment, cx);
        }
        if tail_start < total {
            let at = data.header.tail.len() - (total - tail_start) as usize;
            fragment.place = Place::Tail(at);
            fragment.at = fragment.pos + tail_start;
            self.conversation.bytes(&data.header.tail[at..], false, fragment, cx);
        }
    }

    /// Plaintext takes the place of ciphertext; what was known of the latter means nothing for it.
    /// Whether the record counts.
    fn source_changed<S: Sink>(
        &mut self,
        data: &Data<'_>,
        shared: &mut Shared,
        sink: &mut S,
    ) -> bool {
        if self.wire.info.source != Source::Socket {
            return false;
        }
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.ended(Ended::Replaced, data.header.mono_ns, cx);
        let mut info = exchange::Connection::clone(&self.wire.info);
        info.source = data.source;
        let is_due = self.wire.is_due;
        *self = Self::new(Arc::new(info), self.wire.role, data.header.mono_ns);
        self.wire.is_due = is_due;
        self.begin_at(data.direction, data.header.pos, data.header.other_pos);
        true
    }

    /// Takes an end of the connection; whether that was all of it.
    pub(super) fn close<S: Sink>(
        &mut self,
        cause: CloseCause,
        close: &record::Close,
        shared: &mut Shared,
        sink: &mut S,
    ) -> bool {
        self.wire.last_ns = self.wire.last_ns.max(close.mono_ns);
        match cause {
            CloseCause::EndOfFile => self.end_direction(Direction::Rx, close, shared, sink),
            CloseCause::LocalFin => self.end_direction(Direction::Tx, close, shared, sink),
            CloseCause::Error => {
                // A response may still be there to be read, or its end to be confirmed.
                self.wire.failure.get_or_insert((failure_of(close.errno), close.mono_ns));
                self.wire.make_due(close.mono_ns, shared);
            }
            CloseCause::Gone => {
                // `EPIPE` follows the end of the other side's stream: all of that was received.
                if !matches!(close.errno as i32, 0 | libc::EPIPE) {
                    self.wire.failure.get_or_insert((failure_of(close.errno), close.mono_ns));
                }
                self.end_direction(Direction::Rx, close, shared, sink);
                self.end_direction(Direction::Tx, close, shared, sink);
                let cx = &mut Cx { wire: &mut self.wire, shared, sink };
                self.conversation.ended(Ended::Connection, close.mono_ns, cx);
                return true;
            }
            CloseCause::PeerFin => {
                self.wire.peer_done_at.get_or_insert(close.pos_tx);
            }
            CloseCause::Evicted => {
                let cx = &mut Cx { wire: &mut self.wire, shared, sink };
                self.conversation.ended(Ended::Forgotten(Lost::ConnectionsFull), close.mono_ns, cx);
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
        shared: &mut Shared,
        sink: &mut S,
    ) {
        let (pos, other_pos) = match direction {
            Direction::Rx => (close.pos_rx, close.pos_tx),
            Direction::Tx => (close.pos_tx, close.pos_rx),
        };
        if self.wire.flow(direction).ended || matches!(self.conversation, Conversation::Opaque) {
            return;
        }
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        if pos > cx.wire.flow(direction).pos {
            let fragment = Fragment::at_close(direction, pos, other_pos, close.mono_ns);
            self.conversation.gap(direction, pos, &fragment, Noticed::AtClose, cx);
        }
        self.conversation.ended(Ended::Direction(direction), close.mono_ns, cx);
        cx.wire.flow_mut(direction).ended = true;
    }

    /// The exchange of an open stream of HTTP/2, if it was announced.
    pub(super) fn serial_of(&self, stream: u32) -> Option<u64> {
        match &self.conversation {
            Conversation::Http2(http2) => http2.serial_of(stream),
            _ => None,
        }
    }

    /// Settles what was waited with.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        self.wire.is_due = false;
        self.conversation.due(mono_ns, &mut Cx { wire: &mut self.wire, shared, sink });
    }

    /// Looks for what has taken too long.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        self.conversation.sweep(mono_ns, &mut Cx { wire: &mut self.wire, shared, sink });
    }

    /// Bytes of heads that wait for more.
    pub(super) fn heads_len(&self) -> usize {
        self.conversation.heads_len()
    }

    /// The connection is forgotten for its silence.
    pub(super) fn give_up<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.ended(Ended::Forgotten(Lost::Idle), mono_ns, cx);
    }

    /// The agent stops.
    pub(super) fn stop<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.ended(Ended::Stopped, mono_ns, cx);
    }
}

fn failure_of(errno: u32) -> Failure {
    match i32::try_from(errno) {
        Ok(libc::ECONNRESET | libc::EPIPE) => Failure::Reset,
        Ok(libc::ETIMEDOUT) => Failure::TimedOut,
        Ok(errno) => Failure::Errno(errno),
        Err(_) => Failure::Errno(i32::MAX),
    }
}
