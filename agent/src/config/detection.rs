//! What the agent finds out about the machine, in the configuration.

use std::time::Duration;

use super::{
    section::section,
    value::{Url, keywords},
};
use crate::discover::cloud::{Ask, Provider, Settings};

keywords! {
    impl Ask {
        Auto = "auto",
        Only(Provider::Aws) = "aws",
        Only(Provider::Gcp) = "gcp",
        Only(Provider::Azure) = "azure",
        Nobody = "off",
    }
}

section! {
    /// What is found out about the machine.
    pub struct Detection {
        /// Whose metadata server is asked for `cloud.*`, `host.id`, `host.type` and more; auto: that of the
        /// provider that the firmware names, and nobody's on a host of one's own; off: nobody's.
        pub cloud: Ask = Ask::Auto, variable("REMORA_DETECT_CLOUD");
        /// Where it is asked, if not at `http://169.254.169.254`.
        pub cloud_endpoint: Option<Url> = None;
        /// How long it may take in all. What it has not said by then is not known; capture begins that much
        /// after the start at the latest.
        pub cloud_limit: Duration = Duration::from_millis(900),
            within(Duration::from_millis(1), Duration::from_secs(60));
    }
}

impl Detection {
    /// For the part of the agent that asks.
    #[must_use]
    pub fn cloud(&self) -> Settings {
        Settings {
            ask: self.cloud,
            limit: self.cloud_limit,
            endpoint: self.cloud_endpoint.as_ref().map(|url| url.as_str().into()),
        }
    }
}
