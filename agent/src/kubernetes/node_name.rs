//! The node whose pods are watched: the configured one, or that of the agent's own pod.

use std::{fs, net::IpAddr};

use kube::{Api, Client, api::ListParams};

use super::slim::SlimPod;
use crate::container::Container;

/// Where a pod reads which namespace it is in.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What the agent knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub namespace: Option<String>,
    /// The pod's name, unless it shares the host's network: then the host's.
    pub hostname: Option<String>,
    /// From the agent's own control group.
    pub pod_uid: Option<Box<str>>,
    pub addresses: Vec<IpAddr>,
}

/// Why the node is not known.
#[derive(Debug, thiserror::Error)]
pub enum NodeNameError {
    #[error("the agent does not run in a pod: set NODE_NAME, or `kubernetes: {{node: NAME}}`")]
    NotInPod,
    #[error(
        "the agent's own pod was not found in the namespace `{namespace}`: set NODE_NAME by \
         `fieldRef: {{fieldPath: spec.nodeName}}`"
    )]
    NotFound { namespace: String },
    #[error("cannot ask for the agent's own pod")]
    Api(#[source] Box<kube::Error>),
}

impl Own {
    /// Of this process.
    #[must_use]
    pub fn detect() -> Self {
        let text = |path: &str| {
            let text = fs::read_to_string(path).ok()?.trim().to_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            namespace: text(NAMESPACE),
            hostname: text("/proc/sys/kernel/hostname"),
            pod_uid: Container::of_cgroup(&cgroup).pod.map(|pod| pod.uid),
            addresses: own_address().into_iter().collect(),
        }
    }
}

/// The address of this process as the API server sees it. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let server: IpAddr = std::env::var("KUBERNETES_SERVICE_HOST").ok()?.parse().ok()?;
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 443)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Asks for the agent's own pod, by name, else by address. Control groups may not tell its uid; then name
/// or address has to be enough.
///
/// # Errors
/// [`NodeNameError`], which says what to set.
pub async fn node_of(client: &Client, own: &Own) -> Result<String, NodeNameError> {
    let namespace = own.namespace.as_deref().ok_or(NodeNameError::NotInPod)?;
    let pods: Api<SlimPod> = Api::namespaced(client.clone(), namespace);
    let api = |error| NodeNameError::Api(Box::new(error));
    let is_own = |pod: &SlimPod| {
        let uid = kube::Resource::meta(pod).uid.as_deref();
        own.pod_uid.as_deref().is_none_or(|own| uid == Some(own))
    };
    let node = |pod: SlimPod| pod.node().map(str::to_owned);
    if let Some(name) = &own.hostname
        && let Some(pod) = pods.get_opt(name).await.map_err(api)?
        && is_own(&pod)
        && let Some(node) = node(pod)
    {
        return Ok(node);
    }
    for address in &own.addresses {
        let here = ListParams::default().fields(&format!("status.podIP={address}"));
        let found = pods.list(&here).await.map_err(api)?;
        if let Some(node) = found.items.into_iter().filter(is_own).find_map(node) {
            return Ok(node);
        }
    }
    Err(NodeNameError::NotFound { namespace: namespace.to_owned() })
}
