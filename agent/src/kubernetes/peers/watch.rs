//! Follows the Services and the pods of the whole cluster, for as long as the agent runs.
//!
//! Each is listed in pages, so that no more than one page is in memory at once, and then watched with bookmarks. Where a watch
//! is refused as too old they are listed anew, and what was not listed is gone. The server may be away, or say
//! no to one or both, at any time: names that are known stay, the log says so once, and says when it is back.

use std::pin::pin;

use futures_util::TryStreamExt;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{
    Peers,
    slim::{Slim, SlimPeer, SlimService},
};
use crate::kubernetes::away::{Away, Retry, is_expired, refusal};

/// Objects that are listed at once: some megabytes of pods.
const PAGE: u32 = 500;

/// Watches until `stop`. With `well_known_labels`, labels name services, too.
pub async fn run(client: Client, well_known_labels: bool, peers: Peers, stop: CancellationToken) {
    let services =
        follow::<SlimService>(&client, well_known_labels, &peers, "the cluster's Services");
    let pods = follow::<SlimPeer>(&client, well_known_labels, &peers, "the cluster's pods");
    tokio::select! {
        _ = async { tokio::join!(services, pods) } => {}
        () = stop.cancelled() => {}
    }
}

async fn follow<K>(client: &Client, well_known_labels: bool, peers: &Peers, what: &'static str)
where
    K: Slim + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut retry = Retry::of(what);
    let away = |why: &str| peers.away(K::KIND, Some(why));
    let back = || peers.away(K::KIND, None);
    loop {
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = pin!(watcher(Api::<K>::all(client.clone()), config));
        let mut listing = false;
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    listing = matches!(event, Event::Init | Event::InitApply(_));
                    take(peers, event, well_known_labels);
                    if !listing {
                        retry.succeeded(peers.len(K::KIND), back);
                    }
                }
                Ok(None) => break,
                Err(error) if is_expired(&error) => {
                    tracing::debug!("the watch of {what} is too old to go on; listing them anew");
                    if listing {
                        // A list that took too long: the next one may, too.
                        retry.pause().await;
                    }
                    break;
                }
                Err(error) => {
                    let answered = refusal(&error).is_some();
                    retry.failed(&Away::Watch(error), away).await;
                    // A watch that is taken up again tells nothing until something happens.
                    if !answered && !listing && peers.len(K::KIND) > 0 {
                        while let Err(error) = client.apiserver_version().await {
                            retry.failed(&Away::Server(error), away).await;
                        }
                        retry.succeeded(peers.len(K::KIND), back);
                    }
                }
            }
        }
    }
}

fn take<K: Slim>(peers: &Peers, event: Event<K>, well_known_labels: bool) {
    match event {
        Event::Init => peers.begin_list(K::KIND),
        Event::InitApply(object) | Event::Apply(object) => {
            peers.put(K::KIND, &object.seen(well_known_labels));
        }
        Event::InitDone => {
            let known = peers.end_list(K::KIND);
            tracing::info!(known, "{} of the cluster listed", K::KIND.as_str());
        }
        Event::Delete(object) => peers.remove(K::KIND, object.uid()),
    }
}
