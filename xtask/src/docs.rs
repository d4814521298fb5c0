//! Writes docs/configuration.md: what the agent itself says of its keys.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, workspace};

pub(crate) fn write() -> Result<()> {
    let mut remora = cargo();
    remora.args(["run", "--quiet", "-p", "remora", "--", "config", "reference"]);
    let output = remora.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`remora config reference` failed: {}", output.status);
    }
    let path = workspace().join("docs/configuration.md");
    fs::write(&path, &output.stdout).with_context(|| path.display().to_string())
}
