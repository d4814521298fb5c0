//! What has to hear of processes that appear, change and go: the kernel side's table of selected ones,
//! and the thread that attaches to TLS libraries.

use std::{collections::HashSet, mem, path::Path, sync::mpsc};

use procfs::process::Process;
use remora_common::{
    record::{self, ProcessChange},
    target::{INHERIT, SELECTED},
};

use super::{
    tls::{ProcessUpdate, TlsThread},
    unseen::Unseen,
};
use crate::{
    bpf::Targets,
    decode::Record,
    discover::{Change, Scanner, Target},
    recording::write::Recorder,
};

/// See the module.
pub(super) struct Watch {
    pub(super) targets: Targets,
    pub(super) tls: Option<TlsThread>,
    pub(super) recorder: Option<Recorder>,
    /// Processes that have ended and may have left something behind.
    pub(super) ended: HashSet<u32>,
    pub(super) unseen: Unseen,
}

impl Watch {
    /// Keeps the table of processes in step with what the kernel side tells of them.
    pub(super) fn record(&mut self, record: &Record<'_>, scanner: &mut Scanner) {
        let change = match record {
            Record::Process { change: ProcessChange::Exec, process } => {
                scanner.on_exec(process.tgid)
            }
            Record::Process { change: ProcessChange::Fork, process } => {
                match scanner.on_fork(process.parent_tgid, process.tgid) {
                    // It has ended meanwhile, and its number is another's.
                    Change::Select(target) if !self.is_of(process, &target) => {
                        scanner.on_exit(process.tgid);
                        return;
                    }
                    change => change,
                }
            }
            Record::Process { change: ProcessChange::Exit, process } => {
                self.ended.insert(process.tgid);
                match scanner.find(process.tgid) {
                    // That of an earlier one with its number.
                    Some(target) if !self.is_of(process, target) => return,
                    _ => scanner.on_exit(process.tgid),
                }
            }
            Record::Process { change: ProcessChange::SpeaksTls, process } => {
                return self.tell(ProcessUpdate::SpeaksTls(process.tgid));
            }
            Record::Open { open, .. } => scanner.on_connection(open.tgid),
            Record::Listen(listen) => scanner.on_listen(listen.tgid, listen.port),
            _ => return,
        };
        let how = match record {
            Record::Process { change: ProcessChange::Exec, .. } => ProcessUpdate::Started,
            _ => ProcessUpdate::Selected,
        };
        let new = match &change {
            Change::Select(target) if self.targets.get(target.tgid) == 0 => Some(target.tgid),
            _ => None,
        };
        self.apply(change, how, scanner);
        if let Some(tgid) = new {
            self.made_before(tgid, scanner);
        }
    }

    /// Whether a record is about `target`, rather than another process with its number.
    fn is_of(&self, record: &record::Process, target: &Target) -> bool {
        target.start_time == 0 || self.targets.is_same(record.start_ns, target.start_time)
    }

    /// Applies what a look at running processes has found. A process that was named by its number is taken
    /// with the children that it has: those that it makes later are taken, too.
    pub(super) fn apply_all(&mut self, changes: Vec<Change>, scanner: &mut Scanner) {
        for change in changes {
            let named = match &change {
                Change::Select(target) if scanner.names_pid(target.tgid) => Some(target.tgid),
                _ => None,
            };
            self.apply(change, ProcessUpdate::Selected, scanner);
            let Some(tgid) = named else { continue };
            if Path::new("/proc/thread-self/children").exists() {
                self.made_before(tgid, scanner);
            } else {
                tracing::warn!(
                    pid = tgid,
                    "the kernel does not list the children of a process (CONFIG_PROC_CHILDREN): \
                     those that it has already are not captured"
                );
            }
        }
    }

    /// Selects the children that `tgid` made before the kernel side was told to hand its selection on. Servers
    /// make theirs soon after they were started, and a busy machine takes time to tell.
    fn made_before(&mut self, tgid: u32, scanner: &mut Scanner) {
        let mut parents = vec![tgid];
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if self.targets.get(child) == 0 {
                    let change = scanner.on_fork(parent, child);
                    self.apply(change, ProcessUpdate::Selected, scanner);
                    parents.push(child);
                }
            }
        }
    }

    /// Makes the kernel side capture `target`, and its children to come.
    pub(super) fn select(&mut self, target: &Target) {
        // One that had ended before it could be asked was a selected process's child: the kernel side knew.
        if target.start_time == 0 {
            return;
        }
        let selected = self.targets.select(target.tgid, target.start_time, SELECTED | INHERIT);
        if let Err(error) = selected {
            tracing::error!(%error, "process is not captured");
        }
    }

    pub(super) fn tell(&self, update: ProcessUpdate) {
        if let Some(tls) = &self.tls {
            tls.tell(update);
        }
    }

    /// Answers when everything that was told is done.
    pub(super) fn settle(&self, done: mpsc::Sender<()>) {
        match &self.tls {
            Some(tls) => tls.tell(ProcessUpdate::Settle(done)),
            // Who asked may have gone.
            None => _ = done.send(()),
        }
    }

    /// Those since the last time.
    pub(super) fn take_ended(&mut self) -> HashSet<u32> {
        mem::take(&mut self.ended)
    }

    /// Does what `scanner` has found necessary.
    pub(super) fn apply(
        &mut self,
        change: Change,
        how: fn(u32) -> ProcessUpdate,
        scanner: &mut Scanner,
    ) {
        match change {
            Change::Select(target) => {
                // A shell that is started may become twenty programs before the one that is meant.
                let inherited = self.targets.get(target.tgid) != 0;
                let exe = target.exe.display();
                let service = target.resource.service_name();
                if inherited {
                    tracing::debug!(pid = target.tgid, %exe, service, "process inherited");
                } else {
                    tracing::info!(pid = target.tgid, %exe, service, "process selected");
                }
                self.select(&target);
                if let Some(recorder) = &mut self.recorder {
                    recorder.target(target.tgid, target.selector, &target.resource);
                }
                self.unseen.look(target.tgid);
                self.tell(how(target.tgid));
                // Of one that ended before it was selected no end will be told.
                if !inherited && start_time(target.tgid) != Some(target.start_time) {
                    self.targets.deselect(target.tgid);
                    let gone = scanner.on_exit(target.tgid);
                    self.apply(gone, how, scanner);
                }
            }
            Change::Rename(target) => {
                let service = target.resource.service_name();
                tracing::debug!(pid = target.tgid, service, "process has another resource");
                if let Some(recorder) = &mut self.recorder {
                    recorder.target(target.tgid, target.selector, &target.resource);
                }
            }
            Change::Deselect(tgid) => {
                self.targets.deselect(tgid);
                self.unseen.gone(tgid);
                if let Some(recorder) = &mut self.recorder {
                    recorder.gone(tgid);
                }
                self.tell(ProcessUpdate::Gone(tgid));
            }
            Change::Gone(tgid) => {
                self.targets.ended(tgid);
                self.ended.insert(tgid);
                self.unseen.gone(tgid);
                if let Some(recorder) = &mut self.recorder {
                    recorder.gone(tgid);
                }
                self.tell(ProcessUpdate::Gone(tgid));
            }
            Change::Keep => {}
        }
    }
}

/// In clock ticks since boot, if the process is there.
pub(super) fn start_time(tgid: u32) -> Option<u64> {
    let process = Process::new(i32::try_from(tgid).ok()?).ok()?;
    Some(process.stat().ok()?.starttime)
}

/// Of all of its threads; none where the process has ended, or the kernel does not list them (CONFIG_PROC_CHILDREN).
fn children(tgid: u32) -> Vec<u32> {
    let threads = i32::try_from(tgid).ok().and_then(|pid| Process::new(pid).ok()?.tasks().ok());
    let lists = threads.into_iter().flatten().filter_map(|thread| thread.ok()?.children().ok());
    lists.flatten().collect()
}
