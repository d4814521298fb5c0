//! Do client spans name whom they asked, as the API server does?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::k8s::{
    agent,
    attribution::judge,
    cluster::Cluster,
    services::{NAMESPACE, WEB},
    spans::Span,
    traffic,
    wait::until,
};

/// The Service at whose address a client's connection ended is its peer.
pub(super) fn named(cluster: &mut Cluster) -> Result<String> {
    let mut values = agent::values();
    values["config"]["kubernetes"]["peers"] = true.into();
    agent::install(cluster, &values)?;
    // What is asked of the API server is decided at the start.
    let agents = format!("daemonset/{}", agent::RELEASE);
    cluster.kubectl.output(&["-n", agent::HOME, "rollout", "restart", &agents])?;
    cluster.kubectl.rolled_out(agent::HOME, &agents)?;
    until("the cluster's Services and pods", Duration::from_secs(60), || {
        let log = agent::log(cluster)?;
        let all = ["Services", "pods"]
            .iter()
            .all(|kind| log.contains(&format!("{kind} of the cluster listed")));
        Ok(all.then_some(()))
    })?;
    let answers = traffic::all(WEB, 40)?;
    judge(cluster, NAMESPACE, &answers)?.accept(0)?;
    let targets: BTreeSet<&str> = answers.iter().map(|answer| &*answer.target).collect();
    // nginx asks the service in Go, and that the one in Rust.
    let clients: Vec<Span> = until("client spans", Duration::from_secs(30), || {
        let spans = cluster.received.spans()?.iter();
        let ours = spans.filter(|span| !span.is_server() && targets.contains(span.target()));
        let ours: Vec<Span> = ours.cloned().collect();
        Ok((ours.len() >= 2 * answers.len()).then_some(ours))
    })?;
    let mut services = BTreeMap::new();
    for service in cluster.kubectl.list(&["--all-namespaces", "services"])? {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let of = &service["metadata"];
        services.insert(
            text(&service["spec"]["clusterIP"]),
            [text(&of["name"]), text(&of["namespace"])],
        );
    }
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for span in &clients {
        let said = |key: &str| span.attributes.get(key).map_or("", |value| &**value);
        let address = said("network.peer.address");
        let [name, namespace] =
            services.get(address).with_context(|| format!("no Service has {address}"))?;
        let found = [said("service.peer.name"), said("service.peer.namespace")];
        ensure!(found == [name, namespace], "{address} is {name} in {namespace}, found {found:?}");
        *named.entry(name).or_default() += 1;
    }
    ensure!(named.len() == 2, "two Services are asked by others, found {named:?}");
    Ok(format!("{} client spans name {named:?} as the API server does", clients.len()))
}
