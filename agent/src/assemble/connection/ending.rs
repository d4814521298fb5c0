//! What the end of a connection and the passing of time mean for exchanges that are open.

use remora_common::record::{self, CloseCause, Direction};

use super::{Begin, Connection, Fragment, Mode, Noticed, Place, half_mut, half_of};
use crate::{
    accounting::Lost,
    assemble::{Cx, half::State, pending::Stage},
    exchange::{Failure, Sink},
};

impl Connection {
    /// Takes an end of the connection; whether that was all of it.
    pub(in crate::assemble) fn close<S: Sink>(
        &mut self,
        cause: CloseCause,
        close: &record::Close,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        self.last_ns = self.last_ns.max(close.mono_ns);
        match cause {
            CloseCause::EndOfFile => self.end_direction(Direction::Rx, close, cx),
            CloseCause::LocalFin => self.end_direction(Direction::Tx, close, cx),
            CloseCause::Error => {
                // A response may still be there to be read, or its end to be confirmed.
                self.failure.get_or_insert((failure_of(close.errno), close.mono_ns));
                self.make_due(close.mono_ns, cx);
            }
            CloseCause::Gone => {
                self.end_direction(Direction::Rx, close, cx);
                self.end_direction(Direction::Tx, close, cx);
                self.fail_open(close.mono_ns, cx);
                for half in &mut self.halves {
                    cx.recycle(std::mem::take(&mut half.head));
                }
                return true;
            }
        }
        false
    }

    /// No more bytes come in `direction`.
    pub(super) fn end_direction<S: Sink>(
        &mut self,
        direction: Direction,
        close: &record::Close,
        cx: &mut Cx<'_, S>,
    ) {
        let (pos, other_pos) = match direction {
            Direction::Rx => (close.pos_rx, close.pos_tx),
            Direction::Tx => (close.pos_tx, close.pos_rx),
        };
        let half = half_of(&self.halves, direction);
        if half.state == State::Ended || self.mode == Mode::Other {
            return;
        }
        if pos > half.pos {
            let fragment = Fragment {
                direction,
                pos,
                other_pos,
                mono_ns: close.mono_ns,
                begin: Begin::default(),
                end: pos,
                place: Place::Head(0),
                guessed: false,
                ended_message: false,
            };
            self.gap(direction, pos, &fragment, Noticed::AtClose, cx);
        }
        let is_responses = match self.mode {
            Mode::Http { requests } => requests != direction,
            Mode::Unknown { .. } | Mode::Other => false,
        };
        if is_responses {
            let failed = self.failure.is_some();
            let half = half_of(&self.halves, direction);
            match half.state {
                State::UntilClose if !failed => {
                    let (owner, end_ns) = (half.owner, half.last_ns);
                    if let Some(front) = self.open.front_mut().filter(|p| p.serial == owner) {
                        front.end_ns = end_ns;
                        self.finish_front(None, cx);
                    }
                }
                State::Blind if half.tail_ends || !failed => self.end_front_if_blind(cx),
                _ => {}
            }
            self.fail_open(close.mono_ns, cx);
        }
        let half = half_mut(&mut self.halves, direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.enter(State::Ended);
    }

    /// Ends whatever is open with the connection's failure.
    pub(super) fn fail_open<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let (failure, end_ns) = self.failure.unwrap_or((Failure::Closed, mono_ns));
        while let Some(front) = self.open.front_mut() {
            front.end_ns = end_ns;
            self.finish_front(Some(failure), cx);
        }
    }

    pub(super) fn make_due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        if !self.is_due {
            self.is_due = true;
            let when_ns = mono_ns.saturating_add(cx.shared.limits.end_grace_ns);
            cx.shared.due.push_back((when_ns, self.info.id));
        }
    }

    /// Settles what was waited with.
    pub(in crate::assemble) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.is_due = false;
        let Mode::Http { requests } = self.mode else { return };
        let grace_ns = cx.shared.limits.end_grace_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= grace_ns;
        let mut waits_since = None;
        let half = half_of(&self.halves, requests.flip());
        if half.tail_ends && self.open.front().is_some_and(|front| front.serial == half.owner) {
            match over(half.last_ns) {
                true => self.end_front_if_blind(cx),
                false => waits_since = Some(half.last_ns),
            }
        }
        if let Some(front) = self.open.front().filter(|p| p.stage == Stage::UnrequestedDone) {
            match over(front.end_ns) {
                true => self.give_up_unrequested(cx),
                false => waits_since = Some(front.end_ns),
            }
        }
        if let Some((_, failed_ns)) = self.failure {
            if over(failed_ns) {
                self.fail_open(failed_ns, cx);
                let half = half_mut(&mut self.halves, requests.flip());
                if half.state != State::Ended {
                    half.enter(State::Blind);
                    half.owner = 0;
                }
            } else {
                waits_since = Some(failed_ns);
            }
        }
        if let Some(since_ns) = waits_since {
            self.make_due(since_ns, cx);
        }
    }

    /// Gives up requests that had no response for too long; a late one is still theirs.
    pub(in crate::assemble) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let Mode::Http { requests } = self.mode else { return };
        let no_response_ns = cx.shared.limits.no_response_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= no_response_ns;
        for pending in &mut self.open {
            let since_ns = pending.request_end_ns.max(pending.begin.mono_ns);
            if pending.stage == Stage::Open && !pending.answered && over(since_ns) {
                let settled = pending.settle();
                let failure = Some(Failure::NoResponse);
                cx.finished(settled.into_exchange(&self.info, requests, failure, mono_ns));
            }
        }
        if over(half_of(&self.halves, requests.flip()).last_ns) {
            self.end_front_if_blind(cx);
        }
    }

    /// The connection is forgotten for its silence.
    pub(in crate::assemble) fn give_up<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        self.end_front_if_blind(cx);
        self.failure.get_or_insert((Failure::NoResponse, mono_ns));
        self.fail_open(mono_ns, cx);
    }

    /// The agent stops.
    pub(in crate::assemble) fn stop<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.halves.iter().any(|half| half.tail_ends) {
            self.end_blind_response(cx);
        }
        self.lose_open(Lost::Stopped, cx);
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
