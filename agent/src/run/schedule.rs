//! When something is due that comes back after an interval, by whatever clock the caller has.

use std::time::Duration;

/// Due once for each interval that is over.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ns: u64,
    next_ns: u64,
}

impl Schedule {
    /// For the first time an interval after `now_ns`.
    pub(super) fn new(interval: Duration, now_ns: u64) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { interval_ns, next_ns: now_ns.saturating_add(interval_ns) }
    }

    /// Another interval, from now on. The same one changes nothing.
    pub(super) fn change(&mut self, interval: Duration, now_ns: u64) {
        let new = Self::new(interval, now_ns);
        if new.interval_ns != self.interval_ns {
            *self = new;
        }
    }

    /// Whether it is due. Who was held up for more than an interval does not make up for it.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        let in_step = self.next_ns.saturating_add(self.interval_ns);
        self.next_ns =
            if in_step > now_ns { in_step } else { now_ns.saturating_add(self.interval_ns) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_nanos(10);

    #[test]
    fn it_is_due_once_an_interval_in_step_with_the_beginning() {
        let mut schedule = Schedule::new(TEN, 100);
        let due: Vec<u64> = (100..145).step_by(3).filter(|&now| schedule.is_due(now)).collect();
        assert_eq!(due, [112, 121, 130, 142]);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut schedule = Schedule::new(TEN, 0);
        let due: Vec<u64> =
            [9, 55, 56, 64, 65, 74, 75].into_iter().filter(|&now| schedule.is_due(now)).collect();
        assert_eq!(due, [55, 65, 75]);
    }

    #[test]
    fn only_another_interval_begins_anew() {
        let mut schedule = Schedule::new(TEN, 0);
        schedule.change(TEN, 8);
        assert!(schedule.is_due(10));
        schedule.change(Duration::from_nanos(3), 12);
        assert!(!schedule.is_due(14) && schedule.is_due(15));
    }
}
