//! Servers and clients with rustls, as their programmers build them: `targets/rustls/` has a workspace for each version, which is built
//! when it is first needed, by the profiles of services.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub use crate::workspaces::Build;
use crate::{
    process::output,
    programs::{built, target},
    workspaces,
};

/// What carries out rustls's cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Ring,
    AwsLcRs,
}

impl Provider {
    /// The feature of the workspaces.
    const fn feature(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::AwsLcRs => "aws-lc-rs",
        }
    }
}

/// A server and a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Their workspace.
    pub version: &'static str,
    pub build: Build,
    pub provider: Provider,
    /// They have no symbols.
    pub stripped: bool,
}

/// The folder of `server` and `client`, built so.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn peers(Peers { version, build, provider, stripped }: Peers) -> PathBuf {
    let to = built().join("rustls-programs").join(version).join(provider.feature());
    let folder =
        workspaces::programs(&target("rustls").join(version), &to, build, &[provider.feature()]);
    if !stripped {
        return folder;
    }
    let to = folder.join("stripped");
    fs::create_dir_all(&to).expect("a folder");
    for program in ["server", "client"] {
        // Another test may run it.
        let new = to.join(format!("{program}-{}", std::process::id()));
        output(Command::new("strip").arg("-o").arg(&new).arg(folder.join(program)));
        fs::rename(new, to.join(program)).expect("a file");
    }
    to
}

/// A server of the workspace, whose certificate is in the folder `certificate`.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn server(folder: &Path, certificate: &Path) -> crate::programs::Server {
    crate::programs::Server::of(&mut Command::new(folder.join("server")), certificate)
}
