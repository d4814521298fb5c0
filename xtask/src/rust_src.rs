//! Where does the standard library's source come from? Compiling for the BPF target needs `core`
//! from source, of exactly the compiler's version.
//!
//! Tried in turn: rustup, which knows; the tarball that `REMORA_RUST_SRC` names, for machines that
//! do not reach rustup's server; the distribution's package of that version, for those that reach
//! nothing but package registries.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use remora_ebpf_build::toolchain::{Toolchain, on_path};

use crate::shell::{Root, Scratch, output, run};

const TARBALL: &str = "REMORA_RUST_SRC";

/// Debian suites newer than the one in use that may have the package, asked through a private
/// configuration of apt: the system's sources stay as they are.
const NEWER_SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Debian's own keys; without the file apt's trusted keys decide.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Brings rust-src into the compiler's sysroot.
///
/// # Errors
/// When no source has it; each one's reason has been printed by then.
pub(crate) fn install(toolchain: &Toolchain) -> Result<()> {
    type Way = (&'static str, fn(&Toolchain) -> Result<()>);
    let ways: [Way; 3] = [
        ("rustup", from_rustup),
        (TARBALL, from_tarball),
        ("the distribution's package", from_package),
    ];
    for (name, way) in ways {
        match way(toolchain) {
            Ok(()) if toolchain.has_rust_src() => {
                println!("setup: rust-src {} installed from {name}", toolchain.release());
                return Ok(());
            }
            Ok(()) => println!("setup: {name} left no {}", toolchain.library().display()),
            Err(error) => println!("setup: no rust-src from {name}: {error:#}"),
        }
    }
    bail!(
        "rust-src {0} cannot be had; let {TARBALL} name rust-src-{0}.tar.xz or its folder",
        toolchain.release()
    )
}

fn from_rustup(_: &Toolchain) -> Result<()> {
    ensure!(on_path("rustup").is_some(), "it is not installed");
    // A network that swallows packets must not hold up the other ways for long.
    run(Command::new("timeout").args(["120", "rustup", "component", "add", "rust-src"]))
}

fn from_tarball(toolchain: &Toolchain) -> Result<()> {
    let named = PathBuf::from(env::var_os(TARBALL).context("it is not set")?);
    let expected = format!("rust-src-{}.tar.xz", toolchain.release());
    let file = if named.is_dir() { named.join(&expected) } else { named };
    ensure!(file.is_file(), "there is no {}", file.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        !name.starts_with("rust-src-") || name == expected,
        "found {name}, expected {expected}, the compiler's version"
    );
    let scratch = Scratch::new("rust-src")?;
    run(Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(scratch.path()))?;
    // As rustup lays its sysroot out, packed alone or as the component that rustup downloads.
    let component = format!("rust-src-{}/rust-src/lib/rustlib/src/rust", toolchain.release());
    let roots = [scratch.path().to_owned(), scratch.path().join(component)];
    let library = roots.iter().map(|root| root.join("library")).find(|dir| dir.is_dir());
    place(&library.with_context(|| format!("{name} holds no library/"))?, toolchain)
}

fn from_package(toolchain: &Toolchain) -> Result<()> {
    ensure!(on_path("apt-get").is_some(), "this system has no apt");
    let scratch = Scratch::new("rust-src")?;
    let (apt, package) = match Apt::system().package(toolchain.release())? {
        Some(package) => (Apt::system(), package),
        None => newer_suite(scratch.path(), toolchain.release())?,
    };
    println!("setup: downloading {package}; it is unpacked here and not installed");
    run(apt.command("apt-get").args(["download", "-q", &package]).current_dir(scratch.path()))?;
    let deb = fs::read_dir(scratch.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let unpacked = scratch.path().join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    let library = unpacked.join(format!("usr/src/rustc-{}/library", toolchain.release()));
    ensure!(library.is_dir(), "{package} holds no {}", library.display());
    place(&library, toolchain)
}

/// One configuration of apt: the system's, or a private one given by options.
struct Apt(Vec<String>);

impl Apt {
    fn system() -> Self {
        Self(Vec::new())
    }

    /// The same archive and keys as the system's, another suite; lists and cache below `dir`.
    fn private(dir: &Path, suite: &str) -> Result<Self> {
        const FORMAT: &str = "$(REPO_URI)";
        let mut targets = Command::new("apt-get");
        targets.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
        let repositories = output(&mut targets)?;
        let archive =
            repositories.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
        let archive = archive.context("the system's apt names no Debian archive")?;
        let signed_by = if Path::new(KEYRING).is_file() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let list = dir.join("sources.list");
        fs::write(&list, format!("deb {signed_by}{archive} {suite} main\n"))?;
        let status = dir.join("status");
        fs::write(&status, "")?;
        let option = |key: &str, value: &Path| format!("{key}={}", value.display());
        let mut options = vec![
            option("Dir::Etc::sourcelist", &list),
            option("Dir::Etc::sourceparts", Path::new("/dev/null")),
            option("Dir::State::status", &status),
            option("Dir::State::lists", &dir.join("lists")),
            option("Dir::Cache", &dir.join("cache")),
        ];
        // apt's download user cannot write below a private folder.
        options.push("APT::Sandbox::User=root".to_owned());
        Ok(Self(options))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.0 {
            command.args(["-o", option]);
        }
        command
    }

    /// `name=version` of a package with the sources of `release`. Debian has one `rust-src`,
    /// Ubuntu one per release besides.
    fn package(&self, release: &str) -> Result<Option<String>> {
        let minor = release.rsplit_once('.').map_or(release, |(minor, _)| minor);
        for name in ["rust-src".to_owned(), format!("rust-{minor}-src")] {
            let table = output(self.command("apt-cache").args(["madison", &name]))?;
            if let Some(version) = version_of(&table, release) {
                return Ok(Some(format!("{name}={version}")));
            }
        }
        Ok(None)
    }
}

fn newer_suite(dir: &Path, release: &str) -> Result<(Apt, String)> {
    for suite in NEWER_SUITES {
        let apt = Apt::private(&dir.join(suite), suite)?;
        if run(apt.command("apt-get").args(["update", "-q"])).is_err() {
            continue;
        }
        if let Some(package) = apt.package(release)? {
            return Ok((apt, package));
        }
    }
    bail!("no suite has rust-src {release} (asked: the system's, {})", NEWER_SUITES.join(", "))
}

/// The first version in `apt-cache madison`'s table that is `release`, whatever its packaging.
fn version_of<'a>(table: &'a str, release: &str) -> Option<&'a str> {
    let versions = table.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim()));
    versions.into_iter().find(|version| {
        version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
    })
}

/// Copies `library` to where Cargo looks for it. The last step is a rename, so that a copy that
/// was cut short is not taken for the whole.
fn place(library: &Path, toolchain: &Toolchain) -> Result<()> {
    let target = toolchain.library();
    let parent = target.parent().context("the sysroot has no parent folder")?;
    let script = format!(
        "mkdir -p '{0}' && rm -rf '{1}.partial' && cp -r '{2}' '{1}.partial' && mv '{1}.partial' '{1}'",
        parent.display(),
        target.display(),
        library.display()
    );
    let denied = fs::create_dir_all(parent)
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let mut copy = if denied {
        Root::find("writing rust-src into the compiler's sysroot")?.command("sh")
    } else {
        Command::new("sh")
    };
    run(copy.args(["-c", &script]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "\
  rust-src | 1.95.1+dfsg1-1 | http://example.org/debian sid/main amd64 Packages
  rust-src | 1.95.0+dfsg1-1~bpo13+1 | http://example.org/debian trixie-backports/main amd64 Packages
  rust-src | 1.63.0+dfsg1-2 | http://example.org/debian bookworm/main amd64 Packages
";

    #[test]
    fn picks_the_package_of_the_compilers_release() {
        assert_eq!(version_of(MADISON, "1.95.0"), Some("1.95.0+dfsg1-1~bpo13+1"));
    }

    #[test]
    fn takes_no_package_of_a_longer_version_number() {
        assert_eq!(version_of(MADISON, "1.9"), None);
        assert_eq!(version_of(MADISON, "1.95"), None);
    }
}
