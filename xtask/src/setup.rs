//! What does a fresh machine need, and what of it is missing here?
//!
//! Everything is looked for before it is installed, so a second run changes nothing. The agent alone
//! needs Rust and a C compiler; bpf-linker and rust-src are for those who change the kernel side.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::toolchain::{Toolchain, on_path};

use crate::{
    apt, backends, databases, rust_src,
    shell::{self, cargo},
    vm,
};

const BPF_LINKER_VERSION: &str = "0.10.4";

/// rustc 1.95 emits LLVM 22 bitcode; the linker must read that version.
const BPF_LINKER_FEATURES: &str = "rust-llvm-22";

#[derive(clap::Args, Clone, Default)]
pub(crate) struct Options {
    /// Also install the programs that the tests run: servers, clients, language runtimes
    #[arg(long)]
    tests: bool,
    /// Also install what `cargo xtask vm` boots kernels with
    #[arg(long)]
    vm: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    compiler()?;
    kernel_side()?;
    if options.tests {
        test_programs()?;
    }
    if options.vm {
        vm::install()?;
    }
    println!("setup: done");
    Ok(())
}

/// A C compiler and linker: rustc links with it, and two dependencies bring C and assembly.
pub(crate) fn compiler() -> Result<()> {
    apt::ensure(&["cc", "git"])?;
    if on_path("cc").is_some() && !has_libc_headers() {
        apt::install(&["libc6-dev"])?;
    }
    Ok(())
}

/// bpf-linker and rust-src, which build the kernel programs.
pub(crate) fn kernel_side() -> Result<()> {
    let toolchain = Toolchain::find()?;
    println!("setup: {}", toolchain.rustc_version);
    if toolchain.has_rust_src() {
        println!("setup: rust-src is present in {}", toolchain.library().display());
    } else {
        rust_src::install(&toolchain)?;
    }
    match &toolchain.bpf_linker {
        Some(path) => {
            let version = toolchain.bpf_linker_version()?;
            println!("setup: bpf-linker {version} is present at {}", path.display());
            if version != BPF_LINKER_VERSION {
                println!(
                    "setup: the committed kernel objects were linked by {BPF_LINKER_VERSION}; \
                     another version builds too, with other bytes"
                );
            }
        }
        None => {
            println!("setup: installing bpf-linker {BPF_LINKER_VERSION} (about a minute)");
            shell::run(
                cargo().args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION]).args([
                    "--locked",
                    "--no-default-features",
                    "--features",
                    BPF_LINKER_FEATURES,
                ]),
            )?;
        }
    }
    let missing = Toolchain::find()?.missing();
    if !missing.is_empty() {
        bail!("{} is still missing after setup", missing.join(" and "));
    }
    Ok(())
}

/// What the end-to-end tests run. Found by command first: a runtime from elsewhere is kept.
pub(crate) fn test_programs() -> Result<()> {
    apt::ensure(&[
        "apache2",
        "containerd",
        "busybox",
        "celery",
        "curl",
        "go",
        "gunicorn",
        "h2load",
        "host-local",
        "ip",
        "javac",
        "lighttpd",
        "mvn",
        "nghttp",
        "nghttpd",
        "nghttpx",
        "nginx",
        "node",
        "npm",
        "openssl",
        "pip3",
        "podman",
        "postgres",
        "psql",
        "puma",
        "python3",
        "redis-cli",
        "redis-server",
        "ruby",
        "runc",
        "strace",
        "uvicorn",
        "waitress-serve",
        "wget",
        "wrk",
    ])
    .context("some end-to-end tests need programs that cannot be installed")?;
    databases::ensure().context("some end-to-end tests need clients that cannot be had")?;
    backends::ensure(&backends::DEFAULT, false)
        .context("some end-to-end tests need backends that cannot be had")
}

fn has_libc_headers() -> bool {
    let mut probe = Command::new("cc");
    probe.args(["-x", "c", "-include", "stdio.h", "-fsyntax-only", "/dev/null"]);
    probe.stderr(std::process::Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
