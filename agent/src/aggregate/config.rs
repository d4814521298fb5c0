//! How to aggregate.

use std::sync::Arc;

use crate::export::metrics_data::Temporality;

/// Bucket bounds of `http.*.request.duration`, seconds (semconv, "HTTP metrics").
const DURATION_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bucket bounds of body sizes, bytes: the conventions advise none, and the SDKs' default ends at 10 kB.
/// From an empty body to 1 GiB, by factors of 4 and 8.
const SIZE_BOUNDS: [f64; 14] = [
    0.0,
    128.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Which measurements may become exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExemplarFilter {
    AlwaysOn,
    AlwaysOff,
    /// Those of sampled spans.
    #[default]
    TraceBased,
}

/// What distributions are kept as.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramKind {
    /// Fixed upper bounds, ascending.
    Explicit { durations: Arc<[f64]>, sizes: Arc<[f64]> },
    /// Base-2 exponential buckets: at most `max_size` of them, finer than `2^(2^-max_scale)` never.
    Exponential { max_size: u16, max_scale: i8 },
}

impl HistogramKind {
    /// The bounds that the conventions advise.
    #[must_use]
    pub fn explicit() -> Self {
        Self::Explicit { durations: DURATION_BOUNDS.into(), sizes: SIZE_BOUNDS.into() }
    }

    /// The specification's defaults.
    #[must_use]
    pub const fn exponential() -> Self {
        Self::Exponential { max_size: 160, max_scale: 20 }
    }
}

/// How one [`super::Aggregator`] aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub histogram: HistogramKind,
    pub temporality: Temporality,
    pub exemplars: ExemplarFilter,
    /// Whether a bucket's exemplar is told until another takes its place: for readers who come when they
    /// like, and may be several. Else it is told once. Exponential histograms tell theirs once.
    pub keep_exemplars: bool,
    /// Series per metric and resource, the overflow series included.
    pub max_series: usize,
    /// A cumulative series without a measurement for this long is dropped.
    pub idle_ns: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            histogram: HistogramKind::explicit(),
            temporality: Temporality::Cumulative,
            exemplars: ExemplarFilter::default(),
            keep_exemplars: false,
            max_series: 2000,
            idle_ns: 300_000_000_000,
        }
    }
}
