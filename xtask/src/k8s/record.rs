//! What a real API server answers to what the agent asks, for tests that have none: `tests/data/kubernetes`.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    agent,
    cluster::Cluster,
    images::RUST,
    namespaces::NODE_ADDRESS,
    node::NODE,
    services::{NAMESPACE, PORT, container, namespace, template, workload},
    wait::until,
};
use crate::shell::{line, output, workspace};

const PATIENCE: Duration = Duration::from_secs(90);
/// How long the watch lasts; the server sends a bookmark shortly before its end.
const WATCH: u32 = 30;

pub(super) fn run(cluster: &mut Cluster) -> Result<()> {
    cluster.kubectl.apply(&[namespace(agent::HOME), namespace(NAMESPACE)])?;
    agent::install(cluster, &agent::values())?;
    cluster.kubectl.apply(&objects())?;
    cluster.static_pod(Some(&pod("fixed")))?;
    cluster.kubectl.output(&["-n", NAMESPACE, "create", "job", "mail-1", "--from=cronjob/mail"])?;
    for app in ["web", "mail", "mixed", "fixed"] {
        until(app, PATIENCE, || {
            let ready = cluster.kubectl.ready(NAMESPACE, &format!("app={app}"))?;
            Ok((!ready.is_empty()).then_some(()))
        })?;
    }
    let pods = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let list = ask(&format!("{pods}&resourceVersion=0"), "token-of-admin", "")?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a version")?;
    let watch = format!("{pods}&watch=true&allowWatchBookmarks=true");
    let mut watching = curl(
        &format!("{watch}&timeoutSeconds={WATCH}&resourceVersion={version}"),
        "token-of-admin",
        "",
    );
    let watching = watching.stdout(Stdio::piped()).spawn()?;
    // A pod comes, is changed, and goes.
    let scale = |count: &str| {
        let replicas = format!("--replicas={count}");
        cluster.kubectl.output(&["-n", NAMESPACE, "scale", "deployment/web", &replicas])
    };
    let running = |count: usize| {
        until("pods of web", PATIENCE, || {
            let all = cluster.kubectl.list(&["-n", NAMESPACE, "pods", "-l", "app=web"])?;
            let ready = cluster.kubectl.ready(NAMESPACE, "app=web")?;
            Ok((all.len() == count && ready.len() == count).then_some(ready))
        })
    };
    scale("2")?;
    running(2)?;
    let capture = "remora-ebpf.github.io/capture=false";
    cluster.kubectl.output(&["-n", NAMESPACE, "annotate", "pods", "-l", "app=web", capture])?;
    scale("1")?;
    running(1)?;
    let watched = watching.wait_with_output().context("the watch")?;
    let watched = String::from_utf8(watched.stdout)?;
    for kind in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"] {
        ensure!(watched.contains(&format!("{{\"type\":\"{kind}\"")), "the watch told of no {kind}");
    }
    let web = list["items"].as_array().into_iter().flatten();
    let web = web.into_iter().find(|pod| pod["metadata"]["labels"]["app"] == "web");
    let web = web.context("no pod of web was listed")?;
    let set = &web["metadata"]["ownerReferences"][0]["name"];
    let set = set.as_str().context("web's ReplicaSet")?;
    let slim = "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let of = |path: &str| ask(path, "token-of-admin", slim);
    let token = cluster.kubectl.token(NAMESPACE, "default")?;
    let mut whole = vec![
        ("list.json", list.clone()),
        ("pod.json", web.clone()),
        (
            "replicaset.json",
            of(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/replicasets/{set}"))?,
        ),
        ("job.json", of(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/mail-1"))?),
        ("namespace.json", of("/api/v1/namespaces/kube-system")?),
        ("version.json", ask("/version", "token-of-admin", "")?),
        ("forbidden.json", ask(&pods, &token, "")?),
    ];
    // A server that has just started knows nothing of what was before.
    cluster.stop_api()?;
    cluster.start_api()?;
    let expired = ask(&format!("{watch}&resourceVersion=1"), "token-of-admin", "")?;
    ensure!(expired["object"]["code"] == 410, "the watch is told {expired}");
    whole.push(("expired.json", expired));
    let folder = workspace().join("tests/data/kubernetes");
    for (name, answer) in whole {
        fs::write(folder.join(name), serde_json::to_string_pretty(&answer)? + "\n")?;
    }
    fs::write(folder.join("watch.jsonl"), watched)?;
    println!("k8s: {} has what the API server said", folder.display());
    Ok(())
}

/// A question that somebody with `token` asks.
fn curl(path: &str, token: &str, header: &str) -> Command {
    let mut curl = Command::new("curl");
    // The server's certificate is its own.
    curl.args(["--silent", "--insecure", "--max-time", "60", "--header"]);
    curl.arg(format!("Authorization: Bearer {token}"));
    if !header.is_empty() {
        curl.args(["--header", header]);
    }
    curl.arg(format!("https://{NODE_ADDRESS}{path}"));
    curl
}

fn ask(path: &str, token: &str, header: &str) -> Result<Value> {
    let mut curl = curl(path, token, header);
    serde_json::from_str(&output(&mut curl)?).with_context(|| line(&curl))
}

fn pod(name: &str) -> Value {
    let mut pod = template(name, json!({"containers": [service(name)]}));
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = NAMESPACE.into();
    pod
}

fn service(name: &str) -> Value {
    container(name, RUST, &[&format!("0.0.0.0:{PORT}")])
}

/// A Deployment as it usually is, one with a sidecar, and a CronJob.
fn objects() -> Vec<Value> {
    let mut app = service("app");
    app["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/web"}]);
    app["livenessProbe"] = json!({"tcpSocket": {"port": PORT}});
    let spec = json!({"containers": [app], "volumes": [{"name": "config", "emptyDir": {}}]});
    let mut web = workload("Deployment", NAMESPACE, "web", spec);
    web["spec"]["replicas"] = 1.into();
    let labels = &mut web["spec"]["template"]["metadata"]["labels"];
    labels["app.kubernetes.io/name"] = "web".into();
    labels["app.kubernetes.io/version"] = "1.4.2".into();
    web["spec"]["template"]["metadata"]["annotations"] =
        json!({"checksum/config": "8f434346648f6b96"});
    let mut front = container("front", RUST, &["0.0.0.0:8081", &format!("127.0.0.1:{PORT}")]);
    front["restartPolicy"] = "Always".into();
    front["readinessProbe"]["tcpSocket"]["port"] = 8081.into();
    let spec = json!({"initContainers": [front], "containers": [service("behind")]});
    let mut mixed = workload("Deployment", NAMESPACE, "mixed", spec);
    mixed["spec"]["replicas"] = 1.into();
    let spec = json!({"restartPolicy": "Never", "containers": [service("mail")]});
    let mail = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "mail", "namespace": NAMESPACE},
        "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": {"template": template("mail", spec)}}},
    });
    vec![web, mixed, mail]
}
