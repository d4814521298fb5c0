//! From the kernel's monotonic clock to Unix time: `unix_ns = mono_ns + offset`, the offset measured
//! anew from time to time and when the wall clock was set, so that a span's two ends always move
//! together.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The difference between the realtime and the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    offset_ns: i64,
}

impl ClockOffset {
    /// An offset that is known from elsewhere (a recording, a test).
    #[must_use]
    pub const fn fixed(offset_ns: i64) -> Self {
        Self { offset_ns }
    }

    /// Reads both clocks of this host. Of several attempts the one with the tightest bracket counts,
    /// so that being preempted between two reads does not shift every span: the error is at most
    /// half of that bracket, some tens of nanoseconds.
    #[must_use]
    pub fn measure() -> Self {
        let attempt = || {
            let before = mono_ns();
            let unix = nanos(clock_gettime(ClockId::Realtime));
            let after = mono_ns();
            let middle = before + (after - before) / 2;
            (after - before, unix.wrapping_sub(middle).cast_signed())
        };
        let (_, offset_ns) = (0..5).map(|_| attempt()).min().expect("five attempts were made");
        Self { offset_ns }
    }

    /// `CLOCK_REALTIME` for a `CLOCK_MONOTONIC` instant, nanoseconds.
    #[must_use]
    pub const fn unix_ns(self, mono_ns: u64) -> u64 {
        mono_ns.wrapping_add_signed(self.offset_ns)
    }

    /// The offset itself, nanoseconds to add to a monotonic instant.
    #[must_use]
    pub const fn offset_ns(self) -> i64 {
        self.offset_ns
    }
}

/// `CLOCK_MONOTONIC` now, nanoseconds: the clock of every record.
#[must_use]
pub fn mono_ns() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// An offset that is measured again when it is older than a period: the realtime clock is slewed and
/// stepped (NTP, a suspended VM), the monotonic one is not.
#[derive(Debug)]
pub struct Clock {
    offset: ClockOffset,
    measured_mono_ns: u64,
    period_ns: u64,
}

impl Clock {
    /// Two clocks slewed at the kernel's limit of 500 ppm part by 5 ms in this time.
    pub const PERIOD_NS: u64 = 10_000_000_000;

    /// Clocks that part by more within a period were not slewed. A reader that was put off between two
    /// looks at them measures once more than it must.
    pub const STEP_NS: u64 = 6_000_000;

    /// Measures now, and again whenever [`Self::offset_at`] finds the measurement older than
    /// [`Self::PERIOD_NS`].
    #[must_use]
    pub fn start() -> Self {
        Self {
            offset: ClockOffset::measure(),
            measured_mono_ns: mono_ns(),
            period_ns: Self::PERIOD_NS,
        }
    }

    /// A clock that is never measured: for recordings and tests.
    #[must_use]
    pub const fn fixed(offset: ClockOffset) -> Self {
        Self { offset, measured_mono_ns: 0, period_ns: u64::MAX }
    }

    /// The offset that was used last.
    #[must_use]
    pub const fn offset(&self) -> ClockOffset {
        self.offset
    }

    /// Compares the clocks, once each: the offset is measured anew if the realtime clock was set. To be
    /// called often; it takes some 50 ns.
    pub fn look(&mut self) {
        if self.period_ns != u64::MAX {
            let (unix_ns, now) = (nanos(clock_gettime(ClockId::Realtime)), mono_ns());
            self.compare(unix_ns, now);
        }
    }

    fn compare(&mut self, unix_ns: u64, mono_ns: u64) {
        if self.offset.unix_ns(mono_ns).abs_diff(unix_ns) > Self::STEP_NS {
            self.offset = ClockOffset::measure();
            self.measured_mono_ns = mono_ns;
        }
    }

    /// The offset to use for an exchange that ended at `mono_ns`.
    pub fn offset_at(&mut self, mono_ns: u64) -> ClockOffset {
        if mono_ns.saturating_sub(self.measured_mono_ns) >= self.period_ns {
            self.offset = ClockOffset::measure();
            self.measured_mono_ns = mono_ns;
        }
        self.offset
    }
}

fn nanos(time: Timespec) -> u64 {
    // Neither clock is negative on a machine that runs this decade.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn measured_offset_leads_to_the_system_time() {
        let unix_ns = ClockOffset::measure().unix_ns(mono_ns());
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let apart = system.abs_diff(u128::from(unix_ns));
        assert!(apart < 5_000_000_000, "{apart} ns apart");
    }

    #[test]
    fn fixed_offset_moves_both_ways() {
        assert_eq!(ClockOffset::fixed(-5).unix_ns(12), 7);
        assert_eq!(ClockOffset::fixed(5).unix_ns(12), 17);
    }

    #[test]
    fn a_step_is_noticed_either_way_and_slewing_is_not() {
        let strange = ClockOffset::fixed(1_000_000_000_000);
        let start = Clock { offset: strange, measured_mono_ns: 100, period_ns: u64::MAX - 1 };
        let unix_ns = strange.unix_ns(200);
        for slewed in [unix_ns - 5_000_000, unix_ns, unix_ns + 5_000_000] {
            let mut clock = Clock { ..start };
            clock.compare(slewed, 200);
            assert_eq!((clock.offset, clock.measured_mono_ns), (strange, 100));
        }
        for stepped in [unix_ns - 3_600_000_000_000 / 8, unix_ns + 3_600_000_000_000] {
            let mut clock = Clock { ..start };
            clock.compare(stepped, 200);
            // What this machine's clocks say, at once.
            let apart =
                clock.offset_at(200).offset_ns().abs_diff(ClockOffset::measure().offset_ns());
            assert!(apart < 1_000_000 && clock.measured_mono_ns == 200, "{apart} ns");
        }
    }

    #[test]
    fn a_clock_of_a_recording_is_never_measured() {
        let mut clock = Clock::fixed(ClockOffset::fixed(7));
        clock.look();
        assert_eq!(clock.offset_at(u64::MAX - 1).offset_ns(), 7);
    }

    #[test]
    fn offset_is_kept_within_a_period_and_renewed_after_it() {
        let strange = ClockOffset::fixed(1);
        let mut clock = Clock { offset: strange, measured_mono_ns: 100, period_ns: 50 };
        assert_eq!(clock.offset_at(149), strange);
        assert_eq!(clock.offset_at(90), strange, "an exchange that ended before the measurement");
        assert_ne!(clock.offset_at(150), strange);
    }
}
