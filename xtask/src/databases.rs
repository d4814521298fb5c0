//! Which clients of databases, servers and clients of HTTP/2, and other programs with libraries are here, in the languages of their users, and how does
//! one get those that are not?
//!
//! `tests/targets/databases`, `http2` and `libraries` have their programs and pin the versions of their libraries. What
//! each language's own tool makes of a folder there is kept outside the tree, as `~/.cache/remora/databases/NAME-HASH`, by
//! what it was made of; a link `NAME` beside these folders leads to the one in use. Nothing is installed into the system.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{
    backends,
    shell::{self, output, run, workspace},
};

/// Names the folder to tests, which may run as another user.
pub(crate) const FOLDER: &str = "REMORA_DATABASES";

/// The driver of `java/Client.java`.
const JDBC: &str = "org.postgresql:postgresql:42.7.8";

/// The plugin that brings jars, in a version that does not change by itself.
const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/// A language with its libraries.
struct Clients {
    name: &'static str,
    /// Their folder in the tree.
    sources: &'static str,
    /// What the result depends on, in that folder.
    files: &'static [&'static str],
    /// And the tool whose version it depends on.
    tool: &'static [&'static str],
    make: fn(sources: &Path, to: &Path) -> Result<()>,
}

const ALL: [Clients; 8] = [
    Clients {
        name: "python",
        sources: "tests/targets/databases/python",
        files: &["requirements.txt"],
        tool: &["python3", "--version"],
        make: python,
    },
    Clients {
        name: "node",
        sources: "tests/targets/databases/node",
        files: &["package.json", "package-lock.json"],
        tool: &[],
        make: node,
    },
    Clients {
        name: "go",
        sources: "tests/targets/databases/go",
        files: &["main.go", "go.mod", "go.sum"],
        tool: &[],
        make: |_, to| backends::go::build_own(to, "client", "tests/targets/databases/go", "."),
    },
    Clients {
        name: "http2-go",
        sources: "tests/targets/http2/go",
        files: &["main.go", "parents/main.go", "go.mod", "go.sum"],
        tool: &[],
        make: |_, to| {
            let module = "tests/targets/http2/go";
            backends::go::build_own(to, "peer", module, ".")?;
            backends::go::build_own(to, "parents", module, "./parents")
        },
    },
    Clients {
        name: "http2-python",
        sources: "tests/targets/http2/python",
        files: &["requirements.txt"],
        tool: &["python3", "--version"],
        make: python,
    },
    Clients {
        name: "sdk-python",
        sources: "tests/targets/sdk",
        files: &["requirements.txt"],
        tool: &["python3", "--version"],
        make: python,
    },
    Clients {
        name: "java",
        sources: "tests/targets/databases/java",
        files: &["Client.java"],
        tool: &["javac", "--version"],
        make: java,
    },
    Clients {
        name: "netty",
        sources: "tests/targets/libraries/netty",
        files: &["Peers.java", "pom.xml"],
        tool: &["javac", "--version"],
        make: netty,
    },
];

/// Gets those that are not here; one that cannot be had keeps no other from being had.
pub(crate) fn ensure() -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut failed = Vec::new();
    for clients in &ALL {
        let started = Instant::now();
        match get(clients, &folder) {
            Ok((home, false)) => println!("databases: {} is present", home.display()),
            Ok((home, true)) => {
                println!("databases: {} ({} s)", home.display(), started.elapsed().as_secs());
            }
            Err(error) => failed.push(format!("{}: {error:#}", clients.name)),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Where they are, and whether they are new.
fn get(clients: &Clients, folder: &Path) -> Result<(PathBuf, bool)> {
    let sources = workspace().join(clients.sources);
    let home = folder.join(format!("{}-{}", clients.name, version(clients, &sources)?));
    let new = !home.is_dir();
    if new {
        // Whole or not at all: the folder gets its name when everything is in it.
        let partial = home.with_extension(format!("partial-{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        let made = (clients.make)(&sources, &partial)
            .and_then(|()| fs::rename(&partial, &home).context("cannot rename it"));
        if made.is_err() {
            fs::remove_dir_all(&partial).ok();
        }
        made?;
    }
    backends::relink(&folder.join(clients.name), &home)?;
    Ok((home, new))
}

/// Twelve digits of a hash over everything that the result depends on.
fn version(clients: &Clients, sources: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(JDBC);
    for file in clients.files {
        let path = sources.join(file);
        hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    if let [program, arguments @ ..] = clients.tool {
        hash.update(output(Command::new(program).args(arguments))?);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn python(sources: &Path, to: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--root-user-action", "ignore", "--only-binary", ":all:", "--no-deps", "--target"]);
    run(pip.arg(to).arg("-r").arg(sources.join("requirements.txt")))
}

fn node(sources: &Path, to: &Path) -> Result<()> {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(file), to.join(file)).with_context(|| file.to_owned())?;
    }
    run(Command::new("npm").args(["ci", "--silent", "--ignore-scripts"]).current_dir(to))
}

fn java(sources: &Path, to: &Path) -> Result<()> {
    let mut maven = maven("copy", to);
    maven.args([&format!("-Dartifact={JDBC}"), "-Dmdep.stripVersion=true"]);
    run(maven.current_dir(to))?;
    javac(&sources.join("Client.java"), to)
}

fn netty(sources: &Path, to: &Path) -> Result<()> {
    run(maven("copy-dependencies", to).arg("-f").arg(sources.join("pom.xml")))?;
    javac(&sources.join("Peers.java"), to)
}

/// Maven with a goal of the plugin, which writes into the folder `to`.
fn maven(goal: &str, to: &Path) -> Command {
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", &format!("{MAVEN_PLUGIN}:{goal}")]);
    maven.arg(format!("-DoutputDirectory={}", to.display()));
    maven
}

/// Compiles `source` with the jars in the folder `to`, into it.
fn javac(source: &Path, to: &Path) -> Result<()> {
    let mut javac = Command::new("javac");
    javac.arg("-cp").arg(to.join("*")).arg("-d").arg(to);
    run(javac.arg(source))
}

/// Where they are, whoever asks first.
pub(crate) fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER) {
        return Ok(folder.into());
    }
    Ok(shell::cache()?.join("databases"))
}
