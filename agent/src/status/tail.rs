//! What tail sampling has decided, for people.

use serde::{Deserialize, Serialize};

use super::Counts;

/// Traces by what tail sampling decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailSampling {
    /// By the first policy that said so.
    pub sampled: Counts,
    pub dropped: Counts,
    /// No policy sampled them.
    pub not_sampled: u64,
    pub waiting: u64,
    /// Of those that are decided, those that were before their time, by reason.
    pub early: Counts,
    /// Spans that came when their trace was decided, by what became of them.
    pub late_spans: Counts,
}

impl TailSampling {
    /// `tail sampling: traces 9 = sampled 4 errors=4 + ..`.
    pub(super) fn line(&self) -> String {
        let Self { sampled, dropped, not_sampled, waiting, early, late_spans } = self;
        let [kept, left] = [sampled.sum(), dropped.sum()];
        let traces = kept + left + not_sampled + waiting;
        let waiting = if *waiting > 0 { format!(" + waiting {waiting}") } else { String::new() };
        format!(
            "tail sampling: traces {traces} = sampled {kept}{sampled} + dropped {left}{dropped} + \
             not_sampled {not_sampled}{waiting}; early {}{early}; late spans {}{late_spans}",
            early.sum(),
            late_spans.sum(),
        )
    }
}
