//! What came of every record and every request.

use crate::{
    assemble,
    bpf::{self, KernelUsage},
    correlate::pipeline::Counts,
    recording::write::Summary,
};

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// Samples taken from the ring, and those of them that were no records.
    pub(super) records: u64,
    pub(super) undecodable: u64,
    pub(super) assembled: assemble::Stats,
    pub(super) counts: Counts,
    /// What the kernel side gave up on, by reason.
    pub(super) drops: Vec<(String, u64)>,
    pub(super) kernel: KernelUsage,
    /// What became of the recording, if there is one.
    pub(super) recording: Option<Summary>,
}

impl Books {
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
