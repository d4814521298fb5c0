//! Which protocol a connection speaks. HTTP/1 is tried first, for most connections begin with one of its heads, which
//! may come in any number of pieces: its machine runs from the first byte on. What it rejects is shown to the others.
//!
//! Some openings are no proof by themselves (a line `PING` begins more than one protocol). They are held until the
//! other side has answered.

use remora_common::{
    policy,
    record::{Direction, Role},
};

use super::{
    Cx,
    conversation::Ended,
    http1::Http1,
    http2::Beginning,
    index,
    kept::Keeping,
    wire::{Fragment, Noticed, Wire},
};
use crate::{
    exchange::Sink,
    protocol::{Parse, http2, postgres, redis},
};

mod keeping;
mod recognise;

use keeping::{keep_commands, keep_frames};
pub(super) use recognise::begins_request;
use recognise::{Recognised, TLS_HEADER_LEN, is_tls, recognise};

/// Turns without a recognisable message after which a connection is taken for a protocol that is not read.
const MAX_REJECTED_TURNS: u8 = 4;
/// Bytes of an opening that are held.
const MAX_HELD: usize = 1024;

/// A connection whose protocol is not known.
#[derive(Debug)]
pub(super) struct Undecided {
    http1: Http1,
    /// Which directions had bytes that begin no message, and in how many turns.
    rejected: [bool; 2],
    turns: u8,
    held: Option<Unread>,
}

/// Bytes that no conversation has seen.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) fragment: Fragment,
    pub(super) bytes: Vec<u8>,
}

/// A protocol other than HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http2(Beginning),
    Redis,
    /// `begins`: a startup comes first.
    Postgres {
        begins: bool,
    },
}

/// What the bytes so far have told.
#[derive(Debug)]
pub(super) enum Decision {
    /// Nothing.
    Open,
    Http1,
    Speaks {
        spoken: Spoken,
        requests: Direction,
        /// What was held, and how many bytes at the end of the piece that decided nobody has read.
        held: Option<Unread>,
        piece: usize,
    },
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
        Self { http1, rejected: [false; 2], turns: 0, held: None }
    }

    /// Bytes of heads that wait for more.
    pub(super) fn heads_len(&self) -> usize {
        self.http1.heads_len()
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
        if self.continues_preface(fragment) {
            return self.judge(bytes, bytes, fragment, cx);
        }
        let place = fragment.place;
        self.http1.bytes(bytes, hole_follows, fragment, cx);
        if self.http1.requests().is_some() {
            return Decision::Http1;
        }
        match self.http1.take_rejected() {
            Some(rejected) => {
                let before = bytes.len().saturating_sub(rejected.len());
                fragment.place = place.plus(before);
                fragment.at += before as u64;
                self.judge(bytes, &rejected, fragment, cx)
            }
            None => Decision::Open,
        }
    }

    /// Whether the bytes of `fragment` go on with a beginning of HTTP/2, whose line ends mean nothing to HTTP/1.
    fn continues_preface(&self, fragment: &Fragment) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.fragment.direction == fragment.direction
                && held.fragment.end == fragment.at
                && http2::opens(&held.bytes) == Parse::NeedMore
        })
    }

    pub(super) fn hole<S: Sink>(
        &mut self,
        len: u64,
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Decision {
        cx.shared.stats.beginnings_not_shown += 1;
        self.http1.hole(len, fragment, cx);
        if self.http1.requests().is_some() {
            return Decision::Http1;
        }
        match self.http1.take_rejected() {
            Some(rejected) => self.judge(&[], &rejected, fragment, cx),
            None => Decision::Open,
        }
    }

    pub(super) fn gap<S: Sink>(
        &mut self,
        direction: Direction,
        to: u64,
        fragment: &Fragment,
        noticed: Noticed,
        cx: &mut Cx<'_, S>,
    ) {
        self.held = None;
        self.http1.gap(direction, to, fragment, noticed, cx);
    }

    pub(super) fn ended<S: Sink>(&mut self, how: Ended, cx: &mut Cx<'_, S>) {
        self.http1.ended(how, 0, cx);
    }

    pub(super) fn is_between_messages(&self, direction: Direction) -> bool {
        self.http1.is_between_messages(direction)
    }

    /// HTTP/1 has rejected the last bytes of `piece`, or a head that it had begun to put together before them.
    fn judge<S: Sink>(
        &mut self,
        piece: &[u8],
        rejected: &[u8],
        fragment: &mut Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Decision {
        if is_tls(rejected) {
            cx.keep(|kept| kept.literal(fragment.place, &rejected[..TLS_HEADER_LEN]));
            return Decision::Opaque(policy::CIPHERTEXT);
        }
        if let Some(decision) = self.others(piece, rejected, fragment, cx.wire) {
            let spoken = Spoken::Http2(Beginning::Frames);
            if matches!(&decision, Decision::Speaks { spoken: found, .. } if *found == spoken) {
                let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, rejected);
                http2::keep_heads(rejected, &mut keep);
            }
            return decision;
        }
        if let Some(held) = &self.held
            && http2::opens(&held.bytes) == Parse::NeedMore
            && rejected.len() <= piece.len()
        {
            cx.keep(|kept| kept.literal(fragment.place, rejected));
        } else if let Some(held) = &self.held
            && held.bytes == rejected
            && rejected.len() <= piece.len()
            && cx.shared.kept.is_some()
            && !matches!(redis::looks_like_commands(rejected), Parse::NotThis(_))
        {
            let keep = Keeping::of(&mut cx.shared.kept, fragment.place, rejected);
            keep_commands(rejected, keep);
        }
        // Of earlier pieces a recording has kept nothing.
        if rejected.len() <= piece.len() && self.is_idle_http2(rejected, fragment, cx) {
            return Decision::Open;
        }
        let at = index(fragment.direction);
        if !self.rejected[at] || fragment.other_pos > cx.wire.flow(fragment.direction).other_pos {
            self.turns += 1;
        }
        self.rejected[at] = true;
        let both = self.rejected == [true; 2] && !cx.wire.info.joined;
        if self.turns >= MAX_REJECTED_TURNS || both {
            return Decision::Opaque(policy::COUNT);
        }
        Decision::Open
    }

    /// Frames of HTTP/2 that do not tell whose they are: the first ones of a server, which may speak before its client has,
    /// or those of a connection that was joined while it was idle. They speak for no other protocol.
    fn is_idle_http2<S: Sink>(
        &mut self,
        rejected: &[u8],
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        if fragment.pos == 0 && http2::looks_like_settings(rejected) {
            keep_frames(rejected, fragment, cx);
            self.held = Some(Unread { fragment: *fragment, bytes: rejected.to_vec() });
            return true;
        }
        if cx.wire.info.joined && http2::frames(rejected).is_some() {
            keep_frames(rejected, fragment, cx);
            return true;
        }
        false
    }

    /// What the other protocols make of it.
    fn others(
        &mut self,
        piece: &[u8],
        rejected: &[u8],
        fragment: &Fragment,
        wire: &Wire,
    ) -> Option<Decision> {
        let direction = fragment.direction;
        let piece = rejected.len().min(piece.len());
        let may_request = match wire.role {
            Role::Client => direction == Direction::Tx,
            Role::Server => direction == Direction::Rx,
            Role::Unknown => true,
        };
        if wire.info.joined
            && piece == rejected.len()
            && let Some(frames) = http2::frames(rejected)
            && let Some(of_client) = frames.of_client.or(match wire.role {
                Role::Unknown => None,
                _ if !frames.has_stream => None,
                _ => Some(may_request),
            })
        {
            let requests = if of_client { direction } else { direction.flip() };
            let spoken = Spoken::Http2(Beginning::Frames);
            return Some(Decision::Speaks { spoken, requests, held: None, piece });
        }
        let speaks_http2 = |held| Decision::Speaks {
            spoken: Spoken::Http2(Beginning::Preface),
            requests: direction,
            held: Some(held),
            piece,
        };
        match self.held.take() {
            Some(held)
                if held.fragment.direction == direction.flip()
                    && may_request
                    && matches!(http2::opens(rejected), Parse::Parsed { .. }) =>
            {
                return Some(speaks_http2(held));
            }
            Some(held) if held.fragment.direction == direction.flip() => {
                if matches!(redis::looks_like_replies(rejected), Parse::Parsed { .. }) {
                    let (requests, spoken) = (direction.flip(), Spoken::Redis);
                    return Some(Decision::Speaks { spoken, requests, held: Some(held), piece });
                }
            }
            Some(held) if is_rest_of_preface(&held, rejected, fragment) => {
                return Some(speaks_http2(held));
            }
            Some(mut held)
                if held.fragment.end == fragment.pos
                    && held.bytes.len() + rejected.len() <= MAX_HELD =>
            {
                held.bytes.extend_from_slice(rejected);
                held.fragment.end = fragment.end;
                match recognise(&held.bytes, wire.info.joined) {
                    Recognised::Is(spoken) => {
                        let held = Some(held);
                        return Some(Decision::Speaks {
                            spoken,
                            requests: direction,
                            held,
                            piece: 0,
                        });
                    }
                    Recognised::MayBe => {
                        self.held = Some(held);
                        return None;
                    }
                    Recognised::No => {}
                }
            }
            _ => {}
        }
        if may_request {
            match recognise(rejected, wire.info.joined) {
                Recognised::Is(spoken) => {
                    let before = &rejected[..rejected.len() - piece];
                    let held = (!before.is_empty())
                        .then(|| Unread { fragment: *fragment, bytes: before.to_vec() });
                    return Some(Decision::Speaks { spoken, requests: direction, held, piece });
                }
                Recognised::MayBe if rejected.len() <= MAX_HELD => {
                    self.held = Some(Unread { fragment: *fragment, bytes: rejected.to_vec() });
                }
                Recognised::MayBe | Recognised::No => {}
            }
        }
        let may_answer = wire.role == Role::Unknown || !may_request;
        if may_answer && wire.info.joined && postgres::looks_like_replies(rejected) {
            let (spoken, requests) = (Spoken::Postgres { begins: false }, direction.flip());
            return Some(Decision::Speaks { spoken, requests, held: None, piece });
        }
        None
    }
}

/// Whether `rest` completes the client's first bytes of HTTP/2.
fn is_rest_of_preface(held: &Unread, rest: &[u8], fragment: &Fragment) -> bool {
    held.fragment.end == fragment.pos
        && http2::opens(&held.bytes) == Parse::NeedMore
        && matches!(http2::opens(&[&held.bytes, rest].concat()), Parse::Parsed { .. })
}
