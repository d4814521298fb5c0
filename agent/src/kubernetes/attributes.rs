//! Which resource attributes a pod's container has: `k8s.*`, `container.*` and `service.*` by the
//! OpenTelemetry rules for Kubernetes (semantic conventions, "Specify resource attributes using
//! Kubernetes annotations"). A pure function; the first of several values for a key counts.

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    image::Image,
    pod::{Container, Owner, Pod, RESOURCE_PREFIX},
};
use crate::attribute::Value;

/// Choices that the rules leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Whether `app.kubernetes.io/*` labels name services. The rules want this to be opted in to.
    pub well_known_labels: bool,
    /// `k8s.cluster.name`.
    pub cluster_name: Option<Box<str>>,
    /// Labels that become `k8s.pod.label.<key>`.
    pub pod_labels: Vec<Box<str>>,
    /// Annotations that become `k8s.pod.annotation.<key>`.
    pub pod_annotations: Vec<Box<str>>,
}

type Attributes = Vec<(Box<str>, Value)>;

/// The attributes of a process in `container` of `pod`. Keys may occur twice.
#[must_use]
pub fn attributes(
    pod: &Pod,
    container: Option<&Container>,
    cluster_uid: Option<&str>,
    naming: &Naming,
) -> Attributes {
    let mut all = Vec::with_capacity(32);
    annotations(pod, &mut all);
    service(pod, container, naming, &mut all);
    let mut add = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            all.push((key.into(), value.into()));
        }
    };
    add(key::K8S_CLUSTER_NAME, naming.cluster_name.as_deref());
    add(key::K8S_CLUSTER_UID, cluster_uid);
    add(key::K8S_NODE_NAME, Some(&pod.node));
    add(key::K8S_NAMESPACE_NAME, Some(&pod.namespace));
    add(key::K8S_POD_NAME, Some(&pod.name));
    add(key::K8S_POD_UID, Some(&pod.uid));
    add(key::K8S_POD_IP, pod.ip.as_deref());
    add(key::K8S_POD_START_TIME, pod.start_time.as_deref());
    for owner in pod.owner.iter() {
        if let Some((name, uid)) = keys_of(owner) {
            add(name, Some(&owner.name));
            add(uid, Some(&owner.uid));
        }
    }
    for label in &naming.pod_labels {
        add(&format!("{}.{label}", key::K8S_POD_LABEL), pod.label(label));
    }
    for annotation in &naming.pod_annotations {
        add(&format!("{}.{annotation}", key::K8S_POD_ANNOTATION), pod.annotation(annotation));
    }
    if let Some(container) = container {
        of_container(container, &mut all);
    }
    all
}

/// `resource.opentelemetry.io/KEY: VALUE` is the attribute KEY.
fn annotations(pod: &Pod, all: &mut Attributes) {
    for (annotation, value) in &pod.annotations {
        match annotation.strip_prefix(RESOURCE_PREFIX) {
            Some(name) if !name.is_empty() && !value.is_empty() => {
                all.push((name.into(), (&**value).into()));
            }
            _ => {}
        }
    }
}

fn service(pod: &Pod, container: Option<&Container>, naming: &Naming, all: &mut Attributes) {
    let label = |name: &str| naming.well_known_labels.then(|| pod.label(name)).flatten();
    let owner =
        |kind: &str| pod.owner.iter().find(|owner| *owner.kind == *kind).map(|owner| &*owner.name);
    let name = service_name(label, owner).unwrap_or(&pod.name).to_owned();
    let label = |name: &str| label(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let version =
        label("app.kubernetes.io/version").or_else(|| Image::parse(&container?.image).version());
    let instance =
        container.map(|container| format!("{}.{}.{}", pod.namespace, pod.name, container.name));
    let found = [
        (key::SERVICE_NAME, Some(name)),
        (key::SERVICE_NAMESPACE, Some(pod.namespace.to_string())),
        (key::SERVICE_VERSION, version),
        (key::SERVICE_INSTANCE_ID, instance),
    ];
    all.extend(found.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into()))));
}

/// `service.name` by labels, where they count, then by owners; otherwise it is the pod's name.
pub(super) fn service_name<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    owner: impl Fn(&str) -> Option<&'a str>,
) -> Option<&'a str> {
    // As the rules list them: what is above comes before what is below it, but for a Job, whose
    // CronJob names the service.
    const OWNERS: [&str; 6] =
        ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job"];
    let label = |name: &str| label(name).filter(|value| !value.is_empty());
    label("app.kubernetes.io/instance")
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| OWNERS.into_iter().find_map(owner))
}

fn of_container(container: &Container, all: &mut Attributes) {
    let image = Image::parse(&container.image);
    all.push((key::K8S_CONTAINER_NAME.into(), (&*container.name).into()));
    if container.id.is_some() {
        let count = i64::from(container.restart_count);
        all.push((key::K8S_CONTAINER_RESTART_COUNT.into(), count.into()));
    }
    if let Some(runtime) = &container.runtime {
        all.push((key::CONTAINER_RUNTIME_NAME.into(), (&**runtime).into()));
    }
    if !image.name.is_empty() {
        all.push((key::CONTAINER_IMAGE_NAME.into(), image.name.into()));
    }
    if let Some(tag) = image.tag {
        all.push((key::CONTAINER_IMAGE_TAGS.into(), Value::Strs(vec![tag.into()])));
    }
    if let Some(id) = container.image_id.as_deref().filter(|id| !id.is_empty()) {
        all.push((key::CONTAINER_IMAGE_ID.into(), id.into()));
        if Image::parse(id).digest.is_some() {
            all.push((key::CONTAINER_IMAGE_REPO_DIGESTS.into(), Value::Strs(vec![id.into()])));
        }
    }
}

/// Attributes for name and uid of a controller of this kind.
fn keys_of(owner: &Owner) -> Option<(&'static str, &'static str)> {
    Some(match &*owner.kind {
        "Deployment" => (key::K8S_DEPLOYMENT_NAME, key::K8S_DEPLOYMENT_UID),
        "ReplicaSet" => (key::K8S_REPLICASET_NAME, key::K8S_REPLICASET_UID),
        "StatefulSet" => (key::K8S_STATEFULSET_NAME, key::K8S_STATEFULSET_UID),
        "DaemonSet" => (key::K8S_DAEMONSET_NAME, key::K8S_DAEMONSET_UID),
        "Job" => (key::K8S_JOB_NAME, key::K8S_JOB_UID),
        "CronJob" => (key::K8S_CRONJOB_NAME, key::K8S_CRONJOB_UID),
        "ReplicationController" => {
            (key::K8S_REPLICATIONCONTROLLER_NAME, key::K8S_REPLICATIONCONTROLLER_UID)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::pod::{
            Ownership,
            tests::{owner, pairs, pod},
        },
        *,
    };
    use crate::resource::Resource;

    fn resource(pod: &Pod, container: Option<&str>, naming: &Naming) -> Resource {
        let container = pod.container(None, container);
        Resource::new(attributes(pod, container, Some("cluster"), naming))
    }

    fn found(resource: &Resource, key: &str) -> String {
        match resource.find(key) {
            Some(Value::Str(text)) => text.to_string(),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }

    #[test]
    fn a_deployments_pod_has_every_attribute_of_its_place() {
        let resource = resource(&pod(), Some("app"), &Naming::default());
        let expected = [
            ("k8s.cluster.uid", "cluster"),
            ("k8s.node.name", "node-1"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-5d86cd684-hh528"),
            ("k8s.pod.uid", "2f6d8c1e-58f3-4c39-9e4a-0f6f3c0a1b2c"),
            ("k8s.replicaset.name", "web-5d86cd684"),
            ("k8s.replicaset.uid", "uid-web-5d86cd684"),
            ("k8s.deployment.name", "web"),
            ("k8s.deployment.uid", "uid-web"),
            ("k8s.container.name", "app"),
            ("k8s.container.restart_count", "Int(0)"),
            ("container.image.name", "registry.example/shop/web"),
            ("container.runtime.name", "containerd"),
            ("service.name", "web"),
            ("service.namespace", "shop"),
            ("service.version", "1.4.2"),
            ("service.instance.id", "shop.web-5d86cd684-hh528.app"),
        ];
        for (key, value) in expected {
            assert_eq!(found(&resource, key), value, "{key}");
        }
        assert_eq!(found(&resource, "k8s.cluster.name"), "");
    }

    #[test]
    fn a_service_is_named_by_annotation_then_label_then_owner_then_pod() {
        let labels = pairs(&[
            ("app.kubernetes.io/instance", "web-eu"),
            ("app.kubernetes.io/name", "web-label"),
            ("app.kubernetes.io/version", "v9"),
        ]);
        let name_only = pairs(&[("app.kubernetes.io/name", "web-label")]);
        let annotations = pairs(&[
            ("resource.opentelemetry.io/service.name", "storefront"),
            ("resource.opentelemetry.io/service.version", "v10"),
            ("resource.opentelemetry.io/service.namespace", "retail"),
            ("resource.opentelemetry.io/service.instance.id", "one"),
            ("resource.opentelemetry.io/team", "blue"),
        ]);
        let labelled = Naming { well_known_labels: true, ..Naming::default() };
        let plain = Naming::default();
        let of = |pod: &Pod, naming: &Naming| {
            let resource = resource(pod, Some("app"), naming);
            ["service.name", "service.version"].map(|key| found(&resource, key))
        };
        let with = |labels, annotations| Pod { labels, annotations, ..pod() };
        let annotated = with(labels.clone(), annotations);
        assert_eq!(of(&annotated, &labelled), ["storefront", "v10"]);
        let resource = resource(&annotated, Some("app"), &plain);
        let rest = ["service.namespace", "service.instance.id", "team"];
        assert_eq!(rest.map(|key| found(&resource, key)), ["retail", "one", "blue"]);
        assert_eq!(of(&with(labels.clone(), pairs(&[])), &labelled), ["web-eu", "v9"]);
        assert_eq!(of(&with(name_only, pairs(&[])), &labelled), ["web-label", "1.4.2"]);
        assert_eq!(of(&with(labels, pairs(&[])), &plain), ["web", "1.4.2"]);
        let alone = Pod { owner: Ownership::default(), ..pod() };
        assert_eq!(of(&alone, &plain), ["web-5d86cd684-hh528", "1.4.2"]);
    }

    #[test]
    fn each_kind_of_owner_names_the_service_and_has_its_own_attribute() {
        let rows = [
            (vec![("ReplicaSet", "web-1"), ("Deployment", "web")], "web", "k8s.deployment.name"),
            (vec![("ReplicaSet", "web-1")], "web-1", "k8s.replicaset.name"),
            (vec![("StatefulSet", "db")], "db", "k8s.statefulset.name"),
            (vec![("DaemonSet", "log")], "log", "k8s.daemonset.name"),
            (vec![("Job", "mail-28"), ("CronJob", "mail")], "mail", "k8s.cronjob.name"),
            (vec![("Job", "once")], "once", "k8s.job.name"),
        ];
        for (owners, service, key) in rows {
            let mut owners = owners.into_iter().map(|(kind, name)| owner(kind, name));
            let owner =
                Ownership { direct: owners.next(), upper: owners.next(), ..Ownership::default() };
            let resource = resource(&Pod { owner, ..pod() }, Some("app"), &Naming::default());
            assert_eq!(resource.service_name(), service);
            assert_eq!(found(&resource, key), service);
        }
    }

    #[test]
    fn labels_and_annotations_are_attributes_where_they_are_asked_for() {
        let naming = Naming {
            cluster_name: Some("prod".into()),
            pod_labels: vec!["app".into(), "none".into()],
            pod_annotations: vec!["team".into()],
            ..Naming::default()
        };
        let pod = Pod { annotations: pairs(&[("team", "blue")]), ..pod() };
        let resource = resource(&pod, None, &naming);
        assert_eq!(found(&resource, "k8s.pod.label.app"), "web");
        assert_eq!(found(&resource, "k8s.pod.annotation.team"), "blue");
        assert_eq!(found(&resource, "k8s.cluster.name"), "prod");
        assert_eq!(resource.find("k8s.pod.label.none"), None);
        // Which of the two containers it is cannot be told.
        assert_eq!(resource.find("k8s.container.name"), None);
        assert_eq!(resource.find("service.instance.id"), None);
    }
}
