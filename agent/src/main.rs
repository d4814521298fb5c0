//! The command line: reads flags and configuration, then hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use remora::{
    bpf,
    cli::{Cli, Command, DoctorArgs},
    config::{Config, Loaded},
    doctor::{self, HostFacts, ProcessReport, Report},
    log::{self, LogFilter},
    run,
};

/// Wrong usage or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match &command {
        Command::Gate(args) => return run::pass_gate(&args.socket, &args.command),
        Command::Doctor(args) => return doctor(args),
        Command::Run(_) | Command::Exec(_) | Command::Replay(_) => {}
    }
    let loaded = match command.flags().map(|flags| Config::load_here(&flags)) {
        Some(Ok(loaded)) => loaded,
        Some(Err(error)) => {
            eprintln!("remora: {error}");
            return ExitCode::from(USAGE);
        }
        None => return ExitCode::from(USAGE),
    };
    init_log(&loaded.config.log_level.clone().unwrap_or_default());
    let Loaded { warnings, .. } = &loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let result = match &command {
        Command::Exec(args) => run::exec(loaded, &args.command),
        Command::Replay(args) => run::replay(loaded, &args.recording),
        _ => run::run(loaded),
    };
    result.unwrap_or_else(|error| {
        let code = ExitCode::from(error.exit_code());
        eprintln!("remora: {:#}", anyhow::Error::from(error));
        code
    })
}

fn init_log(filter: &LogFilter) {
    let env = |name: &str| std::env::var(name).ok();
    if let Err(error) = log::init(filter, log::Style::of_stderr(env)) {
        eprintln!("remora: {error}");
    }
}

fn doctor(args: &DoctorArgs) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    init_log(&LogFilter::choose(args.log_level.as_deref(), env));
    let facts = HostFacts::probe();
    let mut report = Report::new(&facts);
    report.checks.extend(doctor::door_checks(bpf::try_doors()));
    if let Ok(tried) = bpf::try_uprobes() {
        report.checks.push(doctor::probe_check(tried.as_ref().copied()));
    }
    if let Some(pid) = args.pid {
        match ProcessReport::inspect(pid) {
            Ok(process) => report.process = Some(process),
            Err(error) => {
                eprintln!("remora: {error}");
                return ExitCode::from(USAGE);
            }
        }
    }
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        let colour = log::Style::of_stderr(env).ansi;
        print!("{}", report.to_table(colour));
    }
    ExitCode::from(report.exit_code())
}
