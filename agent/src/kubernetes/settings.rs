//! What can be chosen about Kubernetes.

use std::{path::PathBuf, time::Duration};

use super::{Keep, Naming};

/// Whether the API server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabled {
    /// Where the agent runs in a pod, or a kubeconfig is named.
    #[default]
    Auto,
    On,
    Off,
}

/// See [`super`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: Enabled,
    /// The node whose pods are watched; otherwise the node of the agent's own pod.
    pub node: Option<Box<str>>,
    /// How to reach the API server; otherwise as pods do.
    pub kubeconfig: Option<PathBuf>,
    pub naming: Naming,
    pub keep: Keep,
    /// How long spans of a process wait for its pod to be known.
    pub wait: Duration,
    /// Whether Services and pods of the whole cluster are followed, to name whom clients talk to.
    pub peers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: Enabled::Auto,
            node: None,
            kubeconfig: None,
            naming: Naming::default(),
            keep: Keep::default(),
            wait: Duration::from_secs(2),
            peers: false,
        }
    }
}

impl Settings {
    /// Whether the API server is to be asked, given the agent's environment.
    #[must_use]
    pub fn wanted(&self, env: impl Fn(&str) -> Option<String>) -> bool {
        match self.enabled {
            Enabled::On => true,
            Enabled::Off => false,
            Enabled::Auto => self.kubeconfig.is_some() || env("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_where_it_runs_in_a_pod_unless_told_otherwise() {
        let in_pod =
            |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".to_owned());
        let on_host = |_: &str| None;
        let with = |enabled| Settings { enabled, ..Settings::default() };
        assert!(with(Enabled::Auto).wanted(in_pod) && !with(Enabled::Auto).wanted(on_host));
        assert!(with(Enabled::On).wanted(on_host) && !with(Enabled::Off).wanted(in_pod));
        let named = Settings { kubeconfig: Some("k".into()), ..Settings::default() };
        assert!(named.wanted(on_host));
    }
}
