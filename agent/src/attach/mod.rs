//! Which functions of which files are probed for the processes that are selected, and for how long.
//!
//! A file is attached once, whoever maps it; the kernel side drops what unselected processes do, but
//! they pay for the probe: entry and return, about 1.2 us a call where the points are cheap
//! ([`openssl`]). It is detached once no selected process has had it mapped for a while.
//!
//! Libraries are found in `/proc/PID/maps`: often just after a process appears (the dynamic linker and
//! the first imports run then), seldom later (`dlopen`). A file that is attached already covers other
//! processes from their first call on. Which TLS libraries a process uses at all, and which of them are not
//! seen, [`stacks`] says.

mod crates;
pub mod gnutls;
pub mod go;
mod image;
pub mod libraries;
pub mod openssl;
pub mod plan;
mod runtime;
pub mod rustls;
mod segments;
pub mod stacks;
mod tokio;
mod unused;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use self::runtime::moves_work;
use self::{
    libraries::{Candidate, FileKey},
    plan::{Library, Plan, Via},
    runtime::Runtimes,
    unused::Unused,
};
use crate::bpf::{Door, LinkKind, Links, Programs, UprobeError, Uprobes};

/// When a process is looked at again, counted from when it was selected.
const SCHEDULE: [Duration; 9] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(120),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// And from then on.
const PERIOD: Duration = Duration::from_secs(5);
/// Files remembered for having no TLS library in them; beyond, all are forgotten and looked at again.
const MAX_REFUSED: usize = 4096;

/// What is known about one file, for logs and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// In the mount namespace of the process it was found by.
    pub path: PathBuf,
    pub library: Library,
    /// As [`Plan::version`].
    pub version: String,
    pub via: Via,
    /// Attached points, entries and returns; 0 if attaching failed.
    pub points: usize,
    /// Selected processes that map it.
    pub processes: usize,
    /// Why it is not attached.
    pub failure: Option<String>,
}

struct Attached {
    path: PathBuf,
    plan: Plan,
    links: Result<Links, UprobeError>,
    unused: Unused,
}

struct Watched {
    since: Instant,
    next: Instant,
    files: Vec<FileKey>,
}

/// Attaches to the TLS libraries of selected processes. Dropping it detaches everything and waits for it.
pub struct TlsSources {
    uprobes: Uprobes,
    files: HashMap<FileKey, Attached>,
    refused: HashSet<FileKey>,
    processes: HashMap<u32, Watched>,
    runtimes: Runtimes,
    /// Processes whose runtime moves work between threads and is not followed; those that were not taken yet.
    moves_work: Vec<u32>,
    detacher: Detacher,
}

impl TlsSources {
    /// Loads the programs; attaches nothing yet.
    ///
    /// # Errors
    /// [`UprobeError::Unsupported`]: this kernel has no such probes and the feature is off; any other
    /// should not happen. Plaintext of sockets is seen in both cases.
    pub fn new(programs: &mut Programs) -> Result<Self, UprobeError> {
        let marks = programs.marks().map_err(UprobeError::Unsupported)?;
        Ok(Self {
            uprobes: programs.uprobes()?,
            files: HashMap::new(),
            refused: HashSet::new(),
            processes: HashMap::new(),
            runtimes: Runtimes::new(marks, programs.door() == Door::Socket),
            moves_work: Vec::new(),
            detacher: Detacher::default(),
        })
    }

    /// How points are attached on this kernel.
    #[must_use]
    pub fn link_kind(&self) -> LinkKind {
        self.uprobes.kind()
    }

    /// `tgid` was selected and has a new program image. The dynamic linker may not have run yet, so
    /// the libraries that it would find are attached beforehand, or a short-lived client's only
    /// request would be missed; they are detached again if they are not mapped.
    pub fn process_started(&mut self, tgid: u32) {
        self.runtimes.began(tgid);
        self.prepare(tgid, libraries::installed(tgid));
        self.watch(tgid, Instant::now());
    }

    /// `tgid` will become the executable at `path`, which may have OpenSSL in it: large ones take a while to be read, longer
    /// than their programs take to send a first request.
    pub fn executable_awaited(&mut self, tgid: u32, path: &Path) {
        self.prepare(tgid, libraries::at(tgid, path));
    }

    fn prepare(&mut self, tgid: u32, candidates: impl IntoIterator<Item = Candidate>) {
        for candidate in candidates {
            if !self.files.contains_key(&candidate.key) && !self.refused.contains(&candidate.key) {
                self.attach(tgid, &candidate);
            }
            if let Some(file) = self.files.get_mut(&candidate.key) {
                file.unused.restart();
            }
        }
    }

    /// `tgid` is selected from now on. Looks at it at once; what it maps later is found by
    /// [`Self::tick`], soon if it has not been there for long.
    pub fn process_selected(&mut self, tgid: u32) {
        let now = Instant::now();
        let since = age(tgid).and_then(|age| now.checked_sub(age));
        self.watch(tgid, since.unwrap_or(now));
    }

    /// `tgid`, whose program has run `since` then, is looked at.
    fn watch(&mut self, tgid: u32, since: Instant) {
        let now = Instant::now();
        let watched = Watched { since, next: now, files: Vec::new() };
        self.processes.insert(tgid, watched);
        self.look(tgid, now);
        self.release(now);
    }

    /// The kernel side said `SpeaksTls` of `tgid`: if nothing is attached for it, it is looked at now.
    /// If [`Self::sees`] denies it still, its TLS is a blind spot.
    pub fn speaks_tls(&mut self, tgid: u32) {
        if self.processes.get(&tgid).is_some_and(|process| process.files.is_empty()) {
            self.look(tgid, Instant::now());
        }
    }

    /// `tgid` ended or is not selected any more.
    pub fn process_gone(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
        self.runtimes.gone(tgid);
        self.release(Instant::now());
    }

    /// Does what is due at `now`; returns when to call again at the latest.
    pub fn tick(&mut self, now: Instant) -> Instant {
        let due: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| process.next <= now)
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in due {
            self.look(tgid, now);
        }
        self.release(now);
        let looks = self.processes.values().map(|process| process.next);
        let idle = self.files.values().filter_map(|file| file.unused.due());
        looks.chain(idle).chain(self.runtimes.due()).min().unwrap_or(now + PERIOD)
    }

    /// Every file that was found to have a TLS library in it and is mapped by a selected process.
    #[must_use]
    pub fn status(&self) -> Vec<FileStatus> {
        let mut status: Vec<FileStatus> = self
            .files
            .iter()
            .map(|(key, file)| FileStatus {
                path: file.path.clone(),
                library: file.plan.library,
                version: file.plan.version.clone(),
                via: file.plan.via,
                points: file.links.as_ref().map_or(0, |_| file.plan.points.len()),
                processes: self.users(key).count(),
                failure: file.links.as_ref().err().map(chain),
            })
            .collect();
        status.sort_by(|a, b| a.path.cmp(&b.path));
        status
    }

    /// Processes whose runtime moves work between threads and is not followed, each of them once.
    pub fn take_moves_work(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.moves_work)
    }

    /// Whether the plaintext of some library of `tgid` is seen.
    #[must_use]
    pub fn sees(&self, tgid: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|process| {
            process.files.iter().any(|key| self.files.get(key).is_some_and(|f| f.links.is_ok()))
        })
    }

    fn users<'a>(&'a self, key: &'a FileKey) -> impl Iterator<Item = u32> + 'a {
        self.processes
            .iter()
            .filter(|(_, process)| process.files.contains(key))
            .map(|(tgid, _)| *tgid)
    }

    /// Looks at what `tgid` maps now.
    fn look(&mut self, tgid: u32, now: Instant) {
        // A process that cannot be read is gone; that will be said by `process_gone`.
        let candidates = libraries::candidates(tgid).unwrap_or_default();
        if self.runtimes.look(tgid, &candidates, &mut self.uprobes) {
            self.moves_work.push(tgid);
        }
        let mut files = Vec::new();
        for candidate in candidates {
            if self.refused.contains(&candidate.key) {
                continue;
            }
            if !self.files.contains_key(&candidate.key) && !self.attach(tgid, &candidate) {
                continue;
            }
            files.push(candidate.key);
        }
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.files = files;
            process.next = next_look(process.since, now);
        }
    }

    /// Attaches the file of `candidate`; `false`: there is nothing to attach in it.
    fn attach(&mut self, tgid: u32, candidate: &Candidate) -> bool {
        let (file, plan) = match read_plan(tgid, candidate) {
            Ok(Some(found)) => found,
            Ok(None) => {
                if self.refused.len() >= MAX_REFUSED {
                    self.refused.clear();
                }
                self.refused.insert(candidate.key);
                return false;
            }
            Err(error) => {
                let path = candidate.path.display();
                tracing::debug!(pid = tgid, %path, %error, "mapped file cannot be read");
                return false;
            }
        };
        // The link holds the inode; the descriptor is only the way to name it.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let links = self.uprobes.attach(Path::new(&path), &plan.points);
        let name = candidate.path.display();
        let library = plan.library.as_str();
        match &links {
            Ok(_) => tracing::info!(
                path = %name, version = plan.version, via = ?plan.via, "attached to {library}"
            ),
            Err(error) => {
                tracing::warn!(path = %name, error = chain(error), "{library} not attached")
            }
        }
        let path = candidate.path.clone();
        self.files.insert(candidate.key, Attached { path, plan, links, unused: Unused::default() });
        true
    }

    /// Detaches files that no selected process has mapped for a while.
    fn release(&mut self, now: Instant) {
        self.runtimes.release(now, &mut self.detacher);
        let used: HashSet<FileKey> =
            self.processes.values().flat_map(|process| process.files.iter().copied()).collect();
        for (key, file) in &mut self.files {
            file.unused.update(used.contains(key), now);
        }
        for (_, file) in self.files.extract_if(|_, file| file.unused.is_over(now)) {
            let library = file.plan.library.as_str();
            tracing::info!(path = %file.path.display(), "detached from {library}: nobody maps it");
            if let Ok(links) = file.links {
                self.detacher.detach(links);
            }
        }
    }
}

/// When a process whose program has run `since` then is looked at again.
fn next_look(since: Instant, now: Instant) -> Instant {
    let mut scheduled = SCHEDULE.iter().map(|delay| since + *delay);
    scheduled.find(|next| *next > now).unwrap_or(now + PERIOD)
}

/// For how long `tgid` has been there; `None` if it is gone.
fn age(tgid: u32) -> Option<Duration> {
    let process = procfs::process::Process::new(i32::try_from(tgid).ok()?).ok()?;
    let start = process.stat().ok()?.starttime as f64 / procfs::ticks_per_second() as f64;
    let age = <procfs::Uptime as procfs::Current>::current().ok()?.uptime - start;
    Some(Duration::try_from_secs_f64(age).unwrap_or_default())
}

impl Drop for TlsSources {
    fn drop(&mut self) {
        // Each file's links wait for a grace period of their own; the files need not wait for each other.
        self.runtimes.detach(&mut self.detacher);
        for (_, file) in self.files.drain() {
            if let Ok(links) = file.links {
                self.detacher.detach(links);
            }
        }
    }
}

/// The opened file and what to attach to it; `None`: no TLS library in it whose plaintext can be seen.
fn read_plan(tgid: u32, candidate: &Candidate) -> io::Result<Option<(File, Plan)>> {
    let file = candidate.open(tgid)?;
    let path = candidate.path.display();
    match go::plan(&file) {
        Ok(plan) => return Ok(Some((file, plan))),
        Err(go::NotGo::NoTable) => {}
        Err(reason) => {
            tracing::debug!(%path, %reason, "no crypto/tls to attach to");
            return Ok(None);
        }
    }
    match openssl::plan(&file) {
        Ok(plan) => return Ok(Some((file, plan))),
        Err(reason) => tracing::debug!(%path, %reason, "no OpenSSL to attach to"),
    }
    if libraries::is_gnutls(&candidate.path) {
        match gnutls::plan(&file) {
            Ok(plan) => return Ok(Some((file, plan))),
            Err(reason) => tracing::debug!(%path, %reason, "no GnuTLS to attach to"),
        }
    }
    match rustls::plan(&file) {
        Ok(plan) => Ok(Some((file, plan))),
        Err(rustls::NotRustls::None) => Ok(None),
        Err(reason) => {
            tracing::warn!(%path, %reason, "the plaintext of rustls is not seen");
            Ok(None)
        }
    }
}

fn chain(error: &UprobeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Closes links off the caller's thread: each waits for the kernel. Dropping it waits for all.
#[derive(Default)]
struct Detacher {
    running: Vec<thread::JoinHandle<()>>,
}

impl Detacher {
    fn detach(&mut self, links: Links) {
        for link in links.into_each() {
            self.running.retain(|thread| !thread.is_finished());
            match thread::Builder::new().name("detach".into()).spawn(move || drop(link)) {
                Ok(thread) => self.running.push(thread),
                // The link was dropped with the closure, on this thread.
                Err(error) => tracing::debug!(%error, "no thread to detach on"),
            }
        }
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_have_run_for_long_are_looked_at_once_a_period() {
        let now = Instant::now();
        let before = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        assert_eq!(next_look(now, now), now + SCHEDULE[0]);
        assert_eq!(next_look(before(100), now), before(100) + Duration::from_millis(120));
        assert_eq!(next_look(before(1500), now), before(1500) + Duration::from_secs(2));
        assert_eq!(next_look(before(2000), now), now + PERIOD);
    }

    #[test]
    fn age_counts_from_the_start_of_a_process() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let young = age(child.id()).unwrap();
        assert!(young < Duration::from_secs(5), "{young:?}");
        assert!(age(std::process::id()).unwrap() >= young);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(age(u32::MAX), None);
    }
}
