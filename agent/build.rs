//! Puts the kernel object into `OUT_DIR/remora.bpf.o`, for the agent to embed.
//!
//! From source where the kernel-side toolchain (bpf-linker, rust-src) is present, else the one that
//! is committed under `ebpf/prebuilt/`, provided that it was built from the present sources.
//! `REMORA_BPF=source|prebuilt` decides by hand.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::{
    manifest,
    object::{self, rustc_wrapper},
    toolchain::{Toolchain, cargo_bin},
};

const CHOICE: &str = "REMORA_BPF";

fn main() -> ExitCode {
    if let Some(code) = rustc_wrapper() {
        return code;
    }
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={}", format!("{error:#}").replace('\n', "\ncargo::warning="));
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<()> {
    let var = |name| env::var(name).with_context(|| format!("{name} is not set"));
    let manifest_dir = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("the agent's crate has no parent folder")?;
    let arch = var("CARGO_CFG_TARGET_ARCH")?;
    let out_dir = PathBuf::from(var("OUT_DIR")?);
    let toolchain = Toolchain::find()?;
    watch(workspace, &toolchain);

    let object = match env::var(CHOICE).as_deref() {
        Ok("source") => object::build(&toolchain, workspace, &arch, &out_dir.join("bpf"))?,
        Ok("prebuilt") => manifest::checked_prebuilt(workspace, &arch)?,
        Ok(other) => bail!("{CHOICE}={other}: expected `source` or `prebuilt`"),
        Err(_) if toolchain.missing().is_empty() => {
            object::build(&toolchain, workspace, &arch, &out_dir.join("bpf"))?
        }
        Err(_) => manifest::checked_prebuilt(workspace, &arch)
            .with_context(|| format!("{} is not installed", toolchain.missing().join(" and ")))?,
    };
    let embedded = out_dir.join("remora.bpf.o");
    fs::copy(&object, &embedded)
        .with_context(|| format!("cannot copy {} to {}", object.display(), embedded.display()))?;
    println!("cargo::rustc-env=REMORA_BPF_OBJECT={}", embedded.display());
    Ok(())
}

/// Names everything whose change can change the object. Cargo takes an absent path for a changed
/// one, so an absent tool is watched by the folder in which it would appear.
fn watch(workspace: &Path, toolchain: &Toolchain) {
    println!("cargo::rerun-if-env-changed={CHOICE}");
    let mut paths: Vec<PathBuf> = manifest::watched(workspace).collect();
    paths.extend(toolchain.bpf_linker.clone().or_else(cargo_bin));
    paths.push(if toolchain.has_rust_src() {
        toolchain.library().join("core/src/lib.rs")
    } else {
        toolchain.sysroot.join("lib/rustlib")
    });
    for path in paths.iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}
