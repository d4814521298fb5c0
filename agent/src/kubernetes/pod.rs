//! What is kept of a pod: who it is, whose it is, and its containers. Everything else that the API
//! server says (volumes, probes, managed fields ...) is dropped where it is read.

use std::mem::size_of;

/// Annotation of a pod that keeps it from being captured (`"false"`), whatever selects it. Taken at
/// once, also while the pod runs.
pub const CAPTURE: &str = "remora-ebpf.github.io/capture";

/// Annotations with this prefix are resource attributes.
pub const RESOURCE_PREFIX: &str = "resource.opentelemetry.io/";

type Pairs = Box<[(Box<str>, Box<str>)]>;

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub uid: Box<str>,
    /// What the kubelet calls a static pod, of which the API server has a mirror with another uid.
    pub kubelet_uid: Option<Box<str>>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub node: Box<str>,
    pub ip: Option<Box<str>>,
    /// RFC 3339.
    pub start_time: Option<Box<str>>,
    pub labels: Pairs,
    /// Those that may be asked for ([`Keep`]).
    pub annotations: Pairs,
    pub owner: Ownership,
    /// Init and ephemeral ones, too.
    pub containers: Box<[Container]>,
}

/// Who made a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ownership {
    /// The controller of the pod.
    pub direct: Option<Owner>,
    /// The controller of that one: a Deployment, a CronJob.
    pub upper: Option<Owner>,
    /// Whether `upper` is not known yet.
    pub pending: bool,
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// As the API spells it: `ReplicaSet`.
    pub kind: Box<str>,
    pub name: Box<str>,
    /// Empty where it could only be told from a name.
    pub uid: Box<str>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub name: Box<str>,
    /// As the pod's specification asks for it.
    pub image: Box<str>,
    /// `NAME@sha256:…` as the runtime resolved it.
    pub image_id: Option<Box<str>>,
    /// Without its scheme; absent until the kubelet has told of it.
    pub id: Option<Box<str>>,
    /// `container.runtime.name`, from the id's scheme.
    pub runtime: Option<Box<str>>,
    pub restart_count: u32,
    /// The id it had before it was restarted: its last exchanges may still end.
    pub last_id: Option<Box<str>>,
    /// An init or ephemeral container: not what the pod is about.
    pub auxiliary: bool,
}

/// Annotations up to this length are kept, for selectors may ask for them later; longer ones are documents.
const SHORT: usize = 128;

/// Which annotations are kept however long they are, besides [`RESOURCE_PREFIX`] and [`CAPTURE`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub annotations: Vec<Box<str>>,
}

impl Keep {
    /// Whether an annotation is kept.
    #[must_use]
    pub fn keeps(&self, key: &str, value: &str) -> bool {
        value.len() <= SHORT
            || key == CAPTURE
            || key.starts_with(RESOURCE_PREFIX)
            || self.annotations.iter().any(|kept| **kept == *key)
    }
}

impl Pod {
    /// The label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }

    /// The annotation's value, if it was kept.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        find(&self.annotations, key)
    }

    /// Whether the pod says that it is not to be captured.
    #[must_use]
    pub fn opted_out(&self) -> bool {
        self.annotation(CAPTURE).is_some_and(|value| value.trim().eq_ignore_ascii_case("false"))
    }

    /// The container with this id, now or before its last restart; else the one of this name; else the
    /// only one that is not auxiliary.
    #[must_use]
    pub fn container(&self, id: Option<&str>, name: Option<&str>) -> Option<&Container> {
        let same = |one: &Option<Box<str>>| id.is_some() && one.as_deref() == id;
        let by = |test: &dyn Fn(&&Container) -> bool| self.containers.iter().find(test);
        by(&|one| same(&one.id))
            .or_else(|| by(&|one| same(&one.last_id)))
            .or_else(|| by(&|one| name == Some(&*one.name)))
            .or_else(|| {
                let mut main = self.containers.iter().filter(|one| !one.auxiliary);
                main.next().filter(|_| name.is_none() && main.next().is_none())
            })
    }

    /// Whether nothing more is to be expected of the API server for this container.
    #[must_use]
    pub fn is_complete_for(&self, container_id: Option<&str>) -> bool {
        let known = |id: &str| {
            let has = |one: &Option<Box<str>>| one.as_deref() == Some(id);
            self.containers.iter().any(|one| has(&one.id) || has(&one.last_id))
        };
        !self.owner.pending && container_id.is_none_or(known)
    }

    /// Bytes held, without what allocators add.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |one: &Option<Box<str>>| one.as_ref().map_or(0, |text| text.len());
        let pairs = |pairs: &Pairs| {
            let texts: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            texts + size_of_val(&**pairs)
        };
        let owner = |one: &Option<Owner>| {
            one.as_ref().map_or(0, |one| one.kind.len() + one.name.len() + one.uid.len())
        };
        let container = |one: &Container| {
            one.name.len()
                + one.image.len()
                + [&one.image_id, &one.id, &one.runtime, &one.last_id]
                    .map(text)
                    .iter()
                    .sum::<usize>()
        };
        size_of::<Self>()
            + self.uid.len()
            + self.namespace.len()
            + self.name.len()
            + self.node.len()
            + [&self.kubelet_uid, &self.ip, &self.start_time].map(text).iter().sum::<usize>()
            + pairs(&self.labels)
            + pairs(&self.annotations)
            + owner(&self.owner.direct)
            + owner(&self.owner.upper)
            + size_of_val(&*self.containers)
            + self.containers.iter().map(container).sum::<usize>()
    }
}

impl Ownership {
    /// Controllers, the nearest first.
    pub fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.direct.iter().chain(&self.upper)
    }
}

fn find<'a>(pairs: &'a Pairs, key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
    }

    pub(crate) fn owner(kind: &str, name: &str) -> Owner {
        Owner { kind: kind.into(), name: name.into(), uid: format!("uid-{name}").into() }
    }

    pub(crate) fn container(name: &str, id: Option<&str>) -> Container {
        Container {
            name: name.into(),
            image: "registry.example/shop/web:1.4.2".into(),
            id: id.map(Into::into),
            runtime: id.map(|_| "containerd".into()),
            ..Container::default()
        }
    }

    /// `shop/web-5d86cd684-hh528`, of the Deployment `web`.
    pub(crate) fn pod() -> Pod {
        Pod {
            uid: "2f6d8c1e-58f3-4c39-9e4a-0f6f3c0a1b2c".into(),
            namespace: "shop".into(),
            name: "web-5d86cd684-hh528".into(),
            node: "node-1".into(),
            labels: pairs(&[("app", "web"), ("pod-template-hash", "5d86cd684")]),
            owner: Ownership {
                direct: Some(owner("ReplicaSet", "web-5d86cd684")),
                upper: Some(owner("Deployment", "web")),
                pending: false,
            },
            containers: [container("app", Some("aa")), container("proxy", Some("bb"))].into(),
            ..Pod::default()
        }
    }

    #[test]
    fn a_container_is_found_by_id_then_by_name_then_if_it_is_alone() {
        let mut pod = pod();
        let found = |pod: &Pod, id, name| pod.container(id, name).map(|one| one.name.clone());
        assert_eq!(found(&pod, Some("bb"), Some("app")).as_deref(), Some("proxy"));
        assert_eq!(found(&pod, Some("cc"), Some("app")).as_deref(), Some("app"));
        assert_eq!(found(&pod, Some("cc"), None), None);
        pod.containers[1].auxiliary = true;
        assert_eq!(found(&pod, Some("cc"), None).as_deref(), Some("app"));
        assert_eq!(found(&pod, Some("cc"), Some("debugger")), None);
        pod.containers[0].last_id = Some("old".into());
        assert_eq!(found(&pod, Some("old"), None).as_deref(), Some("app"));
    }

    #[test]
    fn is_complete_when_owner_and_container_are_known() {
        let mut pod = pod();
        assert!(pod.is_complete_for(Some("aa")) && pod.is_complete_for(None));
        assert!(!pod.is_complete_for(Some("cc")));
        pod.owner.pending = true;
        assert!(!pod.is_complete_for(Some("aa")));
    }

    #[test]
    fn a_pod_opts_out_by_its_annotation() {
        let with = |value| Pod { annotations: pairs(&[(CAPTURE, value)]), ..pod() };
        assert!(with("false").opted_out() && with(" False").opted_out());
        assert!(!with("true").opted_out() && !pod().opted_out());
    }

    #[test]
    fn keeps_long_annotations_only_if_they_mean_something() {
        let keep = Keep { annotations: vec!["team".into()] };
        let long = "x".repeat(SHORT + 1);
        for key in ["team", CAPTURE, "resource.opentelemetry.io/service.name"] {
            assert!(keep.keeps(key, &long), "{key}");
        }
        assert!(!keep.keeps("kubectl.kubernetes.io/last-applied-configuration", &long));
        assert!(keep.keeps("tier", "front"));
    }
}
