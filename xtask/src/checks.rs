//! Tasks that are a Cargo command or two: building the agent, formatting and lints.

use anyhow::Result;
use remora_ebpf_build::{
    object::{self, ARCHITECTURES},
    toolchain::Toolchain,
};

use crate::{
    setup,
    shell::{cargo, run, target_dir, workspace},
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
    run(cargo()
        .args(["clippy", "--workspace", "--exclude", "remora-ebpf", "--all-targets"])
        .args(["--", "--deny", "warnings"]))?;
    let toolchain = Toolchain::find()?;
    let missing = toolchain.missing();
    if !missing.is_empty() {
        println!("skipped: lints of the kernel side: {} is not installed", missing.join(" and "));
        return Ok(());
    }
    // It compiles for another target only. One architecture: the sources are the same.
    object::lint(&toolchain, &workspace(), ARCHITECTURES[0], &target_dir().join("bpf"))
}
