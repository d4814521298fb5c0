//! Do spans say of their pod what the API server says? Which pod it was the services themselves say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    cluster::Cluster,
    spans::{Attributes, Span},
    traffic::Answer,
    wait::{pause, until},
};

/// `k8s.cluster.name`, which the agent is told.
pub(super) const CLUSTER: &str = "proof";

/// What became of the answers of a check.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Answers that a span was found for.
    pub(super) seen: usize,
    /// What no span tells of.
    pub(super) unseen: Vec<String>,
    /// What a span says that is not so.
    pub(super) wrong: BTreeSet<String>,
    /// Attributes that were compared.
    pub(super) compared: usize,
    /// Keys that spans had.
    pub(super) keys: BTreeSet<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seen, unseen, wrong, compared, keys } = self;
        write!(
            f,
            "{seen} server spans, {} without one, {} wrong; {compared} values of {} attributes compared",
            unseen.len(),
            wrong.len(),
            keys.len()
        )
    }
}

impl Verdict {
    /// # Errors
    /// If a span is wrong, or more answers have none than are allowed.
    pub(super) fn accept(&self, unseen: usize) -> Result<()> {
        let first = |all: Vec<&String>| {
            all.into_iter().take(5).map(|one| &**one).collect::<Vec<_>>().join("; ")
        };
        ensure!(self.wrong.is_empty(), "{self}: {}", first(self.wrong.iter().collect()));
        let mut of_pods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in &self.unseen {
            let (target, by) = one.split_once(" by ").unwrap_or((one, ""));
            of_pods.entry(by).or_default().push(target);
        }
        ensure!(self.unseen.len() <= unseen, "{self}: without one are {of_pods:?}");
        ensure!(self.seen > 0, "nothing was seen");
        Ok(())
    }
}

/// Compares the spans of these answers, in `namespace`, once all of them came or none do any more. An answer that
/// somebody on the way gave for another (502) does not say who had the request before, and is left out.
pub(super) fn judge(cluster: &mut Cluster, namespace: &str, answers: &[Answer]) -> Result<Verdict> {
    let expected: BTreeSet<(String, String)> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .flat_map(|answer| answer.by.iter().map(|by| (answer.target.clone(), by.clone())))
        .collect();
    ensure!(!expected.is_empty(), "nobody answered");
    let targets: BTreeSet<&str> = expected.iter().map(|(target, _)| &**target).collect();
    let mut last = (usize::MAX, 0);
    let spans: Vec<Span> = until("spans", Duration::from_secs(60), || {
        let all = cluster.received.spans()?;
        let ours: Vec<&Span> =
            all.iter().filter(|span| span.is_server() && targets.contains(span.target())).collect();
        let quiet = if ours.len() == last.0 { last.1 + 1 } else { 0 };
        last = (ours.len(), quiet);
        // Batches leave every second; after ten of silence nothing is on its way.
        let done = ours.len() >= expected.len() || quiet > 40;
        Ok(done.then(|| ours.into_iter().cloned().collect()))
    })?;
    // The observer hears of pods as the agent does, and not before it.
    pause(Duration::from_millis(500))?;
    let cluster_uid = cluster.kubectl.get(&["namespace", "kube-system"])?;
    let cluster_uid = text(&cluster_uid["metadata"]["uid"]);
    let mut verdict = Verdict::default();
    let mut found: BTreeMap<&(String, String), usize> = BTreeMap::new();
    let mut known: BTreeMap<(String, String), Vec<Facts>> = BTreeMap::new();
    for span in &spans {
        let said = |key: &str| span.resource.get(key).map_or("", |value| &**value);
        let by = format!("{}/{}", said("k8s.pod.name"), said("k8s.container.name"));
        let Some(pair) = expected.get(&(span.target().to_owned(), by.clone())) else {
            verdict.wrong.insert(format!("{} was not handled by {by}", span.target()));
            continue;
        };
        *found.entry(pair).or_default() += 1;
        let (pod, container) = pair.1.split_once('/').context("POD/CONTAINER")?;
        let key = (pod.to_owned(), container.to_owned());
        if !known.contains_key(&key) {
            known.insert(key.clone(), facts(cluster, namespace, pod, container, &cluster_uid)?);
        }
        compare(&span.resource, &known[&key], &mut verdict);
    }
    for pair in &expected {
        match found.get(&pair) {
            Some(1) => verdict.seen += 1,
            None => verdict.unseen.push(format!("{} by {}", pair.0, pair.1)),
            Some(count) => {
                verdict.seen += 1;
                verdict.wrong.insert(format!("{} by {} has {count} spans", pair.0, pair.1));
            }
        }
    }
    Ok(verdict)
}

/// What may be said of one life of a container: for each key one of these values.
type Facts = BTreeMap<String, BTreeSet<String>>;

fn compare(resource: &Attributes, lives: &[Facts], verdict: &mut Verdict) {
    let about_pods = |key: &str| {
        key.starts_with("k8s.")
            || key.starts_with("container.")
            || matches!(
                key,
                "service.name" | "service.namespace" | "service.version" | "service.instance.id"
            )
    };
    let pod = resource.get("k8s.pod.name").cloned().unwrap_or_default();
    let id = resource.get("container.id");
    let life = lives.iter().find(|life| {
        id.is_some_and(|id| life.get("container.id").is_some_and(|ids| ids.contains(id)))
    });
    let Some(life) = life else {
        verdict.wrong.insert(format!("{pod} has no container {id:?}"));
        return;
    };
    for (key, allowed) in life {
        verdict.compared += 1;
        verdict.keys.insert(key.clone());
        match resource.get(key) {
            Some(value) if allowed.contains(value) => {}
            other => {
                _ = verdict.wrong.insert(format!("{pod}: {key} is {other:?}, expected {allowed:?}"))
            }
        }
    }
    for key in resource.keys().filter(|key| about_pods(key) && !life.contains_key(*key)) {
        verdict.wrong.insert(format!("{pod}: {key} is {:?}, which nobody expects", resource[key]));
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The facts of each life of a container, from all that the API server said of its pods.
fn facts(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
    cluster_uid: &str,
) -> Result<Vec<Facts>> {
    let mut lives: BTreeMap<String, Facts> = BTreeMap::new();
    let pods = cluster.observer.pods_named(namespace, pod);
    ensure!(!pods.is_empty(), "the API server never told of {pod}");
    for version in pods.iter().flatten() {
        let statuses = ["containerStatuses", "initContainerStatuses"]
            .iter()
            .flat_map(|key| version["status"][key].as_array().into_iter().flatten());
        let Some(status) = statuses.into_iter().find(|one| one["name"] == container) else {
            continue;
        };
        let id = text(&status["containerID"]);
        let Some((runtime, id)) = id.split_once("://") else { continue };
        let mut one = of_version(cluster, version, cluster_uid)?;
        let mut add = |key: &str, value: String| one.push((key.to_owned(), value));
        add("container.id", id.to_owned());
        add("container.runtime.name", runtime.to_owned());
        add("k8s.container.name", container.to_owned());
        add("k8s.container.restart_count", text(&status["restartCount"]));
        let image = image_of(version, container);
        let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
        add("container.image.name", name.to_owned());
        add("container.image.tags", format!("[{tag}]"));
        add("container.image.id", text(&status["imageID"]));
        add("service.version", tag.to_owned());
        add("service.instance.id", format!("{namespace}.{pod}.{container}"));
        let life = lives.entry(id.to_owned()).or_default();
        for (key, value) in one.into_iter().filter(|(_, value)| !value.is_empty()) {
            life.entry(key).or_default().insert(value);
        }
    }
    Ok(lives.into_values().collect())
}

fn image_of(pod: &Value, container: &str) -> String {
    let all = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| pod["spec"][key].as_array().into_iter().flatten());
    all.into_iter()
        .find(|one| one["name"] == container)
        .map_or(String::new(), |one| text(&one["image"]))
}

/// What one version of a pod says, without its containers.
fn of_version(cluster: &Cluster, pod: &Value, cluster_uid: &str) -> Result<Vec<(String, String)>> {
    let metadata = &pod["metadata"];
    let mut all: Vec<(String, String)> = vec![
        ("k8s.cluster.name".into(), CLUSTER.into()),
        ("k8s.cluster.uid".into(), cluster_uid.to_owned()),
        ("k8s.node.name".into(), text(&pod["spec"]["nodeName"])),
        ("k8s.namespace.name".into(), text(&metadata["namespace"])),
        ("k8s.pod.name".into(), text(&metadata["name"])),
        ("k8s.pod.uid".into(), text(&metadata["uid"])),
        ("k8s.pod.ip".into(), text(&pod["status"]["podIP"])),
        ("k8s.pod.start_time".into(), text(&pod["status"]["startTime"])),
        ("k8s.pod.label.app".into(), text(&metadata["labels"]["app"])),
        ("service.namespace".into(), text(&metadata["namespace"])),
    ];
    let mut service = text(&metadata["name"]);
    let mut below = pod.clone();
    while let Some(owner) = cluster.observer.owner(&cluster.kubectl, &below)? {
        let kind = text(&owner["kind"]).to_lowercase();
        // Of a static pod. It runs there, and is nothing that the node does.
        if kind == "node" {
            break;
        }
        let name = text(&owner["metadata"]["name"]);
        all.push((format!("k8s.{kind}.name"), name.clone()));
        all.push((format!("k8s.{kind}.uid"), text(&owner["metadata"]["uid"])));
        service = name;
        below = owner;
    }
    all.push(("service.name".into(), service));
    Ok(all)
}
