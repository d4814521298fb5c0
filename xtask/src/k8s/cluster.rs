//! The whole of it, up and down: a control plane, a node, a Collector that takes what the agent sends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    control_plane::ControlPlane,
    daemon::{Daemon, Daemons},
    kubectl::Kubectl,
    namespaces::{self, NODE_ADDRESS},
    node::{self, Node},
    observer::Observer,
    programs::Programs,
    spans::Received,
    wait::until,
};
use crate::{backends, shell::output};

/// Everything that runs in it ends when it is dropped.
pub(super) struct Cluster {
    pub(super) kubectl: Kubectl,
    /// What the API server has said of pods so far.
    pub(super) observer: Observer,
    /// What the Collector has got so far.
    pub(super) received: Received,
    plane: ControlPlane,
    node: Node,
    _collector: Daemon,
    helm: PathBuf,
    /// The last to go.
    ground: Ground,
}

/// What the cluster stands on: its processes and its files.
struct Ground {
    daemons: Option<Daemons>,
    work: PathBuf,
}

impl Cluster {
    /// Brings it up, with these images, in namespaces that this process is in already.
    pub(super) fn start(programs: &Programs, folder: &Path, images: &[PathBuf]) -> Result<Self> {
        let begin = Instant::now();
        let said = |what: &str| println!("k8s: {:5.1} s  {what}", begin.elapsed().as_secs_f64());
        let log = folder.join("log");
        let work = folder.join("node");
        for old in [&log, &work] {
            if old.exists() {
                fs::remove_dir_all(old)
                    .with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        fs::create_dir_all(&work)?;
        let daemons = Daemons::new(log, programs.path()?)?;
        let ground = Ground { daemons: Some(daemons), work: work.clone() };
        let daemons = ground.daemons()?;
        namespaces::furnish(&work)?;
        let kubectl = Kubectl::new(programs, &work);
        let collector = collector(daemons, &work)?;
        let plane = ControlPlane::start(daemons, &work, &kubectl)?;
        said("the API server answers");
        let node = Node::start(daemons, programs, &work, images, &kubectl)?;
        said("the node is ready");
        Ok(Self {
            observer: Observer::start(&kubectl),
            received: Received::new(work.join("spans.json")),
            kubectl,
            plane,
            node,
            _collector: collector,
            helm: programs.helm(),
            ground,
        })
    }

    /// # Errors
    /// If a part of it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        self.plane.check()?;
        self.node.check()
    }

    /// What Helm prints.
    pub(super) fn helm(&self, words: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            helm.env(variable, self.ground.work.join("helm").join(folder));
        }
        output(helm.args(["--kubeconfig", self.kubectl.kubeconfig()]).args(words))
    }

    /// A file for a moment.
    pub(super) fn file(&self, name: &str, content: &str) -> Result<String> {
        let path = self.ground.work.join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// Gives the kubelet a pod of its own, or takes it away.
    pub(super) fn static_pod(&self, pod: Option<&Value>) -> Result<()> {
        let file = node::static_pods(&self.ground.work).join("pod.json");
        match pod {
            Some(pod) => fs::write(file, pod.to_string())?,
            None => fs::remove_file(file)?,
        }
        Ok(())
    }

    pub(super) fn stop_api(&mut self) -> Result<()> {
        self.plane.stop_api()
    }

    pub(super) fn start_api(&mut self) -> Result<()> {
        self.plane.start_api(self.ground.daemons()?, &self.kubectl)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.observer.stop();
    }
}

impl Ground {
    fn daemons(&self) -> Result<&Daemons> {
        self.daemons.as_ref().context("the cluster is down")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        println!("k8s: taking the cluster down");
        drop(self.daemons.take());
        // Namespaces and what is mounted in them end with this process.
        let cleared = namespaces::clear_out(&self.work)
            .and_then(|()| Ok(fs::remove_dir_all(&self.work)?))
            .with_context(|| format!("{} stays", self.work.display()));
        if let Err(error) = cleared {
            eprintln!("warning: {error:#}");
        }
    }
}

/// The OpenTelemetry Collector that the tests send to, writing what it gets to a file.
fn collector(daemons: &Daemons, work: &Path) -> Result<Daemon> {
    let config = json!({
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": format!("{NODE_ADDRESS}:4317")}}}},
        "exporters": {"file": {"path": work.join("spans.json"), "flush_interval": "100ms"}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    });
    let path = work.join("collector.json");
    fs::write(&path, config.to_string())?;
    let program = backends::folder()?.join("otelcol/otelcol").display().to_string();
    let mut collector =
        daemons.start("otelcol", &[program, format!("--config={}", path.display())])?;
    let spans = work.join("spans.json");
    until("the Collector", Duration::from_secs(60), || {
        collector.check()?;
        Ok(spans.exists().then_some(()))
    })?;
    Ok(collector)
}
