//! Random numbers that are the same in every run: xorshift64* (Vigna, "An experimental exploration of
//! Marsaglia's xorshift generators, scrambled", 2016).

use std::time::Duration;

pub struct Random(u64);

impl Random {
    /// # Panics
    /// If `seed` is 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0, "0 stays 0");
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Another sequence, for another thread.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.number() | 1)
    }

    /// Some time that is shorter than `longest`.
    pub fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64((self.number() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
