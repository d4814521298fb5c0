//! From the sources to one [`Config`], or to all that is wrong with them.

use std::{collections::HashMap, path::Path};

use garde::Validate;

use super::{
    Config, ConfigError, Origin, Print, Problem, env, file, flags,
    otlp::{Exporter, OtlpSettings, OtlpSignal},
    value::Setting,
};
use crate::{cli::Flags, discover::NothingSelected};

/// A valid configuration, and what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// Values of `OTEL_*` variables that were ignored: the specification wants a warning, not an
    /// error, for they are often set for other programs.
    pub warnings: Vec<Problem>,
}

/// A configuration under construction.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) otlp: OtlpSettings,
    pub(super) traces_exporters: Option<Vec<Exporter>>,
    pub(super) metrics_exporters: Option<Vec<Exporter>>,
    pub(super) notes: Notes,
}

/// Where values came from, and what was wrong with those that were not taken.
#[derive(Debug, Default)]
pub(super) struct Notes {
    origins: HashMap<String, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Notes {
    pub(super) fn problem(&mut self, origin: Origin, setting: &str, message: String) {
        self.problems.push(Problem { origin, setting: setting.to_owned(), message });
    }

    /// Remembers where the value of `setting` came from.
    pub(super) fn came_from(&mut self, setting: &str, origin: Origin) {
        self.origins.insert(setting.to_owned(), origin);
    }

    /// The value of `text`, or a problem.
    pub(super) fn parse<T: Setting>(
        &mut self,
        setting: &str,
        origin: Origin,
        text: &str,
    ) -> Option<T> {
        match T::parse(text) {
            Ok(value) => {
                self.came_from(setting, origin);
                Some(value)
            }
            Err(expected) => {
                let found = if T::SECRET { "what cannot be read" } else { &format!("`{text}`") };
                self.problem(origin, setting, format!("found {found}, expected {expected}"));
                None
            }
        }
    }

    fn origin(&self, setting: &str) -> Origin {
        self.origins.get(setting).cloned().unwrap_or(Origin::Default)
    }
}

impl Config {
    /// Merges the sources. `env` looks a variable up; `file` is the configuration file's path and
    /// text, if there is one.
    ///
    /// # Errors
    /// Every mistake of file and flags, and every value out of its range, in one [`ConfigError`].
    pub fn load(
        flags: &Flags,
        env: impl Fn(&str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Loaded, ConfigError> {
        let mut draft = Draft::default();
        if let Some((path, text)) = file {
            file::apply(&mut draft, &path.to_string_lossy(), text);
        }
        env::apply(&mut draft, &env);
        flags::apply(&mut draft, flags);
        if flags.replays
            && draft.config.output.record.take().is_some()
            && flags.output.record.is_some()
        {
            let message = "found with `replay`, which makes no recording".to_owned();
            draft.notes.problem(Origin::Flag("--record"), "output.record", message);
        }
        draft.finish(flags.needs_selection)
    }

    /// Reads the file that the flags or `REMORA_CONFIG` name, and the process's environment.
    ///
    /// # Errors
    /// As [`Self::load`]; a file that cannot be read is one mistake.
    pub fn load_here(flags: &Flags) -> Result<Loaded, ConfigError> {
        let env = |name: &str| std::env::var(name).ok();
        let path = flags
            .config_file
            .clone()
            .or_else(|| env("REMORA_CONFIG").filter(|path| !path.is_empty()).map(Into::into));
        let Some(path) = path else { return Self::load(flags, env, None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::load(flags, env, Some((&path, &text))),
            Err(error) => {
                let path = path.to_string_lossy().into();
                Err(ConfigError(vec![Problem {
                    origin: Origin::File { path, line: 0, column: 0 },
                    setting: String::new(),
                    message: format!("configuration file cannot be read: {error}"),
                }]))
            }
        }
    }
}

impl Draft {
    fn finish(mut self, needs_selection: bool) -> Result<Loaded, ConfigError> {
        let (traces, metrics) =
            (self.traces_exporters.as_deref(), self.metrics_exporters.as_deref());
        self.config.output.otlp = std::mem::take(&mut self.otlp).resolve(traces, metrics);
        let lists = || traces.into_iter().chain(metrics).flatten();
        if self.config.output.print.is_none() && lists().any(|list| *list == Exporter::Console) {
            self.config.output.print = Some(Print::Spans);
        }
        let nothing_selected = needs_selection
            && self.config.selection.selectors.iter().all(|s| s.criteria.is_empty());
        // A selector with a mistake in it is not "nothing selected": one report per mistake.
        if nothing_selected && self.notes.problems.is_empty() {
            return Err(ConfigError(vec![Problem {
                origin: Origin::Default,
                setting: String::new(),
                message: NothingSelected.to_string(),
            }]));
        }
        if let Err(report) = self.config.validate() {
            for (path, error) in report.iter() {
                let setting = path.to_string();
                let origin = self.notes.origin(&setting);
                self.notes.problem(origin, &setting, error.message().to_owned());
            }
        }
        self.check_tls();
        self.check_standard_output();
        if self.notes.problems.is_empty() {
            return Ok(Loaded { config: self.config, warnings: self.notes.warnings });
        }
        self.notes.problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (0, line, column),
            Origin::Default | Origin::Environment(_) => (1, 0, 0),
            Origin::Flag(_) => (2, 0, 0),
        });
        Err(ConfigError(self.notes.problems))
    }

    /// Standard output takes one format.
    fn check_standard_output(&mut self) {
        let output = &self.config.output;
        let lines = output.otlp_file.as_deref() == Some(Path::new("-"));
        if lines && output.prints_spans() {
            let origin = self.notes.origin("output.otlp_file");
            let message = "found `-` while spans are printed there, expected a file or print: none";
            self.notes.problem(origin, "output.otlp_file", message.into());
        }
    }

    /// Client certificate and key belong together.
    fn check_tls(&mut self) {
        let otlp = &self.config.output.otlp;
        let signals = [("traces", otlp.traces.clone()), ("metrics", otlp.metrics.clone())];
        for (name, signal) in signals {
            let Some(OtlpSignal { tls, .. }) = signal else { continue };
            let (setting, missing) = match (&tls.client_certificate, &tls.client_key) {
                (Some(_), None) => ("client_certificate", "client_key"),
                (None, Some(_)) => ("client_key", "client_certificate"),
                _ => continue,
            };
            let own = format!("output.otlp.{name}.{setting}");
            let common = format!("output.otlp.{setting}");
            let path = if self.notes.origins.contains_key(&own) { own } else { common };
            let origin = self.notes.origin(&path);
            let message = format!("found without {missing}, expected both");
            let known = |p: &Problem| p.setting == path && p.origin == origin;
            if !self.notes.problems.iter().any(known) {
                self.notes.problem(origin, &path, message);
            }
        }
    }
}
