//! What the agent may ask the API server, what pods may ask of the agent, and what becomes of it without a server.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::settled;
use crate::k8s::{
    agent,
    attribution::judge,
    cluster::Cluster,
    node::NODE,
    services::{NAMESPACE, OTHER, WEB},
    traffic::{self, Traffic},
    wait::{pause, until},
};

/// The chart's own account may do what the agent does, and is refused all else.
pub(super) fn access(cluster: &mut Cluster) -> Result<String> {
    let token = cluster.kubectl.token(agent::HOME, agent::RELEASE)?;
    let account = cluster.kubectl.with_token(&token)?;
    let of_node = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let sets = cluster.kubectl.list(&["-n", NAMESPACE, "replicasets"])?;
    let name = sets[0]["metadata"]["name"].as_str().unwrap_or_default();
    let set = format!("/apis/apps/v1/namespaces/{NAMESPACE}/replicasets/{name}");
    let allowed = [&*of_node, &set, "/api/v1/namespaces/kube-system", "/version"];
    for path in allowed {
        account.output(&["get", "--raw", path])?;
    }
    let refused = [
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/api/v1/nodes",
        "/api/v1/services",
        "/api/v1/namespaces",
        "/api/v1/namespaces/shop",
        "/api/v1/namespaces/kube-system/secrets",
        "/apis/apps/v1/replicasets",
        "/apis/apps/v1/deployments",
        "/apis/batch/v1/jobs",
    ];
    let mut count = 0;
    let mut refuse = |words: &[&str]| match account.output(words) {
        Ok(_) => bail!("the agent's account may `kubectl {}`", words.join(" ")),
        Err(error) => {
            let said = format!("{error:#}");
            count += 1;
            // 403 and no other reason.
            ensure!(said.contains("Forbidden") || said.contains("forbidden"), "{said}");
            Ok(())
        }
    };
    for path in refused {
        refuse(&["get", "--raw", path])?;
    }
    refuse(&["-n", NAMESPACE, "delete", "pods", "--all"])?;
    refuse(&["-n", NAMESPACE, "annotate", "pods", "--all", "a=b"])?;
    refuse(&["-n", OTHER, "create", "configmap", "x"])?;
    Ok(format!("{} questions answered, {count} refused with 403", allowed.len()))
}

/// A pod that says no is not captured from then on; the others are.
pub(super) fn opting_out(cluster: &mut Cluster) -> Result<String> {
    const KEY: &str = "remora-ebpf.github.io/capture";
    let annotate = |cluster: &Cluster, what: &str| {
        let words = ["-n", NAMESPACE, "annotate", "pods", "-l", "app=orders", what, "--overwrite"];
        cluster.kubectl.output(&words).map(|_| Instant::now())
    };
    let traffic = Traffic::start(WEB, Duration::from_millis(10));
    pause(Duration::from_secs(1))?;
    let said = annotate(cluster, &format!("{KEY}=false"))?;
    // The API server tells its watchers within milliseconds; one second is a crowded machine's.
    pause(Duration::from_secs(1))?;
    let waited = said.elapsed();
    let (before, _) = traffic.end();
    let after = traffic::all(WEB, 50)?;
    let of_others: Vec<_> = after
        .iter()
        .map(|answer| {
            let mut answer = answer.clone();
            answer.by.retain(|by| !by.ends_with("/orders"));
            answer
        })
        .collect();
    let verdict = judge(cluster, NAMESPACE, &of_others)?;
    verdict.accept(0)?;
    // How many of those who came before the word were still seen tells when it took effect.
    let of_orders = |cluster: &mut Cluster, targets: &[traffic::Answer]| -> Result<usize> {
        let spans = cluster.received.spans()?;
        let ours = |span: &&crate::k8s::spans::Span| {
            span.resource.get("k8s.container.name").is_some_and(|name| name == "orders")
                && targets.iter().any(|answer| answer.target == span.target())
        };
        Ok(spans.iter().filter(ours).count())
    };
    let leaked = of_orders(cluster, &after)?;
    ensure!(leaked == 0, "{leaked} spans of pods that had said no {waited:?} before");
    let seen = of_orders(cluster, &before)?;
    ensure!(seen > 0, "pods are seen until they say no");
    annotate(cluster, &format!("{KEY}-"))?;
    let back = until("pods that allow it again to be seen", Duration::from_secs(30), || {
        let again = traffic::all(WEB, 5)?;
        pause(Duration::from_secs(1))?;
        Ok((of_orders(cluster, &again)? > 0).then_some(()))
    });
    back?;
    Ok(format!(
        "50 requests {} ms later: 0 spans of pods that said no; seen again after",
        waited.as_millis()
    ))
}

/// Without an API server what is known stays; what has changed meanwhile is learnt when it is back.
pub(super) fn server_away(cluster: &mut Cluster) -> Result<String> {
    const AWAY: Duration = Duration::from_secs(30);
    cluster.stop_api()?;
    let begin = Instant::now();
    let traffic = Traffic::start(WEB, Duration::from_millis(50));
    while begin.elapsed() < AWAY {
        pause(Duration::from_millis(250))?;
    }
    let (answers, failed) = traffic.end();
    cluster.start_api()?;
    let away = judge(cluster, NAMESPACE, &answers)?;
    away.accept(0)?;
    // Pods are made anew, and known by who they are.
    cluster.kubectl.output(&["-n", NAMESPACE, "rollout", "restart", "deployment/stock"])?;
    cluster.kubectl.rolled_out(NAMESPACE, "deployment/stock")?;
    let back = until("word of the agent that the server is back", Duration::from_secs(60), || {
        Ok(agent::log(cluster)?.contains("caught up with the API server").then_some(()))
    });
    back?;
    ensure!(
        agent::log(cluster)?.contains("pods are not followed"),
        "the agent did not say that it was away"
    );
    // kube-proxy, which was refused as well, comes back in its own time; until then Services lead to old pods.
    let answers = settled(cluster)?;
    let after = judge(cluster, NAMESPACE, &answers)?;
    after.accept(0)?;
    Ok(format!("{} s away: {away}, {failed} failed; behind it: {after}", AWAY.as_secs()))
}
