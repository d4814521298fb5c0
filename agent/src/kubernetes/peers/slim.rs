//! The parts of Services and pods that are read to name them by their addresses.

use std::{
    borrow::{Borrow, BorrowMut, Cow},
    fmt,
};

use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{Addresses, Kind, Seen};
use crate::{
    kubernetes::{
        attributes::service_name,
        owners::told_by_name,
        slim::{controller_among, stands_for},
    },
    span::Peer,
};

const NAME: &str = "resource.opentelemetry.io/service.name";
const NAMESPACE: &str = "resource.opentelemetry.io/service.namespace";
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Labels and annotations that are looked at.
const PICKED: [&str; 5] =
    [NAME, NAMESPACE, TEMPLATE_HASH, "app.kubernetes.io/instance", "app.kubernetes.io/name"];

/// An object of the API that has addresses.
pub trait Slim: Resource<DynamicType = ()> {
    const KIND: Kind;

    /// What is kept of it.
    fn seen(self, well_known_labels: bool) -> Seen;

    fn uid(&self) -> &str;
}

/// A Service as the API server sends it.
#[derive(Clone, Debug, Deserialize)]
pub struct SlimService {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    /// `None` of a headless one, empty of one that is an external name.
    #[serde(rename = "clusterIP")]
    cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<Box<str>>,
}

/// A pod as the API server sends it.
#[derive(Clone, Debug, Deserialize)]
pub struct SlimPeer {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Box<str>,
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: Box<str>,
}

#[derive(Clone, Debug, Default)]
struct Metadata {
    /// What is needed to follow it, no more.
    object: ObjectMeta,
    name: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
    labels: Picked,
    annotations: Picked,
    owners: Vec<OwnerReference>,
    leaving: bool,
}

impl Borrow<ObjectMeta> for Metadata {
    fn borrow(&self) -> &ObjectMeta {
        &self.object
    }
}

impl BorrowMut<ObjectMeta> for Metadata {
    fn borrow_mut(&mut self) -> &mut ObjectMeta {
        &mut self.object
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Read {
            name: Box<str>,
            namespace: Box<str>,
            uid: Box<str>,
            resource_version: Option<String>,
            labels: Option<Picked>,
            annotations: Option<Picked>,
            owner_references: Vec<OwnerReference>,
            deletion_timestamp: Option<IgnoredAny>,
        }
        let read = Read::deserialize(deserializer)?;
        Ok(Self {
            object: ObjectMeta { resource_version: read.resource_version, ..ObjectMeta::default() },
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            labels: read.labels.unwrap_or_default(),
            annotations: read.annotations.unwrap_or_default(),
            owners: read.owner_references,
            leaving: read.deletion_timestamp.is_some(),
        })
    }
}

/// Those of a mapping's pairs that are looked at.
#[derive(Clone, Debug, Default)]
struct Picked(Vec<(&'static str, Box<str>)>);

impl Picked {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }
}

impl<'de> Deserialize<'de> for Picked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pick;

        impl<'de> Visitor<'de> for Pick {
            type Value = Picked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked, A::Error> {
                let mut picked = Vec::new();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    match PICKED.into_iter().find(|one| *one == key) {
                        Some(key) => picked.push((key, map.next_value()?)),
                        None => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(Picked(picked))
            }
        }

        deserializer.deserialize_map(Pick)
    }
}

stands_for!(SlimService, v1::Service);
stands_for!(SlimPeer, v1::Pod);

impl Metadata {
    /// By the rules for `service.name`: annotation, labels, owners, its own name.
    fn peer(&self, well_known_labels: bool, kind: Kind) -> Peer {
        let hash = self.labels.get(TEMPLATE_HASH);
        let direct = controller_among(&self.owners);
        // Nobody asks for the owners of every pod: their names say whose they are.
        let upper = direct.as_ref().and_then(|direct| told_by_name(direct, hash));
        let owners = || direct.iter().chain(&upper);
        let label = |key: &str| well_known_labels.then(|| self.labels.get(key)).flatten();
        let owner = |kind: &str| owners().find(|one| *one.kind == *kind).map(|one| &*one.name);
        let told = self.annotations.get(NAME).or_else(|| service_name(label, owner));
        Peer {
            name: told.unwrap_or(&self.name).into(),
            namespace: self.annotations.get(NAMESPACE).unwrap_or(&self.namespace).into(),
            is_pod: told.is_none() && kind == Kind::Pod,
        }
    }
}

impl Slim for SlimService {
    const KIND: Kind = Kind::Service;

    fn seen(self, well_known_labels: bool) -> Seen {
        let Self { metadata, spec } = self;
        let addresses = spec.cluster_ips.iter().chain([&spec.cluster_ip]).map(|text| &**text);
        Seen {
            peer: metadata.peer(well_known_labels, Self::KIND),
            addresses: Addresses::of(addresses),
            leaving: metadata.leaving,
            uid: metadata.uid,
        }
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

impl Slim for SlimPeer {
    const KIND: Kind = Kind::Pod;

    fn seen(self, well_known_labels: bool) -> Seen {
        let Self { metadata, spec, status } = self;
        // The address of a node is not that of a pod; one whose containers have ended has given its own back, though
        // the API server still tells of it.
        let has_none = spec.host_network || matches!(&*status.phase, "Succeeded" | "Failed");
        let addresses = status.pod_ips.iter().map(|one| &one.ip).chain([&status.pod_ip]);
        let addresses = Addresses::of(addresses.filter(|_| !has_none).map(|text| &**text));
        Seen {
            peer: metadata.peer(well_known_labels, Self::KIND),
            addresses,
            leaving: metadata.leaving,
            uid: metadata.uid,
        }
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(json: Value) -> Seen {
        serde_json::from_value::<SlimService>(json).unwrap().seen(true)
    }

    fn pod(json: &Value) -> Seen {
        serde_json::from_value::<SlimPeer>(json.clone()).unwrap().seen(false)
    }

    fn addresses(texts: &[&str]) -> Addresses {
        Addresses::of(texts.iter().copied())
    }

    /// As a Deployment makes it.
    fn web() -> Value {
        json!({
            "metadata": {
                "name": "web-5d86cd684-hh528", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "labels": {"app": "web", "pod-template-hash": "5d86cd684", "app.kubernetes.io/instance": "web-eu"},
                "annotations": {"noise": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d86cd684",
                    "uid": "r", "controller": true}],
                "managedFields": [{"manager": "kubelet"}]},
            "spec": {"containers": [{"name": "app"}], "nodeName": "node-1"},
            "status": {"phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}})
    }

    #[test]
    fn a_service_has_its_cluster_addresses() {
        let named = |spec: Value| {
            service(
                json!({"metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": spec}),
            )
        };
        let seen = named(
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "type": "NodePort"}),
        );
        assert_eq!(
            (&*seen.peer.name, &*seen.peer.namespace, seen.peer.is_pod),
            ("web", "shop", false)
        );
        assert_eq!(seen.addresses, addresses(&["10.96.0.7", "fd00::7"]));
        assert_eq!(named(json!({"clusterIP": "10.96.0.7"})).addresses, addresses(&["10.96.0.7"]));
        for none in [
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({"type": "ExternalName", "externalName": "db.example.com"}),
            json!({}),
        ] {
            assert_eq!(named(none.clone()).addresses, Addresses::NONE, "{none}");
        }
    }

    #[test]
    fn a_service_is_named_by_the_same_rules_as_pods() {
        let named = |metadata: Value| service(json!({"metadata": metadata})).peer;
        let both = named(json!({"name": "s", "namespace": "n",
            "labels": {"app.kubernetes.io/name": "label"},
            "annotations": {"resource.opentelemetry.io/service.name": "said",
                "resource.opentelemetry.io/service.namespace": "retail"}}));
        assert_eq!((&*both.name, &*both.namespace), ("said", "retail"));
        let label = named(json!({"name": "s", "labels": {"app.kubernetes.io/name": "label"}}));
        assert_eq!(&*label.name, "label");
    }

    #[test]
    fn a_pod_is_called_like_its_workload() {
        let seen = pod(&web());
        assert_eq!(
            (&*seen.peer.name, &*seen.peer.namespace, seen.peer.is_pod),
            ("web", "shop", false)
        );
        assert_eq!((seen.addresses, seen.leaving), (addresses(&["10.0.0.1", "fd00::1"]), false));
        assert_eq!(
            Resource::meta(&serde_json::from_value::<SlimPeer>(web()).unwrap())
                .resource_version
                .as_deref(),
            Some("7")
        );
        let labelled = serde_json::from_value::<SlimPeer>(web()).unwrap().seen(true);
        assert_eq!(&*labelled.peer.name, "web-eu");
        let owned = |kind: &str, name: &str| {
            let mut pod = web();
            pod["metadata"]["ownerReferences"][0]["kind"] = kind.into();
            pod["metadata"]["ownerReferences"][0]["name"] = name.into();
            pod
        };
        for (kind, name, expected, is_pod) in [
            ("StatefulSet", "db", "db", false),
            ("DaemonSet", "log", "log", false),
            ("Job", "mail-29384756", "mail", false),
            ("Job", "once", "once", false),
            ("Workflow", "flow", "web-5d86cd684-hh528", true),
        ] {
            let peer = pod(&owned(kind, name)).peer;
            assert_eq!((&*peer.name, peer.is_pod), (expected, is_pod), "{kind}/{name}");
        }
    }

    #[test]
    fn neither_a_node_nor_a_pod_that_has_ended_lends_its_address() {
        let mut host = web();
        host["spec"]["hostNetwork"] = true.into();
        assert_eq!(pod(&host).addresses, Addresses::NONE);
        for phase in ["Succeeded", "Failed"] {
            let mut ended = web();
            ended["status"]["phase"] = phase.into();
            assert_eq!(pod(&ended).addresses, Addresses::NONE, "{phase}");
        }
        let mut leaving = web();
        leaving["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z".into();
        assert!(pod(&leaving).leaving);
        let mut pending = web();
        pending["status"] = json!({"phase": "Pending"});
        assert_eq!(pod(&pending).addresses, Addresses::NONE);
    }
}
