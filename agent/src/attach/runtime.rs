//! Which runtime's contexts are followed in the processes that are selected: goroutines, tasks of tokio, threads where nothing else is
//! recognised. A runtime is a file that says how a program of it is recognised and what is probed in it ([`RUNTIMES`]), and
//! one of the kernel side (`ebpf/src/context/`).
//!
//! A file is attached once, whoever runs it. Only then a process is marked: what is seen of one that is not would be half of the truth.
//! The threads of a program whose runtime is recognised and not followed (another release, a stripped program, a door that does not see
//! who makes a call) say nothing: its runtime moves work between them.

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
    libraries::{self, Candidate, FileKey},
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

/// A runtime that moves work between threads.
struct Runtime {
    name: &'static str,
    /// How a program of it is followed by its file.
    recognise: fn(&File) -> Result<Followed, NotFollowed>,
}

/// A program that is not followed.
struct NotFollowed {
    reason: String,
    /// It is one of the runtime.
    is_here: bool,
}

const RUNTIMES: [Runtime; 2] = [
    Runtime {
        name: "Go",
        recognise: |file| {
            go::contexts::recognise(file).map_err(|error| NotFollowed {
                reason: error.to_string(),
                is_here: go::contexts::is_here(file),
            })
        },
    },
    Runtime {
        name: "tokio",
        recognise: |file| {
            tokio::recognise(file).map_err(|error| NotFollowed {
                reason: error.to_string(),
                is_here: error.is_of_tokio(),
            })
        },
    },
];

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Followed,
    /// Its runtime moves work, and is not followed.
    MovesWork,
    /// Its threads are its contexts.
    Threads,
}

/// Whether the runtime of `tgid` moves work between threads. It is not followed where functions cannot be probed.
#[must_use]
pub fn moves_work(tgid: u32) -> bool {
    let is_of_runtime = |file: &File| {
        let mut all = RUNTIMES.iter().map(|runtime| (runtime.recognise)(file));
        all.any(|it| it.map_or_else(|not| not.is_here, |_| true))
    };
    let candidates = libraries::candidates(tgid).unwrap_or_default();
    candidates.iter().any(|candidate| candidate.open(tgid).is_ok_and(|file| is_of_runtime(&file)))
}

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
    refused: HashMap<FileKey, Known>,
    /// The file that was recognised for each process.
    processes: HashMap<u32, FileKey>,
    /// Whether the door sees who makes a call.
    follows: bool,
    /// Processes that were told of.
    moves_work: HashSet<u32>,
}

impl Runtimes {
    /// `follows`: the door sees who makes a call.
    pub(super) fn new(marks: Marks, follows: bool) -> Self {
        let (files, refused) = (HashMap::new(), HashMap::new());
        let (processes, moves_work) = (HashMap::new(), HashSet::new());
        Self { marks, files, refused, processes, follows, moves_work }
    }

    /// `tgid` runs what is among `candidates`. `true`, once: its runtime moves work between threads and is not followed.
    pub(super) fn look(
        &mut self,
        tgid: u32,
        candidates: &[Candidate],
        uprobes: &mut Uprobes,
    ) -> bool {
        let known: Vec<(Known, FileKey)> = candidates
            .iter()
            .map(|candidate| (self.known(tgid, candidate, uprobes), candidate.key))
            .collect();
        match known.iter().find(|(known, _)| *known == Known::Followed) {
            Some((_, key)) => {
                let Attached { runtime, tokio, .. } = self.files[key];
                self.marks.mark(tgid, runtime, tokio);
                self.processes.insert(tgid, *key);
                return false;
            }
            None if self.processes.remove(&tgid).is_some() => self.marks.mark(tgid, 0, None),
            None => {}
        }
        let moves_work = known.iter().any(|(known, _)| *known == Known::MovesWork);
        moves_work && self.moves_work.insert(tgid)
    }

    /// What the file is; it is attached, now at the latest, if it is followed.
    fn known(&mut self, tgid: u32, candidate: &Candidate, uprobes: &mut Uprobes) -> Known {
        if self.files.contains_key(&candidate.key) {
            return Known::Followed;
        }
        if let Some(known) = self.refused.get(&candidate.key) {
            return *known;
        }
        let Ok(file) = candidate.open(tgid) else { return Known::Threads };
        let path = candidate.path.display();
        let (mut reasons, mut here) = (Vec::new(), None);
        for Runtime { name, recognise } in &RUNTIMES {
            match recognise(&file) {
                Ok(_) if !self.follows => here = Some(name),
                Ok(Followed { runtime, version, points, tokio }) => {
                    here = Some(name);
                    // The link holds the inode; the descriptor is only the way to name it.
                    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                    match uprobes.attach(Path::new(&name), &points) {
                        Ok(links) => {
                            tracing::info!(%path, version, "contexts of its runtime are followed");
                            let unused = Unused::default();
                            let attached = Attached { runtime, tokio, links, unused };
                            self.files.insert(candidate.key, attached);
                            return Known::Followed;
                        }
                        Err(error) => {
                            let error = chain(&error);
                            tracing::warn!(%path, version, error, "contexts are not followed");
                        }
                    }
                }
                Err(not) => {
                    here = here.or(not.is_here.then_some(name));
                    reasons.push(not.reason);
                }
            }
        }
        let reasons = reasons.join("; ");
        let known = match here {
            Some(name) => {
                tracing::info!(
                    %path, reasons,
                    "{name} moves work between threads and is not followed here: requests that \
                     this program makes have no parents"
                );
                Known::MovesWork
            }
            None => {
                tracing::debug!(%path, reasons, "threads are its contexts");
                Known::Threads
            }
        };
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(candidate.key, known);
        known
    }

    /// `tgid` has a new program image: what was told of the one before is to be told anew.
    pub(super) fn began(&mut self, tgid: u32) {
        self.moves_work.remove(&tgid);
    }

    /// `tgid` ended, or is not selected any more.
    pub(super) fn gone(&mut self, tgid: u32) {
        self.moves_work.remove(&tgid);
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
