//! What the agent learns of pods, and what that costs the API server. Needs no privileges.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use remora::kubernetes::{ClusterUpdate, Pod, Settings, watch};
use remora_tests::api_server::{ApiServer, cluster_uid, pod, recording, replica_set, uid};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Follows the pods of `node-1`.
struct Follower {
    news: mpsc::Receiver<ClusterUpdate>,
    stop: CancellationToken,
    _runtime: Runtime,
}

impl Follower {
    fn start(server: &ApiServer) -> Self {
        Self::with(server, Some("node-1"))
    }

    fn with(server: &ApiServer, node: Option<&str>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (tell, news) = mpsc::channel();
        let stop = CancellationToken::new();
        let settings = Settings {
            node: node.map(Into::into),
            kubeconfig: Some(server.kubeconfig()),
            ..Settings::default()
        };
        let token = stop.clone();
        runtime.spawn(async move {
            let client = watch::client(&settings).await.unwrap();
            watch::run(client, settings, move |news| _ = tell.send(news), token).await;
        });
        Self { news, stop, _runtime: runtime }
    }

    /// The next news that `wanted` takes; everything before it is let go.
    fn until<T>(&self, what: &str, wanted: impl Fn(&ClusterUpdate) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok(news) => match wanted(&news) {
                    Some(found) => return found,
                    None => seen.push(news),
                },
                Err(_) => panic!("no {what} came, only {seen:?}"),
            }
        }
    }

    fn pod(&self, name: &str) -> Arc<Pod> {
        self.until(name, |news| match news {
            ClusterUpdate::Pod(pod) if *pod.name == *name && !pod.owner.pending => {
                Some(Arc::clone(pod))
            }
            _ => None,
        })
    }

    fn gone(&self, name: &str) {
        self.until(&format!("end of {name}"), |news| match news {
            ClusterUpdate::Gone(gone) if **gone == *uid(name) => Some(()),
            _ => None,
        });
    }

    fn listed(&self) {
        self.until("list", |news| matches!(news, ClusterUpdate::Listed).then_some(()));
    }

    fn back(&self) {
        self.until("word that it is back", |news| {
            matches!(news, ClusterUpdate::Back).then_some(())
        });
    }

    fn away(&self) -> String {
        self.until("complaint", |news| match news {
            ClusterUpdate::Away(why) => Some(why.to_string()),
            _ => None,
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server that knows who controls the pods' ReplicaSet.
fn server() -> ApiServer {
    let server = ApiServer::start();
    let (path, set) = replica_set();
    server.object(&path, set);
    server
}

/// The uid of the Deployment.
fn deployment() -> String {
    let (_, set) = replica_set();
    set["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn pods_of_this_node_are_listed_then_followed() {
    let server = server();
    server.put(pod("web-a", "node-1"));
    server.put(pod("web-b", "node-2"));
    let follower = Follower::start(&server);
    let found = follower.pod("web-a");
    assert_eq!(
        found.owner.upper.as_ref().map(|owner| (&*owner.kind, &*owner.uid)),
        Some(("Deployment", &*deployment()))
    );
    server.put(pod("web-c", "node-1"));
    assert_eq!(follower.pod("web-c").owner, found.owner);
    let mut changed = pod("web-c", "node-1");
    changed["metadata"]["labels"]["tier"] = "front".into();
    server.put(changed);
    assert_eq!(follower.pod("web-c").label("tier"), Some("front"));
    server.delete("web-a");
    follower.gone("web-a");
    let requests = server.requests();
    let of_pods: Vec<_> = requests.iter().filter(|one| one.contains("/pods")).collect();
    assert!(
        of_pods.len() == 2 && of_pods.iter().all(|one| one.contains("spec.nodeName%3Dnode-1")),
        "{requests:?}"
    );
    let of_owners = requests.iter().filter(|one| one.contains("replicasets")).count();
    assert_eq!(of_owners, 1, "a controller is asked for once: {requests:?}");
}

#[test]
fn a_watch_goes_on_from_the_last_bookmark() {
    let server = server();
    server.put(pod("web-a", "node-1"));
    let follower = Follower::start(&server);
    follower.listed();
    server.put(pod("web-b", "node-1"));
    follower.pod("web-b");
    server.bookmark();
    let watches = || server.requests().iter().filter(|one| one.contains("watch=")).count();
    let before = watches();
    // A bookmark tells the follower nothing; that it was taken shows where it goes on.
    std::thread::sleep(Duration::from_millis(300));
    server.disconnect();
    server.put(pod("web-c", "node-1"));
    follower.pod("web-c");
    assert!(watches() > before);
    let last = server.requests().into_iter().rfind(|one| one.contains("watch=")).unwrap();
    assert!(last.contains("resourceVersion=4"), "{last}");
    let lists = server
        .requests()
        .iter()
        .filter(|one| one.contains("/pods") && !one.contains("watch="))
        .count();
    assert_eq!(lists, 1, "nothing has to be listed anew");
}

#[test]
fn a_watch_that_is_too_old_lists_anew_and_finds_what_has_gone() {
    let mut server = server();
    server.put(pod("web-a", "node-1"));
    server.put(pod("web-b", "node-1"));
    let follower = Follower::start(&server);
    follower.listed();
    server.stop();
    server.delete("web-a");
    server.put(pod("web-c", "node-1"));
    server.compact();
    server.resume();
    follower.until("gone and new", {
        let seen = std::cell::Cell::new((false, false));
        move |news| {
            let (mut gone, mut new) = seen.get();
            gone |= matches!(news, ClusterUpdate::Gone(gone) if **gone == *uid("web-a"));
            new |= matches!(news, ClusterUpdate::Pod(pod) if &*pod.name == "web-c");
            seen.set((gone, new));
            (gone && new).then_some(())
        }
    });
    follower.listed();
}

#[test]
fn what_is_forbidden_is_named_and_taken_up_when_it_is_allowed() {
    let server = server();
    server.put(pod("web-a", "node-1"));
    server.forbid("/api/v1/pods", true);
    let follower = Follower::start(&server);
    let why = follower.away();
    assert!(why.contains("403") && why.contains("cannot list resource \"pods\""), "{why}");
    server.forbid("/api/v1/pods", false);
    follower.pod("web-a");
}

#[test]
fn owners_that_may_not_be_asked_for_are_told_from_names() {
    let server = ApiServer::start();
    server.forbid("/apis/apps/v1", true);
    server.put(pod("web-a", "node-1"));
    let mut job = pod("mail-a", "node-1");
    job["metadata"]["ownerReferences"][0] = json!({"apiVersion": "batch/v1", "kind": "Job",
        "name": "mail-29384756", "uid": "job-uid", "controller": true});
    server.put(job);
    server.object(
        "/apis/batch/v1/namespaces/shop/jobs/mail-29384756",
        json!({"metadata": {"name": "mail-29384756", "uid": "job-uid", "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "CronJob", "name": "mail", "uid": "cron-uid", "controller": true}]}}),
    );
    let follower = Follower::start(&server);
    follower.listed();
    let mut found = [None, None];
    for (at, name) in ["web-a", "mail-a"].into_iter().enumerate() {
        let mut again = pod(name, "node-1");
        if at == 1 {
            again["metadata"]["ownerReferences"][0] = json!({"apiVersion": "batch/v1", "kind": "Job",
                "name": "mail-29384756", "uid": "job-uid", "controller": true});
        }
        again["metadata"]["labels"]["again"] = "yes".into();
        server.put(again);
        let pod = follower.until(name, |news| match news {
            ClusterUpdate::Pod(pod)
                if *pod.name == *name && !pod.owner.pending && pod.label("again").is_some() =>
            {
                Some(Arc::clone(pod))
            }
            _ => None,
        });
        found[at] = pod.owner.upper.as_ref().map(|owner| (owner.kind.clone(), owner.uid.clone()));
    }
    assert_eq!(
        found,
        [Some(("Deployment".into(), "".into())), Some(("CronJob".into(), "cron-uid".into()))]
    );
}

#[test]
fn a_server_that_is_away_at_start_and_later_is_caught_up_with() {
    let mut server = server();
    server.put(pod("web-a", "node-1"));
    server.stop();
    let follower = Follower::start(&server);
    assert!(!follower.away().is_empty());
    server.resume();
    follower.back();
    follower.pod("web-a");
    server.stop();
    server.put(pod("web-b", "node-1"));
    server.delete("web-a");
    follower.away();
    server.resume();
    follower.back();
    follower.pod("web-b");
    follower.gone("web-a");
}

#[test]
fn the_node_is_that_of_the_agents_own_pod_where_nobody_names_it() {
    let server = ApiServer::start();
    let follower = Follower::with(&server, None);
    // This test does not run in a pod; what is missing is said.
    let why = follower.away();
    assert!(why.contains("NODE_NAME"), "{why}");
}

/// A cluster of 5,000 nodes and 150,000 pods, 200 changes a second: one agent has its 30 pods, and the
/// API server does for it what it does in a cluster of one node.
#[test]
fn a_large_cluster_costs_an_agent_what_a_small_one_does() {
    const NODES: usize = 5_000;
    const PODS: usize = 150_000;
    let server = server();
    server.simulate(NODES, PODS);
    let follower = Follower::start(&server);
    let mut pods = Vec::new();
    follower.listed();
    let listed = server.bytes();
    server.put(pod("web-last", "node-1"));
    pods.push(follower.pod("web-last"));
    let begin = Instant::now();
    let churned = server.churn(2_000);
    server.put(pod("web-end", "node-1"));
    pods.push(follower.pod("web-end"));
    let watched = server.bytes() - listed;
    let each = pods.iter().map(|pod| pod.bytes()).max().unwrap();
    println!(
        "{PODS} pods on {NODES} nodes: {} requests, {listed} bytes for the list, {watched} bytes for \
         {churned} changes in {:?}; {each} bytes kept of a pod of {} bytes",
        server.requests().len(),
        begin.elapsed(),
        pod("web-last", "node-1").to_string().len(),
    );
    // 30 pods, and of 2,000 changes the 40 of this node, at 6 KB each.
    assert!(listed < 250_000 && watched < 350_000, "{listed}, {watched}");
    assert!(each < 3_000, "{each}");
    assert!(server.requests().len() <= 5, "{:?}", server.requests());
}

/// Text behind a path of keys; empty where there is none.
fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A static pod, a sidecar, a Job's pod and one that is made, changed and deleted meanwhile, as a real server
/// told of them.
#[test]
fn what_a_real_api_server_said_is_understood() {
    let (list, watched) = recording();
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    let mut gone: Vec<String> = Vec::new();
    let listed = list["items"].as_array().unwrap().iter();
    let (ends, news): (Vec<_>, Vec<_>) =
        watched.iter().partition(|event| event["type"] == "DELETED");
    gone.extend(ends.iter().map(|event| text(event, "/object/metadata/uid").to_owned()));
    for pod in listed.chain(news.into_iter().map(|event| &event["object"])) {
        let uid = text(pod, "/metadata/uid").to_owned();
        // A bookmark is of no pod.
        if !uid.is_empty() {
            last.insert(uid, pod.clone());
        }
    }
    assert!(last.len() > 4 && gone.len() == 1 && watched.len() > 5, "{} pods", last.len());
    let server = ApiServer::recorded();
    let follower = Follower::start(&server);
    let told = RefCell::new((BTreeMap::new(), Vec::new(), String::new()));
    follower.until("all that was recorded", |news| {
        let (pods, ended, cluster) = &mut *told.borrow_mut();
        match news {
            ClusterUpdate::Pod(pod) => _ = pods.insert(pod.uid.to_string(), Arc::clone(pod)),
            ClusterUpdate::Gone(uid) => ended.push(uid.to_string()),
            ClusterUpdate::Cluster(uid) => *cluster = uid.to_string(),
            _ => {}
        }
        let settled = pods.values().all(|pod| !pod.owner.pending);
        (pods.len() == last.len() && *ended == gone && settled && !cluster.is_empty()).then_some(())
    });
    let (pods, _, cluster) = told.into_inner();
    assert_eq!(*cluster, cluster_uid());
    for (uid, said) in &last {
        let pod = &pods[uid];
        assert_eq!(&*pod.name, text(said, "/metadata/name"));
        assert_eq!(&*pod.namespace, text(said, "/metadata/namespace"));
        assert_eq!(&*pod.node, "node-1");
        assert_eq!(pod.ip.as_deref().unwrap_or_default(), text(said, "/status/podIP"));
        assert_eq!(pod.start_time.as_deref().unwrap_or_default(), text(said, "/status/startTime"));
        assert_eq!(pod.label("app").unwrap_or_default(), text(said, "/metadata/labels/app"));
        let direct = pod.owner.direct.as_ref().map_or("", |owner| &owner.uid);
        assert_eq!(direct, text(said, "/metadata/ownerReferences/0/uid"));
        let statuses = ["containerStatuses", "initContainerStatuses"]
            .iter()
            .flat_map(|key| said["status"][key].as_array().into_iter().flatten());
        for status in statuses {
            let one = pod.container(None, Some(text(status, "/name"))).unwrap();
            assert_eq!(one.restart_count, status["restartCount"]);
            let id = text(status, "/containerID");
            assert_eq!(
                one.id.as_deref().unwrap_or_default(),
                id.trim_start_matches("containerd://")
            );
        }
    }
    let of = |app: &str| pods.values().find(|pod| pod.label("app") == Some(app)).unwrap();
    let upper = |app: &str| of(app).owner.upper.as_ref().map(|owner| (&*owner.kind, &*owner.name));
    assert_eq!(upper("web"), Some(("Deployment", "web")));
    assert_eq!(upper("mail"), Some(("CronJob", "mail")));
    let hash = of("fixed").kubelet_uid.as_deref();
    assert_eq!(hash, of("fixed").annotation("kubernetes.io/config.hash"));
    assert!(hash.is_some());
    assert!(of("mixed").containers.iter().any(|one| &*one.name == "front"));
    assert!(pods.values().any(|pod| pod.opted_out()));
}
