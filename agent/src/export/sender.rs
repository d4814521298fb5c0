//! From a queue to a collector: one request at a time, in order, repeated through an outage.
//!
//! A request stays at the head of its queue until the collector accepts it, refuses it for good, or the
//! queue needs its room. While attempts fail, one request is tried per pause; once one is accepted a
//! backlog goes out in requests as large as allowed. Each kind of trouble is logged when it begins and
//! when it is over, not each time.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{
    otlp::request::join,
    queue::Queue,
    settings::{BatchSettings, RetrySettings},
    stats::DropReason,
    transport::{Outcome, Transport},
};

pub(crate) struct Sender {
    queue: Arc<Queue>,
    transport: Transport,
    retry: RetrySettings,
    /// Bound of a request made of several; 0 if they must not be merged.
    merge_bytes: usize,
}

/// Failed attempts in a row.
struct Outage {
    since: Instant,
    attempts: u32,
}

impl Sender {
    pub(crate) fn new(
        queue: Arc<Queue>,
        transport: Transport,
        retry: &RetrySettings,
        batch: &BatchSettings,
    ) -> Self {
        let merge_bytes = if batch.merge_backlog { batch.max_request_bytes } else { 0 };
        Self { queue, transport, retry: retry.clone(), merge_bytes }
    }

    /// Sends until the task is aborted.
    pub(crate) async fn run(self) {
        let Self { queue, transport, retry, mut merge_bytes } = self;
        let (signal, endpoint) = (queue.signal.as_str(), transport.endpoint());
        let mut outage: Option<Outage> = None;
        let (mut refusing, mut partial) = (false, false);
        // Requests to send one by one, because together they were refused.
        let mut alone = 0_usize;
        loop {
            let merge = if outage.is_none() && alone == 0 { merge_bytes } else { 0 };
            let claim = queue.claim(merge).await;
            alone = alone.saturating_sub(1);
            let message = join(transport.format(), queue.signal, &claim.bodies);
            match transport.send(message).await {
                Outcome::Accepted(answer) => {
                    queue.delivered(answer.rejected);
                    if let Some(Outage { since, attempts }) = outage.take() {
                        let seconds = since.elapsed().as_secs_f32();
                        info!(signal, endpoint, attempts, seconds, "export works again");
                    }
                    refusing = false;
                    let warned = answer.rejected > 0 || !answer.message.is_empty();
                    if warned && !partial {
                        let (rejected, message) = (answer.rejected, answer.message);
                        warn!(
                            signal,
                            endpoint, rejected, message, "collector did not keep everything"
                        );
                    }
                    partial = warned;
                }
                Outcome::Refused(_) if claim.bodies.len() > 1 => {
                    // One of them may be to blame: find out which, keep the others. Or together they are
                    // more than something on the way allows: ask for less from now on.
                    alone = claim.bodies.len();
                    merge_bytes = claim.bodies.iter().map(Bytes::len).sum::<usize>() / 2;
                    queue.unclaim();
                }
                Outcome::Refused(reason) => {
                    queue.discard(DropReason::Refused);
                    if !std::mem::replace(&mut refusing, true) {
                        let items = claim.items;
                        warn!(
                            signal,
                            endpoint, items, reason, "collector refused a request; dropped"
                        );
                    }
                }
                Outcome::Later { reason, after } => {
                    queue.unclaim();
                    let outage = outage.get_or_insert_with(|| {
                        warn!(signal, endpoint, reason, "cannot export now; will keep trying");
                        Outage { since: Instant::now(), attempts: 0 }
                    });
                    let pause = after.filter(|after| !after.is_zero()).unwrap_or_else(|| {
                        pause(&retry, outage.attempts, RandomState::new().hash_one(0))
                    });
                    outage.attempts = outage.attempts.saturating_add(1);
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = queue.hurry.notified() => {}
                    }
                }
            }
        }
    }
}

/// The pause after `attempts` earlier ones: exponential, less up to half of it by `random`, so that
/// agents which failed together do not come back together.
fn pause(retry: &RetrySettings, attempts: u32, random: u64) -> Duration {
    let full = retry.initial.saturating_mul(1 << attempts.min(20)).min(retry.max);
    full.mul_f64(1.0 - 0.5 * (random as f64 / u64::MAX as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_with_jitter_below() {
        let retry =
            RetrySettings { initial: Duration::from_millis(500), max: Duration::from_secs(15) };
        for (attempts, full) in
            [(0, 500), (1, 1000), (4, 8000), (5, 15_000), (4_000_000_000, 15_000)]
        {
            let full = Duration::from_millis(full);
            assert_eq!(pause(&retry, attempts, 0), full);
            assert_eq!(pause(&retry, attempts, u64::MAX), full / 2);
        }
    }
}
