//! Which processes are selected: a pure function from what may be known of a process to the selector
//! that takes it. Reading those facts is the scanner's business.

use std::path::{Path, PathBuf};

use super::{Pattern, PodCriteria, PodFacts, Ports};
use crate::{container::Container, kubernetes::Pod};

/// What stands for a process that was named and is gone; no process has this id.
pub(super) const RETIRED: u32 = 0;

/// What a selector or an exclusion asks for. Kinds are combined by *and*, the values of one kind by
/// *or*; a kind without values asks for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Criteria {
    /// Process ids as `/proc` of the agent shows them.
    pub pids: Vec<u32>,
    /// Executable path or file name.
    pub exe: Vec<Pattern>,
    /// Command name (`/proc/PID/comm`).
    pub comm: Vec<Pattern>,
    /// TCP ports the process listens on.
    pub ports: Ports,
    /// Control groups, with those below them.
    pub cgroups: Vec<PathBuf>,
    /// Ids of containers, or how they begin.
    pub container_ids: Vec<Box<str>>,
    pub pod: PodCriteria,
    /// Every process.
    pub all: bool,
}

impl Criteria {
    /// Whether nothing is asked for; such criteria match no process.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a process with these facts is meant.
    #[must_use]
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let exe = || self.exe.iter().any(|pattern| pattern.matches_exe(facts.exe));
        let comm = || self.comm.iter().any(|pattern| pattern.matches_comm(facts.comm));
        let port = || facts.ports.iter().any(|&port| self.ports.contains(port));
        let cgroup = || self.cgroups.iter().any(|cgroup| facts.cgroups.contains(&&**cgroup));
        let container = || {
            let id = facts.container.and_then(|container| container.id.as_deref());
            id.is_some_and(|id| self.container_ids.iter().any(|asked| id.starts_with(&**asked)))
        };
        !self.is_empty()
            && (self.pids.is_empty() || self.pids.contains(&facts.tgid))
            && (self.exe.is_empty() || exe())
            && (self.comm.is_empty() || comm())
            && (self.ports.is_empty() || port())
            && (self.cgroups.is_empty() || cgroup())
            && (self.container_ids.is_empty() || container())
            && self.pod.matches(facts.pod())
    }

    fn asks_for_containers(&self) -> bool {
        !self.container_ids.is_empty() || !self.pod.is_empty()
    }
}

/// Takes processes, and names the service they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// `service.name` of what it takes; without one the process decides.
    pub name: Option<Box<str>>,
    /// `service.namespace` and `service.version` of what it takes.
    pub namespace: Option<Box<str>>,
    pub version: Option<Box<str>>,
    pub criteria: Criteria,
    /// What it leaves although `criteria` match.
    pub exclude: Vec<Criteria>,
}

impl Selector {
    fn service(&self) -> Service<'_> {
        Service {
            name: self.name.as_deref(),
            namespace: self.namespace.as_deref(),
            version: self.version.as_deref(),
        }
    }
}

/// Everything selection may know of a process that is not selected (yet).
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub tgid: u32,
    pub exe: &'a Path,
    /// Empty unless [`Needs::comm`].
    pub comm: &'a str,
    /// Ports it listens on; empty unless [`Needs::ports`].
    pub ports: &'a [u16],
    /// Those of [`Selectors::cgroups`] that have it as a member.
    pub cgroups: &'a [&'a Path],
    /// `None` unless [`Needs::containers`].
    pub container: Option<&'a Container>,
    /// What the API server said of its pod.
    pub pod: Option<&'a Pod>,
}

impl<'a> Facts<'a> {
    fn pod(&self) -> Option<PodFacts<'a>> {
        let member = self.container?.pod.as_ref()?;
        Some(PodFacts { member, pod: self.pod })
    }
}

/// What selection has to know beyond pid and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub comm: bool,
    pub ports: bool,
    pub containers: bool,
}

/// The selector that took a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    pub service: Service<'a>,
    /// Position in the list of selectors.
    pub selector: usize,
}

/// What a selector says of the service that its processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Service<'a> {
    pub name: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub version: Option<&'a str>,
}

/// All selectors in order; the first that matches takes the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selectors {
    selectors: Vec<Selector>,
    exclude: Vec<Criteria>,
    own_pid: u32,
    /// Named process ids that are not meant any more.
    retired: Vec<u32>,
}

/// No selector was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no process is selected: name some with --exe GLOB, --port PORTS, --cmd GLOB, --pid PID or \
     --cgroup PATH, list `selectors:` in the configuration file, or take every process with --all"
)]
pub struct NothingSelected;

impl Selectors {
    /// Selectors for `remora run`.
    ///
    /// # Errors
    /// [`NothingSelected`] if no selector asks for anything.
    pub fn new(
        selectors: Vec<Selector>,
        exclude: Vec<Criteria>,
        own_pid: u32,
    ) -> Result<Self, NothingSelected> {
        if selectors.iter().all(|selector| selector.criteria.is_empty()) {
            return Err(NothingSelected);
        }
        Ok(Self { selectors, exclude, own_pid, retired: Vec::new() })
    }

    /// Selectors for `remora exec`: selector 0, called `name`, matches nothing by itself; its
    /// processes are handed to the scanner and inherit from there.
    #[must_use]
    pub fn for_exec(name: Option<Box<str>>, exclude: Vec<Criteria>, own_pid: u32) -> Self {
        let selector = Selector { name, ..Selector::default() };
        Self { selectors: vec![selector], exclude, own_pid, retired: Vec::new() }
    }

    /// The first selector that takes the process, if any. Never takes the agent itself.
    #[must_use]
    pub fn select(&self, facts: &Facts<'_>) -> Option<Selection<'_>> {
        if self.excludes(facts) {
            return None;
        }
        let takes = |selector: &Selector| {
            selector.criteria.matches(facts)
                && !selector.exclude.iter().any(|criteria| criteria.matches(facts))
        };
        self.selectors.iter().position(takes).map(|selector| self.selection(selector))
    }

    /// Whether the process must not be selected, not even by inheritance.
    #[must_use]
    pub fn excludes(&self, facts: &Facts<'_>) -> bool {
        facts.tgid == self.own_pid || self.exclude.iter().any(|criteria| criteria.matches(facts))
    }

    /// Whether `selector` itself excludes the process (an inherited one, after an exec).
    #[must_use]
    pub fn selector_excludes(&self, selector: usize, facts: &Facts<'_>) -> bool {
        self.selectors
            .get(selector)
            .is_some_and(|s| s.exclude.iter().any(|criteria| criteria.matches(facts)))
    }

    /// Whether the container and the pod of a process are still what `selector` asks for: they are what can
    /// change while a process runs.
    #[must_use]
    pub fn still_takes(&self, selector: usize, facts: &Facts<'_>) -> bool {
        self.selectors.get(selector).is_none_or(|s| s.criteria.pod.matches(facts.pod()))
    }

    /// The annotations that are asked for.
    pub fn annotations(&self) -> impl Iterator<Item = &str> {
        self.criteria().flat_map(|criteria| criteria.pod.annotations.iter().map(|(key, _)| &**key))
    }

    /// The selection of what `selector` takes.
    #[must_use]
    pub fn selection(&self, selector: usize) -> Selection<'_> {
        let service = self.selectors.get(selector).map(Selector::service).unwrap_or_default();
        Selection { service, selector }
    }

    /// What [`Self::select`] has to be told.
    #[must_use]
    pub fn needs(&self) -> Needs {
        Needs {
            comm: self.criteria().any(|criteria| !criteria.comm.is_empty()),
            ports: self.criteria().any(|criteria| !criteria.ports.is_empty()),
            containers: self.criteria().any(Criteria::asks_for_containers),
        }
    }

    /// Every control group that is named.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.criteria().flat_map(|criteria| criteria.cgroups.iter().map(|path| &**path))
    }

    /// Every process id that a selector names.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.selectors.iter().flat_map(|selector| selector.criteria.pids.iter().copied())
    }

    /// Forgets a process id whose process is gone: the next one of that number is another. A
    /// selector whose last pid went keeps asking for one that cannot exist.
    pub fn retire_pid(&mut self, pid: u32) {
        if self.pids().any(|named| named == pid) {
            self.retired.push(pid);
        }
        for selector in &mut self.selectors {
            for named in selector.criteria.pids.iter_mut().filter(|named| **named == pid) {
                *named = RETIRED;
            }
        }
    }

    /// Becomes what follows `earlier` ones: what they have retired stays so.
    pub(super) fn follow(&mut self, earlier: &Self) {
        earlier.retired.iter().for_each(|pid| self.retire_pid(*pid));
    }

    /// Where the selector stands that takes what `selector` of `earlier` ones took.
    pub(super) fn same_as(&self, earlier: &Self, selector: usize) -> Option<usize> {
        let earlier = earlier.selectors.get(selector)?;
        let same = |s: &Selector| s.criteria == earlier.criteria && s.exclude == earlier.exclude;
        self.selectors.iter().position(same)
    }

    fn criteria(&self) -> impl Iterator<Item = &Criteria> {
        let of_selectors =
            self.selectors.iter().flat_map(|s| std::iter::once(&s.criteria).chain(&s.exclude));
        of_selectors.chain(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::PodMember, kubernetes::pod::tests::pod};

    const OWN: u32 = 7;

    fn exe(pattern: &str) -> Criteria {
        Criteria { exe: vec![pattern.parse().unwrap()], ..Criteria::default() }
    }

    fn select(selectors: Vec<Selector>, exclude: Vec<Criteria>, facts: Facts<'_>) -> Option<usize> {
        let selectors = Selectors::new(selectors, exclude, OWN).unwrap();
        selectors.select(&facts).map(|selection| selection.selector)
    }

    fn one(criteria: Criteria) -> Vec<Selector> {
        vec![Selector { criteria, ..Selector::default() }]
    }

    fn nginx() -> Facts<'static> {
        Facts {
            tgid: 42,
            exe: Path::new("/usr/sbin/nginx"),
            comm: "nginx",
            ports: &[80, 443],
            cgroups: &[],
            container: None,
            pod: None,
        }
    }

    #[test]
    fn selects_by_pid() {
        let pid = |pid| one(Criteria { pids: vec![pid], ..Criteria::default() });
        assert_eq!(select(pid(42), vec![], nginx()), Some(0));
        assert_eq!(select(pid(43), vec![], nginx()), None);
    }

    #[test]
    fn selects_by_executable() {
        assert_eq!(select(one(exe("nginx")), vec![], nginx()), Some(0));
        assert_eq!(select(one(exe("/opt/*")), vec![], nginx()), None);
    }

    #[test]
    fn selects_by_command_name() {
        let comm =
            |p: &str| one(Criteria { comm: vec![p.parse().unwrap()], ..Criteria::default() });
        assert_eq!(select(comm("ngin?"), vec![], nginx()), Some(0));
        assert_eq!(select(comm("apache2"), vec![], nginx()), None);
    }

    #[test]
    fn selects_by_listening_port() {
        let ports = |p: &str| one(Criteria { ports: p.parse().unwrap(), ..Criteria::default() });
        assert_eq!(select(ports("400-500"), vec![], nginx()), Some(0));
        assert_eq!(select(ports("8080"), vec![], nginx()), None);
        assert_eq!(select(ports("443"), vec![], Facts { ports: &[], ..nginx() }), None);
    }

    #[test]
    fn selects_by_control_group() {
        let group = Path::new("/system.slice/nginx.service");
        let selectors = one(Criteria { cgroups: vec![group.into()], ..Criteria::default() });
        let member = Facts { cgroups: &[group], ..nginx() };
        assert_eq!(select(selectors.clone(), vec![], member), Some(0));
        assert_eq!(select(selectors, vec![], nginx()), None);
    }

    #[test]
    fn selects_by_container_id() {
        let of = |id: &str| one(Criteria { container_ids: vec![id.into()], ..Criteria::default() });
        let container = Container { id: Some("0123456789ab".into()), ..Container::default() };
        let contained = Facts { container: Some(&container), ..nginx() };
        assert_eq!(select(of("012345"), vec![], contained), Some(0));
        assert_eq!(select(of("12345"), vec![], contained), None);
        assert_eq!(select(of("012345"), vec![], nginx()), None);
    }

    #[test]
    fn selects_by_pod() {
        let shop =
            PodCriteria { namespaces: vec!["shop".parse().unwrap()], ..PodCriteria::default() };
        let list = one(Criteria { pod: shop, ..exe("nginx") });
        let member = PodMember { uid: pod().uid, ..PodMember::default() };
        let container = Container { pod: Some(member), ..Container::default() };
        let pod = pod();
        let facts = Facts { container: Some(&container), pod: Some(&pod), ..nginx() };
        assert_eq!(select(list.clone(), vec![], facts), Some(0));
        assert_eq!(select(list.clone(), vec![], Facts { pod: None, ..facts }), None);
        let selectors = Selectors::new(list, vec![], OWN).unwrap();
        assert!(selectors.needs().containers && selectors.still_takes(0, &facts));
        let moved = Pod { namespace: "other".into(), ..pod.clone() };
        assert!(!selectors.still_takes(0, &Facts { pod: Some(&moved), ..facts }));
    }

    #[test]
    fn kinds_within_one_selector_must_all_match() {
        let both = Criteria { ports: "8080".parse().unwrap(), ..exe("nginx") };
        assert_eq!(select(one(both), vec![], nginx()), None);
    }

    #[test]
    fn the_first_selector_that_matches_names_the_service() {
        let named = |name: &str, pattern| Selector {
            name: Some(name.into()),
            criteria: exe(pattern),
            ..Selector::default()
        };
        let list = vec![named("none", "apache"), named("edge", "nginx"), named("late", "ngin*")];
        let selectors = Selectors::new(list, vec![], OWN).unwrap();
        let expected = Selection {
            service: Service { name: Some("edge"), ..Service::default() },
            selector: 1,
        };
        assert_eq!(selectors.select(&nginx()), Some(expected));
    }

    #[test]
    fn an_exclusion_beats_every_selector() {
        let all = one(Criteria { all: true, ..Criteria::default() });
        assert_eq!(select(all.clone(), vec![], nginx()), Some(0));
        assert_eq!(select(all, vec![exe("nginx")], nginx()), None);
    }

    #[test]
    fn a_selectors_own_exclusion_leaves_the_process_to_later_selectors() {
        let picky =
            Selector { criteria: exe("ngin*"), exclude: vec![exe("nginx")], ..Selector::default() };
        let list = vec![picky, Selector { criteria: exe("nginx"), ..Selector::default() }];
        assert_eq!(select(list, vec![], nginx()), Some(1));
    }

    #[test]
    fn never_selects_the_agent() {
        let all = one(Criteria { all: true, ..Criteria::default() });
        assert_eq!(select(all, vec![], Facts { tgid: OWN, ..nginx() }), None);
    }

    #[test]
    fn a_retired_pid_does_not_select_its_next_holder() {
        let list = one(Criteria { pids: vec![42], ..Criteria::default() });
        let mut selectors = Selectors::new(list, vec![], OWN).unwrap();
        assert!(selectors.select(&nginx()).is_some());
        selectors.retire_pid(42);
        assert!(selectors.select(&nginx()).is_none());
    }

    #[test]
    fn nothing_selected_is_an_error_that_says_what_to_do() {
        assert_eq!(Selectors::new(vec![], vec![], OWN), Err(NothingSelected));
        assert_eq!(Selectors::new(vec![Selector::default()], vec![], OWN), Err(NothingSelected));
        assert!(NothingSelected.to_string().contains("--exe"));
    }

    #[test]
    fn asks_only_for_facts_that_some_selector_needs() {
        let selectors = Selectors::new(one(exe("a")), vec![], OWN).unwrap();
        assert_eq!(selectors.needs(), Needs { comm: false, ports: false, containers: false });
        let port = Criteria { ports: Ports::from(80), ..Criteria::default() };
        let selectors = Selectors::new(one(exe("a")), vec![port], OWN).unwrap();
        assert_eq!(selectors.needs(), Needs { comm: false, ports: true, containers: false });
    }
}
