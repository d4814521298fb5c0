//! Which traces were decided, for spans that come late. The oldest decision is forgotten for a new one.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{
    policy::{Outcome, Verdict},
    settings::Remembered,
};
use crate::trace_context::TraceId;

/// Decisions by trace.
#[derive(Debug, Default)]
pub(super) struct Decided {
    verdicts: HashMap<TraceId, Verdict, foldhash::fast::RandomState>,
    /// In the order in which they were decided.
    sampled: VecDeque<TraceId>,
    not_sampled: VecDeque<TraceId>,
}

impl Decided {
    pub(super) fn find(&self, id: TraceId) -> Option<Verdict> {
        self.verdicts.get(&id).copied()
    }

    /// Remembers the decision on a trace that is not known yet.
    pub(super) fn remember(&mut self, id: TraceId, verdict: Verdict, sizes: Remembered) {
        let (order, size) = match verdict.outcome {
            Outcome::Sampled => (&mut self.sampled, sizes.sampled),
            Outcome::NotSampled | Outcome::Dropped => (&mut self.not_sampled, sizes.not_sampled),
        };
        if size == 0 {
            return;
        }
        while order.len() >= size
            && let Some(oldest) = order.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
        order.push_back(id);
        self.verdicts.insert(id, verdict);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.verdicts.len()
    }
}
