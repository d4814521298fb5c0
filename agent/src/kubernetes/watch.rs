//! Follows the pods of this node at the API server, for as long as the agent runs.
//!
//! One list, then one watch with bookmarks, both restricted to this node, so that an agent costs the API
//! server the same in a cluster of five nodes or five thousand. Where the watch is refused as too old, or
//! the server was away for long, the pods are listed anew; what was deleted meanwhile is told as gone. The
//! server may be away at any time: what is known stays, the log says so once, and says when it is back.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use hashbrown::{HashMap, HashSet};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ClusterUpdate, Pod, Settings,
    away::{Away, FIRST_PAUSE, LONGEST_PAUSE, Retry, is_expired, refusal},
    node_name::{Own, node_of},
    owners::{Answer, Owners},
    pod::Keep,
    slim::SlimPod,
};

/// A server that does not answer is given up after this.
const CONNECT: Duration = Duration::from_secs(5);
/// The namespace whose uid stands for the cluster.
const CLUSTER_NAMESPACE: &str = "kube-system";

/// Why pods are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot read the kubeconfig {path}")]
    Kubeconfig {
        path: String,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("the agent does not run in a pod: name a kubeconfig, or switch `kubernetes` off")]
    NotInPod(#[source] Box<kube::config::InClusterError>),
    #[error("cannot prepare to talk to the API server")]
    Client(#[source] Box<kube::Error>),
}

/// A client as the settings want it. Nothing is sent yet.
///
/// # Errors
/// [`WatchError`].
pub async fn client(settings: &Settings) -> Result<Client, WatchError> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let failed = |source| WatchError::Kubeconfig {
                path: path.display().to_string(),
                source: Box::new(source),
            };
            let read = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(failed)?
        }
        None => Config::incluster().map_err(|error| WatchError::NotInPod(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| WatchError::Client(Box::new(error)))
}

/// Watches until `stop`; `tell` must not block.
pub async fn run(
    client: Client,
    settings: Settings,
    tell: impl Fn(ClusterUpdate) + Send + Sync,
    stop: CancellationToken,
) {
    let work = async {
        let node = node(&client, &settings, &tell).await;
        tracing::info!(%node, "watching the pods of this node");
        tokio::join!(cluster(&client, &tell), follow(&client, &node, settings.keep, &tell));
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// The node's name; asks until it is known.
async fn node(client: &Client, settings: &Settings, tell: &impl Fn(ClusterUpdate)) -> String {
    if let Some(name) = settings.node.as_deref().filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let mut retry = Retry::of("pods");
    let tell_away = |why: &str| tell(ClusterUpdate::Away(why.into()));
    loop {
        match node_of(client, &Own::detect()).await {
            Ok(node) => return node,
            Err(error) => retry.failed(&Away::Node(error), tell_away).await,
        }
    }
}

/// The cluster's uid, if it may be known.
async fn cluster(client: &Client, tell: &impl Fn(ClusterUpdate)) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let mut pause = FIRST_PAUSE;
    loop {
        match namespaces.get_metadata(CLUSTER_NAMESPACE).await {
            Ok(found) => {
                if let Some(uid) = found.metadata.uid {
                    tell(ClusterUpdate::Cluster(uid.into()));
                }
                return;
            }
            Err(kube::Error::Api(status)) => {
                let why = &status.message;
                return tracing::info!("k8s.cluster.uid is not known: {why}");
            }
            Err(error) => tracing::debug!(%error, "k8s.cluster.uid is not known yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn follow(client: &Client, node: &str, keep: Keep, tell: &impl Fn(ClusterUpdate)) {
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut watch = Watch {
        keep,
        owners: Owners::new(client.clone(), answers),
        known: HashMap::new(),
        listed: None,
        tell,
    };
    let mut retry = Retry::of("pods");
    let tell_away = |why: &str| tell(ClusterUpdate::Away(why.into()));
    loop {
        let pods: Api<SlimPod> = Api::all(client.clone());
        // From the server's cache, which has pods by node: nothing is read from the cluster's database.
        let config =
            watcher::Config::default().any_semantic().fields(&format!("spec.nodeName={node}"));
        let mut events = pin!(watcher(pods, config));
        loop {
            let event = tokio::select! {
                event = events.try_next() => event,
                answer = answered.recv() => {
                    if let Some(answer) = answer {
                        watch.answer(answer);
                    }
                    continue;
                }
            };
            match event {
                Ok(Some(event)) => {
                    if watch.event(event) {
                        retry.succeeded(watch.known.len(), || tell(ClusterUpdate::Back));
                    }
                }
                Ok(None) => break,
                Err(error) if is_expired(&error) => {
                    // Not wrong, only late: the pods are listed anew.
                    tracing::debug!("the watch is too old to go on; listing pods anew");
                    break;
                }
                Err(error) => {
                    let answered = refusal(&error).is_some();
                    retry.failed(&Away::Watch(error), tell_away).await;
                    // A watch that is taken up again tells nothing until something happens.
                    if !answered && watch.listed.is_none() && !watch.known.is_empty() {
                        while let Err(error) = client.apiserver_version().await {
                            retry.failed(&Away::Server(error), tell_away).await;
                        }
                        retry.succeeded(watch.known.len(), || tell(ClusterUpdate::Back));
                    }
                }
            }
        }
    }
}

/// What was told, so that only changes are.
struct Watch<'a, T> {
    keep: Keep,
    owners: Owners,
    /// By uid.
    known: HashMap<Box<str>, Arc<Pod>>,
    /// While pods are listed: those that were.
    listed: Option<HashSet<Box<str>>>,
    tell: &'a T,
}

impl<T: Fn(ClusterUpdate)> Watch<'_, T> {
    /// Takes an event; whether it shows that the server is there.
    fn event(&mut self, event: Event<SlimPod>) -> bool {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                return false;
            }
            Event::InitApply(pod) => {
                if let Some(uid) = self.put(pod)
                    && let Some(listed) = &mut self.listed
                {
                    listed.insert(uid);
                }
                return false;
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let known = self.known.keys();
                let gone: Vec<_> = known.filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.remove(uid));
                tracing::debug!(pods = self.known.len(), "pods listed");
                (self.tell)(ClusterUpdate::Listed);
            }
            Event::Apply(pod) => _ = self.put(pod),
            Event::Delete(pod) => {
                if let Some(uid) = kube::Resource::meta(&pod).uid.clone() {
                    self.remove(&uid);
                }
            }
        }
        true
    }

    fn put(&mut self, pod: SlimPod) -> Option<Box<str>> {
        let mut pod = pod.into_pod(&self.keep);
        if pod.uid.is_empty() {
            return None;
        }
        self.owners.resolve(&mut pod);
        let uid = pod.uid.clone();
        self.tell_if_new(pod);
        Some(uid)
    }

    fn tell_if_new(&mut self, pod: Pod) {
        if self.known.get(&pod.uid).is_some_and(|known| **known == pod) {
            return;
        }
        let pod = Arc::new(pod);
        self.known.insert(pod.uid.clone(), Arc::clone(&pod));
        (self.tell)(ClusterUpdate::Pod(pod));
    }

    fn remove(&mut self, uid: &str) {
        if self.known.remove(uid).is_some() {
            (self.tell)(ClusterUpdate::Gone(uid.into()));
        }
        let known = &self.known;
        let owns = |uid: &str, pod: &Pod| pod.owner.direct.as_ref().is_some_and(|o| &*o.uid == uid);
        self.owners.keep(|owner| known.values().any(|pod| owns(owner, pod)));
    }

    fn answer(&mut self, answer: Answer) {
        let uid = self.owners.learn(answer);
        let owns = |pod: &&Arc<Pod>| pod.owner.direct.as_ref().is_some_and(|o| o.uid == uid);
        let pods: Vec<Pod> = self.known.values().filter(owns).map(|pod| Pod::clone(pod)).collect();
        for mut pod in pods {
            pod.owner.pending = false;
            self.owners.resolve(&mut pod);
            self.tell_if_new(pod);
        }
    }
}
