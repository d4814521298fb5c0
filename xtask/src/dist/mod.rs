//! Packs a release that runs on any userland: one static binary, as an archive with its licences and as a
//! package for Debian.

pub(crate) mod deb;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    shell::{self, Scratch, cargo, output, target_dir, workspace},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Target triple; by default this machine's, linked statically
    #[arg(long)]
    target: Option<String>,
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
const PACKED: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run(options: &Options) -> Result<()> {
    let target = match &options.target {
        Some(target) => target.clone(),
        None => host()?,
    };
    let binary = build(&target)?;
    ensure_static(&fs::read(&binary).with_context(|| format!("in {}", binary.display()))?)
        .with_context(|| format!("{} is not static", binary.display()))?;
    let dist = workspace().join("dist");
    fs::create_dir_all(&dist)?;
    apt::ensure(&["dpkg-deb"])?;
    for packed in [pack(&binary, &target, &dist)?, deb::pack(&binary, &target, VERSION, &dist)?] {
        println!("{}: {} bytes", packed.display(), packed.metadata()?.len());
    }
    Ok(())
}

/// The release binary of this machine, linked statically.
pub(crate) fn static_binary() -> Result<PathBuf> {
    build(&host()?)
}

pub(crate) fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn build(target: &str) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--locked", "--package", "remora", "--target", target]);
    cargo.args(["--config", "profile.release.strip='symbols'"]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    shell::run(&mut cargo)?;
    Ok(target_dir().join(target).join("release/remora"))
}

/// A static binary asks for no interpreter: no `PT_INTERP` among its program headers
/// (System V ABI, chapter 5), hence no dynamic loader and none of the system's libraries.
pub(crate) fn ensure_static(elf: &[u8]) -> Result<()> {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, length: usize| -> Result<u64> {
        let bytes = elf.get(at..at + length).context("the file is cut short")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "not a little-endian ELF64 file");
    let (offset, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    for index in 0..count {
        let header = usize::try_from(offset + index * size)?;
        if word(header, 4)? == u64::from(PT_INTERP) {
            bail!("it asks for an interpreter");
        }
    }
    Ok(())
}

/// `dist/remora-<version>-<arch>.tar.gz` with one folder of that name inside.
fn pack(binary: &Path, target: &str, dist: &Path) -> Result<PathBuf> {
    let arch = target.split('-').next().unwrap_or(target);
    let name = format!("remora-{VERSION}-{arch}");
    let scratch = Scratch::new("dist")?;
    let folder = scratch.path().join(&name);
    fs::create_dir(&folder)?;
    fs::copy(binary, folder.join("remora"))?;
    for file in PACKED {
        fs::copy(workspace().join(file), folder.join(file)).with_context(|| file.to_owned())?;
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    // Owners, order and times fixed: the archive depends on its files only.
    shell::run(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"])
            .arg("-czf")
            .arg(&archive)
            .arg("-C")
            .arg(scratch.path())
            .arg(&name),
    )?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF64 header and one program header of the given type.
    fn elf(segment: u32) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64..68].copy_from_slice(&segment.to_le_bytes());
        elf
    }

    #[test]
    fn accepts_a_binary_without_an_interpreter() {
        assert!(ensure_static(&elf(1)).is_ok());
    }

    #[test]
    fn refuses_a_binary_that_asks_for_an_interpreter() {
        assert!(ensure_static(&elf(3)).is_err());
    }

    #[test]
    fn refuses_a_file_that_is_cut_short() {
        let elf = elf(1);
        for length in 0..elf.len() - 52 {
            assert!(ensure_static(&elf[..length]).is_err(), "{length} bytes");
        }
    }
}
