//! The command line's flags: each overrides what the file and the environment say.

use std::{collections::HashSet, path::PathBuf};

use super::{
    Config, Origin,
    describe::leaves,
    load::Notes,
    otlp::is_overridden,
    selection::{PortList, Selector},
};
use crate::{
    cli::Flags,
    discover::{self, Criteria, Pattern},
};

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
