//! How is the API server asked: by `kubectl`, as people do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{programs::Programs, wait::until};
use crate::shell::output;

/// For what takes seconds; the machine may be crowded.
const PATIENCE: Duration = Duration::from_secs(120);

/// The file by which a user talks to the API server.
pub(super) fn kubeconfig(work: &Path, user: &str) -> String {
    format!("{}/{user}.kubeconfig", work.display())
}

#[derive(Clone)]
pub(super) struct Kubectl {
    program: PathBuf,
    kubeconfig: String,
    scratch: PathBuf,
}

impl Kubectl {
    pub(super) fn new(programs: &Programs, work: &Path) -> Self {
        let kubeconfig = kubeconfig(work, "admin");
        Self { program: programs.kubectl(), kubeconfig, scratch: work.join("apply.json") }
    }

    pub(super) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--kubeconfig", &self.kubeconfig]).args(words).stdin(Stdio::null());
        command
    }

    /// What it prints.
    pub(super) fn output(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// An object or a list of them.
    pub(super) fn get(&self, words: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(words);
        let said = self.output(&all)?;
        serde_json::from_str(&said).with_context(|| format!("kubectl {}", all.join(" ")))
    }

    /// Items of a list.
    pub(super) fn list(&self, words: &[&str]) -> Result<Vec<Value>> {
        match self.get(words)?["items"].take() {
            Value::Array(items) => Ok(items),
            other => anyhow::bail!("kubectl get {}: {other} is not a list", words.join(" ")),
        }
    }

    /// Creates or changes objects; the server refuses fields that it does not know.
    pub(super) fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        fs::write(&self.scratch, list.to_string())?;
        let path = self.scratch.to_str().context("a path that is UTF-8")?;
        self.output(&["apply", "--validate=strict", "-f", path]).map(drop)
    }

    /// Waits until a rollout is done.
    pub(super) fn rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let settled = until(&format!("{what} to be rolled out"), PATIENCE, || {
            let words = ["-n", namespace, "rollout", "status", what, "--watch=false"];
            Ok(self.output(&words).ok().filter(|said| said.contains("successfully rolled out")))
        });
        settled.map(drop).with_context(|| {
            let pods = self.output(&["-n", namespace, "get", "pods", "-o", "wide"]);
            let events = self.output(&["-n", namespace, "get", "events"]);
            format!("{}\n{}", pods.unwrap_or_default(), events.unwrap_or_default())
        })
    }

    /// Pods with a label that are ready and not on their way out.
    pub(super) fn ready(&self, namespace: &str, label: &str) -> Result<Vec<Value>> {
        let mut pods = self.list(&["-n", namespace, "pods", "-l", label])?;
        pods.retain(|pod| {
            let conditions = pod["status"]["conditions"].as_array();
            let ready = conditions.is_some_and(|all| {
                all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            ready && pod["metadata"]["deletionTimestamp"].is_null()
        });
        Ok(pods)
    }

    /// A token of a service account.
    pub(super) fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let token = self.output(&["-n", namespace, "create", "token", account])?;
        ensure!(!token.is_empty(), "{account} of {namespace} gets no token");
        Ok(token)
    }

    /// As somebody else.
    pub(super) fn with_token(&self, token: &str) -> Result<Self> {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.kubeconfig)?)?;
        config["users"][0]["user"]["token"] = token.into();
        let kubeconfig = format!("{}-of-another", self.kubeconfig);
        fs::write(&kubeconfig, config.to_string())?;
        Ok(Self { kubeconfig, ..self.clone() })
    }
}
