//! Programs that Go builds: what they cost is CPU time of this machine, so they are built at the
//! lowest priority.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use remora_ebpf_build::toolchain::on_path;

use super::Module;
use crate::shell::{Scratch, output, run, workspace};

/// From this release on an older Go fetches the one that a module asks for.
const OLDEST_GO: (u32, u32) = (1, 21);

/// What a program of ours is built from; copies of it stay beside the binary.
const SOURCES: [&str; 3] = ["main.go", "go.mod", "go.sum"];

/// Whether the binary in `home` was built from what the module is now.
pub(super) fn is_built_from(home: &Path, name: &str, module: &str) -> bool {
    let module = workspace().join(module);
    let same = |file| {
        let read = |folder: &Path| fs::read(folder.join(file)).ok();
        read(home).is_some_and(|kept| Some(kept) == read(&module))
    };
    home.join(name).is_file() && SOURCES.into_iter().all(same)
}

/// Builds a program of a module of ours, from the package `program`.
pub(crate) fn build_own(home: &Path, name: &str, module: &str, program: &str) -> Result<()> {
    let module = workspace().join(module);
    build(home, name, &module, program, "")?;
    for file in SOURCES {
        fs::copy(module.join(file), home.join(file)).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}

/// Builds a program of a published module where Go keeps the module's source, so that all
/// requirements and replacements of its own hold, as they do for those who release it.
pub(super) fn build_module(home: &Path, name: &str, module: &Module) -> Result<()> {
    check_go()?;
    let outside = Scratch::new("go")?;
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(outside.path()).env("GOFLAGS", "-mod=mod");
        go
    };
    run(go().args(["mod", "download", module.module]))?;
    let source = output(go().args(["list", "-m", "-f", "{{.Dir}}", module.module]))?;
    ensure!(!source.is_empty(), "Go does not say where it keeps {}", module.module);
    build(home, name, &PathBuf::from(source), module.program, module.tags)
}

/// Whole or not at all: the binary gets its name when it is complete.
fn build(home: &Path, name: &str, source: &Path, program: &str, tags: &str) -> Result<()> {
    check_go()?;
    fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    let partial = home.join(format!("{name}.partial-{}", std::process::id()));
    println!("backends: building {name} for {}; this takes minutes", home.display());
    let mut go = Command::new("nice");
    go.args(["-n", "19", "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]);
    go.args(["-ldflags", "-s -w", "-tags", tags, "-o"]).arg(&partial).arg(program);
    // A workspace of the module's authors names more than the module brings.
    let built = run(go.current_dir(source).env("GOWORK", "off"));
    let built = built.and_then(|()| Ok(fs::rename(&partial, home.join(name))?));
    if built.is_err() {
        // It may not have been written at all.
        let _ = fs::remove_file(&partial);
    }
    built
}

pub(crate) fn check_go() -> Result<()> {
    if on_path("go").is_none() {
        bail!("there is no Go: `cargo xtask setup --tests` brings the distribution's");
    }
    let says = output(Command::new("go").args(["env", "GOVERSION"]))?;
    let version = version(&says).with_context(|| format!("Go says it is {says:?}"))?;
    ensure!(version >= OLDEST_GO, "{says} is too old, expected go1.21 or newer");
    Ok(())
}

/// `(1, 26)` of `go1.26.8`.
fn version(says: &str) -> Option<(u32, u32)> {
    let mut numbers = says.strip_prefix("go")?.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_says_its_version_in_several_ways() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.19"), Some((1, 19)));
        assert_eq!(version("devel"), None);
    }
}
