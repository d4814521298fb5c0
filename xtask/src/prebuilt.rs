//! The committed kernel objects: write them, and prove that they are what the sources give.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::{
    manifest::{self, Manifest, Tools, sha256},
    object::{self, ARCHITECTURES},
    toolchain::Toolchain,
};

use crate::shell::{target_dir, workspace};

/// Rebuilds the objects of all architectures and their manifest.
pub(crate) fn write() -> Result<()> {
    let workspace = workspace();
    let toolchain = Toolchain::find()?;
    let mut objects = Vec::new();
    for arch in ARCHITECTURES {
        let bytes = build(&toolchain, &workspace, arch)?;
        let committed = manifest::object_path(&workspace, arch);
        fs::create_dir_all(committed.parent().context("the object has no folder")?)?;
        fs::write(&committed, &bytes)
            .with_context(|| format!("cannot write {}", committed.display()))?;
        println!("{}: {} bytes", committed.display(), bytes.len());
        objects.push((arch.to_owned(), sha256(&bytes)));
    }
    let inputs = manifest::inputs(&workspace)?;
    Manifest { inputs, tools: Tools::of(&toolchain)?, objects }.write(&workspace)?;
    println!("{}", manifest::manifest_path(&workspace).display());
    Ok(())
}

/// How a comparison ended when it did not fail.
pub(crate) enum Outcome {
    Equal,
    /// Not compared, or different for a reason that is not in the sources.
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => write!(f, "the committed kernel objects are what the sources give"),
            Self::Skipped(reason) => write!(f, "skipped: committed kernel objects: {reason}"),
        }
    }
}

/// Rebuilds the objects and compares them with the committed ones, byte for byte.
///
/// # Errors
/// When the sources differ from those that the manifest lists, or the bytes differ although the
/// tools are the same.
pub(crate) fn check() -> Result<Outcome> {
    let workspace = workspace();
    for arch in ARCHITECTURES {
        manifest::checked_prebuilt(&workspace, arch)?;
    }
    let toolchain = Toolchain::find()?;
    let missing = toolchain.missing();
    if !missing.is_empty() {
        return Ok(Outcome::Skipped(format!("{} is not installed", missing.join(" and "))));
    }
    let manifest = Manifest::read(&workspace)?;
    for (arch, committed) in &manifest.objects {
        let built = sha256(&build(&toolchain, &workspace, arch)?);
        if built == *committed {
            continue;
        }
        let tools = manifest.tools.differences(&Tools::of(&toolchain)?);
        if tools.is_empty() {
            bail!(
                "the committed kernel object for {arch} is not what the sources give: \
                 sha256 {committed}, rebuilt {built}; run `cargo xtask prebuilt`"
            );
        }
        return Ok(Outcome::Skipped(format!(
            "rebuilt with other tools, which gives other bytes ({})",
            tools.join("; ")
        )));
    }
    Ok(Outcome::Equal)
}

fn build(toolchain: &Toolchain, workspace: &Path, arch: &str) -> Result<Vec<u8>> {
    let path = object::build(toolchain, workspace, arch, &target_dir().join("bpf"))?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
