//! The command line. Values are taken as text and read together with file and environment, so that
//! all mistakes come in one report ([`crate::config`]).

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand};

use crate::config::{self, ConfigFlag, Flags, SelectionFlags, Settings};

/// Name of [`Command::Gate`].
pub const GATE: &str = "__gate";

const EXAMPLES: &str = "\
Examples:
  See the requests of one program, from its first call, in the terminal:
    remora exec -- python3 app.py
  Watch every nginx on this host and whatever listens on 8080 or 8443:
    remora run --exe nginx --port 8080,8443
  Send spans and metrics to a collector:
    remora run --exe '/srv/*' --otlp-endpoint http://localhost:4317
  What does this host allow, and why not?
    remora doctor";

const RUN_EXAMPLES: &str = "\
Selection:
  Each flag selects by itself; a process is watched if any of them matches. Combinations, names and
  exclusions per selector go into a configuration file:

    selectors:
      - name: shop
        exe: /srv/shop/*
        port: 8000-8099
      - cmd: postgres
    exclude:
      - exe: curl

Examples:
  remora run --exe nginx
  remora run --pid 4711 --otlp-file spans.jsonl
  remora run --port 80,443 --prometheus 127.0.0.1:9464
  remora run --cgroup /system.slice/shop.service --service-name shop
  remora run --config /etc/remora.yaml

Exit codes: 0 ended by a signal, 1 failed while running, 2 wrong usage or configuration.";

const EXEC_EXAMPLES: &str = "\
Examples:
  remora exec -- ./target/release/shop --port 8080
  remora exec --otlp-endpoint http://localhost:4317 -- npm start

Exits as the command exits; 2 if its own usage is wrong.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  remora run --exe nginx --record traffic.rec
  remora replay traffic.rec
  remora replay traffic.rec --otlp-endpoint http://localhost:4317

Spans have the times, ids and resources that they had, and are the same each time. Sampling, routes
and redaction are those of the replay.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  remora doctor
  remora doctor --pid 4711      which TLS libraries does it use, and can Remora see through them?
  remora doctor --json | jq '.checks[] | select(.state != \"ok\")'";

const CONFIG_EXAMPLES: &str = "\
Examples:
  remora config check /etc/remora.yaml
  remora config show --config /etc/remora.yaml --exe nginx
  remora config schema > remora.schema.json      what editors complete and check with";

const STATUS_EXAMPLES: &str = "\
Examples:
  remora run --exe nginx --listen 127.0.0.1:9465
  remora status
  remora status --json | jq .accounting.requests";

const SHOW_EXAMPLES: &str = "\
Takes the options of `remora run`, and says what would be in force with them. Headers are not shown.

Examples:
  remora config show --config /etc/remora.yaml
  OTEL_TRACES_SAMPLER=always_off remora config show --json | jq '.[] | select(.origin != \"default\")'";

/// OpenTelemetry traces and RED metrics of running services, with eBPF and without code changes.
#[derive(Clone, Debug, Parser)]
#[command(name = "remora", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// What `exec` starts before the command: waits until it is watched, then becomes the command.
    #[command(hide = true, name = GATE)]
    Gate(GateArgs),
    /// Instrument running and future processes until SIGINT or SIGTERM.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Start a command and instrument it and its children from the first call.
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Turn a recording into spans and metrics; needs no privileges.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Say what this host allows, feature by feature, and why not.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Check configuration files, say what is in force, print the schema.
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Print what a running agent says of itself; exit code 1 if it is not ready.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Executables that are not captured even as children (repeatable).
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub exclude: Vec<String>,
    #[command(flatten)]
    pub settings: Settings,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub settings: ReplaySettings,
    /// What `--record` has written.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
}

#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with a configuration file; exit code 2 if there is something.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the JSON Schema of configuration files, for editors.
    Schema,
    /// Print what is in force, key by key, and where it came from.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Box<ShowArgs>),
    /// Print the reference of all keys as Markdown.
    #[command(hide = true)]
    Reference,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Where it listens: its `--listen`.
    #[arg(value_name = "ADDR", default_value = crate::status::DEFAULT_ADDR, value_parser = config::address)]
    pub addr: SocketAddr,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Also say which TLS libraries this process uses, and which of them stay opaque.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Filter of the agent's own log: error, warn, info, debug, trace, or per module.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct CommonArgs {
    /// YAML file with selectors, routes, limits and outputs [env: REMORA_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Those of [`Settings`] that mean something to a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySettings(Settings);

fn arguments(filter: fn(&ConfigFlag) -> bool) -> impl Iterator<Item = Arg> {
    config::flags().into_iter().filter(filter).map(|flag| {
        let argument = Arg::new(flag.name)
            .long(flag.name.trim_start_matches('-'))
            .value_name(flag.value_name)
            .help(flag.help);
        // Without a heading of its own it would come under that of the flags before it.
        argument.help_heading(Some(flag.heading).filter(|heading| !heading.is_empty()))
    })
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let said = |flag: ConfigFlag| {
            // A command need not have all of them.
            let text = matches.try_get_one::<String>(flag.name).ok()??;
            Some((flag.name, text.clone()))
        };
        Ok(config::flags().into_iter().filter_map(said).collect())
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(arguments(|_| true))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ReplaySettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Settings::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for ReplaySettings {
    fn augment_args(command: clap::Command) -> clap::Command {
        const OF_LIVE_AGENTS: [&str; 3] = ["Selection", "Kernel", "Health"];
        let filter = |flag: &ConfigFlag| !OF_LIVE_AGENTS.contains(&flag.heading);
        command.args(arguments(filter))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// See [`Command::Gate`].
#[derive(Clone, Debug, Args)]
pub struct GateArgs {
    /// Abstract name of the socket on which the agent says when to go on.
    pub socket: String,
    /// The command to become.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

impl RunArgs {
    /// What the configuration of `remora run` is made from.
    #[must_use]
    pub fn flags(self) -> Flags {
        Flags {
            needs_selection: true,
            config_file: self.common.config,
            selection: self.selection,
            settings: self.settings,
            ..Flags::default()
        }
    }
}

impl Command {
    /// What the configuration is made from; `None` for commands that have none.
    #[must_use]
    pub fn flags(&self) -> Option<Flags> {
        let flags = match self.clone() {
            Self::Run(args) => args.flags(),
            Self::Exec(args) => Flags {
                config_file: args.common.config,
                selection: SelectionFlags { exclude: args.exclude, ..SelectionFlags::default() },
                settings: args.settings,
                ..Flags::default()
            },
            Self::Replay(args) => Flags {
                replays: true,
                config_file: args.common.config,
                settings: args.settings.0,
                ..Flags::default()
            },
            Self::Doctor(_) | Self::Gate(_) | Self::Config(_) | Self::Status(_) => return None,
        };
        Some(flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_a_key_is_one_of_run() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        let flags = config::flags();
        assert!(flags.len() >= 12);
        for flag in flags {
            let name = flag.name.trim_start_matches('-');
            assert!(
                run.get_arguments().any(|argument| argument.get_long() == Some(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn exec_takes_the_command_verbatim() {
        let Ok(Command::Exec(args)) = parse("remora exec --print none -- curl --print -v") else {
            panic!("not exec")
        };
        assert_eq!(args.command, ["curl", "--print", "-v"]);
        assert_eq!(args.settings.get("--print"), Some("none"));
        assert_eq!(parse("remora exec").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn only_run_needs_a_selection() {
        let needs = |line| parse(line).unwrap().flags().map(|flags| flags.needs_selection);
        assert_eq!(needs("remora run"), Some(true));
        assert_eq!(needs("remora exec -- true"), Some(false));
        assert_eq!(needs("remora doctor"), None);
    }

    #[test]
    fn selection_flags_repeat() {
        let Ok(Command::Run(args)) = parse("remora run --exe a --exe b --pid 1,2 --all") else {
            panic!("not run")
        };
        assert_eq!(args.selection.exe, ["a", "b"]);
        assert!(args.selection.all);
    }

    #[test]
    fn every_command_has_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
