//! When processes are looked at beyond what the kernel side tells of them: at the start, where it could not
//! tell, for pods that become known, and for what ended ones have left.

use super::Worker;
use crate::{bpf::Programs, run::watch::start_time};

/// At least so long between two scans for what lost notices told, nanoseconds.
const RESCAN_NS: u64 = 1_000_000_000;
/// Processes are looked at this often at most because pods were told of, nanoseconds.
const PODS_NS: u64 = 100_000_000;
/// What ended processes have left is looked for this often at most, nanoseconds.
const ORPHANS_NS: u64 = 100_000_000;

impl Worker {
    /// Looks at every process, as the kernel side has them now.
    pub(super) fn look_at_processes(&mut self) {
        let Self { watch, stages, .. } = self;
        let scanner = &mut stages.pipeline.resources.scanner;
        let targets = &watch.targets;
        let inherited = |tgid| {
            let since = || start_time(tgid);
            targets.get(tgid) != 0
                && since().is_some_and(|since| targets.has_inherited(tgid, since))
        };
        let changes = scanner.scan(inherited);
        watch.apply_all(changes, scanner);
    }

    pub(super) fn scan(&mut self) {
        self.look_at_processes();
        let selected = self.stages.pipeline.resources.scanner.targets().len();
        if selected == 0 {
            tracing::info!("no running process is selected; waiting for one that starts");
        } else {
            tracing::info!(processes = selected, "running processes selected");
        }
    }

    /// Pods were told of that processes are in which were not selected.
    pub(super) fn scan_for_pods(&mut self, now: u64) {
        let scanner = &mut self.stages.pipeline.resources.scanner;
        if now.saturating_sub(self.last_pods_ns) >= PODS_NS && scanner.take_scan() {
            self.last_pods_ns = now;
            self.look_at_processes();
        }
    }

    /// Something that may have told of processes was lost.
    pub(super) fn rescan(&mut self, now: u64) {
        let (records, lost) = self.looked_at;
        if now.saturating_sub(self.last_rescan_ns) < RESCAN_NS
            || records == self.stages.books.records
        {
            return;
        }
        self.last_rescan_ns = now;
        let Some(Ok(lost_now)) = self.programs.as_ref().map(Programs::notices_lost) else { return };
        self.looked_at = (self.stages.books.records, lost_now);
        if lost_now != lost {
            self.look_at_processes();
        }
    }

    /// Ends connections that ended with their process, unseen. Only when all that they sent was read.
    pub(super) fn forget_orphans(&mut self, now: u64) {
        let Some(programs) = &mut self.programs else { return };
        if self.watch.ended.is_empty() || now.saturating_sub(self.last_orphans_ns) < ORPHANS_NS {
            return;
        }
        self.last_orphans_ns = now;
        match programs.forget_orphans(&self.watch.take_ended(), now) {
            Ok(closed) => {
                for close in closed {
                    self.stages.assembler.gone(&close, &mut self.stages.pipeline);
                    if let Some(recorder) = &mut self.watch.recorder {
                        recorder.offset(self.stages.pipeline.clock.offset());
                        recorder.orphan(&close);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for what processes have left"),
        }
    }
}
