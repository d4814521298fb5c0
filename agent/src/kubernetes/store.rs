//! The pods of this node, as the worker knows them.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{Naming, Pod, Settings, attributes::attributes};
use crate::{
    attribute::Value,
    container::{Container, PodMember},
};

/// Pods by the uid that control groups have.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    by_uid: HashMap<Box<str>, Arc<Pod>>,
    cluster_uid: Option<Box<str>>,
    naming: Naming,
    /// Zero where nobody tells of pods: then nothing waits for them.
    wait: Duration,
}

impl Pods {
    /// Of which somebody will tell.
    #[must_use]
    pub fn expected(settings: &Settings) -> Self {
        Self {
            naming: settings.naming.clone(),
            wait: settings.wait.max(Duration::from_millis(1)),
            ..Self::default()
        }
    }

    /// Whether somebody tells of pods.
    #[must_use]
    pub fn are_expected(&self) -> bool {
        !self.wait.is_zero()
    }

    /// How long spans of a process may wait for its pod.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// Pods known now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// Notes a pod; returns what was known of it before.
    pub fn put(&mut self, pod: Arc<Pod>) -> Option<Arc<Pod>> {
        self.by_uid.insert(key_of(&pod).into(), pod)
    }

    /// Forgets the pod with this uid at the API server.
    pub fn remove(&mut self, uid: &str) {
        if self.by_uid.remove(uid).is_none() {
            self.by_uid.retain(|_, pod| *pod.uid != *uid);
        }
    }

    pub fn name_cluster(&mut self, uid: Box<str>) {
        self.cluster_uid = Some(uid);
    }

    /// The pod that a process is a member of, if it is known.
    #[must_use]
    pub fn find(&self, member: &PodMember) -> Option<&Arc<Pod>> {
        self.by_uid.get(&member.uid)
    }

    /// The attributes of a process in this container; none if its pod is not known.
    #[must_use]
    pub fn attributes(&self, container: &Container) -> Vec<(Box<str>, Value)> {
        let Some(member) = &container.pod else { return Vec::new() };
        let Some(pod) = self.find(member) else { return Vec::new() };
        let of_pod =
            pod.container(member.container_id.as_deref(), member.container_name.as_deref());
        attributes(pod, of_pod, self.cluster_uid.as_deref(), &self.naming)
    }

    /// Whether nothing more is to be expected for this process.
    #[must_use]
    pub fn know_all_of(&self, member: &PodMember) -> bool {
        self.find(member).is_some_and(|pod| pod.is_complete_for(member.container_id.as_deref()))
    }
}

/// What control groups call the pod.
pub(crate) fn key_of(pod: &Pod) -> &str {
    pod.kubelet_uid.as_deref().unwrap_or(&pod.uid)
}

#[cfg(test)]
mod tests {
    use super::{super::pod::tests::pod, *};

    fn member(uid: &str) -> PodMember {
        PodMember { uid: uid.into(), ..PodMember::default() }
    }

    #[test]
    fn a_static_pod_is_found_by_its_manifests_hash() {
        let mut pods = Pods::default();
        let hash = "7d5c94f9ef2d10cd7a2f45b1e8a4c8a3";
        let mirror = Pod { kubelet_uid: Some(hash.into()), ..pod() };
        let uid = mirror.uid.clone();
        pods.put(Arc::new(mirror));
        assert!(pods.find(&member(hash)).is_some_and(|pod| pod.uid == uid));
        assert!(pods.find(&member(&uid)).is_none());
        pods.remove(&uid);
        assert!(pods.is_empty());
    }

    #[test]
    fn says_what_it_knew_before() {
        let mut pods = Pods::expected(&Settings::default());
        assert!(pods.are_expected() && !Pods::default().are_expected());
        assert_eq!(pods.put(Arc::new(pod())), None);
        let before = pods.put(Arc::new(Pod { ip: Some("10.0.0.1".into()), ..pod() }));
        assert_eq!(before.as_deref(), Some(&pod()));
        assert!(pods.know_all_of(&member(&pod().uid)));
        assert!(!pods.know_all_of(&member("other")));
    }
}
