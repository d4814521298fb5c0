//! Instruction counts as a gate: they repeat, so a change that makes something dearer shows. Counted is the
//! release build, which is what people run.

use std::process::Command;

use anyhow::{Result, bail};

use super::{
    accepted::{Accepted, Section},
    guest, protocols,
};
use crate::{
    shell::{self, cargo, target_dir},
    vm,
};

/// The kernel on which is counted.
const KERNEL: vm::Version = vm::Version(6, 12);

/// The doors that are held to their numbers: each agent that starts takes seconds of emulation.
const DOORS: [&str; 2] = ["socket", "fexit"];

/// Counts, prints the table, and fails if a number has risen; returns what is to be said where it passes though
/// something is not as it was accepted. With `accept` the numbers are written down instead.
pub(crate) fn run(accept: bool) -> Result<Option<String>> {
    let mut accepted = Accepted::read()?;
    vm::install()?;
    protocols::install()?;
    shell::run(cargo().args(["build", "--release", "-p", "remora"]))?;
    let counted = guest::measure(&target_dir().join("release/remora"), KERNEL, &DOORS)?;
    let now = Section {
        kernel: counted.release,
        qemu: qemu()?,
        // The least of some rounds: in the others the agent may have sent its metrics besides.
        counts: counted.rows.into_iter().map(|row| (row.what, row.value.low)).collect(),
    };
    let comparison = accepted.compare(&now);
    if let Some(comparison) = &comparison {
        print!("{}", comparison.table());
    }
    if accept {
        accepted.accept(now);
        accepted.write()?;
        return Ok(None);
    }
    let here = format!("Linux {} under {}", now.kernel, now.qemu);
    let Some(comparison) = comparison else {
        return Ok(Some(format!(
            "no instructions are accepted for {here}: they were only counted"
        )));
    };
    let failed = comparison.failures();
    if !failed.is_empty() {
        bail!("not accepted in docs/bench/accepted.tsv: {}", failed.join("; "));
    }
    if let Some(other) = comparison.other_build {
        println!(
            "accepted on {other}, counted on {here}: compared by what a request takes without an agent"
        );
    }
    Ok(None)
}

/// The version that counts.
pub(crate) fn qemu() -> Result<String> {
    let text = shell::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.replace("emulator version ", ""))
}
