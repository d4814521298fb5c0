//! Which traces are kept: all policies are asked about a trace, and what they say makes one verdict, by the
//! Collector's rules of precedence.

mod attribute;
mod combined;
mod outcome;
mod probability;
mod rate;

use super::{
    held::Held,
    settings::{Policy, Settings},
};
use crate::trace_context::TraceId;

use attribute::Attribute;
pub use attribute::compile;
use combined::Composite;
use probability::Probabilistic;
use rate::RateLimit;

/// A trace when it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace<'a> {
    pub(super) id: TraceId,
    /// In the order in which they came; at least one.
    pub(super) spans: &'a [Held],
    /// Unix time of the decision.
    pub(super) second: u64,
}

/// What one policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// By its probability, if `threshold` (56 bits) is not 0: of traces like it only those are sampled whose
    /// randomness is at least that.
    Sampled {
        threshold: u64,
    },
    NotSampled,
    /// Whatever others say.
    Dropped,
}

impl Decision {
    const SAMPLED: Self = Self::Sampled { threshold: 0 };

    const fn sampled_if(condition: bool) -> Self {
        if condition { Self::SAMPLED } else { Self::NotSampled }
    }
}

/// What becomes of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Sampled,
    NotSampled,
    Dropped,
}

/// What becomes of a trace, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// The place of the first policy that said so. None says why a trace is not sampled.
    pub(super) policy: Option<u16>,
    /// As in [`Decision::Sampled`]; 0 if any policy sampled it for another reason than its randomness.
    pub(super) threshold: u64,
}

/// A policy that is ready to be asked.
#[derive(Debug)]
enum Evaluator {
    AlwaysSample,
    StatusCode(outcome::StatusCodes),
    Latency(outcome::Latency),
    Attribute(Attribute),
    Probabilistic(Probabilistic),
    RateLimit(RateLimit),
    And(Vec<Evaluator>),
    Not(Box<Evaluator>),
    Drop(Vec<Evaluator>),
    Composite(Composite),
}

impl Evaluator {
    fn new(policy: &Policy) -> Self {
        let all = |policies: &[Policy]| policies.iter().map(Self::new).collect();
        match policy {
            Policy::AlwaysSample => Self::AlwaysSample,
            Policy::StatusCode(codes) => Self::StatusCode(outcome::StatusCodes::new(codes)),
            &Policy::Latency { threshold_ms, upper_threshold_ms } => {
                Self::Latency(outcome::Latency { threshold_ms, upper_threshold_ms })
            }
            Policy::StringAttribute { key, values, regex, invert } => {
                Self::Attribute(Attribute::string(key, values, *regex, *invert))
            }
            Policy::NumericAttribute { key, min, max, invert } => {
                Self::Attribute(Attribute::number(key, *min, *max, *invert))
            }
            Policy::BooleanAttribute { key, value, invert } => {
                Self::Attribute(Attribute::bool(key, *value, *invert))
            }
            Policy::Probabilistic { mode, hash_salt, percentage } => {
                Self::Probabilistic(Probabilistic::new(*mode, hash_salt, *percentage))
            }
            Policy::RateLimiting { spans_per_second } => {
                Self::RateLimit(RateLimit::new(*spans_per_second))
            }
            Policy::And(policies) => Self::And(all(policies)),
            Policy::Not(policy) => Self::Not(Box::new(Self::new(policy))),
            Policy::Drop(policies) => Self::Drop(all(policies)),
            Policy::Composite { max_spans_per_second, parts } => {
                let parts = parts.iter().map(|(policy, limit)| (Self::new(policy), *limit));
                Self::Composite(Composite::new(*max_spans_per_second, parts.collect()))
            }
        }
    }

    fn evaluate(&mut self, trace: &Trace<'_>) -> Decision {
        match self {
            Self::AlwaysSample => Decision::SAMPLED,
            Self::StatusCode(codes) => Decision::sampled_if(codes.matches(trace)),
            Self::Latency(latency) => Decision::sampled_if(latency.matches(trace)),
            Self::Attribute(attribute) => Decision::sampled_if(attribute.matches(trace)),
            Self::Probabilistic(probabilistic) => probabilistic.evaluate(trace),
            Self::RateLimit(rate) => Decision::sampled_if(rate.takes(trace)),
            Self::And(policies) => combined::and(policies, trace),
            Self::Not(policy) => combined::not(policy, trace),
            Self::Drop(policies) => combined::drop(policies, trace),
            Self::Composite(composite) => composite.evaluate(trace),
        }
    }
}

/// All policies.
#[derive(Debug)]
pub(super) struct Policies {
    /// With their places in the counts. Those that drop come first.
    policies: Vec<(u16, Evaluator)>,
    sample_on_first_match: bool,
}

impl Policies {
    /// `place` says where a policy is counted.
    pub(super) fn new(settings: &Settings, mut place: impl FnMut(&str) -> u16) -> Self {
        let defined = settings.policies.iter();
        let mut policies: Vec<_> = defined
            .map(|defined| (place(&defined.name), Evaluator::new(&defined.policy)))
            .collect();
        policies.sort_by_key(|(_, evaluator)| !matches!(evaluator, Evaluator::Drop(_)));
        Self { policies, sample_on_first_match: settings.sample_on_first_match }
    }

    /// Every policy is asked, also behind one that has sampled the trace: those that limit rates count what they
    /// let pass. Only a drop ends it early, or the first match if that is asked for.
    pub(super) fn decide(&mut self, trace: &Trace<'_>) -> Verdict {
        let mut sampled: Option<Verdict> = None;
        for (place, evaluator) in &mut self.policies {
            match evaluator.evaluate(trace) {
                Decision::Dropped => {
                    let policy = Some(*place);
                    return Verdict { outcome: Outcome::Dropped, policy, threshold: 0 };
                }
                Decision::Sampled { threshold } => {
                    let first =
                        Verdict { outcome: Outcome::Sampled, policy: Some(*place), threshold };
                    let sampled = sampled.get_or_insert(first);
                    sampled.threshold = sampled.threshold.min(threshold);
                    if self.sample_on_first_match {
                        break;
                    }
                }
                Decision::NotSampled => {}
            }
        }
        sampled.unwrap_or(Verdict { outcome: Outcome::NotSampled, policy: None, threshold: 0 })
    }
}
