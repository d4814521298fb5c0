//! Objects of a cluster, as a real API server told of them.

use serde_json::{Value, json};

/// A pod of the Deployment `web` in the namespace `shop`; change it as a test wants it.
///
/// # Panics
/// Never: the text is part of the program.
#[must_use]
pub fn pod(name: &str, node: &str) -> Value {
    let mut pod = recorded!("pod.json");
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["uid"] = uid(name).into();
    pod["spec"]["nodeName"] = node.into();
    pod["status"]["containerStatuses"][0]["containerID"] =
        format!("containerd://{}", container_id(name)).into();
    pod
}

/// A Service of the namespace `shop`, as a real one is told of; change it as a test wants it.
#[must_use]
pub fn service(name: &str, addresses: &[&str]) -> Value {
    json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": uid(&format!("service/{name}")),
            "creationTimestamp": "2026-11-22T00:08:54Z", "labels": {"app": name}},
        "spec": {"type": "ClusterIP", "clusterIP": addresses.first(), "clusterIPs": addresses,
            "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}], "selector": {"app": name},
            "sessionAffinity": "None"},
        "status": {"loadBalancer": {}}})
}

/// A pod like [`pod`] with these addresses.
#[must_use]
pub fn pod_at(name: &str, addresses: &[&str]) -> Value {
    let mut pod = pod(name, "node-2");
    pod["status"]["podIP"] = addresses.first().copied().into();
    pod["status"]["podIPs"] = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    pod
}

/// The uid that [`pod`] gives a pod of this name.
#[must_use]
pub fn uid(name: &str) -> String {
    let hash = hash(name);
    format!("{:08x}-0000-4000-8000-{:012x}", hash >> 32, hash & 0xffff_ffff)
}

/// Where the ReplicaSet of [`pod`] is, and its metadata: it belongs to a Deployment.
#[must_use]
pub fn replica_set() -> (String, Value) {
    let set = recorded!("replicaset.json");
    let name = set["metadata"]["name"].as_str().unwrap_or_default();
    (format!("/apis/apps/v1/namespaces/shop/replicasets/{name}"), set)
}

/// The Job of a CronJob, like [`replica_set`].
#[must_use]
pub fn job() -> (String, Value) {
    let job = recorded!("job.json");
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    (format!("/apis/batch/v1/namespaces/shop/jobs/{name}"), job)
}

/// The uid of the cluster.
#[must_use]
pub fn cluster_uid() -> Value {
    recorded!("namespace.json")["metadata"]["uid"].clone()
}

/// What a real server said to an agent: a list of the pods of `node-1`, and what its watch then told.
///
/// # Panics
/// Never: the text is part of the program.
#[must_use]
pub fn recording() -> (Value, Vec<Value>) {
    let watched = include_str!("../../data/kubernetes/watch.jsonl").lines();
    let watched = watched.map(|line| serde_json::from_str(line).expect("JSON of ours"));
    (recorded!("list.json"), watched.collect())
}

/// The container id that [`pod`] gives a pod of this name.
#[must_use]
pub fn container_id(name: &str) -> String {
    format!("{:016x}", hash(name)).repeat(4)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
