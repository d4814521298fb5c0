//! libFuzzer on every reader of bytes that come from outside, on the stable toolchain.
//!
//! Only the crates of this workspace that read are instrumented: this program stands between Cargo and
//! rustc for them ([`rustc_wrapper`]). Their dependencies are those of an ordinary build, and are built
//! once for both.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use remora_ebpf_build::toolchain::on_path;

use crate::{
    report::Report,
    shell::{self, WORKSPACE, cargo, target_dir, workspace},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets to run, all if none is named; an unknown name lists them
    names: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Run each for two seconds or 5,000 inputs, without keeping what is found on the way
    #[arg(long)]
    smoke: bool,
}

/// Inputs of a short run at most: what a change breaks shows in them, and rare faults that are older are for long runs to find.
const SMOKE_RUNS: u32 = 5_000;

/// Says to this program that it is called instead of rustc.
const WRAPS: &str = "REMORA_FUZZ_WRAPS_RUSTC";
/// Crates that are instrumented. The build scripts of some are called alike, so Cargo's name decides.
const INSTRUMENTED: [&str; 3] = ["remora", "remora_common", "remora_fuzz"];
/// What cargo-fuzz passes, without a sanitizer: in safe code it would find what panics find.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];

/// If this process is called instead of rustc: becomes it, with what instruments the crate.
pub(crate) fn rustc_wrapper() -> Option<ExitCode> {
    env::var_os(WRAPS)?;
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next()?;
    let arguments: Vec<_> = arguments.collect();
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str()).unwrap_or("");
    let name = (0..arguments.len()).find(|&at| text(at) == "--crate-name").map(|at| text(at + 1));
    // The kernel programs are called as the agent is.
    let for_kernel = (0..arguments.len()).any(|at| text(at).contains("bpfel"));
    let mut command = Command::new(rustc);
    command.args(&arguments);
    if !for_kernel && name.is_some_and(|name| INSTRUMENTED.contains(&name)) {
        command.args(FLAGS);
    }
    let error = command.exec();
    eprintln!("cannot run rustc: {error}");
    Some(ExitCode::FAILURE)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = options.names.iter().find(|name| !all.contains(name)) {
        bail!("no target {unknown}; there are: {}", all.join(" "));
    }
    let names = if options.names.is_empty() { &all } else { &options.names };
    let program = build()?;
    let mut failed = Vec::new();
    for name in names {
        if let Err(error) = fuzz(&program, name, options) {
            eprintln!("{name}: {error:#}");
            failed.push(name.as_str());
        }
    }
    ensure!(failed.is_empty(), "inputs that do harm to {}", failed.join(", "));
    Ok(())
}

/// A short run of each, as part of all tests.
pub(crate) fn smoke_report() -> Report {
    let started = Instant::now();
    let options = Options { names: Vec::new(), time: 0, smoke: true };
    let mut report = match (on_path("c++"), targets()) {
        (None, _) => {
            let skipped = vec!["libFuzzer needs a C++ compiler".to_owned()];
            Report { skipped, ..Report::default() }
        }
        (_, Err(error)) => Report::failed(error),
        (_, Ok(targets)) => match run(&options) {
            Ok(()) => Report { passed: targets.len(), ..Report::default() },
            Err(error) => Report::failed(error),
        },
    };
    report.took = started.elapsed();
    report
}

/// Each target has a folder of seeds.
fn targets() -> Result<Vec<String>> {
    let folder = seeds();
    let entries = fs::read_dir(&folder).with_context(|| format!("in {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn seeds() -> PathBuf {
    workspace().join("tests/data/fuzz")
}

fn build() -> Result<PathBuf> {
    let started = Instant::now();
    let mut build = cargo();
    build.arg("build").args(WORKSPACE);
    build.args(["--bin", "remora-fuzz", "--features", "remora-fuzz/libfuzzer"]);
    // Examples have the dependencies of tests: with one of them what others wrote is built as the tests had it,
    // and need not be built again.
    build.args(["--example", "as-tests"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", shell::own_program()?).env(WRAPS, "1");
    shell::run(&mut build)?;
    eprintln!("built in {} s", started.elapsed().as_secs());
    Ok(target_dir().join("debug/remora-fuzz"))
}

/// Runs one target. What it finds on the way is kept below `target`, what does harm is said and stays.
fn fuzz(program: &Path, name: &str, options: &Options) -> Result<()> {
    let folder = target_dir().join("fuzz").join(name);
    let corpus = folder.join(if options.smoke { "smoke" } else { "corpus" });
    let artifacts = folder.join("artifacts");
    if options.smoke && corpus.exists() {
        fs::remove_dir_all(&corpus)?;
    }
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let seconds = if options.smoke { 2 } else { options.time };
    let mut command = Command::new(program);
    command.env("REMORA_FUZZ_TARGET", name);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    if options.smoke {
        // As many inputs on a fast machine as on a slow one; others are for longer runs.
        command.arg("-seed=1").arg(format!("-runs={SMOKE_RUNS}"));
    }
    // New inputs go to the first folder; the seeds are only read.
    command.arg(&corpus).arg(seeds().join(name));
    let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let figure = |name: &str| {
        let line = log.lines().find(|line| line.contains(name));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or("?").to_owned()
    };
    if output.status.success() {
        let covered = log.lines().rev().find_map(|line| line.split("cov: ").nth(1));
        let covered = covered.and_then(|rest| rest.split(' ').next()).unwrap_or("?");
        println!(
            "{name}: {} inputs, {} a second, {covered} edges, peak {} MB",
            figure("number_of_executed_units"),
            figure("average_exec_per_sec"),
            figure("peak_rss_mb"),
        );
        return Ok(());
    }
    eprintln!("{log}");
    bail!("an input in {} does harm; put it into tests/data/fuzz/{name}", artifacts.display())
}
