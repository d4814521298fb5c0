//! Every step of Remora's development that is longer than one cargo line.

mod apt;
mod backends;
mod bench;
mod checks;
mod databases;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod image;
mod k8s;
mod package;
mod prebuilt;
mod record;
mod report;
mod rust_src;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Steps of Remora's development", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring this machine to where the kernel side builds, and with --tests to where all tests run
    Setup(setup::Options),
    /// Build the agent as `cargo build` does
    Build(checks::BuildOptions),
    /// Set up, then run every test: without privileges, in the kernel, end to end
    Test(test::Options),
    /// Run tests on other kernels, in QEMU; status 125 if that is not possible
    Vm(vm::Options),
    /// Measure what the agent costs, or hold its instruction counts against the accepted ones
    Bench(bench::Options),
    /// Get the telemetry backends that tests send to, by version, outside of the tree
    Backends(backends::Options),
    /// Set up, build, and watch two small services with the agent
    Demo(demo::Options),
    /// Rebuild the committed kernel objects and their manifest
    Prebuilt,
    /// Rebuild the kernel objects and compare them with the committed ones, byte for byte
    CheckPrebuilt,
    /// Write docs/configuration.md anew from the keys' descriptions
    Docs,
    /// Check formatting and lints
    Lint,
    /// Make the recordings of tests/data/recordings anew, and what they replay to
    Record(record::Options),
    /// Run libFuzzer on the readers of bytes from outside
    Fuzz(fuzz::Options),
    /// Pack a static release binary into dist/, as an archive and as a Debian package
    Dist(dist::Options),
    /// Install, run, upgrade and purge the Debian package in a guest with systemd; takes minutes
    PackageTest(package::Options),
    /// Write a container image of a static release binary into dist/, without Docker
    Image(image::Options),
    /// Bring up a real Kubernetes node with the chart installed, and compare spans with what the API server says
    K8s(k8s::Options),
}

fn main() -> ExitCode {
    if let Some(code) = remora_ebpf_build::object::rustc_wrapper() {
        return code;
    }
    if let Some(code) = fuzz::rustc_wrapper() {
        return code;
    }
    let result = match Arguments::parse().task {
        Task::Setup(options) => setup::run(&options),
        Task::Build(options) => checks::build(&options),
        Task::Test(options) => test::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Backends(options) => backends::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Prebuilt => prebuilt::write(),
        Task::CheckPrebuilt => prebuilt::check().map(|outcome| println!("{outcome}")),
        Task::Docs => docs::write(),
        Task::Lint => checks::lint(),
        Task::Record(options) => record::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::PackageTest(options) => package::run(&options),
        Task::Image(options) => image::run(&options),
        Task::K8s(options) => k8s::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<vm::Infrastructure>() {
                return ExitCode::from(vm::INFRASTRUCTURE_FAILED);
            }
            ExitCode::FAILURE
        }
    }
}
