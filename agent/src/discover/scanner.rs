//! Keeps the table of selected processes up to date: one scan of `/proc`, then one look at each
//! process the kernel side announces.
//!
//! Of a process that is not selected only this is read: the `exe` link, `comm` if a selector asks for
//! it, and, if a selector asks for ports, its `fd` links, its `ns/net` link and the listening sockets
//! of that network namespace. Reads go through one descriptor of `/proc/PID`, so that a pid that is
//! reused meanwhile gives an error, not another process's facts. `tests/least_data.rs` proves it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use procfs::process::Process;

use super::{
    cgroup,
    host::Host,
    listening::Listening,
    profile::Profile,
    selector::{Facts, Needs, RETIRED, Selectors},
    sockets::pid,
};
use crate::resource::Resource;

/// Targets remembered after their exit: the last exchanges of a process end after it.
const REMEMBERED: usize = 1024;

/// A selected process.
#[derive(Clone, Debug)]
pub struct Target {
    /// Process id as `/proc` of the agent shows it (initial pid namespace).
    pub tgid: u32,
    /// Process id in the process's own pid namespace.
    pub ns_pid: u32,
    /// Clock ticks since boot; with `tgid` the identity of the process. 0: it was gone before it
    /// could be asked.
    pub start_time: u64,
    /// Executable in the process's own mount namespace.
    pub exe: Box<Path>,
    pub resource: Arc<Resource>,
    /// Position of the selector that took it (or its ancestor).
    pub selector: usize,
    profile: Arc<Profile>,
}

/// What the kernel side has to be told.
#[derive(Clone, Debug)]
pub enum Change {
    /// Watch it. Also sent again for a process that is watched already and became another program:
    /// libraries have to be looked at anew.
    Select(Arc<Target>),
    /// Watch it no longer.
    Deselect(u32),
    /// Nothing changed.
    Keep,
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    selectors: Selectors,
    needs: Needs,
    host: Arc<Host>,
    targets: HashMap<u32, Arc<Target>>,
    /// Targets that ended, oldest first.
    ended: VecDeque<Arc<Target>>,
}

/// What [`Scanner`] has read of one process.
struct Seen {
    process: Process,
    tgid: u32,
    exe: PathBuf,
    comm: String,
    ports: Vec<u16>,
}

impl Scanner {
    #[must_use]
    pub fn new(selectors: Selectors, host: Arc<Host>) -> Self {
        let needs = selectors.needs();
        Self { selectors, needs, host, targets: HashMap::new(), ended: VecDeque::new() }
    }

    /// Looks at every process: at start, and whenever notices of the kernel side were lost. Yields
    /// only changes. Children are not followed here; those that run already are selected by their
    /// own facts.
    pub fn scan(&mut self) -> Vec<Change> {
        let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
        let mut changes = Vec::new();
        let mut listening = Listening::default();
        let members = self.cgroup_members();
        let mut alive = HashSet::new();
        for process in processes.flatten() {
            let Ok(tgid) = u32::try_from(process.pid()) else { continue };
            alive.insert(tgid);
            if let Some(known) = self.targets.get(&tgid) {
                if process.stat().is_ok_and(|stat| stat.starttime == known.start_time) {
                    continue;
                }
                changes.push(self.on_exit(tgid)); // another process took the number
            }
            let Some(seen) = self.look(process, &mut listening) else { continue };
            let cgroups = memberships(&members, tgid);
            let facts = seen.facts(&cgroups);
            if let Some(selector) = self.selectors.select(&facts).map(|s| s.selector)
                && let Some(target) = self.target_from(&seen, selector)
            {
                changes.push(self.insert(target));
            }
        }
        let gone: Vec<u32> =
            self.targets.keys().copied().filter(|tgid| !alive.contains(tgid)).collect();
        changes.extend(gone.into_iter().map(|tgid| self.on_exit(tgid)));
        let absent: Vec<u32> = self.selectors.pids().filter(|pid| !alive.contains(pid)).collect();
        for pid in absent {
            if pid != RETIRED {
                tracing::warn!(pid, "no such process: a selector that names it selects nothing");
            }
            self.selectors.retire_pid(pid); // whoever gets the number later is not who was meant
        }
        changes
    }

    /// A process became another program.
    pub fn on_exec(&mut self, tgid: u32) -> Change {
        let known = self.targets.get(&tgid).map(|known| (known.selector, known.start_time));
        let Some(seen) = self.look_at(tgid) else { return Change::Keep };
        let inherited = known
            .filter(|(_, start_time)| seen.start_time() == Some(*start_time))
            .map(|(selector, _)| selector);
        if known.is_some() && inherited.is_none() {
            self.on_exit(tgid); // its exit was missed: this is another process
        }
        let members = self.cgroup_members();
        let cgroups = memberships(&members, tgid);
        let facts = seen.facts(&cgroups);
        let selected = self.selectors.select(&facts).map(|selection| selection.selector);
        let stays = inherited.filter(|&selector| {
            !self.selectors.excludes(&facts) && !self.selectors.selector_excludes(selector, &facts)
        });
        match selected.or(stays).and_then(|selector| self.target_from(&seen, selector)) {
            Some(target) => self.insert(target),
            None if known.is_some() => {
                self.forget(tgid);
                Change::Deselect(tgid)
            }
            None => Change::Keep,
        }
    }

    /// A selected process made a child process, which inherited the selection. The child is the same
    /// program until it calls exec, so that little has to be read.
    pub fn on_fork(&mut self, parent: u32, child: u32) -> Change {
        let start_time = start_time(child).unwrap_or(0);
        match self.targets.get(&child) {
            Some(known) if known.start_time == start_time => return Change::Keep,
            Some(_) => _ = self.forget(child), // its exit was missed
            None => {}
        }
        let Some(parent) = self.find(parent).cloned() else {
            // The kernel side selected it after a parent that is not known here: decide by facts.
            return match self.on_exec(child) {
                Change::Keep => Change::Deselect(child),
                change => change,
            };
        };
        let profile = Arc::clone(&parent.profile);
        let resource = profile.resource(child, Some(parent.tgid), start_time, &self.host);
        self.insert(Target {
            tgid: child,
            ns_pid: ns_pid(child),
            start_time,
            exe: parent.exe.clone(),
            resource: Arc::new(resource),
            selector: parent.selector,
            profile,
        })
    }

    /// A process ended. Its target can still be found for a while.
    pub fn on_exit(&mut self, tgid: u32) -> Change {
        self.selectors.retire_pid(tgid);
        if self.forget(tgid) { Change::Deselect(tgid) } else { Change::Keep }
    }

    /// A process listens on a port. Nothing of it is read unless some selector asks for ports.
    pub fn on_listen(&mut self, tgid: u32, port: u16) -> Change {
        if !self.needs.ports || self.targets.contains_key(&tgid) {
            return Change::Keep;
        }
        let Some(mut seen) = self.look_at(tgid) else { return Change::Keep };
        if !seen.ports.contains(&port) {
            seen.ports.push(port);
        }
        let members = self.cgroup_members();
        let cgroups = memberships(&members, tgid);
        let selector = self.selectors.select(&seen.facts(&cgroups)).map(|s| s.selector);
        match selector.and_then(|selector| self.target_from(&seen, selector)) {
            Some(target) => self.insert(target),
            None => Change::Keep,
        }
    }

    /// Selects a process by hand, as selector 0: the child of `remora exec`.
    ///
    /// `None` if there is no such process (any more).
    pub fn adopt(&mut self, tgid: u32) -> Option<Change> {
        let seen = self.look_at(tgid)?;
        let target = self.target_from(&seen, 0)?;
        Some(self.insert(target))
    }

    /// The selected process `tgid`, or the last one of that number if it ended recently.
    #[must_use]
    pub fn find(&self, tgid: u32) -> Option<&Arc<Target>> {
        self.targets
            .get(&tgid)
            .or_else(|| self.ended.iter().rev().find(|target| target.tgid == tgid))
    }

    /// All selected processes.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// Process ids that selectors still name; those of processes that are not running were retired
    /// by [`Self::scan`].
    #[must_use]
    pub fn names_pid(&self, pid: u32) -> bool {
        self.selectors.pids().any(|named| named == pid)
    }

    fn insert(&mut self, target: Target) -> Change {
        let target = Arc::new(target);
        self.targets.insert(target.tgid, Arc::clone(&target));
        Change::Select(target)
    }

    fn forget(&mut self, tgid: u32) -> bool {
        let Some(target) = self.targets.remove(&tgid) else { return false };
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(target);
        true
    }

    fn look_at(&self, tgid: u32) -> Option<Seen> {
        self.look(Process::new(pid(tgid)).ok()?, &mut Listening::default())
    }

    /// Reads what selection needs and no more; `None` for kernel threads, zombies (both without an
    /// executable), processes that ended meanwhile and those that may not be read.
    fn look(&self, process: Process, listening: &mut Listening) -> Option<Seen> {
        let tgid = u32::try_from(process.pid()).ok()?;
        let exe = without_deleted(process.exe().ok()?);
        let comm = if self.needs.comm { read_comm(&process)? } else { String::new() };
        let ports = if self.needs.ports { listening.ports(&process) } else { Vec::new() };
        Some(Seen { process, tgid, exe, comm, ports })
    }

    fn cgroup_members(&self) -> Vec<(PathBuf, Vec<u32>)> {
        self.selectors
            .cgroups()
            .filter_map(|group| Some((group.into(), cgroup::members(&cgroup::folder(group)?))))
            .collect()
    }

    fn target_from(&self, seen: &Seen, selector: usize) -> Option<Target> {
        let stat = seen.process.stat().ok()?;
        let name = self.selectors.selection(selector).service_name;
        let profile = Profile::read(&seen.process, &seen.exe, name, &self.host);
        let parent = u32::try_from(stat.ppid).ok().filter(|&parent| parent != 0);
        let resource = profile.resource(seen.tgid, parent, stat.starttime, &self.host);
        Some(Target {
            tgid: seen.tgid,
            ns_pid: innermost_pid(&seen.process).unwrap_or(seen.tgid),
            start_time: stat.starttime,
            exe: seen.exe.as_path().into(),
            resource: Arc::new(resource),
            selector,
            profile: Arc::new(profile),
        })
    }
}

impl Seen {
    fn facts<'a>(&'a self, cgroups: &'a [&'a Path]) -> Facts<'a> {
        Facts { tgid: self.tgid, exe: &self.exe, comm: &self.comm, ports: &self.ports, cgroups }
    }

    fn start_time(&self) -> Option<u64> {
        self.process.stat().ok().map(|stat| stat.starttime)
    }
}

fn memberships(members: &[(PathBuf, Vec<u32>)], tgid: u32) -> Vec<&Path> {
    members.iter().filter(|(_, pids)| pids.contains(&tgid)).map(|(group, _)| &**group).collect()
}

fn read_comm(process: &Process) -> Option<String> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut process.open_relative("comm").ok()?, &mut bytes).ok()?;
    Some(String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned())
}

/// The kernel marks executables that were replaced while they run.
fn without_deleted(exe: PathBuf) -> PathBuf {
    match exe.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => Path::new(OsStr::from_bytes(path)).to_owned(),
        None => exe,
    }
}

fn start_time(tgid: u32) -> Option<u64> {
    Some(Process::new(pid(tgid)).ok()?.stat().ok()?.starttime)
}

fn ns_pid(tgid: u32) -> u32 {
    Process::new(pid(tgid)).ok().and_then(|process| innermost_pid(&process)).unwrap_or(tgid)
}

/// Last of `NSpid` in `/proc/PID/status` (since Linux 4.1).
fn innermost_pid(process: &Process) -> Option<u32> {
    process.status().ok()?.nspid?.last().and_then(|&pid| u32::try_from(pid).ok())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::discover::{Criteria, Ports, Selector};

    /// A process that waits until it is dropped.
    struct Waiting(Child);

    impl Waiting {
        fn new() -> Self {
            let sleep = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
            let waiting = Self(sleep);
            waiting.until_exec();
            waiting
        }

        /// `spawn` returns when exec succeeded or, where vfork is not used, somewhat before.
        fn until_exec(&self) {
            let exe = format!("/proc/{}/exe", self.pid());
            let own = std::env::current_exe().unwrap();
            while std::fs::read_link(&exe).is_ok_and(|link| link == own) {
                std::thread::yield_now();
            }
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn scanner(criteria: Criteria, exclude: Vec<Criteria>) -> Scanner {
        let selector = Selector { name: Some("svc".into()), criteria, exclude: vec![] };
        let selectors = Selectors::new(vec![selector], exclude, u32::MAX).unwrap();
        Scanner::new(selectors, Arc::new(Host::default()))
    }

    fn by_pid(pid: u32) -> Criteria {
        Criteria { pids: vec![pid], ..Criteria::default() }
    }

    fn by_comm(pattern: &str) -> Criteria {
        Criteria { comm: vec![pattern.parse().unwrap()], ..Criteria::default() }
    }

    fn selected(change: &Change) -> Option<u32> {
        match change {
            Change::Select(target) => Some(target.tgid),
            _ => None,
        }
    }

    #[test]
    fn scan_finds_a_running_process_once() {
        let child = Waiting::new();
        let mut scanner = scanner(by_pid(child.pid()), vec![]);
        let changes = scanner.scan();
        assert_eq!(changes.iter().filter_map(selected).collect::<Vec<_>>(), [child.pid()]);
        assert!(scanner.scan().is_empty());
        let target = scanner.find(child.pid()).unwrap();
        assert_eq!(target.resource.service_name(), "svc");
        assert!(target.start_time > 0 && target.ns_pid > 0);
    }

    #[test]
    fn a_process_that_starts_later_is_found_by_its_exec() {
        let mut scanner = scanner(by_comm("slee*"), vec![]);
        let child = Waiting::new();
        assert_eq!(selected(&scanner.on_exec(child.pid())), Some(child.pid()));
        assert!(matches!(scanner.on_exit(child.pid()), Change::Deselect(_)));
        assert!(matches!(scanner.on_exit(child.pid()), Change::Keep));
        assert!(scanner.find(child.pid()).is_some(), "spans of its end still need its resource");
        assert_eq!(scanner.targets().len(), 0);
    }

    #[test]
    fn an_inherited_child_stays_selected_after_exec_unless_excluded() {
        let parent = Waiting::new();
        let child = Waiting::new();
        for (exclude, stays) in [(vec![], true), (vec![by_comm("sleep")], false)] {
            let mut scanner = scanner(by_pid(parent.pid()), exclude);
            scanner.adopt(parent.pid()).unwrap();
            assert_eq!(selected(&scanner.on_fork(parent.pid(), child.pid())), Some(child.pid()));
            let target = Arc::clone(scanner.find(child.pid()).unwrap());
            let parent_resource = &scanner.find(parent.pid()).unwrap().resource;
            assert_ne!(
                target.resource.find("service.instance.id"),
                parent_resource.find("service.instance.id")
            );
            let change = scanner.on_exec(child.pid());
            assert_eq!(matches!(change, Change::Select(_)), stays);
            assert_eq!(matches!(change, Change::Deselect(_)), !stays);
        }
    }

    #[test]
    fn a_child_that_is_gone_already_still_has_a_resource() {
        let parent = Waiting::new();
        let mut scanner = scanner(by_pid(parent.pid()), vec![]);
        scanner.adopt(parent.pid()).unwrap();
        let gone = {
            let child = Waiting::new();
            child.pid()
        };
        assert_eq!(selected(&scanner.on_fork(parent.pid(), gone)), Some(gone));
        let target = scanner.find(gone).unwrap();
        assert_eq!((target.start_time, target.resource.service_name()), (0, "svc"));
    }

    #[test]
    fn a_child_of_an_unknown_parent_is_selected_by_its_own_facts_only() {
        let child = Waiting::new();
        let mut other = scanner(by_comm("other"), vec![]);
        assert!(matches!(other.on_fork(u32::MAX, child.pid()), Change::Deselect(_)));
        let mut sleep = scanner(by_comm("sleep"), vec![]);
        assert_eq!(selected(&sleep.on_fork(u32::MAX, child.pid())), Some(child.pid()));
    }

    #[test]
    fn the_next_holder_of_a_named_pid_is_not_selected() {
        let child = Waiting::new();
        let mut scanner = scanner(by_pid(child.pid()), vec![]);
        scanner.scan();
        // As if the number had been given to a process that started at another time.
        let mut earlier = Target::clone(scanner.find(child.pid()).unwrap());
        earlier.start_time -= 1;
        scanner.targets.insert(child.pid(), Arc::new(earlier));
        assert!(matches!(scanner.on_exec(child.pid()), Change::Deselect(_)));
        assert!(!scanner.names_pid(child.pid()));
    }

    #[test]
    fn a_named_pid_that_does_not_run_is_retired() {
        let gone = {
            let child = Waiting::new();
            child.pid()
        };
        let mut scanner = scanner(by_pid(gone), vec![]);
        assert!(scanner.names_pid(gone));
        scanner.scan();
        assert!(!scanner.names_pid(gone));
    }

    #[test]
    fn a_listening_port_selects_at_scan_and_when_announced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let criteria = Criteria { ports: Ports::from(port), ..Criteria::default() };
        let own = std::process::id();
        let changes = scanner(criteria.clone(), vec![]).scan();
        assert!(changes.iter().filter_map(selected).any(|tgid| tgid == own));
        let mut scanner = scanner(criteria, vec![]);
        assert!(matches!(scanner.on_listen(own, port.wrapping_add(1)), Change::Select(_)));
        assert!(matches!(scanner.on_listen(own, port), Change::Keep), "it is selected already");
    }

    #[test]
    fn a_listening_port_in_another_network_namespace_is_found() {
        const PORT: u16 = 8765;
        let program = format!(
            "import socket, sys; s = socket.create_server(('0.0.0.0', {PORT})); \
             print('ready', flush=True); sys.stdin.read()"
        );
        let child = Command::new("unshare")
            .args(["--net", "python3", "-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { return eprintln!("skipped: no unshare here") };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = Waiting(child);
        if line != "ready\n" {
            return eprintln!("skipped: no network namespace or no python3 here");
        }
        let criteria = Criteria { ports: Ports::from(PORT), ..Criteria::default() };
        let changes = scanner(criteria, vec![]).scan();
        assert!(changes.iter().filter_map(selected).any(|tgid| tgid == child.pid()));
    }

    #[test]
    fn scanning_survives_processes_that_come_and_go() {
        let churn = std::thread::spawn(|| -> Vec<u32> {
            let run = |_| {
                let mut child = Command::new("true").spawn().unwrap();
                child.wait().unwrap();
                child.id()
            };
            (0..200).map(run).collect()
        });
        let mut scanner = scanner(by_comm("true"), vec![]);
        while !churn.is_finished() {
            for tgid in scanner.scan().iter().filter_map(selected) {
                assert_eq!(scanner.find(tgid).unwrap().resource.service_name(), "svc");
            }
        }
        let ended = churn.join().unwrap();
        scanner.scan();
        assert!(scanner.targets().all(|target| !ended.contains(&target.tgid)));
    }

    #[test]
    fn kernel_threads_and_vanished_processes_are_no_targets() {
        const KTHREADD: u32 = 2;
        let pids = vec![KTHREADD, u32::MAX];
        let mut scanner = scanner(Criteria { pids, ..Criteria::default() }, vec![]);
        let comm = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
        if comm.trim() == "kthreadd" {
            assert!(matches!(scanner.on_exec(KTHREADD), Change::Keep));
        } else {
            eprintln!("kernel threads skipped: process 2 here is {comm:?}");
        }
        assert!(matches!(scanner.on_exec(u32::MAX), Change::Keep));
        assert!(scanner.adopt(u32::MAX).is_none());
    }

    #[test]
    fn a_replaced_executable_keeps_its_path() {
        let path = without_deleted("/srv/shop (deleted)".into());
        assert_eq!(path, Path::new("/srv/shop"));
        assert_eq!(without_deleted("/srv/shop".into()), Path::new("/srv/shop"));
    }
}
