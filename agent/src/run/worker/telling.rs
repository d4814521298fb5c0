//! What the worker tells of what it did: metrics, its own included, and the answer to `/status`.

use std::sync::Arc;

use super::Worker;
use crate::{
    clock::mono_ns,
    discover,
    kubernetes::Peers,
    metrics_data::MetricBatch,
    run::{snapshot::Snapshot, telemetry::Observed, tls::TlsThread},
    status,
};

impl Worker {
    pub(super) fn export_metrics(&mut self) {
        let Some(reader) = self.stages.readers.otlp else { return };
        let now_ns = mono_ns();
        let mut batches = self.stages.collect(Some(reader), now_ns);
        let mut own = self.own_metrics(now_ns);
        if let Some(deltas) = &mut self.deltas {
            deltas.apply(&mut own);
        }
        batches.push(own);
        self.stages.pipeline.output.exporter.metrics(&batches);
    }

    pub(super) fn collect_totals(&mut self) -> Vec<MetricBatch> {
        let now_ns = mono_ns();
        let mut batches = self.stages.collect(self.stages.readers.totals, now_ns);
        batches.push(self.own_metrics(now_ns));
        batches
    }

    pub(super) fn own_metrics(&mut self, now_ns: u64) -> MetricBatch {
        self.close_books();
        let processes = self.stages.pipeline.resources.scanner.targets().len();
        let connections = self.stages.assembler.connections();
        let observed = Observed {
            lanes: &self.stages.pipeline.output.exporter.stats(),
            processes,
            connections,
            ring_peak: self.reader.take_peak(),
            blind_spots: self.watch.tls.as_ref().map(TlsThread::blind_spots).unwrap_or_default(),
            unseen: self.watch.unseen.count(),
            peers: self.stages.pipeline.resources.peers.as_ref().map(Peers::counts),
        };
        let now_unix_ns = self.stages.pipeline.clock.offset_at(now_ns).unix_ns(now_ns);
        self.telemetry.collect(now_unix_ns, &self.stages.books, &observed)
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.close_books();
        let lanes = self.stages.pipeline.output.exporter.stats();
        let mut targets: Vec<_> = self.stages.pipeline.resources.scanner.targets().collect();
        targets.sort_unstable_by_key(|target| target.tgid);
        let target = |target: &&Arc<discover::Target>| status::Target {
            pid: target.tgid,
            ns_pid: target.ns_pid,
            exe: target.exe.to_string_lossy().into_owned(),
            service: target.resource.service_name().to_owned(),
        };
        let blind = self.watch.tls.as_ref().map(TlsThread::blind_processes).unwrap_or_default();
        let blind_spot = |(pid, kinds): (u32, Vec<&str>)| status::BlindSpot {
            pid,
            libraries: kinds.into_iter().map(str::to_owned).collect(),
        };
        Snapshot {
            accounting: self.stages.books.accounting(&lanes, self.stages.assembler.connections()),
            targets: status::Targets {
                count: targets.len(),
                processes: targets.iter().take(status::MAX_TARGETS).map(target).collect(),
            },
            blind_spots: blind.into_iter().map(blind_spot).collect(),
            peers: self.stages.pipeline.resources.peers.as_ref().map(Peers::counts),
        }
    }

    pub(super) fn close_books(&mut self) {
        self.stages.close_books();
        let Some(programs) = &self.programs else { return };
        match (programs.usage(), programs.counters().drops()) {
            (Ok(kernel), Ok(drops)) => {
                self.stages.books.kernel = kernel;
                self.stages.books.note_drops(drops);
            }
            (usage, drops) => {
                let errors = (usage.err(), drops.err());
                tracing::debug!(?errors, "the kernel does not tell what it gave up on");
            }
        }
    }
}
