//! What is shown of the agent in a cluster, in this order.

mod peers;
mod pods;
mod release;
mod server;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    agent, attribution,
    cluster::Cluster,
    services::{self, CHAIN, NAMESPACE, UNSEEN, WEB},
    traffic::{self, Answer},
    wait::{go_on, until},
};

/// Says what it found out.
type Check = fn(&mut Cluster) -> Result<String>;

/// Of a cluster that has no agent yet.
const BEFORE: [(&str, Check); 2] = [
    ("values that the chart refuses", release::schema),
    ("manifests and chart by a strict dry run", release::dry_run),
];

/// Those behind see what those before have left; the last one takes the agent away.
const CHECKS: [(&str, Check); 17] = [
    ("a chain of nginx, Go and Rust", chain),
    ("a namespace that is not selected", not_selected),
    ("six capabilities, no SYS_ADMIN", release::few_privileges),
    ("pods deleted and made anew under load", pods::deleted),
    ("a rollout under load", pods::rollout),
    ("a crash-looping container", pods::crash_looping),
    ("an init container and a sidecar", pods::init_and_sidecar),
    ("a pod in the host's network", pods::host_network),
    ("pods of a StatefulSet, a CronJob, and of nobody", pods::owners),
    ("a static pod", pods::of_the_kubelet),
    ("what the agent's account may ask", server::access),
    ("opting out", server::opting_out),
    ("the API server away for 30 s", server::server_away),
    ("values that a running agent takes", release::reconfigured),
    ("clients that name whom they asked", peers::named),
    ("helm upgrade under load", release::upgraded),
    ("helm uninstall", release::uninstalled),
];

/// Runs those whose name contains `filter`; one that fails keeps none from running.
pub(super) fn run(cluster: &mut Cluster, filter: Option<&str>) -> Result<()> {
    let mut table = Table { filter, rows: String::new(), failed: 0 };
    cluster.kubectl.apply(&[services::namespace(agent::HOME)])?;
    table.fill(cluster, &BEFORE)?;
    cluster.kubectl.apply(&services::chain())?;
    for app in CHAIN {
        cluster.kubectl.rolled_out(NAMESPACE, &format!("deployment/{app}"))?;
    }
    cluster.kubectl.rolled_out(services::OTHER, "deployment/unseen")?;
    println!("k8s: the services are ready");
    agent::install(cluster, &agent::values())?;
    println!("k8s: the chart is installed, the agent is ready");
    table.fill(cluster, &CHECKS)?;
    println!("\n| | what | took | found |\n|---|---|---|---|\n{}", table.rows);
    if table.failed > 0 {
        println!("the agent's log:\n{}", agent::log(cluster)?);
        bail!("{} checks failed", table.failed);
    }
    Ok(())
}

/// What came of them.
struct Table<'a> {
    filter: Option<&'a str>,
    rows: String,
    failed: usize,
}

impl Table<'_> {
    fn fill(&mut self, cluster: &mut Cluster, checks: &[(&str, Check)]) -> Result<()> {
        for (name, check) in checks {
            if self.filter.is_some_and(|filter| !name.contains(filter)) {
                continue;
            }
            go_on()?;
            let begin = Instant::now();
            let came = check(cluster).and_then(|said| cluster.check().map(|()| said));
            let (sign, said) = match came {
                Ok(said) => ("ok", said),
                Err(error) => {
                    self.failed += 1;
                    ("FAILED", format!("{error:#}"))
                }
            };
            let row =
                format!("| {sign} | {name} | {:.1} s | {said} |", begin.elapsed().as_secs_f64());
            println!("k8s: {row}");
            writeln!(self.rows, "{row}")?;
        }
        Ok(())
    }
}

/// Asks until only pods answer that are to stay: kube-proxy follows them in its own time.
fn settled(cluster: &Cluster) -> Result<Vec<Answer>> {
    until("the Services to lead to the pods of now", Duration::from_secs(120), || {
        let mut names = Vec::new();
        for app in CHAIN {
            let pods = cluster.kubectl.ready(NAMESPACE, &format!("app={app}"))?;
            names.extend(
                pods.iter()
                    .map(|pod| format!("{}/", pod["metadata"]["name"].as_str().unwrap_or("?"))),
            );
        }
        let answers = traffic::all(WEB, 30).unwrap_or_default();
        let stays = |by: &String| names.iter().any(|name| by.starts_with(name));
        let all = answers.iter().all(|answer| answer.by.iter().all(stays));
        Ok((!answers.is_empty() && all).then_some(answers))
    })
}

/// Each of three services has a span that says of its pod what the API server says.
fn chain(cluster: &mut Cluster) -> Result<String> {
    let answers = traffic::all(WEB, 60)?;
    ensure!(answers.iter().all(|answer| answer.by.len() == 3), "{:?}", answers[0]);
    let verdict = attribution::judge(cluster, NAMESPACE, &answers)?;
    verdict.accept(0)?;
    let spans = cluster.received.spans()?;
    let clients = spans.iter().filter(|span| !span.is_server()).count();
    ensure!(clients >= 120, "two of three services ask another, found {clients} client spans");
    Ok(format!("{verdict}; {clients} client spans"))
}

fn not_selected(cluster: &mut Cluster) -> Result<String> {
    let unseen = traffic::all(UNSEEN, 20)?;
    // What is sent later is seen; by then the others would have been.
    let seen = traffic::all(WEB, 5)?;
    attribution::judge(cluster, NAMESPACE, &seen)?.accept(0)?;
    let spans = cluster.received.spans()?;
    let leaked = unseen.iter().filter(|one| spans.iter().any(|span| span.target() == one.target));
    let leaked = leaked.count();
    ensure!(leaked == 0, "{leaked} of {} requests have spans", unseen.len());
    Ok(format!("{} requests, no spans", unseen.len()))
}
