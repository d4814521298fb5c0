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
    /// Base-2 exponential buckets, as many and as fine as the specification's defaults allow.
    Exponential,
}

/// How one [`super::Aggregator`] aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub histogram: HistogramKind,
    pub temporality: Temporality,
    pub exemplars: ExemplarFilter,
    /// How long an exemplar is told, unless another takes its place: at least once, and to readers who come when they
    /// like, and may be several, for ever.
    pub keep_exemplars_ns: u64,
    /// Series per metric and resource, the overflow series included.
    pub max_series: usize,
    /// Resources with series. One more takes the place of those whose process has ended.
    pub max_resources: usize,
    /// A cumulative series without a measurement for this long is dropped.
    pub idle_ns: u64,
    /// Series have the attributes of the conventions, whatever was chosen.
    pub conventional: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            histogram: HistogramKind::Explicit,
            temporality: Temporality::Cumulative,
            exemplars: ExemplarFilter::default(),
            keep_exemplars_ns: 0,
            max_series: 2000,
            max_resources: 10_000,
            idle_ns: 300_000_000_000,
            conventional: false,
        }
    }
}
