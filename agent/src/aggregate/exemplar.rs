//! Which measurements are kept as examples of a distribution, with the span that they belong to.

use crate::{
    ids::IdGenerator,
    metrics_data::{Exemplar, Number},
    span::Span,
    trace_context::{SpanId, TraceId},
};

/// A measurement as it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) value: f64,
    pub(super) time_unix_ns: u64,
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

impl Measured {
    pub(super) const fn of(span: &Span, value: f64) -> Self {
        Self {
            value,
            time_unix_ns: span.end_unix_ns,
            trace_id: span.trace_id,
            span_id: span.span_id,
        }
    }
}

impl From<Measured> for Exemplar {
    fn from(measured: Measured) -> Self {
        Self {
            time_unix_ns: measured.time_unix_ns,
            value: Number::Double(measured.value),
            trace_id: measured.trace_id,
            span_id: measured.span_id,
        }
    }
}

/// The last measurement of each bucket (SDK specification, "AlignedHistogramBucketExemplarReservoir").
/// Most series touch few buckets, so only those have a place.
#[derive(Debug, Default)]
pub(super) struct PerBucket(Vec<(u32, Measured)>);

impl PerBucket {
    pub(super) fn offer(&mut self, bucket: usize, measured: &Measured) {
        let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
        match self.0.iter_mut().find(|(kept, _)| *kept == bucket) {
            Some((_, kept)) => *kept = *measured,
            None => self.0.push((bucket, *measured)),
        }
    }

    /// The last of each bucket, in the order of buckets. Those from before `since_unix_ns` are told for the last time.
    pub(super) fn tell(&mut self, since_unix_ns: u64) -> Vec<Exemplar> {
        self.0.sort_by_key(|(bucket, _)| *bucket);
        let told = self.0.iter().map(|&(_, measured)| measured.into()).collect();
        self.0.retain(|(_, measured)| measured.time_unix_ns >= since_unix_ns);
        told
    }
}

/// A uniform sample of fixed size (Vitter's algorithm R; SDK specification,
/// "SimpleFixedSizeExemplarReservoir").
#[derive(Debug, Default)]
pub(super) struct FixedSize {
    kept: Vec<Measured>,
    seen: u64,
    /// The sample before, as long as there is no new one.
    told: Vec<Measured>,
}

impl FixedSize {
    pub(super) const SIZE: usize = 20;

    pub(super) fn offer(&mut self, measured: &Measured, random: &mut IdGenerator) {
        self.seen += 1;
        if self.kept.len() < Self::SIZE {
            self.kept.push(*measured);
            return;
        }
        // High word of the product: uniform over 0..seen but for a bias below 2^-40.
        let at = (u128::from(random.word()) * u128::from(self.seen)) >> 64;
        if let Some(kept) = usize::try_from(at).ok().and_then(|at| self.kept.get_mut(at)) {
            *kept = *measured;
        }
    }

    /// The sample since the last time, or the one before if nothing was measured since. What is from before
    /// `since_unix_ns` is told for the last time.
    pub(super) fn tell(&mut self, since_unix_ns: u64) -> Vec<Exemplar> {
        self.seen = 0;
        if !self.kept.is_empty() {
            self.told = std::mem::take(&mut self.kept);
        }
        let told = self.told.iter().map(|&measured| measured.into()).collect();
        self.told.retain(|measured| measured.time_unix_ns >= since_unix_ns);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64) -> Measured {
        let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
        Measured { value, time_unix_ns: 3, trace_id, span_id }
    }

    fn values(exemplars: &[Exemplar]) -> Vec<f64> {
        let value = |exemplar: &Exemplar| match exemplar.value {
            Number::Double(value) => value,
            Number::Int(value) => panic!("{value} is an integer"),
        };
        exemplars.iter().map(value).collect()
    }

    #[test]
    fn each_bucket_keeps_its_last_measurement() {
        let mut reservoir = PerBucket::default();
        for (bucket, value) in [(3, 3.0), (1, 1.0), (3, 3.5)] {
            reservoir.offer(bucket, &measured(value));
        }
        assert_eq!(values(&reservoir.tell(3)), [1.0, 3.5]);
        assert_eq!(values(&reservoir.tell(4)), [1.0, 3.5], "for the last time");
        assert!(reservoir.tell(4).is_empty());
    }

    #[test]
    fn a_sample_is_told_until_there_is_another_or_it_is_old() {
        let mut random = IdGenerator::from_seed([1, 2, 3, 4]);
        let mut reservoir = FixedSize::default();
        reservoir.offer(&measured(1.0), &mut random);
        assert_eq!(values(&reservoir.tell(3)), [1.0]);
        assert_eq!(values(&reservoir.tell(3)), [1.0]);
        reservoir.offer(&measured(2.0), &mut random);
        assert_eq!(values(&reservoir.tell(3)), [2.0]);
        assert_eq!(values(&reservoir.tell(4)), [2.0], "for the last time");
        assert!(reservoir.tell(4).is_empty());
    }

    #[test]
    fn fixed_size_sample_is_uniform() {
        let mut random = IdGenerator::from_seed([1, 2, 3, 4]);
        let mut late = 0;
        for _ in 0..500 {
            let mut reservoir = FixedSize::default();
            for value in 0..200 {
                reservoir.offer(&measured(f64::from(value)), &mut random);
            }
            let kept = values(&reservoir.tell(u64::MAX));
            assert_eq!(kept.len(), FixedSize::SIZE);
            late += kept.iter().filter(|&&value| value >= 100.0).count();
        }
        let share = late as f64 / (500 * FixedSize::SIZE) as f64;
        assert!((share - 0.5).abs() < 0.03, "{share}");
    }
}
