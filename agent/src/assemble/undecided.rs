//! Which protocol a connection speaks. HTTP/1 is tried first, for most connections begin with one of its heads, which
//! may come in any number of pieces: its machine runs from the first byte on. What it rejects is shown to the others.

use remora_common::{capture, record::Direction};

use super::{
    Cx,
    connection::{Fragment, Noticed},
    conversation::Ended,
    http1::Http1,
    index,
};
use crate::{exchange::Sink, protocol::http1};

/// Turns without a recognisable message after which a connection is taken for a protocol that is not read.
const MAX_REJECTED_TURNS: u8 = 4;

/// A connection whose protocol is not known.
#[derive(Debug)]
pub(super) struct Undecided {
    http1: Http1,
    /// Which directions had bytes that begin no message, and in how many turns.
    rejected: [bool; 2],
    turns: u8,
}

/// What the bytes so far have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Open,
    Http1,
    /// No protocol that is read; captured by this policy from now on.
    Opaque(u8),
}

impl Undecided {
    pub(super) fn new(joined: bool) -> Self {
        Self::with(Http1::new(joined))
    }

    pub(super) fn begun_at(positions: [u64; 2]) -> Self {
        Self::with(Http1::begun_at(positions))
    }

    fn with(http1: Http1) -> Self {
        Self { http1, rejected: [false; 2], turns: 0 }
    }

    pub(super) fn into_http1(self) -> Http1 {
        self.http1
    }

    pub(super) fn bytes<S: Sink>(
        &mut self,
        bytes: &[u8],
        hole_follows: bool,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Decision {
        self.http1.bytes(bytes, hole_follows, fragment, cx);
        self.judge(fragment, cx)
    }

    pub(super) fn hole<S: Sink>(
        &mut self,
        len: u64,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Decision {
        self.http1.hole(len, fragment, cx);
        self.judge(fragment, cx)
    }

    pub(super) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        self.http1.gap(direction, to, fragment, noticed, cx);
    }

    pub(super) fn ended<S: Sink>(&mut self, how: Ended, cx: &mut Cx<'_, S>) {
        self.http1.ended(how, 0, cx);
    }

    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        self.http1.is_between_messages(direction)
    }

    fn judge<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) -> Decision {
        if self.http1.requests().is_some() {
            return Decision::Http1;
        }
        let Some(bytes) = self.http1.take_rejected() else { return Decision::Open };
        if is_tls(&bytes) {
            cx.keep(|kept| kept.literal(fragment.place, &bytes[..TLS_HEADER_LEN]));
            return Decision::Opaque(capture::CIPHERTEXT);
        }
        let at = index(fragment.direction);
        if !self.rejected[at] || fragment.other_pos > cx.wire.flow(fragment.direction).other_pos {
            self.turns += 1;
        }
        self.rejected[at] = true;
        let both = self.rejected == [true; 2] && !cx.wire.info.joined;
        if self.turns >= MAX_REJECTED_TURNS || both {
            return Decision::Opaque(capture::COUNT);
        }
        Decision::Open
    }
}

/// Whether a request begins here, whatever the protocol: it is counted although its connection is not followed.
pub(super) fn begins_request(bytes: &[u8]) -> bool {
    http1::cut_request(bytes).is_some()
}

/// How many bytes of a record header [`is_tls`] looks at.
const TLS_HEADER_LEN: usize = 3;

/// A TLS record header (RFC 8446 section 5.1): content type 20 to 23, legacy version 3.x.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}
