//! The thread that attaches to TLS libraries, and to runtimes: reading executables and waiting for the kernel to patch
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

use crate::attach::{TlsSources, moves_work, stacks::TlsScanner};

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

/// The thread.
pub(super) struct TlsThread {
    updates: mpsc::Sender<ProcessUpdate>,
    thread: JoinHandle<()>,
    blind: BlindSpots,
}

impl TlsThread {
    /// Without `sources` no function can be probed. `moves_work` is told of processes whose runtime moves work between threads and is not followed.
    pub(super) fn spawn(
        sources: Option<TlsSources>,
        moves_work: impl Fn(u32) + Send + 'static,
    ) -> io::Result<Self> {
        let (updates, inbox) = mpsc::channel();
        let blind = BlindSpots::default();
        let moves_work = Box::new(moves_work);
        let attacher = Attacher { sources, blind: blind.clone(), moves_work };
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
    sources: Option<TlsSources>,
    /// Processes whose blind spot was named.
    blind: BlindSpots,
    moves_work: Box<dyn Fn(u32) + Send>,
}

impl Attacher {
    fn run(mut self, inbox: &mpsc::Receiver<ProcessUpdate>) {
        let mut next = Some(Instant::now());
        loop {
            let update = match next {
                Some(next) => inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
                None => inbox.recv().map_err(RecvTimeoutError::from),
            };
            match update {
                Ok(update) => self.update(update),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next = self.sources.as_mut().map(|sources| {
                let next = sources.tick(Instant::now());
                sources.take_moves_work().into_iter().for_each(&self.moves_work);
                next
            });
        }
    }

    fn update(&mut self, update: ProcessUpdate) {
        match (update, &mut self.sources) {
            (ProcessUpdate::Selected(tgid), Some(sources)) => sources.process_selected(tgid),
            (ProcessUpdate::Started(tgid), Some(sources)) => sources.process_started(tgid),
            (ProcessUpdate::Selected(tgid) | ProcessUpdate::Started(tgid), None) => {
                if moves_work(tgid) {
                    (self.moves_work)(tgid);
                }
            }
            (ProcessUpdate::Awaited(tgid, path), Some(sources)) => {
                sources.executable_awaited(tgid, &path);
            }
            (ProcessUpdate::Awaited(..), None) => {}
            (ProcessUpdate::SpeaksTls(tgid), _) => self.speaks_tls(tgid),
            (ProcessUpdate::Gone(tgid), sources) => {
                self.blind.edit(|blind| blind.remove(&tgid));
                if let Some(sources) = sources {
                    sources.process_gone(tgid);
                }
            }
            // Who asked may have gone.
            (ProcessUpdate::Settle(done), _) => _ = done.send(()),
        }
    }

    /// Ciphertext that no probe explains: the library is attached now, or named.
    fn speaks_tls(&mut self, tgid: u32) {
        let is_seen = self.sources.as_mut().is_some_and(|sources| {
            sources.speaks_tls(tgid);
            sources.sees(tgid)
        });
        if is_seen || self.blind.edit(|blind| blind.contains_key(&tgid)) {
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
