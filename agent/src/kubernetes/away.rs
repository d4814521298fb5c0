//! When the API server does not answer, or says no: what is said of it, and when it is asked again. Nothing that is
//! followed ends by it.

use std::time::Duration;

use kube::runtime::watcher;

use super::node_name::NodeNameError;

/// Pauses between attempts, doubled each time, and spread so that a cluster's agents do not all come at once.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the server said instead of an answer.
pub(super) fn refusal(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// Whether the server no longer has what happened since: HTTP 410, as a status or inside of a watch.
pub(super) fn is_expired(error: &watcher::Error) -> bool {
    refusal(error).is_some_and(|status| status.code == 410)
}

/// What stands between the agent and the API server.
pub(super) enum Away {
    Node(NodeNameError),
    Watch(watcher::Error),
    Server(kube::Error),
}

impl Away {
    /// For people: 403 is named, with what is missing; the rest by its innermost cause.
    fn say(&self) -> String {
        let error: &dyn std::error::Error = match self {
            Self::Node(error) => error,
            Self::Watch(error) => error,
            Self::Server(error) => error,
        };
        let status = match self {
            Self::Node(NodeNameError::Api(error)) => match &**error {
                kube::Error::Api(status) => Some(&**status),
                _ => None,
            },
            Self::Watch(error) => refusal(error),
            _ => None,
        };
        match status {
            Some(status) if status.code == 403 => {
                format!("not allowed (403): {}; see the agent's ClusterRole", status.message)
            }
            Some(status) if status.code == 401 => {
                format!("not known to the API server (401): {}", status.message)
            }
            _ => {
                let mut chain = error.to_string();
                let mut cause = error.source();
                while let Some(one) = cause {
                    let text = one.to_string();
                    if !chain.contains(&text) {
                        chain = format!("{chain}: {text}");
                    }
                    cause = one.source();
                }
                chain
            }
        }
    }
}

/// When to try again, and what was said of it.
pub(super) struct Retry {
    /// What is followed, for people.
    what: &'static str,
    pause: Duration,
    said: Option<String>,
}

impl Retry {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, pause: Duration::ZERO, said: None }
    }

    /// Says what is new of it, also to `tell`, and lets time pass.
    pub(super) async fn failed(&mut self, away: &Away, tell: impl FnOnce(&str)) {
        let why = away.say();
        if self.said.as_ref() != Some(&why) {
            tracing::warn!("{} are not followed, going on with what is known: {why}", self.what);
            tell(&why);
            self.said = Some(why);
        }
        self.pause().await;
    }

    /// Lets time pass, longer each time until something succeeds.
    pub(super) async fn pause(&mut self) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let spread = f64::from(u32::try_from(crate::clock::mono_ns() % 1000).unwrap_or(0)) / 1000.0;
        tokio::time::sleep(self.pause.mul_f64(0.5 + spread / 2.0)).await;
    }

    /// Says that it is back, if it was said to be away.
    pub(super) fn succeeded(&mut self, known: usize, tell: impl FnOnce()) {
        if self.said.take().is_some() {
            tell();
            tracing::info!(known, "caught up with the API server: {} are followed", self.what);
        }
        self.pause = Duration::ZERO;
    }
}
