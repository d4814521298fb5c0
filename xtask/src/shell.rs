//! How do the tasks run other programs, as this user and as root?

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io::IsTerminal as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::toolchain::on_path;

/// The root of the workspace this xtask was built in.
pub(crate) fn workspace() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().expect("xtask/ lies in the workspace").to_owned()
}

/// The packages that are built and tested together; the `ebpf` crate compiles for another target only.
pub(crate) const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "remora-ebpf"];

/// Where Cargo puts what it builds, honouring `CARGO_TARGET_DIR`.
pub(crate) fn target_dir() -> PathBuf {
    // `join` keeps an absolute path as it is.
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where what takes long to get is kept, outside of the tree.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("remora"))
}

/// The Cargo that runs this task, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    // What `cargo run` says of this package. Build scripts that look at it (ring's does) would run again
    // whenever Cargo is called by hand after a task, or the other way round.
    for (name, _) in env::vars_os() {
        let about_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
        if name.to_str().is_some_and(|name| about_package.iter().any(|p| name.starts_with(p))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Where this program is. A build of the whole workspace may have put another one there meanwhile, which is
/// the same but for what it was built with; the kernel then says that ours is deleted.
pub(crate) fn own_program() -> Result<PathBuf> {
    let path = env::current_exe().context("no path of this program")?;
    let text = path.to_string_lossy();
    let path = Path::new(text.strip_suffix(" (deleted)").unwrap_or(&text));
    if !path.is_file() {
        bail!("this program is not at {} any more", path.display());
    }
    Ok(path.to_owned())
}

/// Says what is run, runs it with this terminal, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line(command));
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// What the command prints, trimmed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", line(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command as one would type it; good enough to read and usually to paste.
pub(crate) fn line(command: &Command) -> String {
    let name = |arg: &OsStr| Path::new(arg).file_name().unwrap_or(arg).display().to_string();
    let mut line = name(command.get_program());
    for arg in command.get_args() {
        write!(line, " {}", arg.display()).expect("a String takes every write");
    }
    line
}

/// How this user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// We are root.
    Already,
    /// `sudo` works without asking, or has a terminal to ask on.
    Sudo,
}

impl Root {
    /// # Errors
    /// One sentence that says what is missing, where root cannot be had.
    pub(crate) fn find(purpose: &str) -> Result<Self> {
        if is_root() {
            return Ok(Self::Already);
        }
        if on_path("sudo").is_none() {
            bail!("{purpose} needs root, and there is no sudo: run this command as root");
        }
        let quiet = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
        if quiet.is_ok_and(|status| status.success()) {
            return Ok(Self::Sudo);
        }
        if !std::io::stdin().is_terminal() {
            bail!("{purpose} needs root, and sudo asks for a password without a terminal");
        }
        eprintln!("{purpose} needs root:");
        let asked = Command::new("sudo").arg("-v").status().context("cannot run sudo")?;
        if !asked.success() {
            bail!("{purpose} needs root, and sudo does not grant it to this user");
        }
        Ok(Self::Sudo)
    }

    /// `program` as root, with this process's environment; sudo alone would replace `PATH`.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Already => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-E", "env"]);
                command.arg(format!("PATH={}", env::var("PATH").unwrap_or_default()));
                command.arg(program);
                command
            }
        }
    }
}

/// The owner of `/proc/self` is the effective user.
pub(crate) fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0)
}

/// A new folder for short-lived files, removed with its contents when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("remora-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst; the system's own cleaning of the temporary folder takes it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
