//! The kernel programs' sources as an object, the same bytes wherever they are built.
//!
//! A second Cargo runs with its own target directory (the first one holds the lock of its own).
//! What would carry this machine into the object is taken out: paths, in the debug information
//! that BTF is made from, are remapped; and symbol names hold a hash of `-C metadata`, which Cargo
//! derives, for the standard library's crates, from where rust-src lies. So every compilation for
//! the BPF target goes through [`rustc_wrapper`], which replaces both.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{strip, toolchain::Toolchain};

/// The crate of the kernel programs, and its binary's name.
pub const PACKAGE: &str = "remora-ebpf";
const BINARY: &str = "remora";

/// Architectures that an object is committed for. The programs read `pt_regs`, whose layout is the
/// architecture's, so each has its own object.
pub const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Both supported architectures are little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// Settings of the inner build, given on its command line so that they do not depend on the
/// profiles of the workspace or of the user. bpf-linker optimises across crates itself.
const PROFILE: [&str; 6] = [
    "profile.release.opt-level=3",
    "profile.release.debug=2",
    "profile.release.lto='off'",
    "profile.release.codegen-units=1",
    "profile.release.strip='none'",
    "profile.release.incremental=false",
];

/// aya loads by BTF; bpf-linker derives it from the debug information.
const RUSTFLAGS: [&str; 1] = ["-Clink-arg=--btf"];

/// Where this build's paths appear in the object.
const WORKSPACE: &str = "/remora";
const RUST_SRC: &str = "/rust-src";
const CRATES: &str = "/crates";
const GENERATED: &str = "/generated";

/// Tells a process that it is the inner Cargo's compiler wrapper; the value is `rust-src` to remap.
const WRAPPER_RUST_SRC: &str = "REMORA_BPF_RUST_SRC";
const WRAPPER_WORKSPACE: &str = "REMORA_BPF_WORKSPACE";

/// All that this file adds to the sources, as text: a change of it makes a committed object stale.
pub(crate) fn recipe() -> String {
    // The last word stands for `strip.rs`.
    [&PROFILE[..], &RUSTFLAGS[..], &[TARGET, WORKSPACE, RUST_SRC, CRATES, GENERATED, "stripped"]]
        .concat()
        .join("\n")
}

/// Builds the kernel object for `arch` and returns its path below `target_dir`.
///
/// The calling program must begin its `main` with [`rustc_wrapper`].
///
/// # Errors
/// When a tool is missing or the inner build fails; its diagnostics are part of the error.
pub fn build(
    toolchain: &Toolchain,
    workspace: &Path,
    arch: &str,
    target_dir: &Path,
) -> Result<PathBuf> {
    let target_dir = target_dir.join(arch);
    let mut cargo = inner_cargo("build", toolchain, workspace, arch, &target_dir)?;
    let output = cargo.output().with_context(|| format!("cannot run {cargo:?}"))?;
    if !output.status.success() {
        bail!("the kernel side does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let built = target_dir.join(TARGET).join("release").join(BINARY);
    let stripped = built.with_extension("stripped");
    let linked = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    fs::write(&stripped, strip::strip(&linked)?)
        .with_context(|| format!("cannot write {}", stripped.display()))?;
    Ok(stripped)
}

/// Runs clippy over the kernel programs, on this terminal. As for [`build`], the calling program
/// must begin its `main` with [`rustc_wrapper`].
///
/// # Errors
/// When a tool is missing or anything is found.
pub fn lint(toolchain: &Toolchain, workspace: &Path, arch: &str, target_dir: &Path) -> Result<()> {
    let mut cargo = inner_cargo("clippy", toolchain, workspace, arch, &target_dir.join(arch))?;
    cargo.args(["--", "--deny", "warnings"]);
    let status = cargo.status().with_context(|| format!("cannot run {cargo:?}"))?;
    ensure!(status.success(), "clippy finds fault with the kernel side");
    Ok(())
}

/// A Cargo with its own target directory, that compiles the kernel programs for `arch`.
fn inner_cargo(
    subcommand: &str,
    toolchain: &Toolchain,
    workspace: &Path,
    arch: &str,
    target_dir: &Path,
) -> Result<Command> {
    let missing = toolchain.missing();
    ensure!(missing.is_empty(), "{} is missing; run `cargo xtask setup`", missing.join(" and "));
    let linker = toolchain.bpf_linker.as_deref().context("bpf-linker is missing")?;

    let mut flags = RUSTFLAGS.map(OsString::from).to_vec();
    flags.push(format!("--cfg=bpf_target_arch=\"{arch}\"").into());
    flags.push(OsString::from_iter([OsStr::new("-Clinker="), linker.as_os_str()]));

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo.args([subcommand, "--release", "--locked", "--package", PACKAGE, "--bin", BINARY]);
    cargo.args(["--target", TARGET, "-Zbuild-std=core"]).arg("--target-dir").arg(target_dir);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    // Of the outer build: its lints' driver and its choices about target and flags.
    for outer in
        ["RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTFLAGS", "TARGET"]
    {
        cargo.env_remove(outer);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")));
    cargo.env("RUSTC", &toolchain.rustc);
    // Unstable flags on a stable compiler, for this build alone: set for a whole workspace it
    // would make other crates' build scripts choose nightly features.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTC_WRAPPER", env::current_exe().context("cannot find this program's path")?);
    cargo.env(WRAPPER_RUST_SRC, canonical(&toolchain.library()));
    cargo.env(WRAPPER_WORKSPACE, canonical(workspace));
    Ok(cargo)
}

/// Acts as the inner Cargo's `RUSTC_WRAPPER` when this process was started as one. Callers of
/// [`build`] return its exit code from `main` at once; everybody else gets `None`.
pub fn rustc_wrapper() -> Option<ExitCode> {
    let rust_src = env::var_os(WRAPPER_RUST_SRC)?;
    let workspace = env::var_os(WRAPPER_WORKSPACE)?;
    let mut args = env::args_os().skip(1);
    let mut rustc = Command::new(args.next()?);
    let mut args: Vec<OsString> = args.collect();
    if args.iter().any(|arg| arg == TARGET) {
        stabilise_metadata(&mut args);
        resolve_root_file(&mut args);
        args.extend(remappings(Path::new(&workspace), Path::new(&rust_src)));
    }
    let error = rustc.args(args).exec();
    eprintln!("cannot run {rustc:?}: {error}");
    Some(ExitCode::FAILURE)
}

/// Replaces the hash in `-C metadata=..` by the crate's name and version, which Cargo puts into
/// the environment. The file names (`-C extra-filename`) stay Cargo's own.
fn stabilise_metadata(args: &mut [OsString]) {
    let package = |key| env::var(key).unwrap_or_default();
    let stable = format!("metadata={}-{}", package("CARGO_PKG_NAME"), package("CARGO_PKG_VERSION"));
    for arg in args {
        if arg.as_encoded_bytes().starts_with(b"metadata=") {
            *arg = stable.clone().into();
        }
    }
}

/// Gives the crate's root file by its canonical path. The compiler shortens paths that lie in its
/// working directory, which the system reports without symbolic links.
fn resolve_root_file(args: &mut [OsString]) {
    for arg in args {
        let path = Path::new(arg);
        if path.is_absolute() && path.extension().is_some_and(|extension| extension == "rs") {
            *arg = canonical(path).into();
        }
    }
}

/// `--remap-path-prefix` flags; the compiler lets the last one that matches win. The registry's
/// folder is named after its index, so each crate is remapped by its own.
fn remappings(workspace: &Path, rust_src: &Path) -> Vec<OsString> {
    let flag = |from: &Path, to: &str| {
        let parts = [OsStr::new("--remap-path-prefix="), from.as_os_str(), OsStr::new("=")];
        let mut flag = OsString::from_iter(parts);
        flag.push(to);
        flag
    };
    let mut flags = Vec::new();
    if let Some(dir) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        flags.push(flag(&canonical(&dir), &format!("{CRATES}/{name}")));
    }
    flags.push(flag(workspace, WORKSPACE));
    flags.push(flag(rust_src, RUST_SRC));
    if let Some(generated) = env::var_os("OUT_DIR").map(PathBuf::from) {
        let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
        flags.push(flag(&generated, &format!("{GENERATED}/{package}")));
    }
    flags
}

/// Without symbolic links; a path that does not exist stays as it is.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
