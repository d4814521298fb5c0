//! Whatever becomes of pods, spans are told of the right one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::settled;
use crate::k8s::{
    attribution::judge,
    cluster::Cluster,
    images::RUST,
    namespaces::NODE_ADDRESS,
    node::NODE,
    services::{CHAIN, NAMESPACE, PORT, WEB, container, template, workload},
    traffic::{self, Answer, Traffic},
    wait::{pause, until},
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Between two requests of steady traffic.
const EACH: Duration = Duration::from_millis(20);

/// The Rust service with other settings.
fn hop(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Value {
    let mut one = container(name, RUST, arguments);
    let all = one["env"].as_array_mut().expect("a list");
    all.extend(settings.iter().map(|(name, value)| json!({"name": name, "value": value})));
    one
}

fn listen() -> String {
    format!("0.0.0.0:{PORT}")
}

/// The address of a service in the only pod with this label, as soon as it has one.
fn address(cluster: &Cluster, app: &str, port: u16) -> Result<String> {
    until(&format!("a pod of {app}"), PATIENCE, || {
        let pods = cluster.kubectl.list(&["-n", NAMESPACE, "pods", "-l", &format!("app={app}")])?;
        let ip = pods.iter().find_map(|pod| pod["status"]["podIP"].as_str());
        Ok(ip.map(|ip| format!("{ip}:{port}")))
    })
}

/// Asks until it answers.
fn first(address: &str) -> Result<Answer> {
    until(&format!("an answer of {address}"), PATIENCE, || Ok(traffic::get(address).ok()))
}

fn remove(cluster: &Cluster, what: &str) -> Result<()> {
    cluster.kubectl.output(&["-n", NAMESPACE, "delete", what, "--wait=false"]).map(drop)
}

/// One pod of each service is deleted while requests come in; another takes its place.
pub(super) fn deleted(cluster: &mut Cluster) -> Result<String> {
    let traffic = Traffic::start(WEB, EACH);
    for app in CHAIN {
        let label = format!("app={app}");
        let pods = cluster.kubectl.ready(NAMESPACE, &label)?;
        let name = pods[0]["metadata"]["name"].as_str().context("a name")?;
        cluster.kubectl.output(&["-n", NAMESPACE, "delete", "pod", name, "--wait=false"])?;
        until("another pod", PATIENCE, || {
            let ready = cluster.kubectl.ready(NAMESPACE, &label)?;
            Ok((ready.len() == 2 && ready.iter().all(|pod| pod["metadata"]["name"] != name))
                .then_some(()))
        })?;
    }
    pause(Duration::from_secs(1))?;
    let (answers, failed) = traffic.end();
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    verdict.accept(0)?;
    Ok(format!("3 pods; {verdict}; {failed} requests failed"))
}

/// Every pod is replaced while requests come in.
pub(super) fn rollout(cluster: &mut Cluster) -> Result<String> {
    let traffic = Traffic::start(WEB, EACH);
    let all = CHAIN.map(|app| format!("deployment/{app}"));
    for deployment in &all {
        cluster.kubectl.output(&["-n", NAMESPACE, "rollout", "restart", deployment])?;
    }
    for deployment in &all {
        cluster.kubectl.rolled_out(NAMESPACE, deployment)?;
    }
    settled(cluster)?;
    pause(Duration::from_secs(1))?;
    let (answers, failed) = traffic.end();
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    verdict.accept(0)?;
    let mut pods: Vec<_> = answers.iter().flat_map(|answer| &answer.by).collect();
    pods.sort_unstable();
    pods.dedup();
    ensure!(pods.len() >= 9, "two pods each of three services before and behind, found {pods:?}");
    Ok(format!("{} pods; {verdict}; {failed} requests failed", pods.len()))
}

/// A container that ends with an error at every fifth request: each life has an id and a count of its own.
pub(super) fn crash_looping(cluster: &mut Cluster) -> Result<String> {
    let settings = [("END", "5"), ("STATUS", "1")];
    let mut spec = json!({"containers": [hop("crash", &[&listen()], &settings)]});
    // Not ready is not asked, and here it is asked as soon as it is there.
    spec["containers"][0]["readinessProbe"] = Value::Null;
    let mut deployment = workload("Deployment", NAMESPACE, "crash", spec);
    deployment["spec"]["replicas"] = 1.into();
    cluster.kubectl.apply(&[deployment])?;
    let address = address(cluster, "crash", PORT)?;
    let mut answers = Vec::new();
    for _ in 0..4 {
        for _ in 0..5 {
            answers.push(first(&address)?);
        }
        // It ends 200 ms behind its fifth answer.
        pause(Duration::from_millis(500))?;
    }
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    remove(cluster, "deployment/crash")?;
    verdict.accept(0)?;
    let lives = lives(cluster, &answers)?;
    ensure!(lives >= 4, "four lives were asked, spans know {lives}");
    Ok(format!("{lives} lives; {verdict}"))
}

/// Containers that the spans of these answers name.
fn lives(cluster: &mut Cluster, answers: &[Answer]) -> Result<usize> {
    let targets: Vec<&str> = answers.iter().map(|answer| &*answer.target).collect();
    let spans = cluster.received.spans()?.iter().filter(|span| targets.contains(&span.target()));
    let mut ids: Vec<_> = spans.filter_map(|span| span.resource.get("container.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.len())
}

/// An init container that ends when it was asked, then a sidecar before the container that it fronts.
pub(super) fn init_and_sidecar(cluster: &mut Cluster) -> Result<String> {
    let listen = listen();
    let mut init = hop("first", &[&listen], &[("END", "5")]);
    init["readinessProbe"] = Value::Null;
    let next = format!("127.0.0.1:{PORT}");
    let mut sidecar = hop("front", &["0.0.0.0:8081", &next], &[]);
    sidecar["restartPolicy"] = "Always".into();
    sidecar["readinessProbe"]["tcpSocket"]["port"] = 8081.into();
    sidecar["ports"][0]["containerPort"] = 8081.into();
    let spec =
        json!({"initContainers": [init, sidecar], "containers": [hop("app", &[&listen], &[])]});
    let mut deployment = workload("Deployment", NAMESPACE, "mixed", spec);
    deployment["spec"]["replicas"] = 1.into();
    cluster.kubectl.apply(&[deployment])?;
    let address = address(cluster, "mixed", PORT)?;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(first(&address)?);
    }
    ensure!(answers.iter().all(|one| one.by[0].ends_with("/first")), "{answers:?}");
    cluster.kubectl.rolled_out(NAMESPACE, "deployment/mixed")?;
    let front = address.replace(&format!(":{PORT}"), ":8081");
    let behind = traffic::all(&front, 20)?;
    ensure!(behind.iter().all(|one| one.by.len() == 2), "{behind:?}");
    answers.extend(behind);
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    remove(cluster, "deployment/mixed")?;
    verdict.accept(0)?;
    Ok(verdict.to_string())
}

/// A pod without a network of its own has the node's address, and is still told by its control group.
pub(super) fn host_network(cluster: &mut Cluster) -> Result<String> {
    const HERE: u16 = 18_080;
    let mut one = hop("outside", &[&format!("0.0.0.0:{HERE}")], &[]);
    one["ports"] = json!([]);
    one["readinessProbe"]["tcpSocket"]["port"] = HERE.into();
    let spec = json!({"hostNetwork": true, "containers": [one]});
    cluster.kubectl.apply(&[workload("DaemonSet", NAMESPACE, "outside", spec)])?;
    cluster.kubectl.rolled_out(NAMESPACE, "daemonset/outside")?;
    let answers = traffic::all(&format!("{NODE_ADDRESS}:{HERE}"), 20)?;
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    remove(cluster, "daemonset/outside")?;
    verdict.accept(0)?;
    Ok(verdict.to_string())
}

/// A StatefulSet whose pod is replaced by one of the same name, a Job of a CronJob, and a pod of nobody.
pub(super) fn owners(cluster: &mut Cluster) -> Result<String> {
    let listen = listen();
    let named = |name: &str| json!({"containers": [hop(name, &[&listen], &[])]});
    let mut set = workload("StatefulSet", NAMESPACE, "store", named("store"));
    set["spec"]["serviceName"] = "store".into();
    let ending = json!({"restartPolicy": "Never", "containers": [hop("mail", &[&listen], &[("END", "10")])]});
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "mail", "namespace": NAMESPACE},
        "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": {"template": template("mail", ending)}}},
    });
    let mut alone = template("alone", named("alone"));
    alone["apiVersion"] = "v1".into();
    alone["kind"] = "Pod".into();
    alone["metadata"]["name"] = "alone".into();
    alone["metadata"]["namespace"] = NAMESPACE.into();
    cluster.kubectl.apply(&[set, cron, alone])?;
    cluster.kubectl.output(&["-n", NAMESPACE, "create", "job", "mail-1", "--from=cronjob/mail"])?;
    let mut answers = Vec::new();
    for (app, count) in [("mail", 10), ("alone", 10), ("store", 10)] {
        let address = address(cluster, app, PORT)?;
        for _ in 0..count {
            answers.push(first(&address)?);
        }
    }
    let ready = |cluster: &Cluster, not: &Value| {
        until("the set's pod", PATIENCE, || {
            let ready = cluster.kubectl.ready(NAMESPACE, "app=store")?;
            let mut uids = ready.into_iter().map(|pod| pod["metadata"]["uid"].clone());
            Ok(uids.next().filter(|uid| uid != not))
        })
    };
    let before = ready(cluster, &Value::Null)?;
    cluster.kubectl.output(&["-n", NAMESPACE, "delete", "pod", "store-0"])?;
    ready(cluster, &before)?;
    answers.extend(traffic::all(&address(cluster, "store", PORT)?, 10)?);
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    for what in ["statefulset/store", "cronjob/mail", "pod/alone"] {
        remove(cluster, what)?;
    }
    verdict.accept(0)?;
    for key in ["k8s.statefulset.uid", "k8s.cronjob.uid", "k8s.job.uid"] {
        ensure!(verdict.keys.contains(key), "no span has {key}");
    }
    Ok(verdict.to_string())
}

/// A static pod, which the kubelet knows by another uid than the API server does.
pub(super) fn of_the_kubelet(cluster: &mut Cluster) -> Result<String> {
    let mut pod = template("fixed", json!({"containers": [hop("fixed", &[&listen()], &[])]}));
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "fixed".into();
    pod["metadata"]["namespace"] = NAMESPACE.into();
    cluster.static_pod(Some(&pod))?;
    let address = address(cluster, "fixed", PORT)?;
    let mut answers = vec![first(&address)?];
    answers.extend(traffic::all(&address, 20)?);
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    cluster.static_pod(None)?;
    verdict.accept(0)?;
    let mirror = cluster.observer.pods_named(NAMESPACE, &format!("fixed-{NODE}"));
    let metadata = &mirror[0][0]["metadata"];
    let hash = &metadata["annotations"]["kubernetes.io/config.hash"];
    ensure!(hash.is_string() && *hash != metadata["uid"], "the kubelet's uid is {hash}");
    Ok(verdict.to_string())
}
