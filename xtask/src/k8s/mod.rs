//! A real cluster of one node on this machine, with the project's chart and image and real services: is what
//! spans say of pods what the API server says, whatever happens to the pods?
//!
//! Everything runs as a process of this machine, in a network and a mount namespace of its own. Nothing is pulled, and
//! nothing is left behind.

mod agent;
mod attribution;
mod checks;
mod cluster;
mod control_plane;
mod daemon;
mod images;
mod kubectl;
mod namespaces;
mod node;
mod observer;
mod programs;
mod record;
mod services;
mod spans;
mod traffic;
mod wait;

use std::path::PathBuf;

use anyhow::Result;

use self::{cluster::Cluster, programs::Programs};
use crate::{
    backends::{self, Backend},
    shell::{Root, target_dir},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A static binary of the agent to pack; by default a release is built
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Leave the cluster up until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Write what the API server answers to tests/data/kubernetes, and check nothing
    #[arg(long)]
    record: bool,
    /// Only get the programs that a cluster is made of
    #[arg(long)]
    get: bool,
    /// Only checks whose name contains this
    filter: Option<String>,
    /// In namespaces of its own already, with these images
    #[arg(long, hide = true, value_name = "IMAGE")]
    inside: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = target_dir().join("k8s");
    if !options.inside.is_empty() {
        return inside(options, &folder);
    }
    Programs::ensure()?;
    backends::ensure(&[Backend::Otelcol], false)?;
    if options.get {
        return Ok(());
    }
    let root = Root::find("running a cluster")?;
    let images = images::make(&folder.join("images"), options.binary.as_deref())?;
    let mut arguments = vec!["k8s".to_owned()];
    for image in images {
        arguments.extend(["--inside".to_owned(), image.display().to_string()]);
    }
    arguments.extend(options.keep.then(|| "--keep".to_owned()));
    arguments.extend(options.record.then(|| "--record".to_owned()));
    arguments.extend(options.filter.clone());
    namespaces::enter(root, &arguments)
}

fn inside(options: &Options, folder: &std::path::Path) -> Result<()> {
    wait::heed_signals()?;
    let programs = Programs::known()?;
    let mut cluster = Cluster::start(&programs, folder, &options.inside)?;
    let came = match options.record {
        true => record::run(&mut cluster),
        false => checks::run(&mut cluster, options.filter.as_deref()),
    };
    if options.keep {
        if let Err(error) = &came {
            eprintln!("error: {error:#}");
        }
        println!("k8s: KUBECONFIG={} until Ctrl-C", cluster.kubectl.kubeconfig());
        println!("k8s: nsenter --target {} --mount --net", std::process::id());
        while wait::pause(std::time::Duration::from_secs(1)).is_ok() {}
    }
    came
}
