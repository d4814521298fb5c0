//! Kubernetes in the configuration: how pods are followed, and which of them selectors ask for.

use std::{path::PathBuf, time::Duration};

use serde_json::Value as Json;

use super::{
    describe::{Key, Section},
    section::{keys, section, section_value},
    shape::Scalar,
    value::{Setting, keywords},
};
use crate::{
    discover::{OwnerPattern, PodCriteria},
    kubernetes::{Enabled, Keep, Naming, Settings},
};

keywords! {
    impl Enabled { Auto = "auto", On = "on", Off = "off" }
}

section! {
    /// Whose processes are where Kubernetes runs them.
    pub struct Kubernetes {
        /// Whether the API server is asked; auto: where the agent runs in a pod, or a kubeconfig is named.
        pub enabled: Enabled = Enabled::Auto;
        /// The node whose pods are followed; otherwise that of the agent's own pod.
        pub node: Option<Box<str>> = None, variable("NODE_NAME");
        /// How to reach the API server; otherwise as pods do.
        pub kubeconfig: Option<PathBuf> = None;
        /// `k8s.cluster.name`, which the API server does not know.
        pub cluster_name: Option<Box<str>> = None;
        /// Whether the labels `app.kubernetes.io/instance`, `name` and `version` name services.
        pub well_known_labels: bool = false;
        /// Labels of pods that become `k8s.pod.label.KEY`.
        pub pod_labels: Vec<String> = vec![];
        /// Annotations of pods that become `k8s.pod.annotation.KEY`.
        pub pod_annotations: Vec<String> = vec![];
        /// How long spans of a process that has just started wait for its pod to be known.
        pub wait: Duration = Duration::from_secs(2), within(Duration::ZERO, Duration::from_secs(30));
        /// Whether Services and pods of the whole cluster are followed, so that client spans name whom they talk to.
        /// Each agent then reads every one of them once, and every change.
        pub peers: bool = false, variable("REMORA_KUBERNETES_PEERS");
    }
}

impl Kubernetes {
    /// For the part of the agent that follows pods.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        Settings {
            enabled: self.enabled,
            node: self.node.clone(),
            kubeconfig: self.kubeconfig.clone(),
            naming: Naming {
                well_known_labels: self.well_known_labels,
                cluster_name: self.cluster_name.clone(),
                pod_labels: boxed(&self.pod_labels),
                pod_annotations: boxed(&self.pod_annotations),
            },
            keep: Keep { annotations: boxed(&self.pod_annotations) },
            wait: self.wait,
            peers: self.peers,
        }
    }
}

impl Section for PodCriteria {
    const ABOUT: &'static [&'static str] = &[
        "Which pods and containers: of different keys all count, of several values of one key any, of labels",
        "and annotations all.",
    ];

    fn keys() -> Vec<Key<Self>> {
        keys!(Self:
            /// Namespaces, as globs.
            namespaces, named("namespace");
            /// Names of pods, as globs.
            pods, named("pod");
            /// What the pod belongs to: `deployment/web-*`, or a glob of names of any kind.
            owners, named("owner");
            /// Labels of the pod with globs of their values.
            labels;
            /// Annotations of the pod with globs of their values.
            annotations;
            /// Names of containers, as globs.
            containers, named("container");
            /// Images, as the pod's specification has them, as globs.
            images, named("image");
        )
    }
}

section_value!(PodCriteria);

impl Setting for OwnerPattern {
    const SAMPLES: &'static [&'static str] = &["deployment/web", "web-*", "job/*"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "an owner such as deployment/web-* or web-*".into())
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        Scalar {
            expected: "an owner such as deployment/web-* or web-*".into(),
            types: &["string"],
            ..Scalar::default()
        }
    }
}
