//! The node: containerd, the kubelet and kube-proxy, with images that are imported and never pulled.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{
    daemon::{Daemon, Daemons},
    images::PAUSE,
    kubectl::{Kubectl, kubeconfig},
    namespaces::NODE_ADDRESS,
    programs::Programs,
    wait::until,
};
use crate::shell::output;

/// What the node is called.
pub(super) const NODE: &str = "node-1";
const PODS: &str = "10.244.0.0/24";
const CONTAINERD: &str = "/run/containerd/containerd.sock";
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) struct Node {
    daemons: Vec<Daemon>,
}

impl Node {
    /// Starts it and waits until it is ready for pods.
    pub(super) fn start(
        daemons: &Daemons,
        programs: &Programs,
        work: &Path,
        images: &[PathBuf],
        kubectl: &Kubectl,
    ) -> Result<Self> {
        let mut containerd = containerd(daemons, programs, work)?;
        let ctr = |words: &[&str]| {
            let mut ctr = Command::new("ctr");
            ctr.env("PATH", programs.path()?).args([
                "--address",
                CONTAINERD,
                "--namespace",
                "k8s.io",
            ]);
            output(ctr.args(words))
        };
        until("containerd", PATIENCE, || {
            containerd.check()?;
            Ok(ctr(&["version"]).ok())
        })?;
        for image in images {
            let path = image.to_str().context("a path that is UTF-8")?;
            ctr(&["images", "import", path]).with_context(|| path.to_owned())?;
        }
        let kubelet = kubelet(daemons, work)?;
        let proxy = daemons.start(
            "kube-proxy",
            &[
                "kube-proxy".into(),
                format!("--kubeconfig={}", kubeconfig(work, "proxy")),
                "--proxy-mode=nftables".into(),
                format!("--cluster-cidr={PODS}"),
                format!("--hostname-override={NODE}"),
                // These belong to the machine.
                "--conntrack-max-per-core=0".into(),
                "--conntrack-tcp-timeout-established=0".into(),
                "--conntrack-tcp-timeout-close-wait=0".into(),
            ],
        )?;
        let mut node = Self { daemons: vec![containerd, kubelet, proxy] };
        until("the node to be ready", PATIENCE, || {
            node.check()?;
            let Ok(found) = kubectl.get(&["node", NODE]) else { return Ok(None) };
            let ready = found["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            Ok(ready.then_some(()))
        })?;
        Ok(node)
    }

    /// # Errors
    /// If something of it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }
}

/// Pods of files in there are the kubelet's own.
pub(super) fn static_pods(work: &Path) -> PathBuf {
    work.join("static")
}

fn containerd(daemons: &Daemons, programs: &Programs, work: &Path) -> Result<Daemon> {
    let networks = work.join("networks");
    fs::create_dir_all(&networks)?;
    let network = json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    });
    fs::write(networks.join("10-pods.conflist"), network.to_string())?;
    let config = work.join("containerd.toml");
    // Nothing here may change what the kernel does when memory is short.
    let text = format!(
        r#"version = 2
root = "{work}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"#,
        work = work.display(),
        plugins = programs.cni().display(),
        networks = networks.display(),
    );
    fs::write(&config, text)?;
    daemons.start("containerd", &["containerd".into(), format!("--config={}", config.display())])
}

fn kubelet(daemons: &Daemons, work: &Path) -> Result<Daemon> {
    fs::create_dir_all(static_pods(work))?;
    let config = work.join("kubelet.json");
    let settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        // There need not be a systemd.
        "cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false,
        "oomScoreAdj": 0, "maxOpenFiles": 20_000,
        "clusterDNS": [], "resolvConf": "",
        "staticPodPath": static_pods(work), "fileCheckFrequency": "2s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": "5s", "nodeStatusUpdateFrequency": "4s",
        // A container that crashes is started again within the time of a test.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "4s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
    });
    fs::write(&config, settings.to_string())?;
    daemons.start(
        "kubelet",
        &[
            "kubelet".into(),
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig(work, "kubelet")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={NODE_ADDRESS}"),
            "--root-dir=/var/lib/kubelet".into(),
            format!("--cert-dir={}/pki", work.display()),
        ],
    )
}
