//! What came of every record and every request.

use crate::{
    accounting::Lost,
    aggregate, assemble,
    bpf::{self, KernelUsage},
    correlate::{self, pipeline::Counts},
    export::stats::LaneStats,
    recording::write::Summary,
    status::{Accounting, Export, Requests, TailSampling},
    tail,
};

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// Samples taken from the ring, and those of them that were no records.
    pub(super) records: u64,
    pub(super) undecodable: u64,
    pub(super) assembled: assemble::Stats,
    pub(super) counts: Counts,
    /// Where there is tail sampling.
    pub(super) tail: Option<tail::Counts>,
    /// What was left out to keep within bounds.
    pub(super) left_out: LeftOut,
    /// What the kernel side gave up on, by reason.
    pub(super) drops: Vec<(String, u64)>,
    pub(super) kernel: KernelUsage,
    /// What became of the recording, if there is one.
    pub(super) recording: Option<Summary>,
}

/// What the stages behind reassembly have left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    /// Of the reader of metrics who has missed most.
    pub(super) measured: aggregate::LeftOut,
    pub(super) correlated: correlate::LeftOut,
    /// Services whose learned routes were forgotten.
    pub(super) routes: u64,
}

impl Books {
    /// What was forgotten, cut or not measured to keep within bounds, by name.
    pub(super) fn left_out(&self) -> [(&'static str, u64); 12] {
        let LeftOut { measured, correlated, routes } = self.left_out;
        [
            ("connections_idle", self.assembled.connections_idle),
            ("heads_cut", self.assembled.heads_cut),
            ("beginnings_not_shown", self.assembled.beginnings_not_shown),
            ("values_cut", self.assembled.values_cut),
            ("parents_not_looked_for", correlated.unplaced),
            ("parents_expired", correlated.expired),
            ("contexts_not_remembered", correlated.contexts),
            ("series_overflowed", measured.overflowed),
            ("series_forgotten", measured.forgotten),
            ("exchanges_not_measured", measured.unmeasured),
            ("sizes_not_exact", measured.inexact),
            ("routes_forgotten", routes),
        ]
    }

    /// As they are told to people, with what became of spans and points in `lanes`.
    pub(super) fn accounting(&self, lanes: &[LaneStats], connections: usize) -> Accounting {
        let export = |lane: &LaneStats| Export {
            signal: lane.signal.as_str().to_owned(),
            destination: lane.destination.as_str().to_owned(),
            accepted: lane.accepted,
            exported: lane.exported,
            dropped: lane.dropped.iter().map(|(reason, n)| (reason.as_str(), n)).collect(),
            queued: lane.queued,
            failed_attempts: lane.failed_attempts,
        };
        let counts = &self.counts;
        Accounting {
            records: self.records,
            records_parsed: self.assembled.parsed,
            records_ignored: self.ignored().collect(),
            kernel_drops: self.drops.iter().cloned().collect(),
            bytes_seen: self.assembled.bytes,
            bytes_missed: self.assembled.gap_bytes,
            connections,
            requests: Requests {
                ended: counts.ended(),
                spans: counts.spans,
                sampled_out: counts.sampled_out,
                filtered: counts.filtered,
                waiting: counts.waiting,
                unmeasured: counts.unmeasured,
                lost: Lost::ALL.iter().map(|lost| (lost.as_str(), counts.lost(*lost))).collect(),
            },
            tail_sampling: self.tail.as_ref().map(tail_sampling),
            left_out: self.left_out().into_iter().collect(),
            exports: lanes.iter().map(export).collect(),
        }
    }

    /// Records that took no part in an exchange, by reason.
    pub(super) fn ignored(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.assembled.ignored().into_iter().chain([("undecodable", self.undecodable)])
    }

    pub(super) fn note_drops(&mut self, drops: bpf::Drops) {
        let counted = drops.iter().map(|(counter, count)| (counter.as_str(), *count));
        let all = counted.chain([("missed", self.kernel.missed())]);
        self.drops = all.map(|(name, count)| (name.to_owned(), count)).collect();
    }
}

fn tail_sampling(counts: &tail::Counts) -> TailSampling {
    let by_policy = |tally: fn(&tail::OfPolicy) -> tail::Tally| {
        counts.policies.iter().map(|one| (&*one.name, tally(one).traces)).collect()
    };
    TailSampling {
        sampled: by_policy(|one| one.sampled),
        dropped: by_policy(|one| one.dropped),
        not_sampled: counts.not_sampled.traces,
        waiting: counts.waiting.traces,
        early: [("num_traces", counts.early_traces), ("memory", counts.early_memory)]
            .into_iter()
            .collect(),
        late_spans: [("sampled", counts.late_sampled), ("left_out", counts.late_left_out)]
            .into_iter()
            .collect(),
    }
}
