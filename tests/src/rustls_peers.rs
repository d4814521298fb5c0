//! Servers and clients with rustls, as their programmers build them: `targets/rustls/` has a workspace for each version, which is built
//! when it is first needed, by the profiles of services.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::output,
    programs::{built, target},
};

/// How a service is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// `cargo build --release`, and nothing said of it.
    Release,
    /// All crates optimised as one (`lto = "fat"`, `codegen-units = 1`).
    FatLto,
}

impl Build {
    const fn profile(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::FatLto => "fat",
        }
    }
}

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
}

/// The folder of `server` and `client`, built so. Cargo knows what is to be built again.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn peers(Peers { version, build, provider }: Peers) -> PathBuf {
    let to = built().join("rustls-programs").join(version).join(provider.feature());
    std::fs::create_dir_all(&to).expect("a folder");
    // Tests run side by side, also those of other programs: what they say of waiting for each other is not read.
    let lock = File::create(to.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--locked", "--profile", build.profile(), "--target-dir"]);
    cargo.arg(&to).args(["--no-default-features", "--features", provider.feature()]);
    cargo.current_dir(target("rustls").join(version));
    // As a service's programmer has it, whatever this build is made with.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC_BOOTSTRAP"] {
        cargo.env_remove(name);
    }
    output(&mut cargo);
    to.join(build.profile())
}

/// A server of the workspace, whose certificate is in the folder `certificate`.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn server(folder: &Path, certificate: &Path) -> crate::programs::Server {
    crate::programs::Server::of(&mut Command::new(folder.join("server")), certificate)
}
