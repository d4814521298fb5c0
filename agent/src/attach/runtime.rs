//! Which runtime's contexts are followed in the processes that are selected: goroutines, tasks of tokio, threads where nothing else is
//! recognised. A runtime is a file that says how a program of it is recognised and what is probed in it ([`RUNTIMES`]), and
//! one of the kernel side (`ebpf/src/context/`).
//!
//! A file is attached once, whoever runs it. Only then a process is marked: what is seen of one that is not would be half of the truth.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::fd::AsRawFd as _,
    path::Path,
    time::Instant,
};

use remora_common::context::Tokio;

use super::{
    Detacher, MAX_REFUSED, chain, go,
    libraries::{Candidate, FileKey},
    tokio,
    unused::Unused,
};
use crate::bpf::{Links, Marks, Probe, Uprobes};

/// How a program of a runtime is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its number in [`remora_common::target::RUNTIME`].
    pub runtime: u8,
    /// Of the runtime.
    pub version: String,
    /// Program and file offset.
    pub points: Vec<(Probe, u64)>,
    /// Where it keeps things, if it is tokio.
    pub tokio: Option<Tokio>,
}

/// Recognises a program of a runtime by its file, else says why it is none.
type Recognise = fn(&File) -> Result<Followed, String>;

const RUNTIMES: [Recognise; 2] = [
    |file| go::contexts::recognise(file).map_err(|error| error.to_string()),
    |file| tokio::recognise(file).map_err(|error| error.to_string()),
];

struct Attached {
    runtime: u8,
    tokio: Option<Tokio>,
    links: Links,
    unused: Unused,
}

/// See the module.
pub(super) struct Runtimes {
    marks: Marks,
    files: HashMap<FileKey, Attached>,
    refused: HashSet<FileKey>,
    /// The file that was recognised for each process.
    processes: HashMap<u32, FileKey>,
}

impl Runtimes {
    pub(super) fn new(marks: Marks) -> Self {
        let (files, refused) = (HashMap::new(), HashSet::new());
        Self { marks, files, refused, processes: HashMap::new() }
    }

    /// `tgid` runs what is among `candidates`.
    pub(super) fn look(&mut self, tgid: u32, candidates: &[Candidate], uprobes: &mut Uprobes) {
        let known = candidates.iter().find(|candidate| self.is_followed(tgid, candidate, uprobes));
        match known.map(|candidate| candidate.key) {
            Some(key) => {
                let Attached { runtime, tokio, .. } = self.files[&key];
                self.marks.mark(tgid, runtime, tokio);
                self.processes.insert(tgid, key);
            }
            None if self.processes.remove(&tgid).is_some() => self.marks.mark(tgid, 0, None),
            None => {}
        }
    }

    /// Whether the file is attached, now at the latest.
    fn is_followed(&mut self, tgid: u32, candidate: &Candidate, uprobes: &mut Uprobes) -> bool {
        if self.files.contains_key(&candidate.key) {
            return true;
        }
        if self.refused.contains(&candidate.key) {
            return false;
        }
        let Ok(file) = candidate.open(tgid) else { return false };
        let path = candidate.path.display();
        let mut reasons = Vec::new();
        for recognise in RUNTIMES {
            match recognise(&file) {
                Ok(Followed { runtime, version, points, tokio }) => {
                    // The link holds the inode; the descriptor is only the way to name it.
                    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                    match uprobes.attach(Path::new(&name), &points) {
                        Ok(links) => {
                            tracing::info!(%path, version, "contexts of its runtime are followed");
                            let unused = Unused::default();
                            let attached = Attached { runtime, tokio, links, unused };
                            self.files.insert(candidate.key, attached);
                            return true;
                        }
                        Err(error) => {
                            let error = chain(&error);
                            tracing::warn!(%path, version, error, "contexts are not followed");
                        }
                    }
                }
                Err(reason) => reasons.push(reason),
            }
        }
        tracing::debug!(%path, reasons = reasons.join("; "), "threads are its contexts");
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(candidate.key);
        false
    }

    /// `tgid` ended, or is not selected any more.
    pub(super) fn gone(&mut self, tgid: u32) {
        if self.processes.remove(&tgid).is_some() {
            self.marks.forget(tgid);
        }
    }

    /// Detaches files that no selected process has run for a while.
    pub(super) fn release(&mut self, now: Instant, detacher: &mut Detacher) {
        let used: HashSet<FileKey> = self.processes.values().copied().collect();
        for (key, file) in &mut self.files {
            file.unused.update(used.contains(key), now);
        }
        for (_, file) in self.files.extract_if(|_, file| file.unused.is_over(now)) {
            detacher.detach(file.links);
        }
    }

    /// When [`Self::release`] is due next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.files.values().filter_map(|file| file.unused.due()).min()
    }

    pub(super) fn detach(&mut self, detacher: &mut Detacher) {
        for (_, file) in self.files.drain() {
            detacher.detach(file.links);
        }
    }
}
