//! The command line. Values are taken as text and read together with file and environment, so that
//! all mistakes come in one report ([`crate::config`]).

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};

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
    #[command(hide = true, name = crate::run::GATE)]
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
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub traces: TracesArgs,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// `service.name` of the command and its children; otherwise OTEL_SERVICE_NAME, otherwise the
    /// program's name.
    #[arg(long, value_name = "NAME", help_heading = "Selection")]
    pub service_name: Option<String>,
    /// Executables that are not captured even as children (repeatable).
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub exclude: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub traces: TracesArgs,
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub traces: TracesArgs,
    /// What `--record` has written.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
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
    /// Filter of the agent's own log: error, warn, info, debug, trace, or per module [env: REMORA_LOG].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Which processes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// Processes by id, separated by commas.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<String>,
    /// Executables by file name (`nginx`), or by path if the pattern has a `/` (`/srv/*`).
    #[arg(long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Processes that listen on one of these TCP ports: `80,8000-8099`.
    #[arg(long, value_name = "PORTS")]
    pub port: Vec<String>,
    /// Processes by command name, as `ps -o comm` shows it.
    #[arg(long, value_name = "GLOB")]
    pub cmd: Vec<String>,
    /// Members of a control group and of those below it: `/system.slice/shop.service`.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Every process.
    #[arg(long)]
    pub all: bool,
    /// Executables that are never captured (repeatable).
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// `service.name` of what these flags select; otherwise each process decides.
    #[arg(long, value_name = "NAME")]
    pub service_name: Option<String>,
}

/// Where to. Without any of these, and without OTEL_EXPORTER_OTLP_ENDPOINT, spans are printed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Collector to send spans and metrics to, such as `http://localhost:4317`
    /// [env: OTEL_EXPORTER_OTLP_ENDPOINT].
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// grpc (assumed on port 4317), http/protobuf or http/json [env: OTEL_EXPORTER_OTLP_PROTOCOL].
    #[arg(long, value_name = "PROTOCOL")]
    pub otlp_protocol: Option<String>,
    /// Sent with every export: `key=value,key=value` [env: OTEL_EXPORTER_OTLP_HEADERS].
    // Not printed as a default or in errors of clap: it may hold a token.
    #[arg(long, value_name = "PAIRS", hide_env_values = true)]
    pub otlp_headers: Option<String>,
    /// Write OTLP/JSON lines to this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub otlp_file: Option<String>,
    /// Record what the kernel side tells, to be replayed; without credentials and content.
    #[arg(long, value_name = "FILE")]
    pub record: Option<String>,
    /// Print spans to standard output: spans or none [default: spans if there is no other output].
    #[arg(long, value_name = "WHAT")]
    pub print: Option<String>,
    /// Serve metrics for Prometheus at this address, such as `127.0.0.1:9464`.
    #[arg(long, value_name = "ADDR")]
    pub prometheus: Option<String>,
}

/// Which traces.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct TracesArgs {
    /// always_on, always_off, traceidratio, or one of these with `parentbased_` before it
    /// [default: parentbased_always_on] [env: OTEL_TRACES_SAMPLER].
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Share of traces that a ratio sampler keeps, 0 to 1 [env: OTEL_TRACES_SAMPLER_ARG].
    #[arg(long, value_name = "RATIO")]
    pub sampler_ratio: Option<String>,
}

/// How.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Kernel")]
pub struct KernelArgs {
    /// How system calls are seen: auto, socket, fexit, tp-btf, raw-tp or tracepoint [default: auto, the
    /// cheapest that works].
    #[arg(long, value_name = "DOOR")]
    pub door: Option<String>,
    /// Ring buffer between kernel and agent, a power of two [default: 4MiB].
    #[arg(long, value_name = "SIZE")]
    pub ring_size: Option<String>,
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

/// The flags of any command that has a configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Whether it is a mistake to select nothing.
    pub needs_selection: bool,
    /// Whether records come from a file, so that none can be written.
    pub replays: bool,
    pub config_file: Option<PathBuf>,
    pub log_level: Option<String>,
    pub selection: SelectionArgs,
    pub output: OutputArgs,
    pub traces: TracesArgs,
    pub kernel: KernelArgs,
}

impl Command {
    /// What the configuration is made from; `None` for `doctor`, which has none.
    #[must_use]
    pub fn flags(&self) -> Option<Flags> {
        let flags = match self.clone() {
            Self::Run(RunArgs { common, selection, output, traces, kernel }) => Flags {
                needs_selection: true,
                config_file: common.config,
                log_level: common.log_level,
                selection,
                output,
                traces,
                kernel,
                ..Flags::default()
            },
            Self::Exec(args) => Flags {
                config_file: args.common.config,
                log_level: args.common.log_level,
                selection: SelectionArgs {
                    service_name: args.service_name,
                    exclude: args.exclude,
                    ..SelectionArgs::default()
                },
                output: args.output,
                traces: args.traces,
                kernel: args.kernel,
                ..Flags::default()
            },
            Self::Replay(args) => Flags {
                replays: true,
                config_file: args.common.config,
                log_level: args.common.log_level,
                output: args.output,
                traces: args.traces,
                ..Flags::default()
            },
            Self::Doctor(_) | Self::Gate(_) => return None,
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
    fn exec_takes_the_command_verbatim() {
        let Ok(Command::Exec(args)) = parse("remora exec --print none -- curl --print -v") else {
            panic!("not exec")
        };
        assert_eq!(args.command, ["curl", "--print", "-v"]);
        assert_eq!(args.output.print.as_deref(), Some("none"));
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
