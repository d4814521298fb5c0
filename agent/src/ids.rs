//! Trace and span ids: random, never zero, two words of work each.

use std::hash::{BuildHasher, RandomState};

use crate::trace_context::{SpanId, TraceId};

/// xoshiro256++ (Blackman and Vigna): not for secrets, but every 64-bit window of it is well mixed,
/// which samplers by trace id rely on.
#[derive(Debug)]
pub(crate) struct IdGenerator {
    state: [u64; 4],
}

impl IdGenerator {
    /// The same ids for the same seed: for tests and recordings.
    pub(crate) const fn from_seed(seed: [u64; 4]) -> Self {
        // All zero is the one state that the generator never leaves.
        let zero = seed[0] | seed[1] | seed[2] | seed[3] == 0;
        Self { state: if zero { [1, 2, 3, 4] } else { seed } }
    }

    pub(crate) const fn word(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    pub(crate) fn span_id(&mut self) -> SpanId {
        loop {
            let word = self.word();
            if word != 0 {
                return SpanId(word.to_be_bytes());
            }
        }
    }

    pub(crate) fn trace_id(&mut self) -> TraceId {
        loop {
            let id = (u128::from(self.word()) << 64) | u128::from(self.word());
            if id != 0 {
                return TraceId(id.to_be_bytes());
            }
        }
    }
}

/// From the operating system: `RandomState` is keyed with 128 bits of it, the four words are SipHash
/// of four numbers under that key. Never from time, which two agents may share.
pub(crate) fn random_seed() -> [u64; 4] {
    let keyed = RandomState::new();
    [1_u64, 2, 3, 4].map(|word| keyed.hash_one(word))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn follows_the_reference_sequence() {
        // State 1, 2, 3, 4: the first outputs of the published algorithm.
        let mut ids = IdGenerator::from_seed([1, 2, 3, 4]);
        assert_eq!(ids.word(), 41_943_041);
        assert_eq!(ids.word(), 58_720_359);
        assert_eq!(ids.word(), 3_588_806_011_781_223);
    }

    #[test]
    fn ids_are_not_zero_even_from_a_zero_seed_and_do_not_repeat() {
        let mut ids = IdGenerator::from_seed([0; 4]);
        let spans: HashSet<_> = (0..100_000).map(|_| ids.span_id()).collect();
        assert_eq!(spans.len(), 100_000);
        assert!(!spans.contains(&SpanId([0; 8])));
    }

    #[test]
    fn two_generators_differ() {
        let trace_id = || IdGenerator::from_seed(random_seed()).trace_id();
        assert_ne!(trace_id(), trace_id());
    }
}
