//! What has to hear of processes that appear, change and go: the kernel side's table of selected ones,
//! and the thread that attaches to TLS libraries.

use std::{collections::HashSet, fs, mem, sync::mpsc};

use procfs::process::Process;
use remora_common::{
    record::ProcessChange,
    target::{INHERIT, SELECTED},
};

use super::{
    tls::{ProcessUpdate, TlsThread},
    unseen::Unseen,
};
use crate::{
    bpf::Targets,
    decode::Record,
    discover::{Change, Scanner},
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
                scanner.on_fork(process.parent_tgid, process.tgid)
            }
            Record::Process { change: ProcessChange::Exit, process } => {
                self.ended.insert(process.tgid);
                scanner.on_exit(process.tgid)
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
        self.apply(change, how);
        if let Some(tgid) = new {
            self.made_before(tgid, scanner);
        }
    }

    /// Selects the children that `tgid` made before the kernel side was told to hand its selection on. Servers
    /// make theirs soon after they were started, and a busy machine takes time to tell.
    fn made_before(&mut self, tgid: u32, scanner: &mut Scanner) {
        let mut parents = vec![tgid];
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if self.targets.get(child) == 0 {
                    self.apply(scanner.on_fork(parent, child), ProcessUpdate::Selected);
                    parents.push(child);
                }
            }
        }
        // Of one that ended meanwhile no end will be told, and its number will be another's.
        if fs::read_link(format!("/proc/{tgid}/exe")).is_err() {
            self.targets.set(tgid, 0);
            self.apply(scanner.on_exit(tgid), ProcessUpdate::Selected);
        }
    }

    fn tell(&self, update: ProcessUpdate) {
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

    pub(super) fn apply(&mut self, change: Change, how: fn(u32) -> ProcessUpdate) {
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
                if !self.targets.set(target.tgid, SELECTED | INHERIT) {
                    tracing::error!(pid = target.tgid, "process id beyond kernel.pid_max");
                }
                if let Some(recorder) = &mut self.recorder {
                    recorder.target(target.tgid, target.selector, &target.resource);
                }
                self.unseen.look(target.tgid);
                self.tell(how(target.tgid));
            }
            Change::Rename(target) => {
                let service = target.resource.service_name();
                tracing::debug!(pid = target.tgid, service, "process has another resource");
                if let Some(recorder) = &mut self.recorder {
                    recorder.target(target.tgid, target.selector, &target.resource);
                }
            }
            Change::Deselect(tgid) => {
                self.unseen.gone(tgid);
                self.targets.set(tgid, 0);
                if let Some(recorder) = &mut self.recorder {
                    recorder.gone(tgid);
                }
                self.tell(ProcessUpdate::Gone(tgid));
            }
            // The kernel side knew first. Another selected process may have the number by now.
            Change::Gone(tgid) => {
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

/// Of all of its threads; none where the process has ended, or the kernel does not list them (CONFIG_PROC_CHILDREN).
fn children(tgid: u32) -> Vec<u32> {
    let threads = i32::try_from(tgid).ok().and_then(|pid| Process::new(pid).ok()?.tasks().ok());
    let lists = threads.into_iter().flatten().filter_map(|thread| thread.ok()?.children().ok());
    lists.flatten().collect()
}
