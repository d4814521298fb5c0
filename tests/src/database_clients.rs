//! Clients of databases as their users write them (`targets/databases/README.md`), which start when they
//! are told: an agent can select them before they do anything. `cargo xtask setup --tests` brings their
//! libraries.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    process::Running,
    programs::{built, target},
    skip,
};

/// Every value, parameter, literal and password has it.
pub const SECRET: &str = "QZQZQZQZ";

/// What `cargo xtask setup --tests` has brought under this name: below the folder that `cargo xtask test` names, else the
/// user's cache.
#[must_use]
pub fn brought(name: &str) -> Option<PathBuf> {
    let set = |variable| std::env::var_os(variable).map(PathBuf::from);
    let folder = set("REMORA_DATABASES").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        Some(cache?.join("remora/databases"))
    })?;
    Some(folder.join(name)).filter(|folder| folder.is_dir())
}

/// Whose libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    Go,
    Java,
    Rust,
}

impl Language {
    /// The folder with its libraries.
    fn folder(self) -> Option<PathBuf> {
        let name = match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Java => "java",
            Self::Rust => return Some(built()),
        };
        brought(name)
    }

    /// Its executable, as its spans call it.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Python => "client",
            Self::Node => "client",
            Self::Go => "client",
            Self::Java => "Client",
            Self::Rust => "database_client",
        }
    }

    /// Whether it cannot be run here; prints the reason to skip if so.
    #[must_use]
    pub fn missing(self) -> bool {
        let needs: &[&str] = match self {
            Self::Python => &["python3"],
            Self::Node => &["node"],
            Self::Java => &["java"],
            Self::Go | Self::Rust => &[],
        };
        if skip::without(needs) {
            return true;
        }
        let missing = self.folder().is_none();
        if missing {
            println!("skipped: no clients of databases for {self:?}: cargo xtask setup --tests");
        }
        missing
    }

    /// What `kind` (`redis`, `postgres`) is done, by so many `workers` at once, one number after the other.
    ///
    /// # Panics
    /// If it is [`Self::missing`].
    #[must_use]
    pub fn client(self, kind: &str, port: u16, workers: &str, rounds: u64) -> Command {
        let folder = self.folder().expect("looked for before");
        let mut command = match self {
            Self::Python => {
                let mut python = Command::new("python3");
                python.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
                python.arg(target("databases/python/client.py"));
                python
            }
            Self::Node => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", folder.join("node_modules"));
                node.arg(target("databases/node/client.js"));
                node
            }
            Self::Java => {
                let mut java = Command::new("java");
                java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
                java.arg(format!("{0}:{0}/postgresql.jar", folder.display())).arg("Client");
                java
            }
            Self::Go => Command::new(folder.join("client")),
            Self::Rust => Command::new(folder.join("database_client")),
        };
        command.args([kind, &port.to_string(), workers, &rounds.to_string()]);
        command.env("REDISCLI_AUTH", SECRET).env("PGPASSWORD", SECRET);
        command
    }
}

/// Starts a shell that becomes `command` with the first line of its standard input, which [`go`] gives.
#[must_use]
pub fn waiting(command: &Command) -> Running {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go && exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    Running::start(shell.stdin(Stdio::piped()))
}

/// Lets it begin, with `input` on its standard input, and waits for its good end; returns what it prints.
///
/// # Panics
/// If it fails.
pub fn go(mut client: Running, input: &str) -> String {
    client.give(&format!("go\n{input}"));
    client.finish()
}
