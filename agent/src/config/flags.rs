//! The command line's flags: each overrides what the file and the environment say.

use std::{collections::HashSet, path::PathBuf};

use super::{
    Config, Origin,
    describe::leaves,
    notes::Notes,
    otlp::is_overridden,
    selection::{PortList, Selector},
};
use crate::discover::{self, Criteria, Pattern};

/// The flags of any command that has a configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Whether it is a mistake to select nothing.
    pub needs_selection: bool,
    /// Whether records come from a file, so that none can be written.
    pub replays: bool,
    pub config_file: Option<PathBuf>,
    pub selection: SelectionFlags,
    pub settings: Settings,
}

/// Which processes: flags that select.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionFlags {
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
}

/// Flags that set one key of the configuration each, as the keys describe them: flag and text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// The text of a flag, named with its dashes.
    #[must_use]
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == flag).map(|(_, text)| &**text)
    }
}

impl FromIterator<(&'static str, String)> for Settings {
    fn from_iter<T: IntoIterator<Item = (&'static str, String)>>(settings: T) -> Self {
        Self(settings.into_iter().collect())
    }
}

/// Sets what the flags say.
pub(super) fn apply(config: &mut Config, notes: &mut Notes, flags: &Flags) {
    let selects = selection(config, notes, flags);
    let mut said = HashSet::new();
    leaves(config, "", &mut |path, leaf| {
        if is_overridden(path, &said) {
            leaf.reset();
            notes.forget(path);
        }
        let Some(flag) = leaf.about().flag else { return };
        let Some(text) = flags.settings.get(flag.name) else { return };
        match leaf.take_text(text) {
            Ok(()) => {
                notes.came_from(path, Origin::Flag(flag.name));
                said.insert(path.to_owned());
            }
            Err(message) => notes.problem(Origin::Flag(flag.name), path, message),
        }
    });
    if selects {
        for selector in &mut config.selectors {
            selector.takes.name.clone_from(&config.service_name);
        }
    }
    if said.contains("output.otlp.endpoint") {
        // The flag asks for OTLP even where OTEL_*_EXPORTER=none was set for the application.
        config.traces.exporters.clear();
        config.metrics.exporters.clear();
    }
}

/// Each flag selects by itself; together they replace the file's selectors, while exclusions add up.
/// Whether there were any.
fn selection(config: &mut Config, notes: &mut Notes, flags: &Flags) -> bool {
    let args = &flags.selection;
    for text in &args.exclude {
        if let Some(exe) = notes.parse::<Pattern>("exclude", Origin::Flag("--exclude"), text) {
            config.exclude.push(Criteria { exe: vec![exe], ..Criteria::default() });
        }
    }
    let named = [&args.pid, &args.exe, &args.port, &args.cmd, &args.cgroup];
    if !args.all && named.iter().all(|values| values.is_empty()) {
        return false;
    }
    let mut criteria = Vec::new();
    for text in args.pid.iter().flat_map(|list| list.split(',')) {
        let pid: Option<u32> = notes.parse("selectors", Origin::Flag("--pid"), text.trim());
        criteria.extend(pid.map(|pid| Criteria { pids: vec![pid], ..Criteria::default() }));
    }
    for text in &args.exe {
        let exe: Option<Pattern> = notes.parse("selectors", Origin::Flag("--exe"), text);
        criteria.extend(exe.map(|exe| Criteria { exe: vec![exe], ..Criteria::default() }));
    }
    for text in &args.port {
        let ports: Option<PortList> = notes.parse("selectors", Origin::Flag("--port"), text);
        criteria.extend(ports.map(|PortList(ports)| Criteria { ports, ..Criteria::default() }));
    }
    for text in &args.cmd {
        let comm: Option<Pattern> = notes.parse("selectors", Origin::Flag("--cmd"), text);
        criteria.extend(comm.map(|comm| Criteria { comm: vec![comm], ..Criteria::default() }));
    }
    for text in &args.cgroup {
        let path: Option<PathBuf> = notes.parse("selectors", Origin::Flag("--cgroup"), text);
        criteria.extend(path.map(|path| Criteria { cgroups: vec![path], ..Criteria::default() }));
    }
    if args.all {
        notes.came_from("selectors", Origin::Flag("--all"));
        criteria.push(Criteria { all: true, ..Criteria::default() });
    }
    let selector = |criteria| Selector {
        takes: discover::Selector { criteria, ..discover::Selector::default() },
        ..Selector::default()
    };
    config.selectors = criteria.into_iter().map(selector).collect();
    true
}
