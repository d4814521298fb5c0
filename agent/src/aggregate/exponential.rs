//! A distribution over powers of `base = 2^(2^-scale)` (OpenTelemetry metrics data model,
//! "ExponentialHistogram"): bucket `i` counts values in `(base^i, base^(i+1)]`. The scale begins as
//! fine as allowed and is lowered just as far as all values fit into the bounded number of buckets.

use super::{
    exemplar::{FixedSize, Measured},
    explicit::add,
};
use crate::{
    ids::IdGenerator,
    metrics_data::{Buckets, Summary},
};

#[derive(Debug)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    /// Index of `counts[0]`; of no meaning while `counts` is empty.
    offset: i32,
    /// `counts.len() <= max_size`; first and last are not zero.
    counts: Vec<u64>,
    max_size: usize,
    pub(super) summary: Summary,
    pub(super) exemplars: FixedSize,
}

/// Most buckets, and the finest scale (SDK specification, "Base2 Exponential Bucket Histogram Aggregation").
const MAX_SIZE: u16 = 160;
const MAX_SCALE: i8 = 20;

impl Default for Exponential {
    fn default() -> Self {
        Self::new(MAX_SIZE, MAX_SCALE)
    }
}

impl Exponential {
    fn new(max_size: u16, max_scale: i8) -> Self {
        Self {
            scale: i32::from(max_scale),
            zero_count: 0,
            offset: 0,
            counts: Vec::new(),
            // With less than two buckets the scale would have no lower end.
            max_size: usize::from(max_size.max(2)),
            summary: Summary { count: 0, sum: 0.0, min: None, max: None },
            exemplars: FixedSize::default(),
        }
    }

    /// Counts a value; negative ones cannot be durations or sizes and count as zero.
    pub(super) fn record(&mut self, measured: &Measured, exemplar: bool, random: &mut IdGenerator) {
        add(&mut self.summary, measured.value);
        if exemplar {
            self.exemplars.offer(measured, random);
        }
        if measured.value.is_nan() || measured.value <= 0.0 {
            self.zero_count += 1;
            return;
        }
        let mut index = index(measured.value, self.scale);
        if self.counts.is_empty() {
            self.offset = index;
            self.counts.push(1);
            return;
        }
        let last = |histogram: &Self| histogram.offset + histogram.counts.len() as i32 - 1;
        let (mut low, mut high) = (index.min(self.offset), index.max(last(self)));
        let mut shift = 0;
        while i64::from(high) - i64::from(low) >= self.max_size as i64 {
            (low, high) = (low >> 1, high >> 1);
            shift += 1;
        }
        if shift > 0 {
            self.lower_scale(shift);
            index >>= shift;
        }
        if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        } else if index > last(self) {
            self.counts.resize((index - self.offset) as usize + 1, 0);
        }
        self.counts[(index - self.offset) as usize] += 1;
    }

    /// Merges each `2^shift` neighbours.
    fn lower_scale(&mut self, shift: i32) {
        let offset = self.offset >> shift;
        for at in 0..self.counts.len() {
            let merged = (((self.offset + at as i32) >> shift) - offset) as usize;
            // merged <= at: what is added to has been read before.
            let count = std::mem::take(&mut self.counts[at]);
            self.counts[merged] += count;
        }
        let last = (((self.offset + self.counts.len() as i32 - 1) >> shift) - offset) as usize;
        self.counts.truncate(last + 1);
        self.offset = offset;
        self.scale -= shift;
    }

    pub(super) fn buckets(&self) -> Buckets {
        if self.counts.is_empty() {
            return Buckets::default();
        }
        Buckets { offset: self.offset, counts: self.counts.clone() }
    }
}

/// The bucket of a positive value at a scale. Exact for `scale <= 0` and for powers of two; else right
/// but for values within a rounding error of a boundary, as the data model allows.
fn index(value: f64, scale: i32) -> i32 {
    // Subnormal numbers share the bucket of the least normal one.
    let value = value.clamp(f64::MIN_POSITIVE, f64::MAX);
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let power_of_two = bits & ((1 << 52) - 1) == 0;
    // Upper bounds are inclusive: a power of two is the last value of the bucket below.
    let below = exponent - i32::from(power_of_two);
    if scale <= 0 {
        return below >> -scale;
    }
    if power_of_two {
        return (exponent << scale) - 1;
    }
    // The fraction in [1, 2) alone: its logarithm keeps all bits that the exponent would take.
    let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let within = (fraction.log2() * f64::from(1_u32 << scale)).ceil() as i32 - 1;
    (exponent << scale) + within.clamp(0, (1 << scale) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace_context::{SpanId, TraceId};

    fn histogram(values: &[f64], max_size: u16) -> Exponential {
        let mut random = IdGenerator::from_seed([1, 2, 3, 4]);
        let mut histogram = Exponential::new(max_size, 20);
        for &value in values {
            let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
            let measured = Measured { value, time_unix_ns: 0, trace_id, span_id };
            histogram.record(&measured, false, &mut random);
        }
        histogram
    }

    #[test]
    fn powers_of_two_are_inclusive_upper_bounds() {
        for (value, scale, expected) in [
            (1.0, 0, -1),
            (1.5, 0, 0),
            (2.0, 0, 0),
            (2.1, 0, 1),
            (4.0, 0, 1),
            (0.5, 0, -2),
            (4.0, -1, 0),
            (4.1, -1, 1),
            (1.0, 3, -1),
            (2.0, 3, 7),
            (1.01, 3, 0),
            (1.0, 20, -1),
            (f64::MIN_POSITIVE / 4.0, 0, -1023),
            (f64::MAX, 0, 1023),
        ] {
            assert_eq!(index(value, scale), expected, "{value} at {scale}");
        }
    }

    #[test]
    fn scale_stays_as_fine_as_the_values_allow() {
        assert_eq!(histogram(&[1.0], 160).scale, 20);
        assert_eq!(histogram(&[1.0, 1.0], 160).scale, 20);
        // A factor of 1000 is 10 octaves: 160 buckets give 16 an octave.
        assert_eq!(histogram(&[0.001, 1.0], 160).scale, 4);
        let extreme = histogram(&[f64::MIN_POSITIVE, f64::MAX], 160);
        assert!(extreme.counts.len() <= 160);
    }

    #[test]
    fn zero_and_nonsense_are_counted_apart() {
        let histogram = histogram(&[0.0, -1.0, f64::NAN, 1.0], 160);
        assert_eq!((histogram.zero_count, histogram.summary.count), (3, 4));
        assert_eq!(histogram.buckets().counts, [1]);
    }

    proptest! {
        #[test]
        fn index_is_the_bucket_that_holds_the_value(
            value in 1e-9_f64..1e12,
            scale in -10_i32..=20,
        ) {
            let index = index(value, scale);
            // Checked in logarithms: base^index overflows for coarse scales, and is rounded too much for fine ones.
            let exponent = value.log2() * f64::from(scale).exp2();
            prop_assert!(exponent > f64::from(index) - 1e-4, "{exponent} {index}");
            prop_assert!(exponent <= f64::from(index) + 1.0 + 1e-4, "{exponent} {index}");
        }

        /// The oracle counts every value at the finest scale, then halves the resolution of the whole
        /// set until it fits.
        #[test]
        fn agrees_with_a_naive_histogram(
            values in proptest::collection::vec(
                prop_oneof![1e-6_f64..1e3, Just(0.0), Just(1.0), 1.0_f64..1.0001, 1e-300_f64..1e300],
                1..200,
            ),
            max_size in 2_u16..200,
        ) {
            let found = histogram(&values, max_size);
            let mut indexes: Vec<i64> =
                values.iter().filter(|&&v| v > 0.0).map(|&v| i64::from(index(v, 20))).collect();
            indexes.sort_unstable();
            let mut scale = 20;
            if let (Some(&low), Some(&high)) = (indexes.first(), indexes.last()) {
                let (mut low, mut high) = (low, high);
                while high - low + 1 > i64::from(max_size) {
                    (low, high) = (low >> 1, high >> 1);
                    scale -= 1;
                }
                let mut counts = vec![0_u64; usize::try_from(high - low + 1).unwrap()];
                for index in indexes {
                    counts[usize::try_from((index >> (20 - scale)) - low).unwrap()] += 1;
                }
                let buckets = found.buckets();
                prop_assert_eq!(i64::from(buckets.offset), low);
                prop_assert_eq!(buckets.counts, counts);
            }
            prop_assert_eq!(found.scale, scale);
            let zeros = values.iter().filter(|&&v| v == 0.0).count() as u64;
            prop_assert_eq!(found.zero_count, zeros);
            prop_assert_eq!(found.summary.count, values.len() as u64);
        }
    }
}
