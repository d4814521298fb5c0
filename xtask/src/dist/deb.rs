//! A package for Debian and what derives from it: the static binary with its unit, a sample configuration,
//! manual pages and completions.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Scratch, cargo, output, workspace};

/// What is installed as it is: from, to, mode.
const FILES: [(&str, &str, u32); 4] = [
    ("deploy/systemd/remora.service", "usr/lib/systemd/system/remora.service", 0o644),
    // It may come to hold tokens.
    ("deploy/remora.yaml", "etc/remora.yaml", 0o600),
    ("LICENSE-APACHE", "usr/share/doc/remora/LICENSE-APACHE", 0o644),
    ("LICENSE-MIT", "usr/share/doc/remora/copyright", 0o644),
];

const COMPLETIONS: [(&str, &str); 3] = [
    ("remora.bash", "usr/share/bash-completion/completions/remora"),
    ("_remora", "usr/share/zsh/vendor-completions/_remora"),
    ("remora.fish", "usr/share/fish/vendor_completions.d/remora.fish"),
];

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs `binary` into `folder`/remora_<version>_<architecture>.deb.
pub(crate) fn pack(binary: &Path, target: &str, version: &str, folder: &Path) -> Result<PathBuf> {
    let architecture = architecture(target)?;
    let scratch = Scratch::new("deb")?;
    let root = scratch.path().join("root");
    install(binary, &root.join("usr/bin/remora"), 0o755)?;
    for (from, to, mode) in FILES {
        install(&workspace().join(from), &root.join(to), mode)?;
    }
    let pages = scratch.path().join("pages");
    shell::run(
        cargo().args(["run", "--package", "remora", "--example", "pages", "--"]).arg(&pages),
    )?;
    for (from, to) in COMPLETIONS {
        install(&pages.join(from), &root.join(to), 0o644)?;
    }
    for page in fs::read_dir(pages.join("man1"))? {
        let page = page?;
        let to = root.join("usr/share/man/man1").join(page.file_name());
        install(&page.path(), &to, 0o644)?;
        // Without name and time: the package depends on its files only.
        shell::run(Command::new("gzip").args(["-9n"]).arg(to))?;
    }
    let debian = workspace().join("deploy/debian");
    for script in SCRIPTS {
        install(&debian.join(script), &root.join("DEBIAN").join(script), 0o755)?;
    }
    install(&debian.join("conffiles"), &root.join("DEBIAN/conffiles"), 0o644)?;
    let control = fs::read_to_string(debian.join("control"))?
        .replace("@version@", version)
        .replace("@architecture@", architecture)
        .replace("@homepage@", env!("CARGO_PKG_REPOSITORY"))
        .replace("@size@", &kib(&root)?.to_string());
    fs::write(root.join("DEBIAN/control"), control)?;
    let package = folder.join(format!("remora_{version}_{architecture}.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env("SOURCE_DATE_EPOCH", "0").args(["--root-owner-group", "-Zxz", "--build"]);
    shell::run(dpkg.arg(&root).arg(&package))?;
    Ok(package)
}

/// What Debian calls the processor of a target triple.
fn architecture(target: &str) -> Result<&'static str> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => bail!("found target {target}, expected one of x86_64 or aarch64"),
    }
}

/// Copies a file, with the folders above it.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let named = || format!("{} to {}", from.display(), to.display());
    fs::create_dir_all(to.parent().context("a file")?).with_context(named)?;
    let mut source = fs::File::open(from).with_context(named)?;
    let mut file =
        fs::File::options().write(true).create_new(true).mode(mode).open(to).with_context(named)?;
    std::io::copy(&mut source, &mut file).with_context(named)?;
    // Whatever the umask.
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(named)
}

/// The size of everything in `folder`, as deb-control(5) wants it.
fn kib(folder: &Path) -> Result<u64> {
    let text = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(folder))?;
    let size = text.split_whitespace().next().and_then(|size| size.parse().ok());
    size.with_context(|| format!("du says {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_is_named_as_debian_does() {
        assert_eq!(architecture("x86_64-unknown-linux-gnu").unwrap(), "amd64");
        assert_eq!(architecture("aarch64-unknown-linux-gnu").unwrap(), "arm64");
        assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
    }
}
