//! From the kernel's monotonic clock to Unix time: `unix_ns = mono_ns + offset`, the offset measured
//! anew from time to time, so that a span's two ends always move together.

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

    /// `CLOCK_REALTIME` for a `CLOCK_MONOTONIC` instant, nanoseconds.
    #[must_use]
    pub const fn unix_ns(self, mono_ns: u64) -> u64 {
        mono_ns.wrapping_add_signed(self.offset_ns)
    }
}
