//! Starts following the pods of this node. The API server may be away for as long as it wants: nothing waits
//! for it.

use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use crate::kubernetes::Settings;

#[cfg(feature = "kubernetes")]
pub(super) fn follow(settings: Settings, handle: &Handle, stop: CancellationToken) {
    use crate::kubernetes::watch;

    let tell = handle.pods();
    tokio::spawn(async move {
        match watch::client(&settings).await {
            Ok(client) => watch::run(client, settings, tell, stop).await,
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
pub(super) fn follow(_: Settings, _: &Handle, _: CancellationToken) {}
