//! What a conversation is told by its transport: how far the bytes of its two directions are known, which of them
//! come now, and how a hole among them was noticed.

use std::sync::Arc;

use remora_common::{
    policy,
    record::{Direction, Role, data_flag},
};

use super::{Place, Shared, index, pending::Begin};
use crate::{
    decode::Data,
    exchange::{self, Failure},
};

/// What a conversation knows of its transport.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) info: Arc<exchange::Connection>,
    /// Who opened the connection, where that is known.
    pub(super) role: Role,
    pub(super) flows: [Flow; 2],
    /// An error of the transport, and when it was told.
    pub(super) failure: Option<(Failure, u64)>,
    /// How much was sent when the other side had nothing more to say.
    pub(super) peer_done_at: Option<u64>,
    /// When anything was last heard of the connection.
    pub(super) last_ns: u64,
    /// The policy that was asked for last.
    pub(super) wanted: Option<u8>,
    /// The connection stands in [`Shared::due`].
    pub(super) is_due: bool,
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
    /// The kernel side knows that the first byte is a frame's first.
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

    pub(super) fn flow_mut(&mut self, direction: Direction) -> &mut Flow {
        &mut self.flows[index(direction)]
    }

    /// Whether a message that begins so was sent when the other side had nothing more to say.
    pub(super) fn is_after_end(&self, requests: Direction, begin: &Begin) -> bool {
        requests == Direction::Tx && self.peer_done_at.is_some_and(|pos| begin.pos >= pos)
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

impl Fragment {
    pub(super) fn of(data: &Data<'_>, end: u64) -> Self {
        let header = data.header;
        let known_begin = data.direction == Direction::Tx && header.begin_ns != 0;
        let begin_ns =
            if known_begin { header.begin_ns.min(header.mono_ns) } else { header.mono_ns };
        let whole = header.flags & data_flag::UNREADABLE == 0;
        let walked = whole && header.policy >= policy::FRAMES;
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
                number: None,
            },
            end,
            at: header.pos,
            place: Place::Head(0),
            is_first: true,
            continues: header.flags & data_flag::CONTINUED != 0,
            walked,
            begins_frame: whole && header.flags & data_flag::FRAME != 0,
            used: false,
        }
    }

    /// Of a message whose first byte is that of the piece that is looked at.
    pub(super) fn begin_here(&self) -> Begin {
        let is_first = self.place == Place::Head(0);
        Begin { number: is_first.then_some(self.pos), ..self.begin }
    }

    /// The end of a direction, which may show that bytes are missing before it.
    pub(super) fn at_close(direction: Direction, pos: u64, other_pos: u64, mono_ns: u64) -> Self {
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
