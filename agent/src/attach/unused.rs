//! For how long a file is attached that no selected process has.

use std::time::{Duration, Instant};

/// How long a file stays attached after its last process: short-lived processes come in series.
const LINGER: Duration = Duration::from_secs(2);

/// Since when no selected process has a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unused(Option<Instant>);

impl Unused {
    /// Whether a selected process has it was looked at.
    pub(super) fn update(&mut self, used: bool, now: Instant) {
        self.0 = if used { None } else { self.0.or(Some(now)) };
    }

    /// It is about to be used.
    pub(super) fn restart(&mut self) {
        self.0 = self.0.map(|_| Instant::now());
    }

    /// When it has to be detached, if nothing uses it until then.
    pub(super) fn due(self) -> Option<Instant> {
        Some(self.0? + LINGER)
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.due().is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_over_after_a_while() {
        let now = Instant::now();
        let mut unused = Unused::default();
        assert_eq!(unused.due(), None);
        unused.update(false, now);
        unused.update(false, now + LINGER / 2);
        assert_eq!(unused.due(), Some(now + LINGER));
        assert!(!unused.is_over(now + LINGER / 2) && unused.is_over(now + LINGER));
        unused.update(true, now + LINGER);
        assert!(!unused.is_over(now + 2 * LINGER));
    }
}
