//! What waits for one destination: sealed requests, oldest first, bounded in bytes. The pipeline
//! offers and never waits; when there is no room the oldest request goes and is counted.
//!
//! A sender *claims* requests from the head and leaves them in place until it knows their fate. While
//! claimed they are on the wire and cannot be evicted, so nothing is counted twice; between two attempts
//! they can.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::warn;

use super::{
    otlp::{Signal, request::Encoded},
    settings::QueueSettings,
    stats::{Destination, DropReason, Dropped, LaneStats},
};

pub(crate) struct Queue {
    pub(crate) signal: Signal,
    pub(crate) destination: Destination,
    limits: QueueSettings,
    state: Mutex<State>,
    /// There may be something to claim.
    offered: Notify,
    /// Something was settled.
    settled: Notify,
    /// Try again now instead of waiting (flush).
    pub(crate) hurry: Notify,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Encoded>,
    /// How many at the head are claimed.
    claimed: usize,
    bytes: usize,
    items: u64,
    exported: u64,
    dropped: Dropped,
    failed_attempts: u64,
    /// An eviction was logged since the last delivery.
    eviction_logged: bool,
    closed: bool,
}

/// Requests at the head of the queue, to be sent as one.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) items: u64,
}

impl Queue {
    pub(crate) fn new(signal: Signal, destination: Destination, limits: &QueueSettings) -> Self {
        Self {
            signal,
            destination,
            limits: limits.clone(),
            state: Mutex::default(),
            offered: Notify::new(),
            settled: Notify::new(),
            hurry: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a request; evicts what no longer fits.
    pub(crate) fn offer(&self, request: Encoded) {
        let mut state = self.lock();
        if state.closed {
            state.dropped.add(DropReason::Shutdown, request.items);
            return;
        }
        state.bytes += request.body.len();
        state.items += request.items;
        state.requests.push_back(request);
        let mut evicted = 0;
        while self.is_over(&state) && state.claimed < state.requests.len() {
            let oldest = state.claimed;
            let request = state.requests.remove(oldest).expect("an index below the length");
            state.bytes -= request.body.len();
            state.items -= request.items;
            state.dropped.add(DropReason::QueueFull, request.items);
            evicted += request.items;
        }
        let log = evicted > 0 && !std::mem::replace(&mut state.eviction_logged, true);
        drop(state);
        self.offered.notify_one();
        if log {
            warn!(
                signal = self.signal.as_str(),
                destination = self.destination.as_str(),
                queue_bytes = self.limits.max_bytes,
                "export queue is full: dropping the oldest, counted, until the destination takes more"
            );
        }
    }

    fn is_over(&self, state: &State) -> bool {
        state.bytes > self.limits.max_bytes
    }

    /// Counts items that never became part of a request.
    pub(crate) fn drop_unqueued(&self, reason: DropReason, items: u64) {
        self.lock().dropped.add(reason, items);
    }

    /// Waits for a request and claims it, with those behind it as long as all are at most `max_bytes`.
    pub(crate) async fn claim(&self, max_bytes: usize) -> Claim {
        loop {
            if let Some(claim) = self.try_claim(max_bytes) {
                return claim;
            }
            self.offered.notified().await;
        }
    }

    fn try_claim(&self, max_bytes: usize) -> Option<Claim> {
        let mut state = self.lock();
        debug_assert_eq!(state.claimed, 0, "one sender per queue, one claim at a time");
        let mut claim = Claim { bodies: Vec::new(), items: 0 };
        let mut bytes = 0;
        for request in &state.requests {
            bytes += request.body.len() + 1; // JSON's comma
            if bytes > max_bytes && !claim.bodies.is_empty() {
                break;
            }
            claim.items += request.items;
            claim.bodies.push(request.body.clone());
        }
        state.claimed = claim.bodies.len();
        (state.claimed > 0).then_some(claim)
    }

    /// The claimed requests arrived; the destination did not keep `rejected` items of them.
    pub(crate) fn delivered(&self, rejected: u64) {
        let mut state = self.lock();
        let items = state.settle();
        let rejected = rejected.min(items);
        state.exported += items - rejected;
        state.dropped.add(DropReason::PartlyRefused, rejected);
        state.eviction_logged = false;
        drop(state);
        self.settled.notify_waiters();
    }

    /// The claimed requests will never arrive.
    pub(crate) fn discard(&self, reason: DropReason) {
        let mut state = self.lock();
        let items = state.settle();
        state.dropped.add(reason, items);
        drop(state);
        self.settled.notify_waiters();
    }

    /// The claimed requests stay where they are.
    pub(crate) fn unclaim(&self) {
        let mut state = self.lock();
        state.claimed = 0;
        state.failed_attempts += 1;
    }

    /// Waits until nothing is left, claimed requests included.
    pub(crate) async fn drained(&self) {
        self.reached(|state| state.requests.is_empty()).await;
    }

    /// Waits until at most `bytes` are left, claimed requests included.
    pub(crate) async fn below(&self, bytes: usize) {
        self.reached(|state| state.bytes <= bytes).await;
    }

    async fn reached(&self, goal: impl Fn(&State) -> bool) {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if goal(&self.lock()) {
                return;
            }
            settled.await;
        }
    }

    /// Drops what is left and everything that is offered from now on. The sender is gone by now.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.claimed = state.requests.len();
        let items = state.settle();
        state.dropped.add(DropReason::Shutdown, items);
    }

    /// The account, given what is known before the queue: items accepted, and those still in the open
    /// request.
    pub(crate) fn stats(&self, accepted: u64, open: u64) -> LaneStats {
        let state = self.lock();
        LaneStats {
            signal: self.signal,
            destination: self.destination,
            accepted,
            exported: state.exported,
            dropped: state.dropped,
            queued: open + state.items,
            queued_bytes: state.bytes,
            failed_attempts: state.failed_attempts,
        }
    }
}

impl State {
    /// Removes the claimed requests; returns their items.
    fn settle(&mut self) -> u64 {
        let mut items = 0;
        for request in self.requests.drain(..self.claimed) {
            self.bytes -= request.body.len();
            items += request.items;
        }
        self.items -= items;
        self.claimed = 0;
        items
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(max_bytes: usize) -> Queue {
        Queue::new(Signal::Traces, Destination::Otlp, &QueueSettings { max_bytes })
    }

    fn request(byte: u8, len: usize, items: u64) -> Encoded {
        Encoded { body: vec![byte; len].into(), items }
    }

    fn first_bytes(claim: &Claim) -> Vec<u8> {
        claim.bodies.iter().map(|body| body[0]).collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_first_and_counts() {
        let queue = queue(100);
        for byte in 0..10 {
            queue.offer(request(byte, 30, 2));
        }
        let stats = queue.stats(20, 0);
        assert_eq!((stats.queued, stats.queued_bytes), (6, 90));
        assert_eq!(stats.dropped.get(DropReason::QueueFull), 14);
        assert!(stats.balances());
        assert_eq!(first_bytes(&queue.try_claim(1000).unwrap()), [7, 8, 9]);
    }

    #[test]
    fn what_is_on_the_wire_is_not_evicted_but_between_attempts_it_is() {
        let queue = queue(100);
        queue.offer(request(0, 60, 1));
        queue.try_claim(0).unwrap();
        queue.offer(request(1, 60, 1)); // no room beside the claimed one
        queue.offer(request(2, 30, 1));
        assert_eq!(queue.stats(3, 0).dropped.get(DropReason::QueueFull), 1);
        queue.unclaim();
        queue.offer(request(3, 30, 1));
        queue.offer(request(4, 30, 1));
        assert_eq!(first_bytes(&queue.try_claim(1000).unwrap()), [2, 3, 4]);
        queue.delivered(1);
        let stats = queue.stats(5, 0);
        assert_eq!(
            (stats.exported, stats.queued, stats.queued_bytes, stats.failed_attempts),
            (2, 0, 0, 1)
        );
        assert_eq!(stats.dropped.get(DropReason::PartlyRefused), 1);
        assert!(stats.balances());
    }

    #[test]
    fn a_claim_takes_what_fits_but_at_least_one() {
        let queue = queue(1000);
        for byte in 0..4 {
            queue.offer(request(byte, 100, 1));
        }
        assert_eq!(queue.try_claim(0).unwrap().bodies.len(), 1);
        queue.unclaim();
        assert_eq!(queue.try_claim(302).unwrap().bodies.len(), 2);
        queue.unclaim();
        assert_eq!(queue.try_claim(303).unwrap().bodies.len(), 3);
    }

    /// What a sender and a pipeline may do to a queue.
    #[derive(Clone, Debug)]
    enum Step {
        Offer(usize, u64),
        Claim(usize),
        Delivered(u64),
        Discard,
        Unclaim,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..150_usize, 0..20_u64).prop_map(|(len, items)| Step::Offer(len, items)),
            2 => (0..300_usize).prop_map(Step::Claim),
            1 => (0..30_u64).prop_map(Step::Delivered),
            1 => Just(Step::Discard),
            1 => Just(Step::Unclaim),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn the_account_closes_and_the_bound_holds_after_every_step(steps in steps()) {
            let queue = queue(200);
            let (mut accepted, mut claimed) = (0, false);
            for step in steps {
                match step {
                    Step::Offer(len, items) => {
                        accepted += items;
                        queue.offer(request(0, len, items));
                    }
                    Step::Claim(max) if !claimed => claimed = queue.try_claim(max).is_some(),
                    Step::Delivered(rejected) if claimed => {
                        queue.delivered(rejected);
                        claimed = false;
                    }
                    Step::Discard if claimed => {
                        queue.discard(DropReason::Refused);
                        claimed = false;
                    }
                    Step::Unclaim if claimed => {
                        queue.unclaim();
                        claimed = false;
                    }
                    _ => {}
                }
                let stats = queue.stats(accepted, 0);
                prop_assert!(stats.balances(), "{stats:?}");
                prop_assert!(stats.queued_bytes <= 200, "{stats:?}");
            }
            queue.close();
            let stats = queue.stats(accepted, 0);
            prop_assert!(stats.balances() && stats.queued == 0 && stats.queued_bytes == 0);
        }
    }

    #[test]
    fn a_closed_queue_counts_what_was_left_and_what_still_comes() {
        let queue = queue(1000);
        queue.offer(request(0, 10, 3));
        queue.close();
        queue.offer(request(1, 10, 4));
        let stats = queue.stats(7, 0);
        assert_eq!(stats.dropped.get(DropReason::Shutdown), 7);
        assert!(stats.balances());
    }
}
