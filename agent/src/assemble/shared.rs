//! What conversations work with: their transport, what all connections share, and where results go.

use std::collections::VecDeque;

use super::{
    asked::Asked, http::KeptHeaders, kept::Kept, limits::Limits, statement::Statements,
    stats::Stats, wire::Wire,
};
use crate::{
    accounting::Lost,
    exchange::{Exchange, Sink, Started},
};

/// Head buffers kept for the next head that comes in pieces.
const SPARE_BUFFERS: usize = 32;

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) stats: Stats,
    pub(super) last_serial: u64,
    /// `(when, connection)`: ends to be confirmed, in the order in which they were put in.
    pub(super) due: VecDeque<(u64, u64)>,
    pub(super) spare: Vec<Vec<u8>>,
    /// Bytes of heads that wait for more.
    pub(super) heads_len: usize,
    /// A process that is watched has opened a connection. Before that, only of a connection's first request the other end may be
    /// watched ([`exchange::At`]).
    pub(super) has_clients: bool,
    pub(super) headers: KeptHeaders,
    pub(super) asked: Asked,
    pub(super) statements: Statements,
    /// While a recording is made.
    pub(super) kept: Option<Kept>,
}

/// What a conversation works with: its transport, what connections share, and where results go.
pub(super) struct Cx<'a, S> {
    pub(super) wire: &'a mut Wire,
    pub(super) shared: &'a mut Shared,
    pub(super) sink: &'a mut S,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            stats: Stats::default(),
            last_serial: 0,
            due: VecDeque::new(),
            spare: Vec::new(),
            heads_len: 0,
            has_clients: false,
            headers: KeptHeaders::default(),
            asked: Asked::default(),
            statements: Statements::default(),
            kept: None,
        }
    }

    pub(super) fn keep(&mut self, note: impl FnOnce(&mut Kept)) {
        if let Some(kept) = &mut self.kept {
            note(kept);
        }
    }
}

impl<S: Sink> Cx<'_, S> {
    pub(super) fn started(&mut self, started: &Started) {
        self.shared.stats.started += 1;
        self.sink.started(started);
    }

    pub(super) fn finished(&mut self, exchange: Exchange) {
        self.shared.stats.finished += 1;
        self.sink.finished(exchange);
    }

    pub(super) fn lost(&mut self, serial: u64, reason: Lost) {
        self.shared.stats.lost += 1;
        self.sink.lost(serial, reason);
    }

    /// The connection should be captured by this policy from now on.
    pub(super) fn capture(&mut self, policy: u8) {
        self.wire.wanted = Some(policy);
        self.sink.capture(self.wire.info.id, policy);
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.shared.last_serial += 1;
        self.shared.last_serial
    }

    pub(super) fn keep(&mut self, note: impl FnOnce(&mut Kept)) {
        self.shared.keep(note);
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.shared.spare.pop().unwrap_or_default()
    }

    /// How many of `len` bytes a head may keep until more comes. Where that is not all, it is cut.
    pub(super) fn room_for_head(&mut self, len: usize) -> usize {
        let room = self.shared.limits.max_heads_len.saturating_sub(self.shared.heads_len).min(len);
        self.shared.stats.heads_cut += u64::from(room < len);
        self.shared.heads_len += room;
        room
    }

    /// Takes the buffer of a head that is over.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        self.shared.heads_len = self.shared.heads_len.saturating_sub(buffer.len());
        if buffer.capacity() > 0 && self.shared.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.shared.spare.push(buffer);
        }
    }
}
