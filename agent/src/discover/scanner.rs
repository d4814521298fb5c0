//! Keeps the table of selected processes up to date: one scan of `/proc`, then one look at each
//! process the kernel side announces.
//!
//! Of a process that is not selected only this is read: the `exe` link, `comm` if a selector asks for
//! it, if a selector asks for ports, its `fd` links, its `ns/net` link and the listening sockets of that
//! network namespace, and, if a selector asks for containers or pods, its `cgroup` and `mountinfo`. Reads go through one descriptor of `/proc/PID`, so that a pid that is
//! reused meanwhile gives an error, not another process's facts. `tests/least_data.rs` proves it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use procfs::process::Process;

use super::{
    cgroup,
    host::Host,
    listening::Listening,
    profile::{Profile, read_container},
    selector::{Facts, Needs, RETIRED, Selectors},
    sockets::pid,
};
use crate::{clock::mono_ns, kubernetes::Pods, resource::Resource};

mod pods;
mod reselect;
mod seen;
#[cfg(test)]
mod tests;
mod titles;

use seen::{Seen, innermost_pid, is_another_program, ns_pid, start_time};

/// Targets remembered after their exit: the last exchanges of a process end after it.
pub(crate) const REMEMBERED: usize = 1024;

/// Position of a selector that is there no longer.
const NOWHERE: usize = usize::MAX - 1;

/// A selected process.
#[derive(Clone, Debug)]
pub struct Target {
    /// Process id as `/proc` of the agent shows it.
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
    parent: Option<u32>,
    /// Where its stack begins (proc(5)): elsewhere after each exec, nowhere once it has ended.
    stack: u64,
    /// Until when more may become known of its pod; 0 once nothing more is expected.
    settled_mono_ns: u64,
    /// Since when it is captured.
    pub since_mono_ns: u64,
}

/// What the kernel side has to be told.
#[derive(Clone, Debug)]
pub enum Change {
    /// Watch it. Also sent again for a process that is watched already and became another program:
    /// libraries have to be looked at anew.
    Select(Arc<Target>),
    /// Watch it no longer, though it runs.
    Deselect(u32),
    /// Its resource is another now.
    Rename(Arc<Target>),
    /// It has ended.
    Gone(u32),
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
    pods: Pods,
    /// Children that are taken for the program of their parent, and made no connection yet.
    as_parent: HashSet<u32>,
    /// Targets that may have got a title since they were looked at, and made no connection yet.
    untitled: HashSet<u32>,
    /// Of which was said that they say of themselves what cannot be read.
    warned: HashSet<u32>,
    /// Pods of which processes were seen before they were told of; by the uid that control groups have.
    unknown_pods: HashSet<Box<str>>,
    scan_is_due: bool,
}

impl Scanner {
    #[must_use]
    pub fn new(selectors: Selectors, host: Arc<Host>) -> Self {
        Self::with_pods(selectors, host, Pods::default())
    }

    /// With `pods`, of which [`Self::on_cluster_update`] will be told.
    #[must_use]
    pub fn with_pods(selectors: Selectors, host: Arc<Host>, pods: Pods) -> Self {
        let needs = selectors.needs();
        Self {
            selectors,
            needs,
            host,
            targets: HashMap::new(),
            ended: VecDeque::new(),
            pods,
            as_parent: HashSet::new(),
            untitled: HashSet::new(),
            warned: HashSet::new(),
            unknown_pods: HashSet::new(),
            scan_is_due: false,
        }
    }

    /// Looks at every process: at start, and whenever notices of the kernel side were lost. Yields
    /// only changes. Processes are selected by their own facts, or because the kernel side says that
    /// they have `inherited` the selection.
    pub fn scan(&mut self, inherited: impl Fn(u32) -> bool) -> Vec<Change> {
        let processes = match procfs::process::all_processes() {
            Ok(processes) => processes,
            Err(error) => {
                tracing::error!(%error, "cannot look at the running processes");
                return Vec::new();
            }
        };
        let mut changes = Vec::new();
        let mut listening = Listening::default();
        let members = self.cgroup_members();
        let mut alive = HashSet::new();
        for process in processes.flatten() {
            let Ok(tgid) = u32::try_from(process.pid()) else { continue };
            alive.insert(tgid);
            if let Some(known) = self.targets.get(&tgid) {
                if process.stat().is_ok_and(|stat| stat.starttime == known.start_time) {
                    if is_another_program(&process, known) {
                        changes.push(self.on_exec(tgid));
                    }
                    continue;
                }
                changes.push(self.on_exit(tgid)); // another process took the number
            }
            let Some(mut seen) = Seen::look(process, self.needs, &mut listening) else { continue };
            let cgroups = memberships(&members, tgid);
            let inherited = inherited(tgid);
            let target = self.take(&mut seen, &cgroups, |scanner, seen, facts| {
                let selection = scanner.selectors.select(facts);
                selection.map(|selection| selection.selector).or_else(|| {
                    let parent = || u32::try_from(seen.process.stat().ok()?.ppid).ok();
                    // Whose child it was is not to be known any more if that has ended too.
                    let of =
                        || parent().and_then(|one| scanner.find(one)).map_or(0, |p| p.selector);
                    (inherited && !scanner.selectors.excludes(facts)).then(of)
                })
            });
            if let Some(target) = target {
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
        self.as_parent.remove(&tgid);
        let known = self.targets.get(&tgid).map(|known| (known.selector, known.start_time));
        let Some(mut seen) = self.look_at(tgid) else { return Change::Keep };
        let inherited = known
            .filter(|(_, start_time)| seen.start_time() == Some(*start_time))
            .map(|(selector, _)| selector);
        if known.is_some() && inherited.is_none() {
            self.on_exit(tgid); // its exit was missed: this is another process
        }
        let members = self.cgroup_members();
        let cgroups = memberships(&members, tgid);
        let target = self.take(&mut seen, &cgroups, |scanner, _, facts| {
            let selectors = &scanner.selectors;
            let selected = selectors.select(facts).map(|selection| selection.selector);
            selected.or_else(|| {
                inherited.filter(|&selector| {
                    !selectors.excludes(facts) && !selectors.selector_excludes(selector, facts)
                })
            })
        });
        match target {
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
        let parent = self.find(parent).filter(|parent| parent.selector != NOWHERE).cloned();
        let Some(parent) = parent else {
            // The kernel side selected it after a parent that is not known here, or not selected any
            // more: decide by facts.
            return match self.on_exec(child) {
                Change::Keep => Change::Deselect(child),
                change => change,
            };
        };
        self.as_parent.insert(child);
        let profile = Arc::clone(&parent.profile);
        if self.has_opted_out(&profile.container) {
            return Change::Deselect(child);
        }
        let pods = &self.pods;
        let resource = profile.resource(child, Some(parent.tgid), start_time, &self.host, pods);
        self.insert(Target {
            tgid: child,
            ns_pid: ns_pid(child),
            start_time,
            exe: parent.exe.clone(),
            resource: Arc::new(resource),
            selector: parent.selector,
            profile,
            parent: Some(parent.tgid),
            stack: parent.stack,
            settled_mono_ns: parent.settled_mono_ns,
            since_mono_ns: mono_ns(),
        })
    }

    /// A selected process made its first connection, or another one. What a child became is known by its exec;
    /// should the kernel side not have been run for that, it is seen here.
    pub fn on_connection(&mut self, tgid: u32) -> Change {
        if !self.as_parent.remove(&tgid) {
            return self.look_at_title(tgid);
        }
        let process = Process::new(pid(tgid));
        let known = self.targets.get(&tgid);
        match process.is_ok_and(|one| known.is_some_and(|known| is_another_program(&one, known))) {
            true => self.on_exec(tgid),
            false => Change::Keep,
        }
    }

    /// A process ended. Its target can still be found for a while.
    pub fn on_exit(&mut self, tgid: u32) -> Change {
        self.selectors.retire_pid(tgid);
        if self.forget(tgid) { Change::Gone(tgid) } else { Change::Keep }
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
        let target = self.take(&mut seen, &cgroups, |scanner, _, facts| {
            scanner.selectors.select(facts).map(|selection| selection.selector)
        });
        match target {
            Some(target) => self.insert(target),
            None => Change::Keep,
        }
    }

    /// Selects a process by hand, as selector 0: the child of `remora exec`.
    ///
    /// `None` if there is no such process (any more).
    pub fn adopt(&mut self, tgid: u32) -> Option<Change> {
        let mut seen = self.look_at(tgid)?;
        let target = self.target_from(&mut seen, 0)?;
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
        if target.profile.may_have_title {
            self.untitled.insert(target.tgid);
        }
        Change::Select(target)
    }

    fn forget(&mut self, tgid: u32) -> bool {
        for set in [&mut self.as_parent, &mut self.untitled, &mut self.warned] {
            set.remove(&tgid);
        }
        let Some(target) = self.targets.remove(&tgid) else { return false };
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(target);
        true
    }

    fn look_at(&self, tgid: u32) -> Option<Seen> {
        Seen::look(Process::new(pid(tgid)).ok()?, self.needs, &mut Listening::default())
    }

    /// The target that a process becomes if `select` names a selector for it, and its pod has not opted out.
    fn take(
        &mut self,
        seen: &mut Seen,
        cgroups: &[&Path],
        select: impl Fn(&Self, &Seen, &Facts<'_>) -> Option<usize>,
    ) -> Option<Target> {
        let member = seen.container.as_ref().and_then(|container| container.pod.as_ref());
        let pod = member.and_then(|member| self.pods.find(member));
        let selector = select(self, seen, &seen.facts(cgroups, pod.map(|pod| &**pod)));
        if let Some(member) = member
            && pod.is_none()
            && self.pods.are_expected()
            && self.unknown_pods.len() < REMEMBERED
        {
            self.unknown_pods.insert(member.uid.clone());
        }
        self.target_from(seen, selector?)
    }

    fn cgroup_members(&self) -> Vec<(PathBuf, Vec<u32>)> {
        self.selectors
            .cgroups()
            .filter_map(|group| Some((group.into(), cgroup::members(&cgroup::folder(group)?))))
            .collect()
    }

    fn target_from(&mut self, seen: &mut Seen, selector: usize) -> Option<Target> {
        let stat = seen.process.stat().ok()?;
        let service = self.selectors.selection(selector).service;
        let container = seen.container.take().unwrap_or_else(|| read_container(&seen.process));
        if self.has_opted_out(&container) {
            return None;
        }
        let mut profile = Profile::read(&seen.process, &seen.exe, container, service, &self.host);
        let parent = u32::try_from(stat.ppid).ok().filter(|&parent| parent != 0);
        if profile.is_worker
            && let Some(parent) = parent.and_then(|parent| self.targets.get(&parent))
        {
            profile = profile.named_as(&parent.profile);
        }
        self.warn_of(seen.tgid, &profile);
        let resource = profile.resource(seen.tgid, parent, stat.starttime, &self.host, &self.pods);
        Some(Target {
            tgid: seen.tgid,
            ns_pid: innermost_pid(&seen.process).unwrap_or(seen.tgid),
            start_time: stat.starttime,
            exe: seen.exe.as_path().into(),
            resource: Arc::new(resource),
            selector,
            stack: stat.startstack,
            settled_mono_ns: self.settled_mono_ns(&profile.container),
            since_mono_ns: mono_ns(),
            profile: Arc::new(profile),
            parent,
        })
    }
}

fn memberships(members: &[(PathBuf, Vec<u32>)], tgid: u32) -> Vec<&Path> {
    members.iter().filter(|(_, pids)| pids.contains(&tgid)).map(|(group, _)| &**group).collect()
}
