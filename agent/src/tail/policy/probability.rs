//! A share of all traces, by what every host knows of a trace: so that agents and Collectors that see parts of it
//! decide alike.

use super::{Decision, Trace};
use crate::{
    tail::{
        settings::Mode,
        trace_state::{ALL, OpenTelemetry, randomness},
    },
    trace_context::TraceId,
};

/// The salt where none is configured; the Collector's.
const DEFAULT_SALT: &str = "default-hash-seed";
/// Hexadecimal digits of a threshold behind those that are all `f` or all `0` (OpenTelemetry specification, "Consistent
/// probability sampling", default precision).
const PRECISION: u32 = 4;

/// Of `probabilistic`.
#[derive(Debug)]
pub(super) struct Probabilistic {
    mode: Mode,
    /// The state of the hash behind the salt.
    salted: u64,
    /// Hashes up to this are sampled.
    most: u64,
    /// Randomness from this on is sampled; [`ALL`]: none is.
    threshold: u64,
}

impl Probabilistic {
    pub(super) fn new(mode: Mode, salt: &str, percentage: f64) -> Self {
        let salt = if salt.is_empty() { DEFAULT_SALT } else { salt };
        let ratio = percentage / 100.0;
        Self {
            mode,
            salted: fnv1a(FNV_OFFSET, salt.as_bytes()),
            most: most(ratio),
            threshold: threshold(ratio),
        }
    }

    pub(super) fn evaluate(&self, trace: &Trace<'_>) -> Decision {
        let states = trace.spans.iter().map(|held| OpenTelemetry::of(held.span.trace_state()));
        // The randomness is one of the whole trace; who has none of it written down has that of the id.
        let state = states.reduce(|one, other| OpenTelemetry {
            randomness: one.randomness.or(other.randomness),
            threshold: one.threshold.or(other.threshold),
        });
        let state = state.unwrap_or_default();
        let is_consistent = self.mode == Mode::Consistent
            || state.randomness.is_some()
            || state.threshold.is_some();
        if !is_consistent {
            return Decision::sampled_if(hash(self.salted, trace.id) <= self.most);
        }
        let random = state.randomness.unwrap_or_else(|| randomness(trace.id));
        if random >= self.threshold {
            Decision::Sampled { threshold: self.threshold }
        } else {
            Decision::NotSampled
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// FNV-1a with 64 bits.
fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

fn hash(salted: u64, id: TraceId) -> u64 {
    fnv1a(salted, &id.0)
}

/// The largest hash that is sampled: `ratio` of 2^64 - 1, calculated with 64 bits of precision and rounded down, so
/// that it is the Collector's to the last bit.
fn most(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return u64::MAX;
    }
    if ratio <= 0.0 {
        return 0;
    }
    // ratio = mantissa * 2^exponent with 53 bits of mantissa.
    let bits = ratio.to_bits();
    let biased = bits >> 52;
    if biased == 0 {
        return 0; // below 2^-1022
    }
    let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
    let mut exponent = i64::try_from(biased).unwrap_or(0) - 1075;
    let mut product = u128::from(mantissa) * u128::from(u64::MAX);
    // To 64 bits, to the nearest, ties to the even one.
    let excess = (u128::BITS - product.leading_zeros()).saturating_sub(64);
    if excess > 0 {
        let rest = product & ((1 << excess) - 1);
        let half = 1 << (excess - 1);
        product >>= excess;
        product += u128::from(rest > half || (rest == half && product & 1 == 1));
        exponent += i64::from(excess);
    }
    let product = match u32::try_from(-exponent) {
        Ok(shift) => product.checked_shr(shift).unwrap_or(0),
        Err(_) => product << exponent.clamp(0, 63),
    };
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// The least randomness, of 56 bits, that is sampled with this probability; with as many digits as the specification
/// recommends.
fn threshold(ratio: f64) -> u64 {
    let all = ALL as f64;
    if ratio >= 1.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 2^56"
    )]
    let sampled = (ratio.max(0.0) * all).round() as u64;
    if sampled == 0 {
        return ALL;
    }
    let exact = ALL - sampled;
    // More digits near both ends, where the first ones say little.
    let same = |value: u64| (value << 8).leading_zeros() / 4;
    let digits = PRECISION + same(sampled).max(same(exact));
    if digits >= 14 {
        return exact;
    }
    let shift = 4 * (14 - digits);
    let half = 1 << (shift - 1);
    ((exact + half) >> shift) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Go: `hash/fnv` and `math/big`, as the Collector uses them.
    #[test]
    fn hashes_and_bounds_are_the_collectors() {
        let id = |last: u8| TraceId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, last]);
        let salted = fnv1a(FNV_OFFSET, DEFAULT_SALT.as_bytes());
        assert_eq!(fnv1a(FNV_OFFSET, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(salted, id(16)), HASH_16);
        assert_eq!(hash(salted, id(17)), HASH_17);
        for (percentage, bound) in BOUNDS {
            assert_eq!(most(percentage / 100.0), bound, "{percentage} %");
        }
    }

    const HASH_16: u64 = 15_838_989_281_584_434_349;
    const HASH_17: u64 = 15_838_988_182_072_806_138;
    const BOUNDS: [(f64, u64); 14] = [
        (0.0, 0),
        (1e-9, 184_467_440),
        (0.01, 1_844_674_407_370_955),
        (0.1, 18_446_744_073_709_551),
        (1.0, 184_467_440_737_095_519),
        (10.0, 1_844_674_407_370_955_263),
        (12.5, 2_305_843_009_213_693_951),
        (33.3, 6_142_765_776_545_279_999),
        (50.0, 9_223_372_036_854_775_807),
        (66.6, 12_285_531_553_090_559_999),
        (99.9, 18_428_297_329_635_844_095),
        (99.999_999_999_9, 18_446_744_073_691_105_279),
        (100.0, 18_446_744_073_709_551_615),
        (150.0, 18_446_744_073_709_551_615),
    ];

    #[test]
    fn thresholds_have_the_digits_that_they_need() {
        for (ratio, expected) in [
            (1.0, 0),
            (0.5, 0x80_0000_0000_0000),
            (0.25, 0xc0_0000_0000_0000),
            (0.1, 0xe6_6600_0000_0000),
            (0.01, 0xfd_70a0_0000_0000),
            (0.001, 0xff_be77_0000_0000),
            (0.0, ALL),
        ] {
            let found = threshold(ratio);
            let wide = found.abs_diff(expected);
            assert!(wide <= 1 << 28, "{ratio}: {found:014x}, expected about {expected:014x}");
            let probability = (ALL - found) as f64 / ALL as f64;
            assert!((probability - ratio).abs() <= ratio * 1e-3, "{ratio}: {probability}");
        }
    }
}
