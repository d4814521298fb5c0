//! Who processes are where Kubernetes runs them.
//!
//! [`watch`] follows the pods of this node at the API server and tells of each as a slim [`Pod`]; the worker keeps
//! them in [`Pods`], beside its table of processes, and [`attributes`] says what resource attributes they
//! give. A process is tied to its pod by its control group ([`crate::container::Container`]), so the API
//! server never has to be asked while a span waits. Which pods are captured is decided in
//! [`crate::discover`], as for processes. Whom they talk to is told by [`peers`], where that is asked for.

pub mod attributes;
#[cfg(feature = "kubernetes")]
mod away;
pub mod image;
#[cfg(feature = "kubernetes")]
mod node_name;
#[cfg(feature = "kubernetes")]
mod owners;
pub mod peers;
pub mod pod;
mod settings;
#[cfg(feature = "kubernetes")]
pub mod slim;
pub(crate) mod store;
#[cfg(feature = "kubernetes")]
pub mod watch;

use std::sync::Arc;

pub use self::{
    attributes::Naming,
    peers::Peers,
    pod::{Keep, Pod},
    settings::{Enabled, Settings},
    store::Pods,
};

/// What is told of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterUpdate {
    /// A pod is new or has changed.
    Pod(Arc<Pod>),
    /// A pod was deleted; its uid at the API server.
    Gone(Box<str>),
    /// `k8s.cluster.uid`: the uid of the namespace `kube-system`.
    Cluster(Box<str>),
    /// All pods of this node are known; again after each time they had to be listed anew.
    Listed,
    /// The API server does not answer, or not as it should: why.
    Away(Box<str>),
    /// It does again.
    Back,
}
