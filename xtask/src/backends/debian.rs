//! Programs of the distribution: the package is downloaded and unpacked, so that no service of it is
//! started and nothing that it depends on is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use remora_ebpf_build::toolchain::on_path;

use crate::shell::{Root, Scratch, output, run};

/// Unpacks `usr/bin/PACKAGE` into `folder/PACKAGE-VERSION`, which is returned.
pub(super) fn unpack(package: &str, folder: &Path) -> Result<PathBuf> {
    let scratch = Scratch::new(package)?;
    let version = unpack_all(package, scratch.path())?;
    let home = folder.join(format!("{package}-{version}"));
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    // The scratch folder may lie on another file system; the last step is a rename.
    let partial = home.join(format!("{package}.partial-{}", std::process::id()));
    let binary = scratch.path().join("usr/bin").join(package);
    fs::copy(&binary, &partial).with_context(|| format!("there is no {}", binary.display()))?;
    fs::rename(&partial, home.join(package))?;
    Ok(home)
}

/// Downloads a package and unpacks its files below `folder`; returns its version.
pub(crate) fn unpack_all(package: &str, folder: &Path) -> Result<String> {
    ensure!(on_path("apt-get").is_some(), "this system has no apt");
    let scratch = Scratch::new(&format!("{package}-download"))?;
    println!("downloading {package}; it is unpacked and not installed");
    let download = || {
        let mut apt = Command::new("apt-get");
        // apt would hand the download to a user that cannot write here.
        apt.args(["download", "-q", "-o", "APT::Sandbox::User=root", package]);
        run(apt.current_dir(scratch.path()))
    };
    // The lists of a fresh image are often empty, and an update is slow: only when it is needed.
    if download().is_err() {
        let root = Root::find("updating the lists of packages")?;
        run(root.command("apt-get").args(["update", "-q"]))?;
        download()?;
    }
    let deb = fs::read_dir(scratch.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(folder))?;
    output(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Version"))
}
