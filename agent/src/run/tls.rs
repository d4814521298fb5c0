//! The thread that attaches to TLS libraries: reading executables and waiting for the kernel to patch
//! code takes milliseconds that the worker does not have.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::attach::{TlsSources, stacks::TlsScanner};

/// What the worker has seen of a process.
pub(super) enum ProcessUpdate {
    /// Selected while it runs.
    Selected(u32),
    /// Selected with a new program image.
    Started(u32),
    /// Will become this executable.
    Awaited(u32, PathBuf),
    /// Moves ciphertext outside of probed calls.
    SpeaksTls(u32),
    Gone(u32),
    /// Answer when all updates before this one are dealt with.
    Settle(mpsc::Sender<()>),
}

/// Selected processes that speak TLS which is not seen, with the libraries that may be why.
#[derive(Clone, Debug, Default)]
struct BlindSpots(Arc<Mutex<HashMap<u32, Vec<&'static str>>>>);

impl BlindSpots {
    fn edit<R>(&self, edit: impl FnOnce(&mut HashMap<u32, Vec<&'static str>>) -> R) -> R {
        // No edit leaves the map half done.
        edit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The thread, if there is TLS to be seen on this kernel.
pub(super) struct TlsThread {
    updates: mpsc::Sender<ProcessUpdate>,
    thread: JoinHandle<()>,
    blind: BlindSpots,
}

impl TlsThread {
    pub(super) fn spawn(sources: TlsSources) -> io::Result<Self> {
        let (updates, inbox) = mpsc::channel();
        let blind = BlindSpots::default();
        let attacher = Attacher { sources, blind: blind.clone() };
        let thread =
            thread::Builder::new().name("remora-tls".into()).spawn(move || attacher.run(&inbox))?;
        Ok(Self { updates, thread, blind })
    }

    /// How many selected processes speak TLS that is not seen, by library.
    pub(super) fn blind_spots(&self) -> BTreeMap<&'static str, u64> {
        self.blind.edit(|blind| {
            let mut processes = BTreeMap::new();
            for library in blind.values().flatten() {
                *processes.entry(*library).or_insert(0) += 1;
            }
            processes
        })
    }

    /// Selected processes that speak TLS that is not seen, with the libraries that may be why.
    pub(super) fn blind_processes(&self) -> BTreeMap<u32, Vec<&'static str>> {
        self.blind.edit(|blind| blind.iter().map(|(pid, kinds)| (*pid, kinds.clone())).collect())
    }

    /// A thread that has panicked hears nothing; plaintext goes on being seen.
    pub(super) fn tell(&self, update: ProcessUpdate) {
        let _ = self.updates.send(update);
    }

    /// Detaches; returns when it is done.
    pub(super) fn stop(self) {
        drop(self.updates);
        if self.thread.join().is_err() {
            tracing::error!("the TLS thread has panicked");
        }
    }
}

struct Attacher {
    sources: TlsSources,
    /// Processes whose blind spot was named.
    blind: BlindSpots,
}

impl Attacher {
    fn run(mut self, inbox: &mpsc::Receiver<ProcessUpdate>) {
        let mut next = Instant::now();
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(ProcessUpdate::Selected(tgid)) => self.sources.process_selected(tgid),
                Ok(ProcessUpdate::Started(tgid)) => self.sources.process_started(tgid),
                Ok(ProcessUpdate::Awaited(tgid, path)) => {
                    self.sources.executable_awaited(tgid, &path)
                }
                Ok(ProcessUpdate::SpeaksTls(tgid)) => self.speaks_tls(tgid),
                Ok(ProcessUpdate::Gone(tgid)) => {
                    self.blind.edit(|blind| blind.remove(&tgid));
                    self.sources.process_gone(tgid);
                }
                Ok(ProcessUpdate::Settle(done)) => _ = done.send(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next = self.sources.tick(Instant::now());
        }
    }

    /// Ciphertext that no probe explains: the library is attached now, or named.
    fn speaks_tls(&mut self, tgid: u32) {
        self.sources.speaks_tls(tgid);
        if self.sources.sees(tgid) || self.blind.edit(|blind| blind.contains_key(&tgid)) {
            return;
        }
        let stacks = TlsScanner::default().blind_spots(tgid).unwrap_or_default();
        let names: Vec<String> = stacks
            .iter()
            .map(|stack| format!("{} ({})", stack.kind.as_str(), stack.path.display()))
            .collect();
        tracing::warn!(
            pid = tgid,
            library = if names.is_empty() { "unknown".into() } else { names.join(", ") },
            "this process speaks TLS that is not seen: its requests over TLS have no spans"
        );
        let mut kinds: Vec<&str> = stacks.iter().map(|stack| stack.kind.as_str()).collect();
        kinds.dedup();
        let kinds = if kinds.is_empty() { vec!["unknown"] } else { kinds };
        self.blind.edit(|blind| blind.insert(tgid, kinds));
    }
}
