//! What the end of a connection and the passing of time mean for exchanges that are open.

use remora_common::record::Direction;

use super::{Http1, half::State, half_mut, half_of};
use crate::{
    accounting::Lost,
    assemble::{Cx, conversation::Ended, pending::Stage},
    exchange::Sink,
};

impl Http1 {
    /// Takes an end; `mono_ns` is when it was known.
    pub(in crate::assemble) fn ended<S: Sink>(
        &mut self,
        how: Ended,
        mono_ns: u64,
        cx: &mut Cx<'_, S>,
    ) {
        self.finish_answered(cx);
        match how {
            Ended::Direction(direction) => self.direction_ended(direction, mono_ns, cx),
            Ended::Connection => {
                self.fail_open(mono_ns, cx);
                self.recycle_heads(cx);
            }
            Ended::Forgotten(why) => {
                self.end_front_if_blind(cx);
                self.open.lose_all(why, cx);
            }
            Ended::Stopped => {
                if self.halves.iter().any(|half| half.tail_ends) {
                    self.end_blind_response(cx);
                }
                self.open.lose_all(Lost::Stopped, cx);
            }
            Ended::Replaced => {
                self.open.lose_all(Lost::Malformed, cx);
                self.recycle_heads(cx);
            }
        }
    }

    /// No more bytes come in `direction`.
    fn direction_ended<S: Sink>(&mut self, direction: Direction, mono_ns: u64, cx: &mut Cx<'_, S>) {
        if self.requests == Some(direction.flip()) {
            let failed = cx.wire.failure.is_some();
            let half = half_of(&self.halves, direction);
            match half.state {
                State::UntilClose if !failed => {
                    let (owner, end_ns) = (half.owner, cx.wire.flow(direction).last_ns);
                    if let Some(front) = self.open.front_mut().filter(|p| p.serial == owner) {
                        front.end_ns = end_ns;
                        self.finish_front(None, cx);
                    }
                }
                State::Blind if half.tail_ends || !failed => self.end_front_if_blind(cx),
                _ => {}
            }
            self.fail_open(mono_ns, cx);
        } else {
            self.mark_incomplete();
        }
        let half = half_mut(&mut self.halves, direction);
        cx.recycle(std::mem::take(&mut half.head));
        half.enter(State::Ended);
    }

    /// Ends whatever is open with the connection's failure.
    fn fail_open<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        if let Some(requests) = self.requests {
            self.mark_incomplete();
            self.open.fail_all(requests, mono_ns, cx);
        }
    }

    /// A second has passed. No clock says how an exchange ended; but if its response is over, the rest of the request is
    /// not waited for any longer.
    pub(in crate::assemble) fn sweep<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        let answered = self.open.front().filter(|front| front.stage == Stage::Answered);
        let Some(end_ns) = answered.map(|front| front.end_ns) else { return };
        let last_ns = end_ns.max(cx.wire.flow(requests).last_ns);
        if mono_ns.saturating_sub(last_ns) >= cx.shared.limits.content_grace_ns {
            self.finish_answered(cx);
        }
    }

    /// Settles what was waited with.
    pub(in crate::assemble) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        let grace_ns = cx.shared.limits.end_grace_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= grace_ns;
        let mut waits_since = None;
        let half = half_of(&self.halves, requests.flip());
        if half.tail_ends && self.open.front().is_some_and(|front| front.serial == half.owner) {
            let last_ns = cx.wire.flow(requests.flip()).last_ns;
            match over(last_ns) {
                true => self.end_front_if_blind(cx),
                false => waits_since = Some(last_ns),
            }
        }
        if let Some(front) = self.open.front().filter(|p| p.stage == Stage::UnrequestedDone) {
            match over(front.end_ns) {
                true => self.give_up_unrequested(cx),
                false => waits_since = Some(front.end_ns),
            }
        }
        if let Some((_, failed_ns)) = cx.wire.failure {
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
            cx.wire.make_due(since_ns, cx.shared);
        }
    }
}
