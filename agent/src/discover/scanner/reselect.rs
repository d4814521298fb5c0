//! What other selectors make of the processes that run.

use std::sync::Arc;

use procfs::process::Process;

use super::{Change, NOWHERE, Scanner, Seen, Target, memberships};
use crate::discover::{listening::Listening, selector::Selectors, sockets::pid};

impl Scanner {
    /// Selects by other selectors from now on. Yields what that changes for running processes: those
    /// that are taken and were not, those that are called otherwise, those that are taken no longer. What
    /// was inherited stays so where the selector it came from is still there, or takes the parent.
    pub fn reselect(&mut self, mut selectors: Selectors) -> Vec<Change> {
        selectors.follow(&self.selectors);
        self.needs = selectors.needs();
        let earlier = std::mem::replace(&mut self.selectors, selectors);
        for ended in &mut self.ended {
            let selector = self.selectors.same_as(&earlier, ended.selector).unwrap_or(NOWHERE);
            Arc::make_mut(ended).selector = selector;
        }
        let mut targets: Vec<Arc<Target>> = self.targets.values().cloned().collect();
        targets.sort_by_key(|target| (target.start_time, target.tgid)); // parents first
        let members = self.cgroup_members();
        let mut listening = Listening::default();
        let mut changes = Vec::new();
        for target in targets {
            let tgid = target.tgid;
            let process = Process::new(pid(tgid)).ok();
            let seen = process.and_then(|process| Seen::look(process, self.needs, &mut listening));
            // Where it is gone, or another's number, its exit will be told.
            let Some(mut seen) = seen.filter(|seen| seen.start_time() == Some(target.start_time))
            else {
                continue;
            };
            let cgroups = memberships(&members, tgid);
            let member = target.profile.container.pod.as_ref();
            let pod = member.and_then(|member| self.pods.find(member));
            let facts = seen.facts(&cgroups, pod.map(|pod| &**pod));
            let by_facts = self.selectors.select(&facts).map(|selection| selection.selector);
            let selector = by_facts.or_else(|| {
                let stat = seen.process.stat().ok()?;
                let parent = u32::try_from(stat.ppid).ok()?;
                let of_parent = || self.targets.get(&parent).map(|parent| parent.selector);
                let inherited =
                    self.selectors.same_as(&earlier, target.selector).or_else(of_parent)?;
                let excluded = self.selectors.excludes(&facts)
                    || self.selectors.selector_excludes(inherited, &facts);
                (!excluded).then_some(inherited)
            });
            let Some(selector) = selector else {
                let deselected = Target { selector: NOWHERE, ..(*target).clone() };
                self.targets.insert(tgid, Arc::new(deselected));
                self.forget(tgid);
                changes.push(Change::Deselect(tgid));
                continue;
            };
            let earlier_service = earlier.selection(target.selector).service;
            if earlier_service == self.selectors.selection(selector).service {
                let target = Target { selector, ..(*target).clone() };
                self.targets.insert(tgid, Arc::new(target));
            } else if let Some(target) = self.target_from(&mut seen, selector) {
                changes.push(self.insert(target));
            }
        }
        changes.extend(self.scan(|_| false));
        changes
    }
}
