//! One connection as a transport: how far the bytes of its two directions are known, which of them were lost, and
//! how it ends. What the bytes mean is the business of the [`Conversation`] that it holds.

use std::sync::Arc;

use remora_common::{
    policy::{self, UNDECIDED},
    record::{self, CloseCause, Direction, Open, Role, Source, data_flag, open_flag},
};

use super::{
    Cx, Limits, Place, Shared,
    conversation::{Conversation, Ended},
    endpoint, index,
    pending::Begin,
};
use crate::{
    decode::Data,
    exchange::{self, Endpoint, Failure, Sink},
};

/// Flags of a record under [`policy::FRAMES`]: its first byte is a frame's first; what frames are in it is not known.
pub(super) const FRAME: u32 = 1 << 5;
pub(super) const FRAMES_LOST: u32 = 1 << 6;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    conversation: Conversation,
}

/// What a conversation knows of its transport.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) info: Arc<exchange::Connection>,
    /// Who opened the connection, where that is known.
    pub(super) role: Role,
    flows: [Flow; 2],
    /// An error of the transport, and when it was told.
    pub(super) failure: Option<(Failure, u64)>,
    /// When anything was last heard of the connection.
    pub(super) last_ns: u64,
    /// The policy that was asked for last.
    pub(super) wanted: Option<u8>,
    /// The connection stands in [`Shared::due`].
    is_due: bool,
}

/// One direction: `pos` only grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Position of the next byte.
    pub(super) pos: u64,
    /// The opposite direction's position when this one last moved.
    pub(super) other_pos: u64,
    /// When the last byte was moved.
    pub(super) last_ns: u64,
    /// No more bytes come.
    pub(super) ended: bool,
}

/// What a record says of its bytes as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) direction: Direction,
    /// Position of the first byte, and the opposite direction's position.
    pub(super) pos: u64,
    pub(super) other_pos: u64,
    pub(super) mono_ns: u64,
    pub(super) begin: Begin,
    /// Where the fragment ends.
    pub(super) end: u64,
    /// Position of the piece that is looked at, and where in the record its bytes are.
    pub(super) at: u64,
    pub(super) place: Place,
    /// The piece is captured, the first one, and begins where an application's call began.
    pub(super) is_first: bool,
    /// It goes on with the call that the record before it told of.
    pub(super) continues: bool,
    /// The kernel side knows the frames of the protocol: what it has not copied means nothing ([`policy::FRAMES`]).
    pub(super) walked: bool,
    /// And the first byte is a frame's first.
    pub(super) begins_frame: bool,
    /// The conversation made something of the bytes.
    pub(super) used: bool,
}

/// How a hole in positions was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    /// By the next record of the same direction.
    Directly,
    /// By it, too, and the kernel side knows that the missing bytes moved before the latest ones of the
    /// opposite direction.
    NextTurn,
    /// By a record of the opposite direction, which comes after the hole and may follow one itself.
    FromOpposite { behind_hole: bool },
    /// By the end of the connection.
    AtClose,
}

impl Wire {
    pub(super) fn flow(&self, direction: Direction) -> &Flow {
        &self.flows[index(direction)]
    }

    fn flow_mut(&mut self, direction: Direction) -> &mut Flow {
        &mut self.flows[index(direction)]
    }

    /// Goes on at `to` in `direction`, beyond bytes that were lost; how many.
    pub(super) fn jump(&mut self, direction: Direction, to: u64, shared: &mut Shared) -> u64 {
        let flow = self.flow_mut(direction);
        let len = to.saturating_sub(flow.pos);
        flow.pos += len;
        shared.stats.gaps += 1;
        shared.stats.gap_bytes += len;
        len
    }

    /// What came first can only come first: nothing moved before the connection was seen.
    pub(super) fn begins_here(&mut self) {
        if self.info.joined {
            Arc::make_mut(&mut self.info).joined = false;
        }
    }

    /// Has the conversation's `tick` called soon after `mono_ns`.
    pub(super) fn make_due(&mut self, mono_ns: u64, shared: &mut Shared) {
        if !self.is_due {
            self.is_due = true;
            let when_ns = mono_ns.saturating_add(shared.limits.end_grace_ns);
            shared.due.push_back((when_ns, self.info.id));
        }
    }
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
        if opposite_missing && self.conversation.is_between_messages(direction) {
            let behind_hole = fragment.pos > cx.wire.flow(direction).pos;
            let noticed = Noticed::FromOpposite { behind_hole };
            self.conversation.gap(opposite, fragment.other_pos, fragment, noticed, cx);
        }
        if fragment.pos > cx.wire.flow(direction).pos {
            self.conversation.gap(direction, fragment.pos, fragment, noticed, cx);
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
                self.end_direction(Direction::Rx, close, shared, sink);
                self.end_direction(Direction::Tx, close, shared, sink);
                let cx = &mut Cx { wire: &mut self.wire, shared, sink };
                self.conversation.ended(Ended::Connection, close.mono_ns, cx);
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

    /// Settles what was waited with.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        self.wire.is_due = false;
        self.conversation.due(mono_ns, &mut Cx { wire: &mut self.wire, shared, sink });
    }

    /// Looks for what has taken too long.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        self.conversation.sweep(mono_ns, &mut Cx { wire: &mut self.wire, shared, sink });
    }

    /// The connection is forgotten for its silence.
    pub(super) fn give_up<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.ended(Ended::Silent, mono_ns, cx);
    }

    /// The agent stops.
    pub(super) fn stop<S: Sink>(&mut self, mono_ns: u64, shared: &mut Shared, sink: &mut S) {
        let cx = &mut Cx { wire: &mut self.wire, shared, sink };
        self.conversation.ended(Ended::Stopped, mono_ns, cx);
    }
}

impl Fragment {
    fn of(data: &Data<'_>, end: u64) -> Self {
        let header = data.header;
        let known_begin = data.direction == Direction::Tx && header.begin_ns != 0;
        let begin_ns =
            if known_begin { header.begin_ns.min(header.mono_ns) } else { header.mono_ns };
        let walked = header.policy >= policy::FRAMES && header.flags & FRAMES_LOST == 0;
        Self {
            direction: data.direction,
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
            at: header.pos,
            place: Place::Head(0),
            is_first: true,
            continues: header.flags & data_flag::CONTINUED != 0,
            walked,
            begins_frame: walked && header.flags & FRAME != 0,
            used: false,
        }
    }

    /// The end of a direction, which may show that bytes are missing before it.
    fn at_close(direction: Direction, pos: u64, other_pos: u64, mono_ns: u64) -> Self {
        Self {
            direction,
            pos,
            other_pos,
            mono_ns,
            begin: Begin::default(),
            end: pos,
            at: pos,
            place: Place::Head(0),
            is_first: true,
            continues: false,
            walked: false,
            begins_frame: false,
            used: false,
        }
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
