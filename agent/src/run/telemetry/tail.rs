//! What sampling left out, and what tail sampling does.

use super::{Row, Telemetry, int, labelled, metric, points};
use crate::{
    attribute::Value,
    metrics_data::{Data, Metric},
    run::books::Books,
    tail::{Counts, Tally},
};

/// Exchanges that sampling left out: with tail sampling by the stage that did, and by the policy that dropped them.
pub(super) fn sampled_out(books: &Books) -> Vec<Row> {
    let all = books.counts.sampled_out;
    let Some(Counts { policies, not_sampled, .. }) = &books.tail else {
        return vec![(vec![], int(all))];
    };
    let dropped = policies.iter().filter(|one| one.dropped.spans > 0);
    let by_tail = dropped.clone().map(|one| one.dropped.spans).sum::<u64>() + not_sampled.spans;
    let tail = || ("stage", Value::from("tail"));
    let head = labelled("stage", "head", int(all.saturating_sub(by_tail)));
    let mut rows = vec![head, (vec![tail()], int(not_sampled.spans))];
    rows.extend(
        dropped
            .map(|one| (vec![("policy", Value::from(&*one.name)), tail()], int(one.dropped.spans))),
    );
    rows
}

impl Telemetry {
    /// Traces by decision and policy, and what waits.
    pub(super) fn tail(&self, now_unix_ns: u64, counts: &Counts) -> [Metric; 5] {
        let sum =
            |name, unit, description, rows| self.sum(now_unix_ns, name, unit, description, rows);
        let gauge = |name, unit, description, count: u64| {
            let points = points(vec![(vec![], int(count))], 0, now_unix_ns);
            metric(name, unit, description, Data::Gauge { points })
        };
        let reason = |name, count| labelled("reason", name, int(count));
        let decision = |name, count| labelled("decision", name, int(count));
        [
            sum("remora.tail.traces", "{trace}", "Traces that were decided", decisions(counts)),
            sum(
                "remora.tail.early",
                "{trace}",
                "Traces that were decided before their time",
                vec![
                    reason("num_traces", counts.early_traces),
                    reason("memory", counts.early_memory),
                ],
            ),
            sum(
                "remora.tail.late",
                "{span}",
                "Spans that came when their trace was decided",
                vec![
                    decision("sampled", counts.late_sampled),
                    decision("left_out", counts.late_left_out),
                ],
            ),
            gauge("remora.tail.waiting", "{span}", "Spans that wait", counts.waiting.spans),
            gauge("remora.tail.memory", "By", "Memory of what waits", counts.waiting_bytes),
        ]
    }
}

fn decisions(counts: &Counts) -> Vec<Row> {
    let row = |decision: &str, policy: &str, tally: Tally| {
        let attributes = vec![("decision", Value::from(decision)), ("policy", Value::from(policy))];
        (attributes, int(tally.traces))
    };
    let mut rows = vec![labelled("decision", "not_sampled", int(counts.not_sampled.traces))];
    for one in &counts.policies {
        for (decision, tally) in [("sampled", one.sampled), ("dropped", one.dropped)] {
            if tally.traces > 0 || tally.spans > 0 {
                rows.push(row(decision, &one.name, tally));
            }
        }
    }
    rows
}
