//! What was a committed kernel object built from, and does that still hold?
//!
//! `ebpf/prebuilt/manifest` lists every input with its digest, one line each, so that a refusal can
//! name the file that changed instead of two numbers that differ.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{lockfile::locked_dependencies, object, toolchain::Toolchain};

/// The committed objects and their manifest, from the workspace's root.
pub const PREBUILT: &str = "ebpf/prebuilt";

/// What the object is compiled from, besides the crates of the lock file.
const SOURCES: [&str; 4] = ["common/Cargo.toml", "common/src", "ebpf/Cargo.toml", "ebpf/src"];

const HEADER: &str = "\
# What the kernel objects in this folder were built from, as SHA-256 digests and locked versions.
# Written by `cargo xtask prebuilt`, checked by agent/build.rs before it takes an object from here.
";

/// The tools an object was built with. Not an input that a source tree can differ in, so not a
/// reason to refuse an object; the reason why a rebuild may give other bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub rustc: String,
    pub bpf_linker: String,
    pub rust_src: String,
}

impl Tools {
    pub fn of(toolchain: &Toolchain) -> Result<Self> {
        Ok(Self {
            rustc: toolchain.rustc_version.clone(),
            bpf_linker: toolchain.bpf_linker_version()?,
            rust_src: toolchain.rust_src_digest()?,
        })
    }

    /// One line per tool that differs, `self` being what the object was built with.
    pub fn differences(&self, here: &Self) -> Vec<String> {
        let rows = [
            ("rustc", &self.rustc, &here.rustc),
            ("bpf-linker", &self.bpf_linker, &here.bpf_linker),
            ("rust-src", &self.rust_src, &here.rust_src),
        ];
        let differing = rows.into_iter().filter(|(_, was, is)| was != is);
        differing.map(|(tool, was, is)| format!("{tool}: built with {was}, here {is}")).collect()
    }
}

/// The contents of `ebpf/prebuilt/manifest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `file <sha256> <path>`, `crate <name> <version> <checksum>`, `recipe <sha256>`.
    pub inputs: BTreeSet<String>,
    pub tools: Tools,
    /// Architecture and SHA-256 of each committed object.
    pub objects: Vec<(String, String)>,
}

impl Manifest {
    pub fn read(workspace: &Path) -> Result<Self> {
        let path = manifest_path(workspace);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub fn write(&self, workspace: &Path) -> Result<()> {
        let path = manifest_path(workspace);
        fs::write(&path, self.render()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut inputs = BTreeSet::new();
        let (mut rustc, mut bpf_linker, mut rust_src) = (None, None, None);
        let mut objects = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "file" | "crate" | "recipe" => {
                    inputs.insert(line.to_owned());
                }
                "rustc" => rustc = Some(line.to_owned()),
                "bpf-linker" => bpf_linker = Some(rest.to_owned()),
                "rust-src" => rust_src = Some(rest.to_owned()),
                "object" => {
                    let (sha256, arch) =
                        rest.split_once(' ').context("object: expected a digest and a name")?;
                    objects.push((arch.to_owned(), sha256.to_owned()));
                }
                _ => bail!("unknown line {line:?}"),
            }
        }
        let tools = Tools {
            rustc: rustc.context("no line rustc")?,
            bpf_linker: bpf_linker.context("no line bpf-linker")?,
            rust_src: rust_src.context("no line rust-src")?,
        };
        Ok(Self { inputs, tools, objects })
    }

    fn render(&self) -> String {
        let mut text = String::from(HEADER);
        for line in &self.inputs {
            writeln!(text, "{line}").expect("a String takes every write");
        }
        // `rustc --version` begins with the word that names the line.
        let Tools { rustc, bpf_linker, rust_src } = &self.tools;
        write!(text, "{rustc}\nbpf-linker {bpf_linker}\nrust-src {rust_src}\n")
            .expect("a String takes every write");
        for (arch, sha256) in &self.objects {
            writeln!(text, "object {sha256} {arch}").expect("a String takes every write");
        }
        text
    }

    /// What changed in the sources since the objects were built: one phrase per difference.
    pub fn stale_inputs(&self, now: &BTreeSet<String>) -> Vec<String> {
        let (was, is) = (by_subject(&self.inputs), by_subject(now));
        let mut differences = Vec::new();
        for (subject, value) in &was {
            match is.iter().find(|(other, _)| other == subject) {
                None => differences.push(format!("{subject} is gone")),
                Some((_, other)) if other != value => {
                    differences.push(format!("{subject} differs"))
                }
                Some(_) => {}
            }
        }
        for (subject, _) in &is {
            if !was.iter().any(|(other, _)| other == subject) {
                differences.push(format!("{subject} is new"));
            }
        }
        differences
    }
}

/// The committed object for `arch`, after checking that it is what the present sources describe.
///
/// # Errors
/// Says what differs (a source file, a locked crate, the object's own bytes) and what to run.
pub fn checked_prebuilt(workspace: &Path, arch: &str) -> Result<PathBuf> {
    const REMEDY: &str = "run `cargo xtask setup` and then `cargo xtask prebuilt`, \
                          or undo the change";
    let manifest = Manifest::read(workspace)?;
    let stale = manifest.stale_inputs(&inputs(workspace)?);
    ensure!(
        stale.is_empty(),
        "the committed kernel object was built from other sources: {}; {REMEDY}",
        stale.join(", ")
    );
    let Some((_, expected)) = manifest.objects.iter().find(|(name, _)| name == arch) else {
        bail!("no kernel object for {arch} is committed in {PREBUILT}; {REMEDY}");
    };
    let path = object_path(workspace, arch);
    let found = sha256(&read(&path)?);
    ensure!(
        found == *expected,
        "{} is not the object of its manifest: sha256 {found}, expected {expected}; {REMEDY}",
        path.display()
    );
    Ok(path)
}

/// Everything that decides the object's bytes and lies in the source tree, one line each.
pub fn inputs(workspace: &Path) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for source in SOURCES {
        for file in files(&workspace.join(source))? {
            let name = file.strip_prefix(workspace).unwrap_or(&file).display();
            lines.insert(format!("file {} {name}", sha256(&read(&file)?)));
        }
    }
    let lockfile = String::from_utf8(read(&workspace.join("Cargo.lock"))?)?;
    for line in locked_dependencies(&lockfile, object::PACKAGE)? {
        lines.insert(format!("crate {line}"));
    }
    lines.insert(format!("recipe {}", sha256(object::recipe().as_bytes())));
    Ok(lines)
}

/// Paths whose change can change [`inputs`], for Cargo's `rerun-if-changed`.
pub fn watched(workspace: &Path) -> impl Iterator<Item = PathBuf> {
    SOURCES.into_iter().chain(["Cargo.lock", PREBUILT]).map(|path| workspace.join(path))
}

pub fn manifest_path(workspace: &Path) -> PathBuf {
    workspace.join(PREBUILT).join("manifest")
}

pub fn object_path(workspace: &Path, arch: &str) -> PathBuf {
    workspace.join(PREBUILT).join(format!("remora-{arch}.bpf.o"))
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("a String takes every write");
    }
    hex
}

/// One digest over the names and contents of all files below `parts` of `root`.
pub(crate) fn tree_digest(root: &Path, parts: &[&str]) -> Result<String> {
    let mut hasher = Sha256::new();
    for part in parts {
        for file in files(&root.join(part))? {
            let name = file.strip_prefix(root).unwrap_or(&file).as_os_str();
            let content = read(&file)?;
            hasher.update(name.as_encoded_bytes());
            hasher.update((content.len() as u64).to_le_bytes());
            hasher.update(content);
        }
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("a String takes every write");
    }
    Ok(hex)
}

/// All files at or below `path`, sorted; tests' sources and hidden files too, which keeps the rule
/// simple.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut queue = vec![path.to_owned()];
    while let Some(path) = queue.pop() {
        if !path.is_dir() {
            found.push(path);
            continue;
        }
        let entries =
            fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
        for entry in entries {
            queue.push(entry?.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Splits input lines into what they speak of (a path, a crate, the recipe) and its value.
fn by_subject(lines: &BTreeSet<String>) -> Vec<(String, &str)> {
    let pairs = lines.iter().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["file", digest, path] => (path.to_owned(), digest),
            ["crate", name, version, checksum] => (format!("crate {name} {version}"), checksum),
            ["recipe", digest] => ("the build's flags".to_owned(), digest),
            _ => (line.clone(), ""),
        }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            inputs: ["crate a 1.0.0 aa", "file 11 ebpf/src/main.rs", "recipe 22"]
                .map(str::to_owned)
                .into(),
            tools: Tools {
                rustc: "rustc 1.95.0 (59807616e 2026-04-14)".to_owned(),
                bpf_linker: "0.10.4".to_owned(),
                rust_src: "33".to_owned(),
            },
            objects: vec![("x86_64".to_owned(), "44".to_owned())],
        }
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Manifest::parse(&manifest().render()).unwrap(), manifest());
    }

    #[test]
    fn rejects_a_manifest_without_the_tools() {
        let error = Manifest::parse("recipe 22\n").unwrap_err();
        assert_eq!(error.to_string(), "no line rustc");
    }

    #[test]
    fn names_each_input_that_changed_appeared_or_went() {
        let now = ["crate a 1.0.1 ab", "file 12 ebpf/src/main.rs", "recipe 22"].map(str::to_owned);
        assert_eq!(
            manifest().stale_inputs(&now.into()),
            ["crate a 1.0.0 is gone", "ebpf/src/main.rs differs", "crate a 1.0.1 is new"]
        );
    }

    #[test]
    fn finds_nothing_stale_in_unchanged_inputs() {
        assert!(manifest().stale_inputs(&manifest().inputs).is_empty());
    }

    #[test]
    fn tells_which_tool_differs() {
        let mut here = manifest().tools;
        here.bpf_linker = "0.10.3".to_owned();
        assert_eq!(
            manifest().tools.differences(&here),
            ["bpf-linker: built with 0.10.4, here 0.10.3"]
        );
    }

    #[test]
    fn a_tree_digest_depends_on_names_and_contents_only() {
        let tree = |name: &str, content: &str| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("core")).unwrap();
            fs::write(root.path().join("core").join(name), content).unwrap();
            tree_digest(root.path(), &["core"]).unwrap()
        };
        assert_eq!(tree("lib.rs", "a"), tree("lib.rs", "a"));
        assert_ne!(tree("lib.rs", "a"), tree("lib.rs", "b"));
        assert_ne!(tree("lib.rs", "a"), tree("mod.rs", "a"));
    }
}
