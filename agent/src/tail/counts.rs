//! What became of traces and their spans: each span that came is in one sum, or waits.

/// Traces, and all of their spans, late ones as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub traces: u64,
    pub spans: u64,
}

/// What one policy decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfPolicy {
    pub name: Box<str>,
    /// It was the first that sampled them.
    pub sampled: Tally,
    pub dropped: Tally,
}

/// All of it; `spans that came = sum(sampled) + sum(dropped) + not_sampled + waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By name; also of policies that a reload has taken away.
    pub policies: Vec<OfPolicy>,
    /// No policy sampled them.
    pub not_sampled: Tally,
    pub waiting: Tally,
    /// Memory that waits.
    pub waiting_bytes: u64,
    /// Traces that were decided before their time: for another one's place, or for memory.
    pub early_traces: u64,
    pub early_memory: u64,
    /// Spans that came when their trace was decided already; they are in the sums, too.
    pub late_sampled: u64,
    pub late_left_out: u64,
}

impl Counts {
    /// All that were sampled.
    #[must_use]
    pub fn sampled(&self) -> Tally {
        sum(self.policies.iter().map(|one| one.sampled))
    }

    /// All that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Tally {
        sum(self.policies.iter().map(|one| one.dropped))
    }

    /// The place of a policy, a new one where its name is new.
    pub(super) fn place(&mut self, name: &str) -> u16 {
        let known = self.policies.iter().position(|one| *one.name == *name);
        let at = known.unwrap_or_else(|| {
            self.policies.push(OfPolicy { name: name.into(), ..OfPolicy::default() });
            self.policies.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }
}

fn sum(tallies: impl Iterator<Item = Tally>) -> Tally {
    tallies.fold(Tally::default(), |sum, one| Tally {
        traces: sum.traces + one.traces,
        spans: sum.spans + one.spans,
    })
}
