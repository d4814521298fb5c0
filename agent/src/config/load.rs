//! From the sources to one [`Config`], or to all that is wrong with them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, Origin, Problem,
    effect::without_effect,
    env, file,
    flags::{self, Flags},
    notes::Notes,
    otlp::{MetricsExporter, OtlpSignal, is_named},
};
use crate::discover::NothingSelected;

/// A valid configuration, and what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// Where what is not a default came from, by the key's path.
    pub origins: HashMap<String, Origin>,
    /// The file it was read from, if there is one, and what stood there.
    pub file: Option<(PathBuf, String)>,
    /// Values of `OTEL_*` variables that were ignored: the specification wants a warning, not an
    /// error, for they are often set for other programs. And what has no effect.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Merges the sources. `env` looks a variable up, both those that are settings and those that the
    /// file refers to; `file` is the configuration file's path and text, if there is one.
    ///
    /// # Errors
    /// Every mistake of file and flags, and every value out of its range, in one [`ConfigError`].
    pub fn load(
        flags: &Flags,
        env: impl Fn(&str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Loaded, ConfigError> {
        Self::merge(flags, &env, &env, file)
    }

    fn merge(
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<String>,
        variables: &dyn Fn(&str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Loaded, ConfigError> {
        let (mut config, mut notes) = (Self::default(), Notes::default());
        if let Some((path, text)) = file {
            file::apply(&mut config, &mut notes, variables, &path.to_string_lossy(), text);
        }
        env::apply(&mut config, &mut notes, env);
        flags::apply(&mut config, &mut notes, flags);
        let by_flag = matches!(notes.origin("output.prometheus"), Origin::Flag(_));
        if !by_flag
            && is_named(&config.metrics.exporters, MetricsExporter::Prometheus) == Some(false)
        {
            config.output.prometheus = None;
            notes.forget("output.prometheus");
        }
        if flags.replays
            && config.output.record.take().is_some()
            && let origin @ Origin::Flag(_) = notes.origin("output.record")
        {
            let message = "found with `replay`, which makes no recording".to_owned();
            notes.problem(origin, "output.record", message);
        }
        let file = file.map(|(path, text)| (path.to_owned(), text.to_owned()));
        finish(config, notes, file, flags.needs_selection)
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
        match path {
            Some(path) => Self::load(flags, env, Some((&path, &read(&path)?))),
            None => Self::load(flags, env, None),
        }
    }

    /// Everything that is wrong with a file by itself, and with what it refers to in the environment; or what
    /// it says in vain.
    ///
    /// # Errors
    /// As [`Self::load_here`].
    pub fn check(path: &Path) -> Result<Vec<Problem>, ConfigError> {
        let variables = |name: &str| std::env::var(name).ok();
        let file = Some((path, &*read(path)?));
        Self::merge(&Flags::default(), &|_| None, &variables, file).map(|loaded| loaded.warnings)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        ConfigError(vec![Problem {
            origin: Origin::File { path: path.to_string_lossy().into(), line: 0, column: 0 },
            setting: String::new(),
            message: format!("configuration file cannot be read: {error}"),
        }])
    })
}

fn finish(
    config: Config,
    mut notes: Notes,
    file: Option<(PathBuf, String)>,
    needs_selection: bool,
) -> Result<Loaded, ConfigError> {
    let nothing_selected = needs_selection
        && config.selectors.iter().all(|selector| selector.takes.criteria.is_empty());
    // A selector with a mistake in it is not "nothing selected": one report per mistake.
    if nothing_selected && notes.problems.is_empty() {
        return Err(ConfigError(vec![Problem {
            origin: Origin::Default,
            setting: String::new(),
            message: NothingSelected.to_string(),
        }]));
    }
    notes.check_tls(&config);
    notes.check_standard_output(&config);
    let vain = without_effect(&config, &notes);
    notes.warnings.extend(vain);
    let Notes { origins, mut problems, warnings } = notes;
    if problems.is_empty() {
        return Ok(Loaded { config, origins, file, warnings });
    }
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, column, .. } => (0, line, column),
        Origin::Default | Origin::Environment(_) => (1, 0, 0),
        Origin::Flag(_) => (2, 0, 0),
    });
    Err(ConfigError(problems))
}

impl Notes {
    /// Standard output takes one format.
    fn check_standard_output(&mut self, config: &Config) {
        let lines = config.output.otlp_file.as_deref() == Some(Path::new("-"));
        if lines && config.prints_spans() {
            let origin = self.origin("output.otlp_file");
            let message = "found `-` while spans are printed there, expected a file or print: none";
            self.problem(origin, "output.otlp_file", message.into());
        }
    }

    /// Client certificate and key belong together.
    fn check_tls(&mut self, config: &Config) {
        let otlp = config.otlp();
        let signals = [("traces", otlp.traces), ("metrics", otlp.metrics)];
        for (name, signal) in signals {
            let Some(OtlpSignal { tls, .. }) = signal else { continue };
            let (setting, missing) = match (&tls.client_certificate, &tls.client_key) {
                (Some(_), None) => ("client_certificate", "client_key"),
                (None, Some(_)) => ("client_key", "client_certificate"),
                _ => continue,
            };
            let own = format!("output.otlp.{name}.{setting}");
            let common = format!("output.otlp.{setting}");
            let path = if self.origins.contains_key(&own) { own } else { common };
            let origin = self.origin(&path);
            let message = format!("found without {missing}, expected both");
            let known = |p: &Problem| p.setting == path && p.origin == origin;
            if !self.problems.iter().any(known) {
                self.problem(origin, &path, message);
            }
        }
    }
}
