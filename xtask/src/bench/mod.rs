//! What does Remora cost? Measures by turns with and without an agent, writes docs/bench/, and holds
//! instruction counts against those that were accepted.
//!
//! A line is a group of numbers that are measured together. Times are of this machine and whoever else uses
//! it: ratios and spreads tell more than they do. Counts in a guest repeat.

mod accepted;
mod agent;
mod gate;
mod guest;
mod http2;
mod load;
mod measure;
mod neighbour;
mod own;
mod page;
mod profile;
mod program;
mod protocols;
mod results;
mod servers;
mod shapes;
mod sink;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};

use self::results::{Measured, Results, Row};
use crate::{
    apt,
    report::Report,
    shell::{self, Root, WORKSPACE, cargo, is_root, target_dir},
    vm,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Lines to measure; all without any
    #[arg(value_enum)]
    lines: Vec<Line>,
    /// Only count instructions, and fail if more than are accepted
    #[arg(long)]
    gate: bool,
    /// Count instructions and accept them
    #[arg(long, conflicts_with = "gate")]
    accept: bool,
    /// Only write the page of what was measured before
    #[arg(long)]
    page: bool,
    /// Measurements of each number
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The agent to measure; by default the release build
    #[arg(long)]
    agent: Option<PathBuf>,
    /// The kernel to count instructions on
    #[arg(long, default_value = "6.12")]
    kernel: vm::Version,
    /// Doors to measure; by default all that open
    #[arg(long, value_delimiter = ',')]
    door: Vec<String>,
    /// What this process is to another one of these
    #[arg(long = "as", hide = true)]
    part: Option<Part>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Sink,
    Guest,
    Profile,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// nginx with wrk: processor time a request, throughput
    Nginx,
    /// Redis with GET
    Redis,
    /// Go net/http and Rust hyper
    Echo,
    /// A process that is not selected
    Neighbour,
    /// The agent's processor time a span, by output
    Outputs,
    /// The agent's memory and that of its maps
    Memory,
    /// Records lost as load rises
    Loss,
    /// Start, first span, end
    Life,
    /// A recording, replayed
    Replay,
    /// Instructions in a guest
    Guest,
    /// Which functions they are of
    Profile,
}

impl Line {
    const ALL: [Self; 11] = [
        Self::Nginx,
        Self::Redis,
        Self::Echo,
        Self::Neighbour,
        Self::Outputs,
        Self::Memory,
        Self::Loss,
        Self::Life,
        Self::Replay,
        Self::Guest,
        Self::Profile,
    ];

    const fn is_in_guest(self) -> bool {
        matches!(self, Self::Guest | Self::Profile)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Redis => "redis",
            Self::Echo => "echo",
            Self::Neighbour => "neighbour",
            Self::Outputs => "outputs",
            Self::Memory => "memory",
            Self::Loss => "loss",
            Self::Life => "life",
            Self::Replay => "replay",
            Self::Guest => "guest",
            Self::Profile => "profile",
        }
    }

    fn measure(self, lab: &Lab) -> Result<Vec<Row>> {
        match self {
            Self::Nginx => servers::nginx(lab),
            Self::Redis => servers::redis(lab),
            Self::Echo => servers::echo(lab),
            Self::Neighbour => neighbour::line(lab),
            Self::Outputs => own::outputs(lab),
            Self::Memory => own::memory(lab),
            Self::Loss => own::loss(lab),
            Self::Life => own::life(lab),
            Self::Replay => own::replay(lab),
            Self::Guest => guest::line(lab),
            Self::Profile => profile::line(lab),
        }
    }
}

/// What all lines work with.
struct Lab {
    agent: PathBuf,
    /// The tests' collector.
    collector: PathBuf,
    /// Those that open on this machine.
    doors: Vec<&'static str>,
    rounds: usize,
    kernel: vm::Version,
}

/// The gate, as a check of the default test run.
pub(crate) fn gate() -> Report {
    let started = Instant::now();
    let mut report = match gate::run(false) {
        Ok(None) => Report { passed: 1, ..Report::default() },
        Ok(Some(reason)) => Report { passed: 1, skipped: vec![reason], ..Report::default() },
        Err(error) => Report::failed(error),
    };
    report.took = started.elapsed();
    report
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.part {
        Some(Part::Sink) => return sink::run(),
        Some(Part::Guest) => {
            let agent = options.agent.as_deref().context("which agent?")?;
            return guest::inside(agent, &options.door);
        }
        Some(Part::Profile) => {
            let agent = options.agent.as_deref().context("which agent?")?;
            return profile::inside(agent, options.door.first().context("which door?")?);
        }
        None => {}
    }
    if options.gate || options.accept {
        if let Some(reason) = gate::run(options.accept)? {
            println!("not compared: {reason}");
        }
        return Ok(());
    }
    let mut results = Results::read()?;
    if !options.page {
        let lines = if options.lines.is_empty() { &Line::ALL[..] } else { &options.lines };
        let lab = prepare(options)?;
        for line in lines {
            eprintln!("\n== {} ==", line.name());
            let mut conditions = results::conditions()?;
            if line.is_in_guest() {
                let commit = results::commit()?;
                conditions =
                    format!("Linux {} in {}, commit {commit}", options.kernel, gate::qemu()?);
            }
            let build = lab.agent.parent().and_then(|folder| folder.file_name());
            let build = build.unwrap_or_default().to_string_lossy();
            conditions += &format!(", {build} build of the agent");
            let rows = line.measure(&lab).with_context(|| line.name())?;
            for row in &rows {
                println!("{}: {} {}", row.what, row.value, row.unit);
            }
            results.put(Measured { line: line.name().to_owned(), conditions, rows });
            results.write()?;
        }
    }
    page::write(&results)
}

/// Builds and installs what the lines need.
fn prepare(options: &Options) -> Result<Lab> {
    if !is_root() {
        Root::find("measuring an agent")?;
        anyhow::bail!("run this as root: the agent and what it watches are started from here");
    }
    apt::ensure(&["go", "nginx", "redis-server", "redis-benchmark", "wrk"])?;
    if options.lines.is_empty() || options.lines.iter().any(|line| line.is_in_guest()) {
        vm::install()?;
    }
    if options.lines.is_empty() || options.lines.contains(&Line::Profile) {
        apt::ensure(&["perf"])?;
    }
    let agent = match &options.agent {
        Some(agent) => agent.clone(),
        None => {
            shell::run(cargo().args(["build", "--release", "-p", "remora"]))?;
            target_dir().join("release/remora")
        }
    };
    shell::run(cargo().arg("build").args(WORKSPACE).args(["--bins", "--test", "*"]))?;
    let collector = target_dir().join("debug/collector");
    let mut doors = agent::open_doors(&agent)?;
    doors.retain(|door| options.door.is_empty() || options.door.iter().any(|name| name == door));
    println!("doors that open here: {}", doors.join(", "));
    Ok(Lab { agent, collector, doors, rounds: options.rounds.max(1), kernel: options.kernel })
}
