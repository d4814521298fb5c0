//! Tasks that are a Cargo command or two: building the agent, formatting and lints.

use anyhow::Result;

use crate::{
    setup,
    shell::{cargo, run},
};

#[derive(clap::Args)]
pub(crate) struct BuildOptions {
    /// With the optimisations of a release
    #[arg(long)]
    release: bool,
}

pub(crate) fn build(options: &BuildOptions) -> Result<()> {
    setup::compiler()?;
    let release = options.release.then_some("--release");
    run(cargo().args(["build", "--package", "remora"]).args(release))
}

pub(crate) fn lint() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    // The kernel side compiles for another target only; its warnings show when the object is built.
    run(cargo()
        .args(["clippy", "--workspace", "--exclude", "remora-ebpf", "--all-targets"])
        .args(["--", "--deny", "warnings"]))
}
