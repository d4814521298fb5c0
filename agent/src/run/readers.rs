//! Who reads metrics. Each has an aggregator of its own: they differ in what they want and when they come.

use crate::aggregate::{Aggregator, Config};

/// Something for each reader that is there.
#[derive(Clone, Debug)]
pub(super) struct Readers<T> {
    /// OTLP and files.
    pub(super) otlp: Option<T>,
    /// Prometheus, which needs totals.
    pub(super) totals: Option<T>,
    /// The table at the end.
    pub(super) table: Option<T>,
}

impl Readers<Config> {
    /// An aggregator for each, and its position among them.
    pub(super) fn begin(
        self,
        now_unix_ns: u64,
        seed: [u64; 4],
    ) -> (Vec<Aggregator>, Readers<usize>) {
        let mut aggregators = Vec::new();
        let mut add = |config: Option<Config>| {
            aggregators.push(Aggregator::seeded(config?, now_unix_ns, seed));
            Some(aggregators.len() - 1)
        };
        let (otlp, totals, table) = (add(self.otlp), add(self.totals), add(self.table));
        (aggregators, Readers { otlp, totals, table })
    }
}
