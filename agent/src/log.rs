//! The agent's own log: to standard error, through `tracing`.

use std::{fmt, io::IsTerminal, str::FromStr, sync::OnceLock};

use tracing_subscriber::{EnvFilter, filter::ParseError, reload::Handle};

/// Variables that set the filter, the strongest last. A flag overrides them all.
pub const VARIABLES: [&str; 3] = ["OTEL_LOG_LEVEL", "RUST_LOG", "REMORA_LOG"];

/// What is logged when nothing else was said.
const DEFAULT: &str = "info";

/// Directives of a filter. A bare level is the agent's own; libraries stay at `warn` unless they
/// are named (`h2=debug`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let directives = match &*text.to_ascii_lowercase() {
            "none" => "off".to_owned(), // OTEL_LOG_LEVEL's word
            level @ ("error" | "warn" | "info" | "debug" | "trace") => {
                format!("warn,remora={level}")
            }
            _ => text.to_owned(),
        };
        EnvFilter::builder().parse(&directives)?;
        Ok(Self(directives))
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(format!("warn,remora={DEFAULT}"))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogFilter {
    /// The filter for commands without a configuration: the flag's, else the environment's; what
    /// cannot be read is passed over.
    #[must_use]
    pub fn choose(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Self {
        let from_env = VARIABLES.into_iter().rev().filter_map(env);
        flag.map(str::to_owned)
            .into_iter()
            .chain(from_env)
            .filter(|text| !text.trim().is_empty())
            .find_map(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours.
    pub ansi: bool,
    /// A time before each line.
    pub time: bool,
}

impl Style {
    /// For standard error of this process: colours only on a terminal without `NO_COLOR`
    /// (<https://no-color.org>), no times where the journal adds its own (`JOURNAL_STREAM`).
    #[must_use]
    pub fn of_stderr(env: impl Fn(&str) -> Option<String>) -> Self {
        Self::choose(std::io::stderr().is_terminal(), env)
    }

    fn choose(terminal: bool, env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        Self { ansi: terminal && !set("NO_COLOR"), time: terminal || !set("JOURNAL_STREAM") }
    }
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("log is set up already")]
pub struct AlreadySetUp;

type Change = dyn Fn(&LogFilter) + Send + Sync;

/// Sets another filter, once there is a log.
static CHANGE: OnceLock<Box<Change>> = OnceLock::new();

/// Filters the process's log otherwise from now on.
pub fn change(filter: &LogFilter) {
    if let Some(change) = CHANGE.get() {
        change(filter);
    }
}

/// Sends the process's log to standard error.
///
/// # Errors
/// A subscriber is installed already.
pub fn init(filter: &LogFilter, style: Style) -> Result<(), AlreadySetUp> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(std::io::stderr)
        .with_ansi(style.ansi)
        .with_target(false);
    // Two types, for a format without times is another one.
    let installed = if style.time {
        let builder = builder.with_filter_reloading();
        note_handle(builder.reload_handle());
        tracing::subscriber::set_global_default(builder.finish())
    } else {
        let builder = builder.without_time().with_filter_reloading();
        note_handle(builder.reload_handle());
        tracing::subscriber::set_global_default(builder.finish())
    };
    installed.map_err(|_| AlreadySetUp)
}

fn note_handle<S: 'static>(handle: Handle<EnvFilter, S>) {
    let change = move |filter: &LogFilter| {
        if let Err(error) = handle.reload(EnvFilter::new(&filter.0)) {
            tracing::warn!(%error, "the log is filtered as before");
        }
    };
    // A second log is refused by who installs it.
    let _ = CHANGE.set(Box::new(change));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_the_agents_own() {
        let filter = |text: &str| text.parse::<LogFilter>().map(|filter| filter.to_string());
        assert_eq!(filter("debug").unwrap(), "warn,remora=debug");
        assert_eq!(filter(" INFO ").unwrap(), "warn,remora=info");
        assert_eq!(filter("none").unwrap(), "off");
        assert_eq!(filter("h2=trace,info").unwrap(), "h2=trace,info");
        assert!(filter("remora=loud").is_err());
    }

    #[test]
    fn flag_before_own_variable_before_general_ones() {
        let env = |name: &str| match name {
            "RUST_LOG" => Some("error".to_owned()),
            "REMORA_LOG" => Some("trace".to_owned()),
            _ => None,
        };
        assert_eq!(LogFilter::choose(Some("debug"), env).to_string(), "warn,remora=debug");
        assert_eq!(LogFilter::choose(None, env).to_string(), "warn,remora=trace");
        assert_eq!(LogFilter::choose(None, |_| None), LogFilter::default());
        assert_eq!(LogFilter::choose(Some("x=y"), |_| None), LogFilter::default());
    }

    #[test]
    fn colours_need_a_terminal_and_no_objection() {
        let with = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| value.to_owned())
        };
        assert!(Style::choose(true, |_| None).ansi);
        assert!(Style::choose(true, with("NO_COLOR", "")).ansi);
        assert!(!Style::choose(true, with("NO_COLOR", "1")).ansi);
        assert!(!Style::choose(false, |_| None).ansi);
        assert!(!Style::choose(false, with("JOURNAL_STREAM", "8:1")).time);
        assert!(Style::choose(true, with("JOURNAL_STREAM", "8:1")).time);
    }
}
