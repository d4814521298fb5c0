//! Rust programs as their programmers build them: `targets/` has workspaces of their own, whose profiles are those of services. Each
//! is built when it is first needed.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::output;

/// How a service is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// `cargo build --release`, and nothing said of it.
    Release,
    /// All crates optimised as one (`lto = "fat"`, `codegen-units = 1`).
    FatLto,
    /// For size (`opt-level = "s"`).
    Small,
}

impl Build {
    const fn profile(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::FatLto => "fat",
            Self::Small => "small",
        }
    }
}

/// The folder of the programs of `workspace`, built so under the folder `to`. Cargo knows what is to be built again.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn programs(workspace: &Path, to: &Path, build: Build, features: &[&str]) -> PathBuf {
    std::fs::create_dir_all(to).expect("a folder");
    // Tests run side by side, also those of other programs: what they say of waiting for each other is not read.
    let lock = File::create(to.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--locked", "--profile", build.profile(), "--target-dir"]);
    cargo.arg(to).args(["--no-default-features", "--features", &features.join(",")]);
    cargo.current_dir(workspace);
    // As a service's programmer has it, whatever this build is made with.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC_BOOTSTRAP"] {
        cargo.env_remove(name);
    }
    output(&mut cargo);
    to.join(build.profile())
}
