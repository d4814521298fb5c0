//! Which kernel is booted for a wanted version, and where do its image and modules lie?
//!
//! Debian's cloud kernels of several suites are fetched with apt and unpacked into a cache of the
//! user; nothing is installed. Each suite has a private apt configuration, made of the system's own
//! sources with another suite's name. What is in the cache is used without asking the archive.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::toolchain::on_path;

use crate::shell::{self, Scratch};

/// The suites that carry cloud kernels, the one with the longest support of a version first.
const SUITES: [&str; 5] =
    ["bullseye-security", "bookworm-security", "trixie-security", "trixie-backports", "sid"];

const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| format!("{text} is not like 6.12"))?;
        Ok(Self(major, minor))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// `major.minor` of its release.
    pub(crate) fn version(&self) -> &str {
        let end = self.release.match_indices(['.', '-']).nth(1).map(|(at, _)| at);
        &self.release[..end.unwrap_or(self.release.len())]
    }
}

/// A package's kernel: `6.12.117+deb12-cloud-amd64` or `5.10.0-46-cloud-amd64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// All numbers of the release: compares as versions do.
    numbers: Vec<u32>,
    release: String,
    suite: &'static str,
}

impl Candidate {
    fn new(release: &str, suite: &'static str) -> Option<Self> {
        if !release.starts_with(|c: char| c.is_ascii_digit()) || release.contains("-0.deb") {
            return None;
        }
        let digits = release.strip_suffix("-cloud-amd64")?;
        let numbers = digits.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
        (numbers.len() >= 3).then(|| Self { numbers, release: release.to_owned(), suite })
    }

    fn version(&self) -> Version {
        Version(self.numbers[0], self.numbers[1])
    }
}

/// The kernels for `wanted`, in order, each once; a version that cannot be had is replaced by the
/// nearest that can, by name.
pub(crate) fn find(wanted: &[Version], update: bool) -> Result<Vec<Kernel>> {
    let cache = cache()?;
    let mut archive = None;
    let mut kernels: Vec<Kernel> = Vec::new();
    for &version in wanted {
        let cached = if update { None } else { cached(&cache, version)? };
        let kernel = match cached {
            Some(kernel) => kernel,
            None => {
                let archive = match &mut archive {
                    Some(archive) => archive,
                    empty => empty.insert(Archive::open()?),
                };
                archive.kernel(&cache, version)?
            }
        };
        if kernels.iter().all(|known| known.release != kernel.release) {
            kernels.push(kernel);
        }
    }
    Ok(kernels)
}

fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let cache = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("remora/kernels");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

/// The newest kernel of this version in the cache.
fn cached(cache: &Path, version: Version) -> Result<Option<Kernel>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache).with_context(|| format!("in {}", cache.display()))? {
        let name = entry?.file_name();
        let candidate = Candidate::new(&name.to_string_lossy(), "");
        found.extend(candidate.filter(|candidate| candidate.version() == version));
    }
    Ok(found.into_iter().max().map(|newest| unpacked(cache, newest.release)))
}

fn unpacked(cache: &Path, release: String) -> Kernel {
    let folder = cache.join(&release);
    Kernel { release, image: folder.join("vmlinuz"), modules: folder.join("modules") }
}

/// What the suites offer, with the private configurations that ask them.
struct Archive {
    scratch: Scratch,
    candidates: Vec<Candidate>,
}

impl Archive {
    fn open() -> Result<Self> {
        if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
            bail!("kernels come as Debian packages, and this system has no apt");
        }
        let system = fs::read_to_string(SOURCES)
            .with_context(|| format!("kernels come from the archives in {SOURCES}"))?;
        let scratch = Scratch::new("apt")?;
        let mut archive = Self { scratch, candidates: Vec::new() };
        for suite in SUITES {
            if let Err(error) = archive.ask(&system, suite) {
                eprintln!("warning: nothing from {suite}: {error:#}");
            }
        }
        if archive.candidates.is_empty() {
            bail!("no suite offers a kernel");
        }
        Ok(archive)
    }

    /// Reads the index of `suite`.
    fn ask(&mut self, system: &str, suite: &'static str) -> Result<()> {
        let folder = self.scratch.path().join(suite);
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("suite.sources"), sources(system, suite))?;
        eprintln!("vm: asking {suite} for kernels");
        // Only the index of packages: the descriptions and icons of a whole suite are 20 times that.
        let mut update = self.apt("apt-get", suite);
        update.args([
            "update",
            "-q",
            "-o",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        shell::output(&mut update)?;
        let names = shell::output(self.apt("apt-cache", suite).args(["pkgnames", "linux-image-"]))?;
        let releases = names.lines().filter_map(|name| name.strip_prefix("linux-image-"));
        self.candidates.extend(releases.filter_map(|release| Candidate::new(release, suite)));
        Ok(())
    }

    /// A command of apt that sees nothing but `suite`.
    fn apt(&self, program: &str, suite: &str) -> Command {
        let folder = self.scratch.path().join(suite);
        let mut apt = Command::new(program);
        let mut option = |name: &str, value: &str| {
            apt.arg("-o").arg(format!("{name}={value}"));
        };
        option("Dir::Etc::sourceparts", "/dev/null");
        option("Dir::Etc::preferencesparts", "/dev/null");
        option("Acquire::Languages", "none");
        let paths = [
            ("Dir::Etc::sourcelist", "suite.sources"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ];
        for (name, file) in paths {
            option(name, &folder.join(file).to_string_lossy());
        }
        // apt would hand downloads to a user that cannot read this folder.
        option("APT::Sandbox::User", "root");
        apt
    }

    /// Fetches and unpacks the newest kernel of `version`, or the nearest version there is.
    fn kernel(&self, cache: &Path, version: Version) -> Result<Kernel> {
        let nearest = nearest(&self.candidates, version).context("no suite offers a kernel")?;
        if nearest != version {
            println!("vm: no kernel {version} can be had; taking {nearest} in its place");
        }
        let mut candidates: Vec<&Candidate> =
            self.candidates.iter().filter(|candidate| candidate.version() == nearest).collect();
        candidates.sort();
        // The index may name what was pruned from the pool: then an older build may still be there.
        let mut failure = None;
        for candidate in candidates.into_iter().rev().take(3) {
            if cache.join(&candidate.release).is_dir() {
                return Ok(unpacked(cache, candidate.release.clone()));
            }
            match self.fetch(cache, candidate) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => failure = Some(error.context(format!("for {}", candidate.release))),
            }
        }
        Err(failure.context("no kernel could be fetched")?)
    }

    fn fetch(&self, cache: &Path, candidate: &Candidate) -> Result<Kernel> {
        let Candidate { release, suite, .. } = candidate;
        // Split since 7.2: the image's package is empty then, and the list of what is built in apart.
        let parts = ["linux-image", "linux-binary", "linux-modules", "linux-base"];
        let packages: Vec<String> = parts.iter().map(|part| format!("{part}-{release}")).collect();
        let known = shell::output(self.apt("apt-cache", suite).args(["pkgnames", "linux-"]))?;
        let packages = packages.iter().filter(|package| known.lines().any(|name| name == *package));
        let folder = self.scratch.path().join(release);
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        eprintln!("vm: fetching kernel {release} of {suite}");
        let mut download = self.apt("apt-get", suite);
        download.current_dir(&folder).args(["download", "-q"]).args(packages);
        shell::output(&mut download)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                shell::output(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root))?;
            }
        }
        let one_of = |places: [String; 2]| {
            let mut paths = places.iter().map(|place| root.join(place));
            let found = paths.find(|path| path.exists());
            found.with_context(|| format!("none of {} in the packages", places.join(", ")))
        };
        let image = one_of([
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
        ])?;
        let modules =
            one_of([format!("lib/modules/{release}"), format!("usr/lib/modules/{release}")])?;
        // Whole or not at all: the folder gets its name when everything is in it.
        let partial = cache.join(format!("{release}.partial-{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        fs::copy(image, partial.join("vmlinuz"))?;
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(modules).arg(partial.join("modules")).stdout(Stdio::null());
        shell::output(&mut copy)?;
        let place = cache.join(release);
        if fs::rename(&partial, &place).is_err() {
            // Somebody else was faster.
            fs::remove_dir_all(&partial)?;
        }
        Ok(unpacked(cache, release.clone()))
    }
}

/// The version nearest to `wanted`; of two that are as near the newer one.
fn nearest(candidates: &[Candidate], wanted: Version) -> Option<Version> {
    // Majors ended at about twenty minors lately (5.19, 6.19).
    let place = |version: Version| i64::from(version.0 * 20 + version.1);
    candidates
        .iter()
        .map(Candidate::version)
        .min_by_key(|&version| ((place(version) - place(wanted)).abs(), -place(version)))
}

/// The system's sources with only `suite`: security suites have an archive of their own.
fn sources(system: &str, suite: &str) -> String {
    let is_security = |suite: &str| suite.ends_with("-security");
    let mut stanzas = String::new();
    for stanza in system.split("\n\n") {
        let suites = stanza.lines().find_map(|line| line.strip_prefix("Suites:"));
        let Some(suites) = suites else { continue };
        if suites.split_whitespace().any(is_security) != is_security(suite) {
            continue;
        }
        for line in stanza.lines() {
            if line.starts_with("Suites:") {
                stanzas += &format!("Suites: {suite}\n");
            } else if !line.starts_with('#') {
                stanzas += line;
                stanzas.push('\n');
            }
        }
        stanzas.push('\n');
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(releases: &[&str]) -> Vec<Candidate> {
        releases.iter().filter_map(|release| Candidate::new(release, "sid")).collect()
    }

    #[test]
    fn compares_releases_by_their_numbers() {
        let newest = candidates(&[
            "6.12.99+deb12-cloud-amd64",
            "6.12.117+deb12-cloud-amd64",
            "6.12.120+deb12-amd64",
            "6.12.121+deb12-cloud-amd64-unsigned",
            "6.12-cloud-amd64",
        ]);
        let newest = newest.into_iter().max().unwrap();
        assert_eq!(newest.release, "6.12.117+deb12-cloud-amd64");
        assert_eq!(newest.version(), Version(6, 12));
    }

    #[test]
    fn takes_the_nearest_version_where_one_is_missing() {
        let known = candidates(&[
            "5.10.0-46-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.19.14+deb13-cloud-amd64",
            "7.2.13+deb14-cloud-amd64",
        ]);
        assert_eq!(nearest(&known, Version(6, 18)), Some(Version(6, 19)));
        assert_eq!(nearest(&known, Version(7, 5)), Some(Version(7, 2)));
        assert_eq!(nearest(&known, Version(6, 1)), Some(Version(6, 1)));
    }

    #[test]
    fn puts_the_suite_into_the_archive_that_has_it() {
        let system = "Types: deb\n# a comment\nURIs: main:\nSuites: bookworm bookworm-updates\n\n\
                      Types: deb\nURIs: security:\nSuites: bookworm-security\n";
        assert_eq!(sources(system, "sid").trim(), "Types: deb\nURIs: main:\nSuites: sid");
        let security = sources(system, "bullseye-security");
        assert_eq!(security.trim(), "Types: deb\nURIs: security:\nSuites: bullseye-security");
    }
}
