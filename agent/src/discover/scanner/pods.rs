//! What the scanner does when the API server tells of a pod: selected processes get another resource, or
//! are not selected any more; others may be.

use std::sync::Arc;

use super::{Change, Scanner, Target, memberships};
use crate::{
    clock::mono_ns,
    container::Container,
    kubernetes::{ClusterUpdate, Pod, store::key_of},
    resource::Whose,
};

impl Scanner {
    /// Takes what changed in the cluster; yields what changes for processes. [`Self::take_scan`] then says whether
    /// processes that are not selected have to be looked at again.
    pub fn on_cluster_update(&mut self, update: ClusterUpdate) -> Vec<Change> {
        match update {
            ClusterUpdate::Pod(pod) => self.pod_told(pod),
            ClusterUpdate::Gone(uid) => {
                self.pods.remove(&uid);
                Vec::new()
            }
            ClusterUpdate::Cluster(uid) => {
                self.pods.name_cluster(uid);
                let members: Vec<u32> = self.targets.keys().copied().collect();
                members.into_iter().filter_map(|tgid| self.rename(tgid)).collect()
            }
            ClusterUpdate::Listed | ClusterUpdate::Away(_) | ClusterUpdate::Back => Vec::new(),
        }
    }

    /// Whether a scan is needed because of what was told of pods; asks once.
    pub fn take_scan(&mut self) -> bool {
        std::mem::take(&mut self.scan_is_due)
    }

    /// Pods known now.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Whose the exchanges of process `tgid` are; `None` if it was never selected.
    #[must_use]
    pub fn whose(&self, tgid: u32) -> Option<Whose> {
        if let Some(target) = self.targets.get(&tgid) {
            return Some(self.settled(target));
        }
        let target = self.find(tgid)?;
        let opted_out = self.has_opted_out(&target.profile.container);
        Some(if opted_out { Whose::OptedOut } else { self.settled(target) })
    }

    fn settled(&self, target: &Target) -> Whose {
        let resource = Arc::clone(&target.resource);
        let by = target.settled_mono_ns;
        if by == 0 || mono_ns() >= by {
            Whose::Known(resource)
        } else {
            Whose::Provisional(resource)
        }
    }

    pub(super) fn has_opted_out(&self, container: &Container) -> bool {
        let member = container.pod.as_ref();
        member.and_then(|member| self.pods.find(member)).is_some_and(|pod| pod.opted_out())
    }

    /// [`Target::settled_mono_ns`] of a process that is selected now.
    pub(super) fn settled_mono_ns(&self, container: &Container) -> u64 {
        match &container.pod {
            Some(member) if self.pods.are_expected() && !self.pods.know_all_of(member) => {
                let wait = u64::try_from(self.pods.wait().as_nanos()).unwrap_or(u64::MAX);
                mono_ns().saturating_add(wait)
            }
            _ => 0,
        }
    }

    fn pod_told(&mut self, pod: Arc<Pod>) -> Vec<Change> {
        let key: Box<str> = key_of(&pod).into();
        let is_member =
            |target: &Target| target.profile.container.pod.as_ref().is_some_and(|m| m.uid == key);
        let before = self.pods.put(Arc::clone(&pod));
        let was_seen = self.unknown_pods.remove(&key);
        let members: Vec<u32> =
            self.targets.values().filter(|t| is_member(t)).map(|t| t.tgid).collect();
        let mut changes = Vec::new();
        for tgid in members {
            changes.extend(self.member_changed(tgid, &pod));
        }
        for at in 0..self.ended.len() {
            if is_member(&self.ended[at])
                && let Some(target) = self.renamed(&self.ended[at])
            {
                self.ended[at] = Arc::new(target);
            }
        }
        self.scan_is_due |= match &before {
            // Its processes are looked at when they start, unless they were faster than the update.
            None => was_seen,
            Some(before) => {
                !pod.opted_out()
                    && (before.opted_out()
                        || (self.needs.containers && differs_for_selection(before, &pod)))
            }
        };
        changes
    }

    fn member_changed(&mut self, tgid: u32, pod: &Pod) -> Option<Change> {
        let target = Arc::clone(self.targets.get(&tgid)?);
        if pod.opted_out() {
            tracing::info!(pid = tgid, pod = %pod.name, "the pod has opted out: no longer captured");
            self.forget(tgid);
            return Some(Change::Deselect(tgid));
        }
        let container = &target.profile.container;
        let still = {
            let facts = super::Facts {
                tgid,
                exe: &target.exe,
                comm: "",
                ports: &[],
                cgroups: &[],
                container: Some(container),
                pod: Some(pod),
            };
            self.selectors.still_takes(target.selector, &facts)
        };
        if !still {
            return Some(self.select_anew(tgid));
        }
        self.rename(tgid)
    }

    /// A selected process whose selector does not take it any more: another one may.
    fn select_anew(&mut self, tgid: u32) -> Change {
        self.forget(tgid);
        let members = self.cgroup_members();
        let cgroups = memberships(&members, tgid);
        let target = self.look_at(tgid).and_then(|mut seen| {
            self.take(&mut seen, &cgroups, |scanner, _, facts| {
                scanner.selectors.select(facts).map(|selection| selection.selector)
            })
        });
        target.map_or(Change::Deselect(tgid), |target| self.insert(target))
    }

    /// Gives a selected process the resource that it has now, if that is another.
    fn rename(&mut self, tgid: u32) -> Option<Change> {
        let target = Arc::new(self.renamed(self.targets.get(&tgid)?)?);
        let before = self.targets.insert(tgid, Arc::clone(&target))?;
        (before.resource != target.resource).then_some(Change::Rename(target))
    }

    /// The target as it is now, if anything of it changes.
    fn renamed(&self, target: &Target) -> Option<Target> {
        let container = &target.profile.container;
        let member = container.pod.as_ref()?;
        let settled = target.settled_mono_ns == 0 || self.pods.know_all_of(member);
        let Target { tgid, parent, start_time, .. } = *target;
        let profile = &target.profile;
        let resource = profile.resource(tgid, parent, start_time, &self.host, &self.pods);
        let same = resource == *target.resource;
        if same && settled == (target.settled_mono_ns == 0) {
            return None;
        }
        Some(Target {
            settled_mono_ns: if settled { 0 } else { target.settled_mono_ns },
            resource: if same { Arc::clone(&target.resource) } else { Arc::new(resource) },
            ..target.clone()
        })
    }
}

/// Whether selectors might decide otherwise.
fn differs_for_selection(before: &Pod, now: &Pod) -> bool {
    let names = |pod: &Pod| -> Vec<Box<str>> {
        pod.containers.iter().map(|container| container.name.clone()).collect()
    };
    before.labels != now.labels
        || before.annotations != now.annotations
        || before.owner != now.owner
        || names(before) != names(now)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::{
        container::PodMember,
        discover::{Criteria, Host, PodCriteria, Selector, Selectors},
        kubernetes::{
            Pods, Settings,
            pod::{
                CAPTURE,
                tests::{container, pairs, pod},
            },
        },
    };

    struct Waiting(Child);

    impl Waiting {
        fn new() -> Self {
            Self(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// A scanner that has selected `process`, which the control groups say is in `pod()`.
    fn scanner(process: &Waiting, criteria: Criteria) -> Scanner {
        let tgid = process.0.id();
        let selectors =
            Selectors::new(vec![Selector { criteria, ..Selector::default() }], vec![], u32::MAX);
        let pods = Pods::expected(&Settings::default());
        let mut scanner = Scanner::with_pods(selectors.unwrap(), Arc::new(Host::default()), pods);
        scanner.adopt(tgid).unwrap();
        let mut target = Target::clone(&scanner.targets[&tgid]);
        let mut profile = (*target.profile).clone();
        profile.container = Container {
            id: Some("aa".into()),
            runtime: None,
            pod: Some(PodMember {
                uid: pod().uid,
                container_id: Some("aa".into()),
                container_name: None,
            }),
        };
        target.settled_mono_ns = scanner.settled_mono_ns(&profile.container);
        target.profile = Arc::new(profile);
        scanner.targets.insert(tgid, Arc::new(target));
        scanner
    }

    fn by_pid(process: &Waiting) -> Criteria {
        Criteria { pids: vec![process.0.id()], ..Criteria::default() }
    }

    fn told(pod: Pod) -> ClusterUpdate {
        ClusterUpdate::Pod(Arc::new(pod))
    }

    #[test]
    fn a_process_waits_for_its_pod_and_is_renamed_once() {
        let process = Waiting::new();
        let tgid = process.0.id();
        let mut scanner = scanner(&process, by_pid(&process));
        assert!(matches!(scanner.whose(tgid), Some(Whose::Provisional(_))));
        // Its container was not told of yet.
        let early = Pod { containers: [container("app", None)].into(), ..pod() };
        assert!(matches!(scanner.on_cluster_update(told(early))[..], [Change::Rename(_)]));
        assert!(matches!(scanner.whose(tgid), Some(Whose::Provisional(_))));
        assert!(matches!(scanner.on_cluster_update(told(pod()))[..], [Change::Rename(_)]));
        let Some(Whose::Known(resource)) = scanner.whose(tgid) else { panic!("still waiting") };
        assert_eq!(resource.service_name(), "web");
        assert!(resource.is_shared_instance());
        assert!(scanner.on_cluster_update(told(pod())).is_empty());
    }

    #[test]
    fn a_pod_of_which_nobody_tells_is_waited_for_no_longer_than_said() {
        let process = Waiting::new();
        let tgid = process.0.id();
        let mut scanner = scanner(&process, by_pid(&process));
        let mut target = Target::clone(&scanner.targets[&tgid]);
        target.settled_mono_ns = mono_ns();
        scanner.targets.insert(tgid, Arc::new(target));
        assert!(matches!(scanner.whose(tgid), Some(Whose::Known(_))));
        // It is not too late to learn more.
        assert!(matches!(scanner.on_cluster_update(told(pod()))[..], [Change::Rename(_)]));
    }

    #[test]
    fn what_ended_before_its_pod_was_told_of_still_gets_its_name() {
        let process = Waiting::new();
        let tgid = process.0.id();
        let mut scanner = scanner(&process, by_pid(&process));
        scanner.on_exit(tgid);
        assert!(matches!(scanner.whose(tgid), Some(Whose::Provisional(_))));
        scanner.on_cluster_update(told(pod()));
        let Some(Whose::Known(resource)) = scanner.whose(tgid) else { panic!("still waiting") };
        assert_eq!(resource.service_name(), "web");
    }

    #[test]
    fn opting_out_ends_capture_at_once_and_opting_in_again_looks_anew() {
        let process = Waiting::new();
        let tgid = process.0.id();
        let mut scanner = scanner(&process, by_pid(&process));
        scanner.on_cluster_update(told(pod()));
        let out = Pod { annotations: pairs(&[(CAPTURE, "false")]), ..pod() };
        assert!(
            matches!(scanner.on_cluster_update(told(out))[..], [Change::Deselect(gone)] if gone == tgid)
        );
        assert!(matches!(scanner.whose(tgid), Some(Whose::OptedOut)));
        assert!(matches!(scanner.on_fork(tgid, tgid), Change::Deselect(_)));
        assert!(!scanner.take_scan());
        scanner.on_cluster_update(told(pod()));
        assert!(scanner.take_scan() && !scanner.take_scan());
    }

    #[test]
    fn a_label_that_is_gone_deselects() {
        let process = Waiting::new();
        let labels = vec![("app".into(), "web".parse().unwrap())];
        let asks = PodCriteria { labels, ..PodCriteria::default() };
        let mut scanner = scanner(&process, Criteria { pod: asks, ..Criteria::default() });
        assert!(matches!(scanner.on_cluster_update(told(pod()))[..], [Change::Rename(_)]));
        let other = Pod { labels: pairs(&[("app", "shop")]), ..pod() };
        assert!(matches!(scanner.on_cluster_update(told(other))[..], [Change::Deselect(_)]));
        scanner.on_cluster_update(told(pod()));
        assert!(scanner.take_scan(), "a label that comes back selects again");
    }

    #[test]
    fn only_pods_whose_processes_were_seen_before_cost_a_scan() {
        let process = Waiting::new();
        let mut scanner = scanner(&process, by_pid(&process));
        let other = Pod { uid: "other".into(), ..pod() };
        scanner.on_cluster_update(told(other.clone()));
        assert!(!scanner.take_scan());
        scanner.on_cluster_update(ClusterUpdate::Gone("other".into()));
        scanner.unknown_pods.insert("other".into());
        scanner.on_cluster_update(told(other));
        assert!(scanner.take_scan());
        assert_eq!(scanner.pods(), 1);
    }
}
