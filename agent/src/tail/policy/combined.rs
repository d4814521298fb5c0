//! Policies that are made of others.

use super::{Decision, Evaluator, Trace, rate::Second};

/// What all of them together say: sampled if each does. The first that does not ends it. Of several probabilities
/// the smallest is that of the trace.
fn all(policies: &mut [Evaluator], trace: &Trace<'_>) -> Option<u64> {
    let mut threshold = 0;
    for policy in policies {
        match policy.evaluate(trace) {
            Decision::Sampled { threshold: own } => threshold = threshold.max(own),
            Decision::NotSampled | Decision::Dropped => return None,
        }
    }
    Some(threshold)
}

pub(super) fn and(policies: &mut [Evaluator], trace: &Trace<'_>) -> Decision {
    all(policies, trace).map_or(Decision::NotSampled, |threshold| Decision::Sampled { threshold })
}

pub(super) fn drop(policies: &mut [Evaluator], trace: &Trace<'_>) -> Decision {
    all(policies, trace).map_or(Decision::NotSampled, |_| Decision::Dropped)
}

pub(super) fn not(policy: &mut Evaluator, trace: &Trace<'_>) -> Decision {
    match policy.evaluate(trace) {
        Decision::Sampled { .. } => Decision::NotSampled,
        Decision::NotSampled => Decision::SAMPLED,
        Decision::Dropped => Decision::Dropped,
    }
}

/// Of `composite`.
#[derive(Debug)]
pub(super) struct Composite {
    max_spans_per_second: u64,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    policy: Evaluator,
    spans_per_second: u64,
    current: Second,
}

impl Composite {
    pub(super) fn new(max_spans_per_second: u32, parts: Vec<(Evaluator, u32)>) -> Self {
        let part = |(policy, spans_per_second): (Evaluator, u32)| Part {
            policy,
            spans_per_second: spans_per_second.into(),
            current: Second::default(),
        };
        let parts = parts.into_iter().map(part).collect();
        Self { max_spans_per_second: max_spans_per_second.into(), parts }
    }

    /// The first part that samples the trace decides: the trace is sampled if that part has room for it, and no other
    /// is asked. As in the Collector, the limit of all holds for each part by itself.
    pub(super) fn evaluate(&mut self, trace: &Trace<'_>) -> Decision {
        for part in &mut self.parts {
            part.current.reach(trace.second);
            let decision = part.policy.evaluate(trace);
            if let Decision::Sampled { .. } = decision {
                let most = part.spans_per_second.min(self.max_spans_per_second);
                let takes = part.current.add_if(trace, |spans| spans <= most);
                return if takes { decision } else { Decision::NotSampled };
            }
        }
        Decision::NotSampled
    }
}
