//! The agent as its users have it: the project's own chart, with its own image, by Helm.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{
    attribution::CLUSTER, cluster::Cluster, images::REMORA, namespaces::NODE_ADDRESS,
    services::NAMESPACE,
};
use crate::shell::workspace;

pub(super) const RELEASE: &str = "remora";
/// Where it is installed.
pub(super) const HOME: &str = "remora";

pub(super) fn chart() -> String {
    workspace().join("deploy/helm/remora").display().to_string()
}

/// What is said to the chart: the image of this tree, one namespace, a Collector.
pub(super) fn values() -> Value {
    json!({
        "image": {"repository": REMORA.0, "tag": REMORA.1, "pullPolicy": "Never"},
        "config": {
            "listen": "0.0.0.0:9465",
            "selectors": [{"kubernetes": {"namespace": [NAMESPACE]}}],
            "kubernetes": {"cluster_name": CLUSTER, "pod_labels": ["app"]},
            "output": {
                "prometheus": "0.0.0.0:9464",
                "otlp": {"endpoint": format!("http://{NODE_ADDRESS}:4317")},
                "batch": {"delay": "200ms"},
            },
        },
    })
}

/// Installs the chart, or upgrades what is installed, and waits until the agent is ready.
pub(super) fn install(cluster: &Cluster, values: &Value) -> Result<()> {
    let file = cluster.file("values.json", &values.to_string())?;
    let done = cluster.helm(&[
        "upgrade",
        "--install",
        RELEASE,
        &chart(),
        "--namespace",
        HOME,
        "--create-namespace",
        "--values",
        &file,
        "--wait",
        "--timeout",
        "120s",
    ]);
    // Helm takes a DaemonSet that may have one pod fewer than nodes for done without any.
    let ready =
        done.and_then(|_| cluster.kubectl.rolled_out(HOME, &format!("daemonset/{RELEASE}")));
    ready.or_else(|error| bail!("{error:#}\n{}", log(cluster).unwrap_or_default()))
}

/// What the agent says.
pub(super) fn log(cluster: &Cluster) -> Result<String> {
    let label = format!("app.kubernetes.io/instance={RELEASE}");
    let words = ["-n", HOME, "logs", "-l", &label, "--tail=-1"];
    let said = cluster.kubectl.output(&words);
    let state = || cluster.kubectl.output(&["-n", HOME, "describe", "pods", "-l", &label]);
    said.or_else(|error| state().with_context(|| format!("{error:#}")))
}
