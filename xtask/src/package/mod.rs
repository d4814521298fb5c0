//! Does the Debian package work on a clean Debian? Boots one with systemd in a guest, and installs, runs,
//! upgrades, removes and purges it there; `guest.sh` is what happens in it, and says how each step went.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    dist::{self, deb},
    shell::{self, Root, Scratch},
    vm::{self, Version},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A package that was made before, instead of one that is made now
    #[arg(long, conflicts_with = "binary")]
    package: Option<PathBuf>,
    /// A static release binary to make one of, instead of one that is built now
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The kernel to boot
    #[arg(long, default_value = "6.12")]
    kernel: Version,
    /// The release of Debian
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// Seconds until the guest is ended
    #[arg(long, default_value_t = 1200)]
    timeout: u64,
}

/// What happens in the guest, as root.
const SCRIPT: &str = include_str!("guest.sh");

/// What a clean system has: an init, and a service worth watching with somebody to ask it.
const PACKAGES: &str = "systemd-sysv,nginx-light,curl";

pub(crate) fn run(options: &Options) -> Result<()> {
    vm::install()?;
    apt::ensure(&["debootstrap", "dpkg-deb"])?;
    let system = system(&options.suite)?;
    let scratch = Scratch::new("package")?;
    let now = scratch.path().join("now.deb");
    match &options.package {
        Some(package) => {
            fs::copy(package, &now).with_context(|| format!("in {}", package.display()))?;
        }
        None => fs::rename(pack(options.binary.as_deref(), scratch.path())?, &now)?,
    }
    let next = format!("{}.1", dist::VERSION);
    successor(&now, &next, &scratch.path().join("next.deb"))?;
    let script = SCRIPT
        .replace("@FOLDER@", &scratch.path().display().to_string())
        .replace("@NOW@", dist::VERSION)
        .replace("@NEXT@", &next);
    let mut steps = 0;
    let mut line = |line: &str| {
        println!("{line}");
        steps += usize::from(line.starts_with("ok "));
    };
    let limit = Duration::from_secs(options.timeout);
    match vm::in_system(options.kernel, &system, &script, scratch.path(), limit, &mut line)? {
        0 => {
            println!("package: {steps} steps as they should be");
            ensure!(steps > 0, "no step was taken");
            Ok(())
        }
        status => bail!("the script in the guest ended with status {status}"),
    }
}

/// The package as `cargo xtask dist` makes it.
fn pack(binary: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    let binary = match binary {
        Some(binary) => binary.to_owned(),
        None => dist::static_binary()?,
    };
    let program = fs::read(&binary).with_context(|| format!("in {}", binary.display()))?;
    dist::ensure_static(&program).with_context(|| format!("{} is not static", binary.display()))?;
    deb::pack(&binary, &dist::host()?, dist::VERSION, folder)
}

/// The same package with a higher version and another sample configuration, so that dpkg has to choose
/// between that and the user's.
fn successor(package: &Path, version: &str, to: &Path) -> Result<()> {
    let root = to.with_extension("root");
    shell::run(Command::new("dpkg-deb").arg("-R").arg(package).arg(&root))?;
    let control = root.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let now = format!("Version: {}\n", dist::VERSION);
    ensure!(text.contains(&now), "the package's version is not {}", dist::VERSION);
    fs::write(&control, text.replace(&now, &format!("Version: {version}\n")))?;
    let sample = root.join("etc/remora.yaml");
    let text = fs::read_to_string(&sample)?;
    fs::write(&sample, format!("{text}# Of {version}.\n"))?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]);
    shell::run(build.arg(&root).arg(to))
}

/// The folder of a clean Debian, made if it is not there.
fn system(suite: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let folder = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("remora/roots");
    let done = folder.join(suite);
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(&folder)?;
    let root = Root::find("making a Debian system")?;
    let unfinished = folder.join(format!("{suite}.new"));
    if unfinished.exists() {
        shell::run(root.command("rm").arg("-rf").arg(&unfinished))?;
    }
    let mut debootstrap = root.command("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]);
    shell::run(debootstrap.arg(&unfinished).args(archive()))?;
    // What was fetched is not part of a clean system, and it would be read in the guest again and again.
    let cached = unfinished.join("var/cache/apt/archives");
    shell::run(root.command("find").arg(cached).args(["-name", "*.deb", "-delete"]))?;
    shell::run(root.command("mv").arg(&unfinished).arg(&done))?;
    Ok(done)
}

/// The archive that this system has its packages from, if it says so in the usual place; debootstrap knows
/// another.
fn archive() -> Option<String> {
    let sources = Path::new("/etc/apt/sources.list.d/debian.sources");
    let text = fs::read_to_string(sources).ok()?;
    let uris = text.lines().find_map(|line| line.strip_prefix("URIs:"))?;
    uris.split_whitespace().next().map(str::to_owned)
}
