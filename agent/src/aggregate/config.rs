//! How to aggregate.

use crate::metrics_data::Temporality;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramKind {
    /// Fixed upper bounds: those of each instrument.
    Explicit,
    /// Base-2 exponential buckets: at most `max_size` of them, finer than `2^(2^-max_scale)` never.
    Exponential { max_size: u16, max_scale: i8 },
}

impl HistogramKind {
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
            histogram: HistogramKind::Explicit,
            temporality: Temporality::Cumulative,
            exemplars: ExemplarFilter::default(),
            keep_exemplars: false,
            max_series: 2000,
            idle_ns: 300_000_000_000,
        }
    }
}
