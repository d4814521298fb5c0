//! A distribution over fixed bounds.

use super::exemplar::{Measured, PerBucket};
use crate::metrics_data::Summary;

/// Bucket `i` counts values in `(bounds[i-1], bounds[i]]`, the last one those above every bound.
#[derive(Debug)]
pub(super) struct Explicit {
    pub(super) bounds: &'static [f64],
    /// `counts.len() == bounds.len() + 1`, their sum is `summary.count`.
    pub(super) counts: Box<[u64]>,
    pub(super) summary: Summary,
    pub(super) exemplars: PerBucket,
}

impl Explicit {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = vec![0; bounds.len() + 1].into();
        let summary = Summary { count: 0, sum: 0.0, min: None, max: None };
        Self { bounds, counts, summary, exemplars: PerBucket::default() }
    }

    pub(super) fn record(&mut self, measured: &Measured, exemplar: bool) {
        let bucket = self.bucket(measured);
        self.counts[bucket] += 1;
        add(&mut self.summary, measured.value);
        if exemplar {
            self.exemplars.offer(bucket, measured);
        }
    }

    pub(super) fn exemplify(&mut self, measured: &Measured) {
        self.exemplars.offer(self.bucket(measured), measured);
    }

    fn bucket(&self, measured: &Measured) -> usize {
        // A dozen bounds, and most values are small: a scan beats a binary search.
        let above = self.bounds.iter().position(|&bound| measured.value <= bound);
        above.unwrap_or(self.bounds.len())
    }
}

/// Counts `value` in a summary.
pub(super) fn add(summary: &mut Summary, value: f64) {
    summary.count += 1;
    summary.sum += value;
    summary.min = Some(summary.min.map_or(value, |min| min.min(value)));
    summary.max = Some(summary.max.map_or(value, |max| max.max(value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace_context::{SpanId, TraceId};

    #[test]
    fn upper_bounds_are_inclusive() {
        let mut histogram = Explicit::new(&[1.0, 2.0]);
        for value in [0.0, 1.0, 1.5, 2.0, 2.1] {
            let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
            let measured = Measured { value, time_unix_ns: 0, trace_id, span_id };
            histogram.record(&measured, true);
        }
        assert_eq!(*histogram.counts, [2, 2, 1]);
        let expected = Summary { count: 5, sum: 6.6, min: Some(0.0), max: Some(2.1) };
        assert_eq!(histogram.summary, expected);
        assert_eq!(histogram.exemplars.tell(0).len(), 3);
    }
}
