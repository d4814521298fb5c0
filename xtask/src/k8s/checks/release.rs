//! The chart and the manifests themselves: what the server takes, which privileges they ask for, how they change
//! and how they go.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    k8s::{
        agent,
        attribution::judge,
        cluster::Cluster,
        services::{NAMESPACE, WEB},
        traffic::{self, Traffic},
        wait::{pause, until},
    },
    shell::workspace,
};

/// Every rendered object is one that the server would create, field by field.
pub(super) fn dry_run(cluster: &mut Cluster) -> Result<String> {
    let mut count = 0;
    let mut try_all = |cluster: &Cluster, name: &str, text: &str| -> Result<()> {
        let file = cluster.file(name, text)?;
        let words = ["apply", "--dry-run=server", "--validate=strict", "-f", &file];
        let said = cluster.kubectl.output(&words).with_context(|| name.to_owned())?;
        count += said.lines().count();
        Ok(())
    };
    let folder = workspace().join("deploy/kubernetes");
    for variant in ["base", "privileged"] {
        let path = folder.join(variant).display().to_string();
        let text = cluster.kubectl.output(&["kustomize", &path])?;
        ensure!(text.contains("namespace: remora"), "{variant} names no namespace");
        try_all(cluster, &format!("{variant}.yaml"), &text)?;
    }
    let sidecar = folder.join("sidecar/pod.yaml");
    try_all(cluster, "sidecar.yaml", &fs::read_to_string(sidecar)?)?;
    let chart = agent::chart();
    let lint = cluster.helm(&["lint", "--strict", &chart])?;
    ensure!(lint.contains("0 chart(s) failed"), "{lint}");
    for (name, set) in [
        ("default.yaml", "privileged=false"),
        ("chart-privileged.yaml", "privileged=true"),
        ("unnamed.yaml", "priorityClass.create=false,networkPolicy.enabled=false"),
    ] {
        let text = cluster.helm(&["template", "dry", &chart, "-n", agent::HOME, "--set", set])?;
        try_all(cluster, name, &text)?;
    }
    // A field that nobody knows is refused, or all that would show nothing.
    let wrong =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dataa": {}});
    let file = cluster.file("wrong.json", &wrong.to_string())?;
    let words = ["apply", "--dry-run=server", "--validate=strict", "-f", &file];
    ensure!(cluster.kubectl.output(&words).is_err(), "an unknown field was taken");
    Ok(format!("{count} objects taken by the server, strictly"))
}

/// The process that is the agent.
fn agent_process(cluster: &Cluster) -> Result<u32> {
    let label = format!("app.kubernetes.io/instance={}", agent::RELEASE);
    let pods = cluster.kubectl.ready(agent::HOME, &label)?;
    let [pod] = &*pods else { anyhow::bail!("{} agents are ready, expected one", pods.len()) };
    let id =
        pod["status"]["containerStatuses"][0]["containerID"].as_str().context("a container")?;
    let id = id.rsplit('/').next().unwrap_or_default();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|groups| groups.contains(id)) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process is in the container {id}")
}

fn effective(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    Ok(u64::from_str_radix(line.context("no CapEff")?.trim(), 16)?)
}

/// As it is installed by default it has six capabilities, `CAP_SYS_ADMIN` not among them.
pub(super) fn few_privileges(cluster: &mut Cluster) -> Result<String> {
    const SYS_ADMIN: u64 = 1 << 21;
    let has = effective(agent_process(cluster)?)?;
    ensure!(has & SYS_ADMIN == 0, "it has CAP_SYS_ADMIN: {has:#x}");
    ensure!(has.count_ones() == 6, "{} capabilities: {has:#x}", has.count_ones());
    let answers = traffic::all(WEB, 20)?;
    let verdict = judge(cluster, NAMESPACE, &answers)?;
    verdict.accept(0)?;
    let log = agent::log(cluster)?;
    ensure!(log.contains("attached to OpenSSL"), "nginx has libssl mapped, expected probes: {log}");
    let mut doors = log.lines().filter_map(|line| line.split("door=\"").nth(1)?.split('"').next());
    Ok(format!(
        "capabilities {has:#x}, door {}, OpenSSL probed; {verdict}",
        doors.next().unwrap_or("?")
    ))
}

/// The agent is replaced by one with other values while requests come in, and back again.
pub(super) fn upgraded(cluster: &mut Cluster) -> Result<String> {
    let traffic = Traffic::start(WEB, Duration::from_millis(20));
    let mut privileged = agent::values();
    privileged["privileged"] = true.into();
    agent::install(cluster, &privileged)?;
    let has = effective(agent_process(cluster)?)?;
    ensure!(has.count_ones() > 20, "a privileged one has {} capabilities", has.count_ones());
    let (answers, failed) = traffic.end();
    // Between the two nobody is there to see.
    let during = judge(cluster, NAMESPACE, &answers)?;
    during.accept(usize::MAX)?;
    let answers = traffic::all(WEB, 20)?;
    let behind = judge(cluster, NAMESPACE, &answers)?;
    behind.accept(0)?;
    agent::install(cluster, &agent::values())?;
    Ok(format!("during: {during}, {failed} failed; privileged: {behind}"))
}

/// Other values reach an agent that runs, by way of its ConfigMap.
pub(super) fn reconfigured(cluster: &mut Cluster) -> Result<String> {
    let mut values = agent::values();
    values["config"]["routes"] = json!({"patterns": ["/items/{item}"]});
    let before = agent_process(cluster)?;
    agent::install(cluster, &values)?;
    // The kubelet brings it within its period and the time that it trusts what it has.
    let route = |cluster: &mut Cluster| -> Result<Option<String>> {
        let answer = traffic::all(WEB, 1)?.remove(0);
        pause(Duration::from_secs(1))?;
        let spans = cluster.received.spans()?;
        let found = spans.iter().find(|span| span.is_server() && span.target() == answer.target);
        Ok(found.and_then(|span| span.attributes.get("http.route").cloned()))
    };
    until("the new routes", Duration::from_secs(150), || {
        Ok((route(cluster)?.as_deref() == Some("/items/{item}")).then_some(()))
    })?;
    ensure!(agent_process(cluster)? == before, "the agent was replaced");
    agent::install(cluster, &agent::values())?;
    Ok("new routes without a restart".to_owned())
}

/// Ids of BPF programs and links that a process holds.
fn held(pid: u32) -> Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let Ok(info) = fs::read_to_string(entry.path()) else { continue };
        let ids =
            info.lines().filter(|line| line.starts_with("prog_id") || line.starts_with("link_id"));
        held.extend(ids.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    Ok(held)
}

/// All that the chart may make, and what is made for it.
const KINDS: [&str; 8] = [
    "all",
    "configmaps",
    "serviceaccounts",
    "secrets",
    "networkpolicies",
    "clusterroles",
    "clusterrolebindings",
    "priorityclasses",
];

/// Nothing of it stays: neither objects of Kubernetes nor of the kernel.
pub(super) fn uninstalled(cluster: &mut Cluster) -> Result<String> {
    let agent = agent_process(cluster)?;
    let held_before = held(agent)?;
    ensure!(!held_before.is_empty(), "the agent holds no BPF objects");
    cluster.helm(&[
        "uninstall",
        agent::RELEASE,
        "-n",
        agent::HOME,
        "--wait",
        "--timeout",
        "60s",
    ])?;
    until("the agent's end", Duration::from_secs(60), || {
        Ok((!Path::new(&format!("/proc/{agent}")).exists()).then_some(()))
    })?;
    let left = |cluster: &Cluster| -> Result<Vec<String>> {
        let label = format!("app.kubernetes.io/instance={}", agent::RELEASE);
        let mut left = Vec::new();
        for kind in KINDS {
            let found = cluster.kubectl.list(&["-A", kind, "-l", &label])?;
            left.extend(found.iter().map(|one| format!("{kind} {}", one["metadata"]["name"])));
        }
        Ok(left)
    };
    // A pod is there until the kubelet says that its containers are gone.
    until("all objects to go", Duration::from_secs(60), || {
        Ok(left(cluster)?.is_empty().then_some(()))
    })?;
    let pins = fs::read_dir("/sys/fs/bpf").map_or(0, |entries| {
        entries.flatten().filter(|one| one.file_name().to_string_lossy().contains("remora")).count()
    });
    ensure!(pins == 0, "{pins} pins stay in /sys/fs/bpf");
    let mut others = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse()
            && let Ok(all) = held(pid)
        {
            others.extend(all);
        }
    }
    let stay: Vec<_> = held_before.intersection(&others).collect();
    ensure!(stay.is_empty(), "BPF objects stay: {stay:?}");
    // The services do not notice.
    let answers = traffic::all(WEB, 20)?;
    pause(Duration::from_secs(2))?;
    let spans = cluster.received.spans()?;
    let late = answers.iter().filter(|one| spans.iter().any(|span| span.target() == one.target));
    ensure!(late.count() == 0, "spans of requests behind the end");
    Ok(format!("{} BPF objects gone, no object of Kubernetes and no pin stays", held_before.len()))
}

/// A value for the schema to refuse.
pub(super) fn schema(cluster: &mut Cluster) -> Result<String> {
    let wrong = [
        ("capabilities={CAP_BPF}", "capabilities"),
        ("config.selectors=null", "selectors"),
        ("imag.tag=x", "imag"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("terminationGracePeriodSeconds=1", "terminationGracePeriodSeconds"),
    ];
    for (set, names) in wrong {
        match cluster.helm(&["template", "wrong", &agent::chart(), "--set", set]) {
            Ok(_) => anyhow::bail!("`--set {set}` was taken"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(
                    said.contains(names),
                    "`--set {set}` is refused without naming {names}: {said}"
                );
            }
        }
    }
    let right: Value = agent::values();
    let file = cluster.file("right.json", &right.to_string())?;
    cluster.helm(&["template", "right", &agent::chart(), "--values", &file])?;
    Ok(format!("{} wrong values refused by name", wrong.len()))
}
