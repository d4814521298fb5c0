//! What the agent is told to do: one typed [`Config`], merged from built-in defaults, a YAML file, the
//! environment and flags, in this order; later ones override earlier ones. Every mistake is reported
//! at once with its place; nothing is read from the process behind the caller's back.

mod env;
mod file;
mod flags;
mod load;
mod node;
mod otlp;
mod problem;
mod rules;
#[cfg(test)]
mod tests;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use garde::Validate;

use crate::{
    discover::{Criteria, Pattern, Selector},
    log::LogFilter,
};

pub use load::Loaded;
pub use otlp::{Compression, Exporter, Otlp, OtlpSignal, Protocol, TlsFiles};
pub use problem::{ConfigError, Origin, Problem};
use value::keywords;
pub use value::{Size, Url};

/// Everything that can be configured, with its defaults.
#[derive(Clone, Debug, Default, PartialEq, Validate)]
pub struct Config {
    #[garde(skip)]
    pub selection: Selection,
    #[garde(dive)]
    pub capture: Capture,
    #[garde(dive)]
    pub routes: Routes,
    #[garde(skip)]
    pub redaction: Redaction,
    #[garde(dive)]
    pub output: Output,
    #[garde(dive)]
    pub limits: Limits,
    #[garde(dive)]
    pub metrics: Metrics,
    #[garde(dive)]
    pub traces: Traces,
    #[garde(skip)]
    pub kernel: Kernel,
    /// Attributes of every target's resource, below the target's own (`resource:`,
    /// `OTEL_RESOURCE_ATTRIBUTES` of the agent).
    #[garde(skip)]
    pub resource: Vec<(String, String)>,
    /// Filter of the agent's own log.
    #[garde(skip)]
    pub log_level: Option<LogFilter>,
}

/// Which processes are captured; see [`crate::discover::Selectors`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    pub selectors: Vec<Selector>,
    /// What no selector takes.
    pub exclude: Vec<Criteria>,
    /// `service.name` of what `remora exec` starts, and of what flags select.
    pub service_name: Option<Box<str>>,
}

/// What is kept of a message.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Capture {
    /// Longest header block that is read.
    #[garde(custom(rules::size(Size::kib(1), Size::mib(1))))]
    pub max_head: Size,
}

impl Default for Capture {
    fn default() -> Self {
        Self { max_head: Size::kib(64) }
    }
}

keywords! {
    /// How `http.route` is found.
    pub enum RouteMode {
        /// Configured patterns first, then a guess at which path segments vary.
        Heuristic = "heuristic",
        /// Configured patterns only.
        Patterns = "patterns",
        /// Never.
        Off = "off",
    }
}

/// `http.route`.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Routes {
    #[garde(skip)]
    pub mode: RouteMode,
    /// Templates such as `/users/{id}`; the first that matches is the route.
    #[garde(inner(custom(rules::route)))]
    pub patterns: Vec<String>,
    /// Distinct routes per service before further ones are left out.
    #[garde(custom(rules::count(1, 100_000)))]
    pub max: u32,
}

impl Default for Routes {
    fn default() -> Self {
        Self { mode: RouteMode::Heuristic, patterns: vec![], max: 200 }
    }
}

/// What is replaced by `REDACTED`, beyond what always is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redaction {
    /// Further query parameters, case-insensitive.
    pub query_keys: Vec<String>,
}

keywords! {
    /// What is printed to standard output.
    pub enum Print {
        Spans = "spans",
        None = "none",
    }
}

/// Where spans and metrics go; several at once are possible.
#[derive(Clone, Debug, Default, PartialEq, Validate)]
pub struct Output {
    #[garde(skip)]
    pub otlp: Otlp,
    /// OTLP/JSON lines; `-` is standard output.
    #[garde(skip)]
    pub otlp_file: Option<PathBuf>,
    /// The kernel's records, to be replayed; without credentials and content.
    #[garde(skip)]
    pub record: Option<PathBuf>,
    /// Whether spans are printed. Where no output at all was chosen they are.
    #[garde(skip)]
    pub print: Option<Print>,
    /// Where Prometheus may scrape.
    #[garde(skip)]
    pub prometheus: Option<SocketAddr>,
    #[garde(dive)]
    pub batch: Batch,
}

impl Output {
    /// Whether spans are printed.
    #[must_use]
    pub fn prints_spans(&self) -> bool {
        let elsewhere = self.otlp.traces.is_some()
            || self.otlp.metrics.is_some()
            || self.otlp_file.is_some()
            || self.record.is_some()
            || self.prometheus.is_some();
        self.print.map_or(!elsewhere, |print| print == Print::Spans)
    }
}

/// How spans are put together for export.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Batch {
    /// Longest time a span waits for others (`OTEL_BSP_SCHEDULE_DELAY`).
    #[garde(custom(rules::duration(Duration::from_millis(1), Duration::from_secs(600))))]
    pub delay: Duration,
    /// Most spans in one request (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    #[garde(custom(rules::count(1, 100_000)))]
    pub max_spans: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { delay: Duration::from_secs(1), max_spans: 4096 }
    }
}

/// Bounds of memory.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Limits {
    /// Encoded spans waiting for export.
    #[garde(custom(rules::size(Size::kib(64), Size::mib(4096))))]
    pub queue: Size,
    /// Connections followed at once.
    #[garde(custom(rules::count(16, 4_194_304)))]
    pub connections: u32,
    /// Ring buffer between kernel and agent; a power of two.
    #[garde(custom(rules::ring))]
    pub ring: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: Size::mib(16), connections: 16_384, ring: Size::mib(4) }
    }
}

keywords! {
    /// Buckets of the duration and size histograms.
    pub enum Histogram {
        /// Boundaries of the semantic conventions.
        Explicit = "explicit",
        /// Base-2 exponential.
        Exponential = "exponential",
    }
}

keywords! {
    /// Aggregation temporality of what is exported over OTLP.
    pub enum Temporality {
        Cumulative = "cumulative",
        Delta = "delta",
        /// Delta for histograms and synchronous counters (OTLP exporter specification).
        LowMemory = "lowmemory",
    }
}

keywords! {
    /// Which exchanges may become exemplars (`OTEL_METRICS_EXEMPLAR_FILTER`).
    pub enum Exemplars {
        TraceBased = "trace_based",
        AlwaysOn = "always_on",
        AlwaysOff = "always_off",
    }
}

/// RED metrics.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Metrics {
    #[garde(skip)]
    pub histogram: Histogram,
    #[garde(skip)]
    pub temporality: Temporality,
    /// Between two exports (`OTEL_METRIC_EXPORT_INTERVAL`).
    #[garde(custom(rules::duration(Duration::from_millis(100), Duration::from_secs(86_400))))]
    pub interval: Duration,
    #[garde(skip)]
    pub exemplars: Exemplars,
    /// Series per instrument and service; more go to the overflow series.
    #[garde(custom(rules::count(1, 1_000_000)))]
    pub max_series: u32,
    /// A series without new values is forgotten after this.
    #[garde(custom(rules::duration(Duration::from_secs(1), Duration::from_secs(7 * 86_400))))]
    pub idle: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            histogram: Histogram::Explicit,
            temporality: Temporality::Cumulative,
            interval: Duration::from_secs(60),
            exemplars: Exemplars::TraceBased,
            max_series: 2000,
            idle: Duration::from_secs(900),
        }
    }
}

keywords! {
    /// `OTEL_TRACES_SAMPLER`.
    pub enum Sampler {
        AlwaysOn = "always_on",
        AlwaysOff = "always_off",
        TraceIdRatio = "traceidratio",
        ParentBasedAlwaysOn = "parentbased_always_on",
        ParentBasedAlwaysOff = "parentbased_always_off",
        ParentBasedTraceIdRatio = "parentbased_traceidratio",
    }
}

/// Which traces are exported.
#[derive(Clone, Debug, PartialEq, Validate)]
pub struct Traces {
    #[garde(skip)]
    pub sampler: Sampler,
    /// Share of traces that the ratio samplers keep (`OTEL_TRACES_SAMPLER_ARG`).
    #[garde(custom(rules::ratio))]
    pub ratio: f64,
}

impl Default for Traces {
    fn default() -> Self {
        Self { sampler: Sampler::ParentBasedAlwaysOn, ratio: 1.0 }
    }
}

keywords! {
    /// How the kernel side sees system calls.
    pub enum Door {
        /// The cheapest that works here.
        Auto = "auto",
        Socket = "socket",
        Fexit = "fexit",
        TypedTracepoint = "tp-btf",
        RawTracepoint = "raw-tp",
        Tracepoint = "tracepoint",
    }
}

/// The kernel side.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub door: Door,
    /// Have the kernel measure the programs' run time, for the agent's own metrics. It then does so
    /// for every BPF program of the host.
    pub run_time: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { door: Door::Auto, run_time: false }
    }
}

impl Selection {
    /// A selector that takes whatever one flag names.
    fn add(&mut self, criteria: Criteria) {
        self.selectors.push(Selector { name: None, criteria, exclude: vec![] });
    }

    fn exclude_exe(&mut self, pattern: Pattern) {
        self.exclude.push(Criteria { exe: vec![pattern], ..Criteria::default() });
    }
}
