//! Starts following the pods of this node, and where it is asked for those whom they talk to. The API server may be away
//! for as long as it wants: nothing waits for it.

use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use crate::kubernetes::{Peers, Settings};

#[cfg(feature = "kubernetes")]
pub(super) fn follow(
    settings: Settings,
    handle: &Handle,
    peers: Option<Peers>,
    stop: CancellationToken,
) {
    use crate::kubernetes::{peers, watch};

    let tell = handle.pods();
    tokio::spawn(async move {
        match watch::client(&settings).await {
            Ok(client) => {
                if let Some(names) = peers {
                    let labels = settings.naming.well_known_labels;
                    tokio::spawn(peers::watch::run(client.clone(), labels, names, stop.clone()));
                }
                watch::run(client, settings, tell, stop).await;
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    "pods are not followed, processes are known without them: {error:#}"
                );
            }
        }
    });
}

/// Without the feature there are no settings to follow.
#[cfg(not(feature = "kubernetes"))]
pub(super) fn follow(_: Settings, _: &Handle, _: Option<Peers>, _: CancellationToken) {}
