//! The command line's flags: each overrides what the file and the environment say.

use std::path::PathBuf;

use super::{Origin, Url, load::Draft, otlp::OtlpSettings, value::Setting};
use crate::{
    cli::Flags,
    discover::{Criteria, Pattern, Ports},
};

/// Sets what the flags say.
pub(super) fn apply(draft: &mut Draft, flags: &Flags) {
    selection(draft, flags);
    let Draft { config, otlp, notes, .. } = draft;
    let mut set = |flag: &'static str, setting: &str, text: &Option<String>, slot: Slot<'_>| {
        if let Some(text) = text {
            slot(notes, setting, Origin::Flag(flag), text);
        }
    };
    let output = &flags.output;
    let mut later = OtlpSettings::default();
    let both = &mut later.both;
    set("--otlp-endpoint", "output.otlp.endpoint", &output.otlp_endpoint, into(&mut both.endpoint));
    set("--otlp-protocol", "output.otlp.protocol", &output.otlp_protocol, into(&mut both.protocol));
    set("--otlp-headers", "output.otlp.headers", &output.otlp_headers, into(&mut both.headers));
    set("--otlp-file", "output.otlp_file", &output.otlp_file, into(&mut config.output.otlp_file));
    set("--record", "output.record", &output.record, into(&mut config.output.record));
    set("--print", "output.print", &output.print, into(&mut config.output.print));
    set(
        "--prometheus",
        "output.prometheus",
        &output.prometheus,
        into(&mut config.output.prometheus),
    );
    set("--sampler", "traces.sampler", &flags.traces.sampler, into(&mut config.traces.sampler));
    set(
        "--sampler-ratio",
        "traces.ratio",
        &flags.traces.sampler_ratio,
        into(&mut config.traces.ratio),
    );
    set("--door", "kernel.door", &flags.kernel.door, into(&mut config.kernel.door));
    set("--ring-size", "limits.ring", &flags.kernel.ring_size, into(&mut config.limits.ring));
    set("--log-level", "log_level", &flags.log_level, into(&mut config.log_level));
    otlp.overlay(later);
    let endpoint: Option<&Url> = otlp.both.endpoint.as_ref();
    if output.otlp_endpoint.is_some() && endpoint.is_some() {
        // The flag asks for OTLP even where OTEL_*_EXPORTER=none was set for the application.
        draft.traces_exporters = None;
        draft.metrics_exporters = None;
    }
}

type Slot<'a> = Box<dyn FnOnce(&mut super::load::Notes, &str, Origin, &str) + 'a>;

fn into<'a, T: Setting>(slot: &'a mut T) -> Slot<'a> {
    Box::new(move |notes, setting, origin, text| {
        if let Some(value) = notes.parse(setting, origin, text) {
            *slot = value;
        }
    })
}

/// Each flag selects by itself; together they replace the file's selectors, while exclusions add up.
fn selection(draft: &mut Draft, flags: &Flags) {
    let Draft { config, notes, .. } = draft;
    let selection = &mut config.selection;
    let args = &flags.selection;
    if let Some(name) = &args.service_name {
        selection.service_name = notes.parse("service_name", Origin::Flag("--service-name"), name);
    }
    for text in &args.exclude {
        if let Some(pattern) = notes.parse::<Pattern>("exclude", Origin::Flag("--exclude"), text) {
            selection.exclude_exe(pattern);
        }
    }
    let named = [&args.pid, &args.exe, &args.port, &args.cmd, &args.cgroup];
    if !args.all && named.iter().all(|values| values.is_empty()) {
        return;
    }
    selection.selectors.clear();
    let mut criteria = Vec::new();
    for text in args.pid.iter().flat_map(|list| list.split(',')) {
        let pid: Option<u32> = notes.parse("pid", Origin::Flag("--pid"), text.trim());
        criteria.extend(pid.map(|pid| Criteria { pids: vec![pid], ..Criteria::default() }));
    }
    for text in &args.exe {
        let exe: Option<Pattern> = notes.parse("exe", Origin::Flag("--exe"), text);
        criteria.extend(exe.map(|exe| Criteria { exe: vec![exe], ..Criteria::default() }));
    }
    for text in &args.port {
        let ports: Option<Ports> = notes.parse("port", Origin::Flag("--port"), text);
        criteria.extend(ports.map(|ports| Criteria { ports, ..Criteria::default() }));
    }
    for text in &args.cmd {
        let comm: Option<Pattern> = notes.parse("cmd", Origin::Flag("--cmd"), text);
        criteria.extend(comm.map(|comm| Criteria { comm: vec![comm], ..Criteria::default() }));
    }
    for text in &args.cgroup {
        let path: Option<PathBuf> = notes.parse("cgroup", Origin::Flag("--cgroup"), text);
        criteria.extend(path.map(|path| Criteria { cgroups: vec![path], ..Criteria::default() }));
    }
    criteria.extend(args.all.then(|| Criteria { all: true, ..Criteria::default() }));
    criteria.into_iter().for_each(|criteria| selection.add(criteria));
    for selector in &mut selection.selectors {
        selector.name.clone_from(&selection.service_name);
    }
}
