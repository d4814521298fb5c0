//! The service manager (sd_notify(3)): told when the agent is ready, that it lives, and that it ends. Without
//! one nothing is said.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

use super::handle::{Handle, Questions};

/// Everything is attached. From now on the manager's watchdog, if it set one, hears as long as the worker
/// answers: one that hangs is ended and started anew.
pub(super) fn ready(handle: &Handle) {
    if let Err(error) = notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
    if let Some(patience) = watchdog_enabled() {
        tokio::spawn(watch(handle.questions(), patience));
    }
}

/// Asks four times as often as the manager expects to hear, and waits for each answer.
async fn watch(worker: Questions, patience: Duration) {
    let mut turns = tokio::time::interval(patience / 4);
    loop {
        turns.tick().await;
        if worker.answers().await {
            // The manager will notice if it does not hear.
            let _ = notify(&[NotifyState::Watchdog]);
        }
    }
}

pub(super) fn stopping() {
    // Without a service manager there is nobody to tell.
    let _ = notify(&[NotifyState::Stopping]);
}
