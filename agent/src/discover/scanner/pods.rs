//! What the scanner does when the API server tells of a pod: selected processes get another resource, or
//! are not selected any more; others may be.

use std::sync::Arc;

use super::{Change, Scanner, Target, memberships};
use crate::{
    clock::mono_ns,
    discover::Container,
    kubernetes::{News, Pod, store::key_of},
    resource::Whose,
};

impl Scanner {
    /// Takes news of the cluster; yields what changes for processes. [`Self::take_scan`] then says whether
    /// processes that are not selected have to be looked at again.
    pub fn on_pod(&mut self, news: News) -> Vec<Change> {
        match news {
            News::Pod(pod) => self.pod_told(pod),
            News::Gone(uid) => {
                self.pods.remove(&uid);
                Vec::new()
            }
            News::Cluster(uid) => {
                self.pods.name_cluster(uid);
                let members: Vec<u32> = self.targets.keys().copied().collect();
                members.into_iter().filter_map(|tgid| self.rename(tgid)).collect()
            }
            News::Listed => Vec::new(),
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
        if by == 0 || mono_ns() >= by { Whose::Known(resource) } else { Whose::Soon(resource) }
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
            // Its processes are looked at when they start, unless they were faster than the news.
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
