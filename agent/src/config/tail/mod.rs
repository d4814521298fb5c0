//! Tail sampling in the configuration: the block `tail_sampling` of a Collector, as it is.

mod check;
mod policy;
mod simple;

use std::time::Duration;

use super::{section::section, value::Size};
use crate::tail::{Remembered, Settings};

pub use policy::{Composite, TailPolicy};

section! {
    /// Tail sampling: traces wait until they are decided as a whole. The block `tail_sampling` of a Collector can stand here as it
    /// is. Without policies it is off.
    pub struct TailSampling {
        /// From the first span of a trace until it is decided.
        pub decision_wait: Duration = Duration::from_secs(30), live(),
            within(Duration::ZERO, Duration::from_secs(3600));
        /// From a root span until its trace is decided, if that is earlier; 0s: roots make no difference.
        pub decision_wait_after_root_received: Duration = Duration::ZERO, live(),
            within(Duration::ZERO, Duration::from_secs(3600));
        /// Traces that wait at once. One more, and the oldest is decided early.
        pub num_traces: u32 = 50_000, live(), within(1, 100_000_000);
        /// Has no effect here: memory is taken as it is needed.
        pub expected_new_traces_per_sec: u32 = 0, live();
        /// Decisions that are remembered for spans that come late.
        pub decision_cache: DecisionCache = DecisionCache::default();
        /// The first policy that samples a trace ends its evaluation.
        pub sample_on_first_match: bool = false, live();
        /// What is asked about a trace. It is kept if one policy samples it and none drops it.
        pub policies: Vec<TailPolicy> = vec![], live(), rule(|policies: &Vec<TailPolicy>| policy::names_differ(policies));
    }
}

section! {
    /// Decisions that are remembered for spans that come late.
    pub struct DecisionCache {
        /// Traces that were sampled; 0: as many as `num_traces`.
        pub sampled_cache_size: u32 = 0, live(), within(0, 100_000_000);
        /// Traces that were not; 0: as many as `num_traces`.
        pub non_sampled_cache_size: u32 = 0, live(), within(0, 100_000_000);
    }
}

impl TailSampling {
    /// For the stage, within these bytes; `None`: it is off.
    #[must_use]
    pub fn settings(&self, max: Size) -> Option<Settings> {
        let max_traces = self.num_traces as usize;
        let or_all = |size: u32| if size == 0 { max_traces } else { size as usize };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let DecisionCache { sampled_cache_size, non_sampled_cache_size } = self.decision_cache;
        (!self.policies.is_empty()).then(|| Settings {
            wait_ns: nanos(self.decision_wait),
            wait_after_root_ns: nanos(self.decision_wait_after_root_received),
            max_traces,
            max_bytes: usize::try_from(max.0).unwrap_or(usize::MAX),
            remembered: Remembered {
                sampled: or_all(sampled_cache_size),
                not_sampled: or_all(non_sampled_cache_size),
            },
            sample_on_first_match: self.sample_on_first_match,
            policies: self.policies.iter().map(TailPolicy::definition).collect(),
        })
    }
}
