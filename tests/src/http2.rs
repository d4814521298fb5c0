//! Servers and clients of HTTP/2 and gRPC (`targets/http2/README.md`). `cargo xtask setup --tests` brings what they need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    database_clients::{brought, waiting},
    process::Running,
    programs::{built, certificate, target},
    skip,
};

pub use crate::database_clients::SECRET;

/// What is spoken over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Grpc,
}

/// Whose libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `net/http`, grpc-go.
    Go,
    /// The same over TLS.
    GoTls,
    /// `node:http2`.
    Node,
    /// grpcio.
    Python,
    /// tonic.
    Rust,
    /// tonic over rustls.
    RustTls,
}

impl Peer {
    /// The folder with what was made of it.
    fn folder(self) -> Option<PathBuf> {
        let name = match self {
            Self::Go | Self::GoTls => "http2-go",
            Self::Python => "http2-python",
            Self::Node => return Some(target("http2/node")),
            Self::Rust | Self::RustTls => return Some(built()),
        };
        brought(name)
    }

    /// Whether it cannot be run here; prints the reason to skip if so.
    #[must_use]
    pub fn missing(self) -> bool {
        let needs: &[&str] = match self {
            Self::Python => &["python3"],
            Self::Node => &["node"],
            Self::RustTls => &["openssl"],
            Self::Go | Self::GoTls | Self::Rust => &[],
        };
        if skip::without(needs) {
            return true;
        }
        let missing = self.folder().is_none();
        if missing {
            println!("skipped: no peers of HTTP/2 for {self:?}: cargo xtask setup --tests");
        }
        missing
    }

    /// Services that ask others (`targets/http2/go/parents`), if [`Self::Go`] is not missing.
    ///
    /// # Panics
    /// If it is.
    #[must_use]
    pub fn go_parents() -> Command {
        Command::new(Self::Go.folder().expect("looked for before").join("parents"))
    }

    fn program(self, kind: Kind, role: &str) -> Command {
        let folder = self.folder().expect("looked for before");
        let mut command = match self {
            Self::Go | Self::GoTls => Command::new(folder.join("peer")),
            Self::Rust | Self::RustTls => Command::new(folder.join("tonic_peer")),
            Self::Node => {
                let mut node = Command::new("node");
                node.arg(folder.join("peer.js"));
                node
            }
            Self::Python => {
                let mut python = Command::new("python3");
                python.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
                python.arg(target("http2/python/peer.py"));
                python
            }
        };
        if self == Self::GoTls {
            command.env("PEER_TLS", "1");
        }
        if matches!(self, Self::Go | Self::GoTls) {
            command.arg(match kind {
                Kind::Http => "http",
                Kind::Grpc => "grpc",
            });
        }
        command.arg(role);
        command
    }

    /// A client that waits to be let go ([`crate::database_clients::go`]).
    #[must_use]
    pub fn client(self, kind: Kind, port: u16, workers: &str, rounds: u64) -> Running {
        let mut command = self.program(kind, "client");
        if self == Self::RustTls {
            command.env("PEER_TLS", "any");
        }
        waiting(command.args([&port.to_string(), workers, &rounds.to_string()]))
    }
}

/// A server that listens.
pub struct Server {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(peer: Peer, kind: Kind) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("log"), "").expect("a file");
        let mut command = peer.program(kind, "server");
        if peer == Peer::RustTls {
            certificate(folder.path());
            command.env("PEER_TLS", folder.path());
        }
        let mut process =
            Running::start(command.arg(folder.path().join("log")).stdin(Stdio::null()));
        let port = process.line().trim().parse().expect("a port");
        Self { process, port, folder }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it logged so far, sorted.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lines(&self.folder.path().join("log"))
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a log");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
