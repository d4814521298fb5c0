//! Runs every test and says what ran, what was skipped and why.
//!
//! Four rings: without privileges; in the kernel (`tests/tests/kernel*.rs`); end to end (the other
//! files of `tests/tests/`); parts of these two on other kernels ([`vm`]). Cargo builds as the user; only the
//! test programs of the last three rings run as root. A test that cannot run here prints a line `skipped: <reason>` and returns; a ring in
//! which nothing else ran has failed.

use std::{
    env, fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    backends, bench, databases, fuzz,
    prebuilt::{self, Outcome},
    report::{Report, summarise},
    setup,
    shell::{self, Root, WORKSPACE, cargo, line, target_dir, workspace},
    vm,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this ring; may be given several times
    #[arg(long, value_enum)]
    ring: Vec<Ring>,
    /// Use what is installed, install nothing
    #[arg(long)]
    no_setup: bool,
    /// Tests to run at once in the rings that need root
    #[arg(long, default_value_t = 1)]
    test_threads: usize,
    /// Run each property test with this many cases of its own, instead of the same few each time
    #[arg(long)]
    cases: Option<u32>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    /// Parsers, plans, correlation: no privileges
    Host,
    /// Programs load, attach and let go
    Kernel,
    /// Real services, real traffic, compared with an oracle
    EndToEnd,
    /// Parts of the last two on the oldest and the newest kernel, in QEMU
    Vm,
}

const RINGS: [Ring; 4] = [Ring::Host, Ring::Kernel, Ring::EndToEnd, Ring::Vm];

pub(crate) fn run(options: &Options) -> Result<()> {
    let rings: Vec<Ring> =
        RINGS.into_iter().filter(|r| options.ring.is_empty() || options.ring.contains(r)).collect();
    if !options.no_setup {
        set_up(&rings)?;
    }
    if rings.iter().any(|ring| *ring != Ring::Host)
        && let Err(error) = root()
    {
        // Asked for before the long build, so that nobody waits for a prompt. The rings that need
        // it fail with this reason; the first one still runs.
        eprintln!("warning: {error:#}");
    }
    let mut reports = Vec::new();
    if options.filter.is_none() && rings.contains(&Ring::Host) {
        reports.push(("kernel objects".to_owned(), check_prebuilt()));
    }
    // One build for all rings: the same set of packages gives the same features, so nothing is
    // built twice, and the agent's binary is there before a test starts it.
    build_all()?;
    for ring in rings {
        eprintln!("\n== {ring} ==");
        if ring == Ring::Vm {
            reports.extend(vm_reports(options));
            continue;
        }
        let report = ring_report(ring, options).unwrap_or_else(Report::failed);
        reports.push((ring.to_string(), report));
        if ring == Ring::Host && options.filter.is_none() {
            eprintln!("\n== fuzz ==");
            reports.push(("fuzz".to_owned(), fuzz::smoke_report()));
        }
    }
    summarise(&reports)
}

/// What cannot be installed costs the tests that need it, which say so; the others still run.
fn set_up(rings: &[Ring]) -> Result<()> {
    setup::compiler()?;
    if let Err(error) = setup::kernel_side() {
        eprintln!("warning: going on with the committed kernel object: {error:#}");
    }
    if (rings.contains(&Ring::EndToEnd) || rings.contains(&Ring::Vm))
        && let Err(error) = setup::test_programs()
    {
        eprintln!("warning: {error:#}");
    }
    Ok(())
}

fn build_all() -> Result<()> {
    shell::run(cargo().arg("build").args(WORKSPACE).arg("--all-targets"))
}

fn check_prebuilt() -> Report {
    let started = Instant::now();
    let mut report = match prebuilt::check() {
        Ok(Outcome::Equal) => Report { passed: 1, ..Report::default() },
        Ok(Outcome::Skipped(reason)) => Report { skipped: vec![reason], ..Report::default() },
        Err(error) => Report::failed(error),
    };
    report.took = started.elapsed();
    report
}

/// A machine that cannot boot guests skips this ring and says why; one that decides about a change must not.
fn vm_reports(options: &Options) -> Vec<(String, Report)> {
    let decides = env::var("CI").is_ok_and(|ci| ci == "true");
    let name = Ring::Vm.to_string();
    match vm::ready() {
        Ok(()) => {
            let mut reports = vm::ring(options.filter.as_deref())
                .unwrap_or_else(|error| vec![(name, Report::failed(error))]);
            if options.filter.is_none() {
                reports.push(("instructions".to_owned(), bench::gate()));
            }
            reports
        }
        Err(error) if decides => vec![(name, Report::failed(error))],
        Err(error) => {
            let reason = format!("no other kernels can be booted here: {error:#}");
            vec![(name, Report { skipped: vec![reason], ..Report::default() })]
        }
    }
}

fn ring_report(ring: Ring, options: &Options) -> Result<Report> {
    let mut report = tee(&mut ring_command(ring, options, &[])?)?;
    // With real programs, on a machine that others use too, time is not ours: few tests that failed run once more, and
    // the summary says so. Without any of that nothing is chance.
    if ring != Ring::Host
        && options.filter.is_none()
        && let Some(names) = report.again()
    {
        let names = names.to_vec();
        eprintln!("\n== {ring}, once more ==");
        let second = tee(&mut ring_command(ring, options, &names)?)?;
        report.ran_again(&second);
    }
    // A filter may well leave a ring empty.
    if report.failure.is_none() && report.ran() == 0 && options.filter.is_none() {
        report.failure = Some("nothing ran".to_owned());
    }
    Ok(report)
}

/// Runs the tests of a ring, or only those with these `names`.
fn ring_command(ring: Ring, options: &Options, names: &[String]) -> Result<Command> {
    let mut command = cargo();
    command.arg("test").args(WORKSPACE).arg("--no-fail-fast");
    match ring {
        Ring::Host => {
            command.args(["--exclude", "remora-tests"]);
            command.args(&options.filter);
            match options.cases {
                Some(cases) => command.env("PROPTEST_CASES", cases.to_string()),
                // A change that passes goes on to pass.
                None => command.env("PROPTEST_RNG_SEED", "1"),
            };
        }
        Ring::Kernel | Ring::EndToEnd => {
            let files = test_files(ring)?;
            if files.is_empty() {
                bail!("no tests in tests/tests/ belong to this ring");
            }
            for file in files {
                command.args(["--test", &file]);
            }
            as_root(&mut command, root()?);
            command.args(&options.filter);
            command.args(["--", "--show-output", "--test-threads"]);
            command.arg(options.test_threads.to_string());
            if !names.is_empty() {
                command.arg("--exact").args(names);
            }
        }
        Ring::Vm => unreachable!("its tests are not started by Cargo"),
    }
    Ok(command)
}

/// Names of the test programs of a ring: `tests/tests/kernel*.rs`, or the others.
fn test_files(ring: Ring) -> Result<Vec<String>> {
    let folder = workspace().join("tests/tests");
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    let entries = fs::read_dir(&folder).with_context(|| format!("in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("kernel") == (ring == Ring::Kernel) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn root() -> Result<Root> {
    Root::find("running kernel and end-to-end tests")
}

/// Cargo builds as this user and hands the test programs to root.
pub(crate) fn as_root(cargo: &mut Command, root: Root) {
    cargo.env("REMORA_BIN", target_dir().join("debug/remora"));
    // Root may have another home.
    if let Ok(folder) = backends::folder() {
        cargo.env(backends::FOLDER, folder);
    }
    if let Ok(folder) = databases::folder() {
        cargo.env(databases::FOLDER, folder);
    }
    if root == Root::Sudo {
        let runner = line(&root.command("")).trim_end().to_owned();
        for arch in ["X86_64", "AARCH64"] {
            cargo.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), &runner);
        }
    }
}

/// Runs `cargo test`, passing its output on while reading the counts from it.
fn tee(command: &mut Command) -> Result<Report> {
    eprintln!("$ {}", line(command));
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut report = Report::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(std::io::stdout(), "{line}")?;
        report.read(&line);
    }
    report.finish(child.wait().context("waiting for cargo test")?);
    report.took = started.elapsed();
    Ok(report)
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "without privileges",
            Self::Kernel => "kernel",
            Self::EndToEnd => "end to end",
            Self::Vm => "other kernels",
        })
    }
}
