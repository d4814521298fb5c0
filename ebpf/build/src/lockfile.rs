//! Which crates of `Cargo.lock` does the kernel side pull in, and at which versions?
//!
//! Reads the few line shapes that Cargo writes (lock format 3 and 4) rather than TOML at large: a
//! build script should not build a TOML parser for four keys.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

/// Runs in build scripts only, where it chooses a `cfg`: neither it nor what it needs reaches the
/// object.
const BUILD_ONLY: &str = "aya-build";

/// One `[[package]]` of a lock file.
#[derive(Debug, Default, Clone)]
struct Package {
    name: String,
    version: String,
    /// Absent for crates of the workspace.
    checksum: Option<String>,
    /// `name` or, where two versions are locked, `name version`.
    dependencies: Vec<String>,
}

/// Registry crates that `root` needs, directly or not: `name version checksum` each, sorted.
/// The workspace's own crates are left out; their sources are digested as files.
pub fn locked_dependencies(lockfile: &str, root: &str) -> Result<Vec<String>> {
    let packages = parse(lockfile);
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &packages {
        by_name.entry(&package.name).or_default().push(package);
    }
    let find = |dependency: &str| -> Result<&Package> {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let candidates = by_name.get(name).with_context(|| format!("{name} is not locked"))?;
        let mut matching = candidates.iter().filter(|p| version.is_none_or(|v| v == p.version));
        match (matching.next(), matching.next()) {
            (Some(package), None) => Ok(package),
            (None, _) => bail!("{dependency} is not locked"),
            (Some(_), Some(_)) => bail!("{dependency} is locked twice without a version"),
        }
    };

    let mut seen = BTreeSet::new();
    let mut crates = BTreeSet::new();
    let mut queue = vec![find(root)?];
    while let Some(package) = queue.pop() {
        if package.name == BUILD_ONLY || !seen.insert((&package.name, &package.version)) {
            continue;
        }
        if let Some(checksum) = &package.checksum {
            crates.insert(format!("{} {} {checksum}", package.name, package.version));
        }
        for dependency in &package.dependencies {
            queue.push(find(dependency)?);
        }
    }
    Ok(crates.into_iter().collect())
}

fn parse(lockfile: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in lockfile.lines() {
        if line == "[[package]]" {
            packages.push(Package::default());
            continue;
        }
        let Some(package) = packages.last_mut() else { continue };
        if let Some(name) = value(line, "name = ") {
            package.name = name;
        } else if let Some(version) = value(line, "version = ") {
            package.version = version;
        } else if let Some(checksum) = value(line, "checksum = ") {
            package.checksum = Some(checksum);
        } else if let Some(dependency) = value(line, " ") {
            package.dependencies.push(dependency);
        }
    }
    packages
}

fn value(line: &str, key: &str) -> Option<String> {
    let rest = line.strip_prefix(key)?.trim().trim_end_matches(',');
    Some(rest.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "kernel"
version = "0.1.0"
dependencies = [
 "shared",
 "syn 2.0.1",
]

[[package]]
name = "shared"
version = "0.1.0"
dependencies = [
 "bytes",
]

[[package]]
name = "bytes"
version = "1.2.3"
source = "registry+https://example.org/index"
checksum = "aa"

[[package]]
name = "syn"
version = "1.0.9"
source = "registry+https://example.org/index"
checksum = "bb"

[[package]]
name = "syn"
version = "2.0.1"
source = "registry+https://example.org/index"
checksum = "cc"
"#;

    #[test]
    fn follows_workspace_crates_to_their_registry_crates() {
        let crates = locked_dependencies(LOCK, "kernel").unwrap();
        assert_eq!(crates, ["bytes 1.2.3 aa", "syn 2.0.1 cc"]);
    }

    #[test]
    fn ignores_crates_that_the_root_does_not_need() {
        assert_eq!(locked_dependencies(LOCK, "shared").unwrap(), ["bytes 1.2.3 aa"]);
    }

    #[test]
    fn names_the_crate_that_is_not_locked() {
        let error = locked_dependencies(LOCK, "absent").unwrap_err();
        assert_eq!(error.to_string(), "absent is not locked");
    }
}
