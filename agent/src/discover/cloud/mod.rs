//! What the provider of a rented machine says of it: `cloud.*`, and `host.id`, `host.type`, `host.image.id`,
//! `host.name` in the provider's terms. Each provider answers machines that ask a link-local address; who
//! is asked is decided from the machine's firmware first ([`provider_of`]), so that a host of one's own sends
//! nothing.
//!
//! All of it takes at most [`Settings::limit`], whatever the server does. What was not answered by then is left
//! out.

mod aws;
mod azure;
mod firmware;
mod gcp;
mod metadata;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use opentelemetry_semantic_conventions::attribute as key;
use tokio::time::Instant;

use self::{firmware::provider_of, metadata::Server};
use crate::attribute::Value;

/// Who rents machines out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Aws,
    Gcp,
    Azure,
}

impl Provider {
    /// As `cloud.provider` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

/// Whose metadata server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// That of the provider that the firmware names; none where it names none.
    #[default]
    Auto,
    Only(Provider),
    Nobody,
}

/// See [`detect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub ask: Ask,
    /// Scheme, host and port to ask at instead of the provider's own.
    pub endpoint: Option<Box<str>>,
    /// How long it may take for everything it is asked. Those there are answer within milliseconds; a
    /// firewall in front of one answers nothing.
    pub limit: Duration,
}

/// Attributes of this host; none if nobody rents it out, or nobody is to be asked.
pub async fn detect(settings: &Settings) -> Vec<(Box<str>, Value)> {
    detect_at(settings, Path::new("/sys")).await
}

/// [`detect`] with another folder for /sys.
async fn detect_at(settings: &Settings, sys: &Path) -> Vec<(Box<str>, Value)> {
    let provider = match settings.ask {
        Ask::Nobody => return Vec::new(),
        Ask::Only(provider) => provider,
        Ask::Auto => match provider_of(sys) {
            Some(provider) => provider,
            None => return Vec::new(),
        },
    };
    let started = Instant::now();
    let mut found = Found(vec![(key::CLOUD_PROVIDER.into(), provider.as_str().into())]);
    let server = Server::new(settings.endpoint.as_deref(), started + settings.limit);
    let asked = match &server {
        Ok(server) => match provider {
            Provider::Aws => aws::ask(server, &mut found).await,
            Provider::Gcp => gcp::ask(server, &mut found).await,
            Provider::Azure => azure::ask(server, &mut found).await,
        },
        Err(error) => Err(error.clone()),
    };
    let provider = provider.as_str();
    match asked {
        Ok(()) => tracing::debug!(provider, elapsed = ?started.elapsed(), "cloud"),
        Err(error) => tracing::warn!(
            provider,
            "the metadata server does not say which machine this is, `cloud.*` are incomplete (`detection.cloud: off` \
             asks nobody): {error}"
        ),
    }
    found.0
}

/// Attributes in the making.
struct Found(Vec<(Box<str>, Value)>);

impl Found {
    /// Adds what was said, unless it is nothing.
    fn add(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        let Some(value) = value else { return };
        let value = value.as_ref().trim();
        if !value.is_empty() {
            self.0.push((key.into(), value.into()));
        }
    }
}
