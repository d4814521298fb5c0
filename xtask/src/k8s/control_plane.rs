//! The control plane: etcd, the API server, the controllers and the scheduler, as processes of this machine.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    daemon::{Daemon, Daemons},
    kubectl::{Kubectl, kubeconfig},
    namespaces::NODE_ADDRESS,
    node::NODE,
    wait::until,
};
use crate::shell::output;

const ETCD: &str = "http://127.0.0.1:2379";
/// The first start reads a database and fills it; on a crowded machine that takes a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Who there is, as the API server knows them by their tokens.
const USERS: [(&str, &str, &str); 5] = [
    ("admin", "admin", "system:masters"),
    ("controllers", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:node-1", "system:nodes"),
    ("proxy", "system:kube-proxy", ""),
];

pub(super) struct ControlPlane {
    api: Option<Daemon>,
    arguments: Vec<String>,
    others: Vec<Daemon>,
}

impl ControlPlane {
    pub(super) fn start(daemons: &Daemons, work: &Path, kubectl: &Kubectl) -> Result<Self> {
        debug_assert!(USERS[3].1.ends_with(NODE));
        let pki = work.join("pki");
        fs::create_dir_all(&pki)?;
        let at = |name: &str| format!("{}/{name}", pki.display());
        output(Command::new("openssl").args(["genrsa", "-out", &at("accounts.key"), "2048"]))?;
        output(Command::new("openssl").args([
            "rsa",
            "-pubout",
            "-in",
            &at("accounts.key"),
            "-out",
            &at("accounts.pub"),
        ]))?;
        identities(work, &at("tokens.csv"), &at("apiserver.crt"))?;
        let etcd = daemons.start(
            "etcd",
            &[
                "etcd".into(),
                format!("--data-dir={}/etcd", work.display()),
                format!("--listen-client-urls={ETCD}"),
                format!("--advertise-client-urls={ETCD}"),
                "--listen-peer-urls=http://127.0.0.1:2380".into(),
                "--unsafe-no-fsync".into(),
                "--log-level=error".into(),
            ],
        )?;
        let arguments = vec![
            "kube-apiserver".into(),
            format!("--etcd-servers={ETCD}"),
            "--secure-port=443".into(),
            format!("--advertise-address={NODE_ADDRESS}"),
            // It signs a certificate for itself there.
            format!("--cert-dir={}", pki.display()),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", at("accounts.pub")),
            format!("--service-account-signing-key-file={}", at("accounts.key")),
            format!("--token-auth-file={}", at("tokens.csv")),
            "--authorization-mode=Node,RBAC".into(),
            "--allow-privileged=true".into(),
            "--endpoint-reconciler-type=master-count".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ];
        let mut plane = Self { api: None, arguments, others: vec![etcd] };
        plane.start_api(daemons, kubectl)?;
        let account_key = at("accounts.key");
        plane.others.push(daemons.start(
            "kube-controller-manager",
            &[
                "kube-controller-manager".into(),
                format!("--kubeconfig={}", kubeconfig(work, "controllers")),
                format!("--service-account-private-key-file={account_key}"),
                format!("--root-ca-file={}", at("apiserver.crt")),
                "--use-service-account-credentials=true".into(),
                "--leader-elect=false".into(),
                format!("--cert-dir={}", pki.display()),
            ],
        )?);
        plane.others.push(daemons.start(
            "kube-scheduler",
            &[
                "kube-scheduler".into(),
                format!("--kubeconfig={}", kubeconfig(work, "scheduler")),
                "--leader-elect=false".into(),
                format!("--cert-dir={}", pki.display()),
            ],
        )?);
        Ok(plane)
    }

    /// Starts the API server, at first or again.
    pub(super) fn start_api(&mut self, daemons: &Daemons, kubectl: &Kubectl) -> Result<()> {
        let mut api = daemons.start("kube-apiserver", &self.arguments)?;
        until("the API server", PATIENCE, || {
            api.check()?;
            Ok(kubectl.output(&["get", "--raw", "/readyz"]).ok())
        })?;
        self.api = Some(api);
        Ok(())
    }

    /// Ends the API server; everything else goes on.
    pub(super) fn stop_api(&mut self) -> Result<()> {
        self.api.take().context("the API server is away already")?.end("-KILL")
    }

    /// # Errors
    /// If something of it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        self.others.iter_mut().chain(&mut self.api).try_for_each(Daemon::check)
    }
}

/// Tokens, and files by which who has one talks to the API server.
fn identities(work: &Path, tokens: &str, authority: &str) -> Result<()> {
    let mut known = String::new();
    for (number, (name, user, group)) in USERS.into_iter().enumerate() {
        known += &format!("token-of-{name},{user},{number},\"{group}\"\n");
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {
                "server": format!("https://{NODE_ADDRESS}:443"), "certificate-authority": authority}}],
            "users": [{"name": name, "user": {"token": format!("token-of-{name}")}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": name}}],
        });
        fs::write(kubeconfig(work, name), config.to_string())?;
    }
    fs::write(tokens, known).with_context(|| tokens.to_owned())
}
