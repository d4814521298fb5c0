//! The parts of the API's objects that are read. What is not named here is skipped where the answer is
//! parsed: a pod of 12 KB of JSON becomes a kilobyte.

use std::{
    borrow::{Borrow, BorrowMut, Cow},
    collections::BTreeMap,
};

use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::pod::{Container, Keep, Owner, Ownership, Pod};

/// The hash by which the kubelet knows a static pod; on its mirror.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod as the API server sends it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlimPod {
    #[serde(default, deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    containers: Vec<SpecContainer>,
    init_containers: Vec<SpecContainer>,
    ephemeral_containers: Vec<SpecContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecContainer {
    name: String,
    image: String,
    /// `Always` on an init container makes it a sidecar, which stays.
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    start_time: Option<Box<str>>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    #[serde(rename = "imageID")]
    image_id: String,
    restart_count: u32,
    last_state: LastState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LastState {
    terminated: Terminated,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: String,
}

/// Metadata without managed fields, which are most of it.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
        deletion_timestamp: Option<Time>,
    }
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        deletion_timestamp: read.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

/// Makes `$slim`, which has a field `metadata`, what the API calls `$whole`.
macro_rules! stands_for {
    ($slim:ty, $whole:ty) => {
        impl Resource for $slim {
            type DynamicType = ();
            type Scope = <$whole as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$whole>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$whole>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$whole>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$whole>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                self.metadata.borrow()
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                self.metadata.borrow_mut()
            }
        }
    };
}
pub(super) use stands_for;

stands_for!(SlimPod, v1::Pod);

/// The controller among the owners.
#[must_use]
pub fn controller(metadata: &ObjectMeta) -> Option<Owner> {
    controller_among(metadata.owner_references.as_deref().unwrap_or_default())
}

/// See [`controller`].
#[must_use]
pub fn controller_among(owners: &[OwnerReference]) -> Option<Owner> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner {
        kind: owner.kind.as_str().into(),
        name: owner.name.as_str().into(),
        uid: owner.uid.as_str().into(),
    })
}

impl SlimPod {
    /// Its node, where it has one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        Some(&*self.spec.node_name).filter(|name| !name.is_empty())
    }

    /// What is kept of it; the owner's owner is left to the caller.
    #[must_use]
    pub fn into_pod(self, keep: &Keep) -> Pod {
        let Self { metadata, spec, status } = self;
        let direct = controller(&metadata);
        let annotations = metadata.annotations.unwrap_or_default();
        let kubelet_uid = annotations
            .contains_key(MIRROR)
            .then(|| annotations.get(CONFIG_HASH).or_else(|| annotations.get(MIRROR)))
            .flatten()
            .map(|hash| hash.as_str().into());
        let boxed = |(key, value): (String, String)| (key.into_boxed_str(), value.into_boxed_str());
        let containers = containers(spec.containers, status.container_statuses, false)
            .chain(containers(spec.init_containers, status.init_container_statuses, true))
            .chain(containers(
                spec.ephemeral_containers,
                status.ephemeral_container_statuses,
                true,
            ));
        Pod {
            uid: metadata.uid.unwrap_or_default().into(),
            kubelet_uid,
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: metadata.name.unwrap_or_default().into(),
            node: spec.node_name.into(),
            ip: status.pod_ip,
            start_time: status.start_time,
            labels: metadata.labels.unwrap_or_default().into_iter().map(boxed).collect(),
            annotations: annotations
                .into_iter()
                .filter(|(key, value)| keep.keeps(key, value))
                .map(boxed)
                .collect(),
            owner: Ownership { direct, ..Ownership::default() },
            containers: containers.collect(),
        }
    }
}

fn containers(
    spec: Vec<SpecContainer>,
    mut statuses: Vec<ContainerStatus>,
    auxiliary: bool,
) -> impl Iterator<Item = Container> {
    spec.into_iter().map(move |container| {
        let at = statuses.iter().position(|status| status.name == container.name);
        let status = at.map(|at| statuses.swap_remove(at)).unwrap_or_default();
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let (runtime, id) = split_id(&status.container_id);
        Container {
            name: container.name.into(),
            image: container.image.into(),
            image_id: (!status.image_id.is_empty()).then(|| status.image_id.into()),
            id,
            runtime,
            restart_count: status.restart_count,
            last_id: split_id(&status.last_state.terminated.container_id).1,
            auxiliary: auxiliary && !sidecar,
        }
    })
}

/// `containerd://<id>`.
fn split_id(id: &str) -> (Option<Box<str>>, Option<Box<str>>) {
    match id.split_once("://") {
        Some((runtime, id)) if !id.is_empty() => (Some(runtime.into()), Some(id.into())),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pod::CAPTURE, *};

    fn read(json: serde_json::Value) -> Pod {
        let keep = Keep { annotations: vec!["team".into()] };
        serde_json::from_value::<SlimPod>(json).unwrap().into_pod(&keep)
    }

    #[test]
    fn keeps_who_whose_and_what_runs() {
        let pod = read(serde_json::json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "labels": {"app": "web"},
                "annotations": {"team": "blue", "noise": "x".repeat(200), CAPTURE: "false"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "0"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}],
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]},
            "spec": {
                "nodeName": "node-1",
                "volumes": [{"name": "v"}],
                "containers": [{"name": "app", "image": "web:1", "env": [{"name": "A", "value": "b"}]}],
                "initContainers": [
                    {"name": "setup", "image": "setup:1"},
                    {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}]},
            "status": {
                "podIP": "10.1.2.3", "startTime": "2026-11-21T10:00:00Z",
                "containerStatuses": [{
                    "name": "app", "containerID": "cri-o://aa", "imageID": "web@sha256:1", "restartCount": 2,
                    "state": {"running": {}}, "lastState": {"terminated": {"containerID": "cri-o://old"}}}],
                "initContainerStatuses": [{"name": "setup", "containerID": "", "state": {"waiting": {}}}]},
        }));
        assert_eq!(
            (&*pod.uid, &*pod.namespace, &*pod.name, &*pod.node),
            ("u", "shop", "web-1", "node-1")
        );
        assert_eq!(pod.owner.direct.as_ref().map(|owner| &*owner.uid), Some("r"));
        assert_eq!(pod.annotations.len(), 2);
        assert!(pod.opted_out());
        assert_eq!(pod.ip.as_deref(), Some("10.1.2.3"));
        let [app, setup, mesh] = &*pod.containers else { panic!("{:?}", pod.containers) };
        assert_eq!((app.id.as_deref(), app.runtime.as_deref()), (Some("aa"), Some("cri-o")));
        assert_eq!((app.restart_count, app.last_id.as_deref()), (2, Some("old")));
        assert_eq!(app.image_id.as_deref(), Some("web@sha256:1"));
        assert_eq!([app, setup, mesh].map(|one| one.auxiliary), [false, true, false]);
        assert_eq!(setup.id, None);
    }

    #[test]
    fn a_mirror_pod_has_the_kubelets_uid_too() {
        let pod =
            read(serde_json::json!({"metadata": {"name": "etcd", "uid": "api", "annotations": {
            "kubernetes.io/config.hash": "hash", "kubernetes.io/config.mirror": "hash"}}}));
        assert_eq!((&*pod.uid, pod.kubelet_uid.as_deref()), ("api", Some("hash")));
        assert_eq!(read(serde_json::json!({})).kubelet_uid, None);
    }
}
