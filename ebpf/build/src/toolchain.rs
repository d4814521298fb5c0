//! Which kernel-side tools does this machine have? Decides nothing about what to do without them.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::manifest::tree_digest;

/// The linker that turns the compiler's LLVM bitcode into one BPF object.
pub const BPF_LINKER: &str = "bpf-linker";

/// The compiler in use, and where the kernel-side tools are or would be.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// `rustc`, as the caller's Cargo uses it.
    pub rustc: OsString,
    /// First line of `rustc --version`.
    pub rustc_version: String,
    pub sysroot: PathBuf,
    /// Absent: a kernel object cannot be linked here.
    pub bpf_linker: Option<PathBuf>,
}

impl Toolchain {
    /// Asks the compiler, then looks for `bpf-linker` in `PATH` and in Cargo's own `bin`, which
    /// `cargo install` fills whether or not `PATH` has it.
    pub fn find() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
        let rustc_version = output(Command::new(&rustc).arg("--version"))?;
        Ok(Self { rustc, rustc_version, sysroot, bpf_linker: on_path(BPF_LINKER) })
    }

    /// `1.95.0` of `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub fn release(&self) -> &str {
        self.rustc_version.split_whitespace().nth(1).unwrap_or(&self.rustc_version)
    }

    /// Where Cargo's `-Z build-std` looks for the standard library's sources.
    pub fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    pub fn has_rust_src(&self) -> bool {
        self.library().join("core/src/lib.rs").is_file()
    }

    /// Names what is missing to build the kernel side, in the words a user would search for.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.bpf_linker.is_none() {
            missing.push("bpf-linker");
        }
        if !self.has_rust_src() {
            missing.push("rust-src");
        }
        missing
    }

    /// `0.10.4` of `bpf-linker 0.10.4`.
    pub fn bpf_linker_version(&self) -> Result<String> {
        let Some(linker) = &self.bpf_linker else { bail!("bpf-linker is not installed") };
        let line = output(Command::new(linker).arg("--version"))?;
        Ok(line.split_whitespace().next_back().unwrap_or_default().to_owned())
    }

    /// Digest of the parts of rust-src that reach the object. A distribution may patch them under
    /// the same version number, so the number alone does not say what the object was built from.
    pub fn rust_src_digest(&self) -> Result<String> {
        const PARTS: [&str; 5] =
            ["core", "compiler-builtins", "portable-simd", "stdarch", "rustc-std-workspace-core"];
        tree_digest(&self.library(), &PARTS)
    }
}

/// `name` as an executable file in `PATH`, else in `$CARGO_HOME/bin`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(cargo_bin());
    dirs.map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Where `cargo install` puts programs, by its own rules.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).map(|h| h.join("bin"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
