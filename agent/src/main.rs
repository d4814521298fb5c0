//! The command line: reads flags and configuration, then hands over to the library.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use remora::{
    bpf,
    cli::{Cli, Command, ConfigCommand, DoctorArgs, ShowArgs, StatusArgs},
    config::{self, Config, ConfigError, Flags, Loaded},
    doctor::{self, HostFacts, ProcessReport, Report},
    log::{self, LogFilter},
    run,
    status::{self, Phase},
};

/// Wrong usage or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match &command {
        Command::Gate(args) => return run::pass_gate(&args.socket, &args.command),
        Command::Doctor(args) => return doctor(args),
        Command::Status(args) => return status(args),
        Command::Config(args) => return configuration(&args.command),
        Command::Run(_) | Command::Exec(_) | Command::Replay(_) => {}
    }
    let Some(flags) = command.flags() else { return ExitCode::from(USAGE) };
    let loaded = match Config::load_here(&flags) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    init_log(&loaded.config.log_level.clone().unwrap_or_default());
    let Loaded { warnings, .. } = &loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let result = match &command {
        Command::Exec(args) => run::exec(loaded, flags, &args.command),
        Command::Replay(args) => run::replay(loaded, &args.recording),
        _ => run::run(loaded, flags),
    };
    result.unwrap_or_else(|error| {
        let code = ExitCode::from(error.exit_code());
        eprintln!("remora: {:#}", anyhow::Error::from(error));
        code
    })
}

fn configuration(command: &ConfigCommand) -> ExitCode {
    let text = match command {
        ConfigCommand::Check { file } => match Config::check(file) {
            Ok(vain) => {
                let lines = vain.iter().map(|problem| format!("{problem}\n"));
                lines.chain([format!("{}: no mistakes\n", file.display())]).collect()
            }
            Err(error) => return refuse(&error),
        },
        ConfigCommand::Schema => format!("{:#}\n", config::schema()),
        ConfigCommand::Reference => config::reference(),
        ConfigCommand::Show(args) => match shown(args) {
            Ok(text) => text,
            Err(error) => return refuse(&error),
        },
    };
    // Who reads may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn status(args: &StatusArgs) -> ExitCode {
    let status = match status::ask(args.addr) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("remora: {:#}", anyhow::Error::from(error));
            return ExitCode::FAILURE;
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
    } else {
        status.to_string()
    };
    // Who reads may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if status.phase == Phase::Ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("remora: {error}");
    ExitCode::from(USAGE)
}

fn shown(args: &ShowArgs) -> Result<String, ConfigError> {
    // What selects nothing can be looked at, too.
    let flags = Flags { needs_selection: false, ..args.run.clone().flags() };
    let loaded = Config::load_here(&flags)?;
    for warning in &loaded.warnings {
        eprintln!("remora: {warning}");
    }
    let keys = config::shown(&loaded);
    if args.json {
        let keys: serde_json::Value = keys.iter().map(config::Shown::to_json).collect();
        return Ok(format!("{keys:#}\n"));
    }
    Ok(keys.iter().map(|key| format!("{key}\n")).collect())
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
