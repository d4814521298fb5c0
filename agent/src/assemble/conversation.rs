//! What is spoken on a connection: one protocol with its verbs. The transport ([`super::connection`]) calls them in
//! the order in which things happened; everything that a protocol knows of its connection is in here.

use remora_common::record::Direction;

use super::{
    Cx,
    http1::{Http1, Upgraded},
    http2::{Beginning, Http2},
    postgres::Postgres,
    redis::Redis,
    undecided::{Decision, Spoken, Undecided, Unread},
    wire::{Fragment, Noticed},
};
use crate::{accounting::Lost, exchange::Sink};

/// A protocol in progress.
#[derive(Debug)]
pub(super) enum Conversation {
    Undecided(Box<Undecided>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Redis(Box<Redis>),
    Postgres(Box<Postgres>),
    /// A protocol that is not read: its bytes are counted by the kernel side.
    Opaque,
}

/// Asks the protocol that is known, whichever it is.
macro_rules! known {
    ($this:expr, $protocol:ident => $asked:expr, else $otherwise:block) => {
        match $this {
            Self::Http1($protocol) => $asked,
            Self::Http2($protocol) => $asked,
            Self::Redis($protocol) => $asked,
            Self::Postgres($protocol) => $asked,
            Self::Undecided(_) | Self::Opaque => $otherwise,
        }
    };
}

/// How a connection, or a part of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// No more bytes come in this direction.
    Direction(Direction),
    /// Both directions have ended, and the socket is gone.
    Connection,
    /// It may live on, but no more is heard of it, and this is why.
    Forgotten(Lost),
    /// The agent stops.
    Stopped,
    /// The bytes turned out to be ciphertext, and the plaintext is a connection of its own.
    Replaced,
}

impl Conversation {
    /// On a connection that was seen from its first byte on, unless it was `joined` later.
    pub(super) fn new(joined: bool) -> Self {
        Self::Undecided(Box::new(Undecided::new(joined)))
    }

    /// On a connection whose directions were at these positions when it was first seen.
    pub(super) fn begun_at(positions: [u64; 2]) -> Self {
        Self::Undecided(Box::new(Undecided::begun_at(positions)))
    }

    /// A fragment comes; holes before it and its bytes follow.
    pub(super) fn begins<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        known!(self, protocol => protocol.begins(fragment, cx), else {});
    }

    /// The piece of `fragment` at `fragment.at`; `hole_follows` if there is more of it that was not captured.
    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        if let Self::Undecided(undecided) = self {
            let decision = undecided.bytes(bytes, hole_follows, fragment, cx);
            return self.decide(decision, bytes, fragment, cx);
        }
        let (place, at) = (fragment.place, fragment.at);
        known!(self, protocol => protocol.bytes(bytes, hole_follows, fragment, cx), else {});
        if let Self::Http1(http1) = self
            && let Some(upgraded) = http1.take_upgraded()
        {
            let before = bytes.len() - upgraded.rest;
            fragment.place = place.plus(before);
            fragment.at = at + before as u64;
            return self.upgrade(upgraded, &bytes[before..], fragment, cx);
        }
        self.leave(cx);
    }

    /// `len` bytes of `fragment` from `fragment.at` on were counted and not captured.
    pub(super) fn hole<S: Sink>(&mut self, len: u64, fragment: &mut Fragment, cx: &mut Cx<'_, S>) {
        if let Self::Undecided(undecided) = self {
            let decision = undecided.hole(len, fragment, cx);
            return self.decide(decision, &[], fragment, cx);
        }
        known!(self, protocol => protocol.hole(len, fragment, cx), else {});
        self.leave(cx);
    }

    /// The bytes of `direction` up to `to` were moved, and no record told of them. `fragment` showed it.
    pub(super) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        if let Self::Undecided(undecided) = self {
            return undecided.gap(direction, to, fragment, noticed, cx);
        }
        known!(self, protocol => protocol.gap(direction, to, fragment, noticed, cx), else {
            cx.wire.jump(direction, to, cx.shared);
        });
    }

    /// Nothing or not as much comes from now on; `mono_ns` is when that was known.
    pub(super) fn ended<S: Sink>(&mut self, how: Ended, mono_ns: u64, cx: &mut Cx<'_, S>) {
        if let Self::Undecided(undecided) = self {
            return undecided.ended(how, cx);
        }
        known!(self, protocol => protocol.ended(how, mono_ns, cx), else {});
    }

    /// Time has passed since something asked for it ([`super::wire::Wire::make_due`]).
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        known!(self, protocol => protocol.due(mono_ns, cx), else {});
    }

    /// A second has passed.
    pub(super) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        known!(self, protocol => protocol.sweep(mono_ns, cx), else {});
    }

    /// Bytes of heads that wait for more.
    pub(super) fn heads_len(&self) -> usize {
        match self {
            Self::Undecided(undecided) => undecided.heads_len(),
            Self::Http1(http1) => http1.heads_len(),
            // Header blocks are decoded as they come.
            Self::Http2(_) | Self::Redis(_) | Self::Postgres(_) | Self::Opaque => 0,
        }
    }

    /// Whether an exchange is not over.
    pub(super) fn has_open(&self) -> bool {
        known!(self, protocol => protocol.has_open(), else { false })
    }

    /// Whether the next byte of `direction` does not belong to a message that is known to go on: then a hole in the
    /// opposite direction comes before it.
    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        if let Self::Undecided(undecided) = self {
            return undecided.is_between_messages(direction);
        }
        known!(self, protocol => protocol.is_between_messages(direction), else { false })
    }

    /// `piece` is the piece of `fragment` that decided.
    fn decide<S: Sink>(
        &mut self,
        decision: Decision,
        piece: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        match decision {
            Decision::Open => {}
            Decision::Http1 => {
                if let Self::Undecided(undecided) = std::mem::replace(self, Self::Opaque) {
                    *self = Self::Http1(Box::new(undecided.into_http1()));
                    self.leave(cx);
                }
            }
            Decision::Speaks { spoken, requests, held, piece: len } => {
                *self = match spoken {
                    Spoken::Http2(beginning) => {
                        if beginning == Beginning::Preface {
                            cx.wire.begins_here();
                        }
                        Self::Http2(Box::new(Http2::begin(requests, beginning, cx)))
                    }
                    Spoken::Redis => {
                        let joined = cx.wire.info.joined;
                        Self::Redis(Box::new(Redis::begin(requests, joined, cx)))
                    }
                    Spoken::Postgres { begins } => {
                        if begins {
                            cx.wire.begins_here();
                        }
                        Self::Postgres(Box::new(Postgres::begin(requests, begins, cx)))
                    }
                };
                self.begin_with(held, &piece[piece.len() - len..], fragment, cx);
            }
            Decision::Opaque(policy) => {
                cx.shared.stats.connections_other_protocol += 1;
                self.give_up(policy, cx);
            }
        }
    }

    /// Hands over what nobody has read: bytes of earlier records, and the end of the piece at hand.
    fn begin_with<S: Sink>(
        &mut self,
        held: Option<Unread>,
        piece: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        if let Some(Unread { fragment: mut earlier, bytes }) = held {
            let kept = cx.shared.kept.take(); // it is of another record
            self.bytes(&bytes, false, &mut earlier, cx);
            cx.shared.kept = kept;
        }
        if !piece.is_empty() {
            self.bytes(piece, false, fragment, cx);
        }
    }

    /// The server has agreed to go on in HTTP/2; `rest` is what it sends behind that.
    fn upgrade<S: Sink>(
        &mut self,
        upgraded: Upgraded,
        rest: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let requests = fragment.direction.flip();
        let mut http2 = Http2::begin(requests, Beginning::Upgrade, cx);
        http2.upgraded(upgraded.request);
        *self = Self::Http2(Box::new(http2));
        if !rest.is_empty() {
            self.bytes(rest, false, fragment, cx);
        }
    }

    /// Leaves the protocol if it has said that what follows is none of it.
    fn leave<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if let Some(policy) = known!(self, protocol => protocol.leaves(), else { None }) {
            self.give_up(policy, cx);
        }
    }

    fn give_up<S: Sink>(&mut self, policy: u8, cx: &mut Cx<'_, S>) {
        *self = Self::Opaque;
        cx.capture(policy);
    }
}
