//! What the agent is told to do: one typed [`Config`], merged from built-in defaults, a YAML file, the
//! environment and flags, in this order; later ones override earlier ones. Every mistake is reported
//! at once with its place; nothing is read from the process behind the caller's back.
//!
//! To add a key, add a field to a `section!` below: its documentation, default and, behind them, its
//! variable, flag, bounds and whether it is `live()`. Nothing else lists keys.

mod describe;
mod detection;
mod effect;
mod env;
mod file;
mod filter;
mod flags;
mod held;
mod kubernetes;
mod load;
mod node;
mod notes;
mod otlp;
mod problem;
mod reader;
mod reference;
mod schema;
mod section;
mod selection;
mod shape;
mod show;
mod substitution;
mod tail;
#[cfg(test)]
mod tests;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    aggregate::{ExemplarFilter, HistogramKind},
    bpf::{Door, Doors},
    discover::Criteria,
    log::LogFilter,
    metrics_data::Temporality,
    semantics::{filter::Filter, route},
};

pub use detection::Detection;
pub use filter::{Attributes, MetricAttributes, OwnAttributes, OwnFilter, OwnMetricAttributes};
pub use flags::{Flags, SelectionFlags, Settings};
pub use kubernetes::Kubernetes;
pub use load::Loaded;
pub use otlp::{
    Compression, MetricsExporter, MetricsSignal, Otlp, OtlpSettings, OtlpSignal, Protocol,
    SignalSettings, TlsFiles, TracesExporter, TracesSignal,
};
use otlp::{MILLIS, millis};
pub use problem::{ConfigError, Origin, Problem};
pub use reference::reference;
pub use schema::schema;
use section::section;
pub use selection::{OwnHeaders, OwnRoutes, OwnTraces, Selector};
pub use show::{Changed, ConfigFlag, Shown, changed, flags, shown};
pub use tail::TailSampling;
use value::keywords;
pub use value::{FieldName, Size, Url, address, without_credentials};

section! {
    /// What Remora captures and where it sends it. All keys are optional, except that `remora run` needs
    /// something to capture.
    pub struct Config {
        /// Which processes are captured; the first selector that matches takes the process.
        pub selectors: Vec<Selector> = vec![],
            live(), also("replaced by `--pid`, `--exe`, `--port`, `--cmd`, `--cgroup` and `--all`");
        /// What no selector takes.
        pub exclude: Vec<Criteria> = vec![], live(), also("`--exclude` adds to it");
        /// `service.name` of what flags select and of what `remora exec` starts; otherwise each process
        /// decides.
        pub service_name: Option<Box<str>> = None, live(),
            flag("--service-name", "NAME", "Selection");
        /// What is kept of a message.
        pub capture: Capture = Capture::default();
        /// How `http.route` is found.
        pub routes: Routes = Routes::default();
        /// Header fields that become attributes of spans.
        pub headers: Headers = Headers::default();
        /// What of the context that requests carry is read.
        pub propagation: Propagation = Propagation::default();
        /// Which exchanges are left out of spans and metrics.
        pub filter: Filter = Filter::default();
        /// Which attributes spans and metrics have.
        pub attributes: Attributes = Attributes::default();
        /// What is replaced by `REDACTED`, beyond what always is.
        pub redaction: Redaction = Redaction::default();
        /// Where spans and metrics go; several at once are possible.
        pub output: Output = Output::default();
        /// Bounds of memory.
        pub limits: Limits = Limits::default();
        /// RED metrics.
        pub metrics: Metrics = Metrics::default();
        /// Which traces are exported.
        pub traces: Traces = Traces::default();
        /// Tail sampling: traces wait until they are decided as a whole. The block `tail_sampling` of a Collector can stand here as it
        /// is. Without policies it is off.
        pub tail_sampling: TailSampling = TailSampling::default();
        /// The kernel side.
        pub kernel: Kernel = Kernel::default();
        /// Whose processes are where Kubernetes runs them.
        pub kubernetes: Kubernetes = Kubernetes::default();
        /// What is found out about the machine.
        pub detection: Detection = Detection::default();
        /// Attributes of every target's resource, below the target's own and what Kubernetes says, above what is
        /// detected: a `service.name` names those that do not name themselves. The agent's own metrics have
        /// them, too, but are always those of the service `remora`.
        pub resource: Vec<(String, String)> = vec![], variable("OTEL_RESOURCE_ATTRIBUTES"),
            also("`OTEL_SERVICE_NAME` is its `service.name`, whatever `OTEL_RESOURCE_ATTRIBUTES` says");
        /// Answer probes at this address, such as `127.0.0.1:9465`: `/healthz`, `/readyz`, `/metrics` of the
        /// agent itself, `/status`, which `remora status` prints.
        pub listen: Option<SocketAddr> = None, flag("--listen", "ADDR", "Health");
        /// Filter of the agent's own log: error, warn, info (if nothing is said), debug, trace, or per
        /// module.
        pub log_level: Option<LogFilter> = None, live(), variable("OTEL_LOG_LEVEL"), variable("RUST_LOG"),
            variable("REMORA_LOG"), flag("--log-level", "LEVEL", "");
    }
}

section! {
    /// What is kept of a message.
    pub struct Capture {
        /// Longest header block that is read.
        pub max_head: Size = Size::kib(64), live(), within(Size::kib(1), Size::mib(1));
    }
}

keywords! {
    impl route::Mode { Heuristic = "heuristic", Patterns = "patterns", Off = "off" }
}

section! {
    /// How `http.route` is found.
    pub struct Routes {
        /// heuristic: configured patterns first, then a guess at which path segments vary; patterns:
        /// configured patterns only; off: never.
        pub mode: route::Mode = route::Mode::Heuristic, live();
        /// Templates such as `/users/{id}` or `/files/*`; the first that matches is the route.
        pub patterns: Vec<route::Pattern> = vec![], live();
        /// Distinct fixed segments below one prefix before that position becomes `{param}`.
        pub max: u32 = 200, live(), within(1, 100_000);
    }
}

section! {
    /// Header fields that become attributes of spans, each with all its values. Credentials are hidden
    /// whatever is asked for; a replay has none, for recordings hold no values.
    pub struct Headers {
        /// Of requests: `http.request.header.<name>`.
        pub request: Vec<FieldName> = vec![], live();
        /// Of responses: `http.response.header.<name>`.
        pub response: Vec<FieldName> = vec![], live();
    }
}

keywords! {
    /// `OTEL_PROPAGATORS`; several are separated by commas.
    pub enum Propagator {
        TraceContext = "tracecontext",
        Baggage = "baggage",
        B3 = "b3",
        B3Multi = "b3multi",
        None = "none",
    }
}

section! {
    /// What of the context that requests carry is read. Nothing is written into requests.
    pub struct Propagation {
        /// Formats: tracecontext (W3C), b3 and b3multi (both read either form of B3), none. A `traceparent` counts before B3. `baggage`
        /// changes nothing: what is read of it `propagation.baggage` says.
        pub formats: Vec<Propagator> = vec![Propagator::TraceContext], live(), variable("OTEL_PROPAGATORS");
        /// Keys of W3C Baggage that become attributes of the same names. A replay has none, for recordings hold no values.
        pub baggage: Vec<String> = vec![], live();
    }
}

section! {
    /// What is replaced by `REDACTED`, beyond what always is.
    pub struct Redaction {
        /// Further query parameters; case, `-`, `_` and `.` do not matter.
        pub query_keys: Vec<String> = vec![], live();
        /// Header fields whose values are hidden although `headers` asks for them. Those whose names tell of
        /// credentials always are: `authorization`, `cookie`, `x-api-key` ..
        pub headers: Vec<FieldName> = vec![], live();
    }
}

keywords! {
    /// What is printed to standard output.
    pub enum Print {
        Spans = "spans",
        None = "none",
    }
}

section! {
    /// Where spans and metrics go; several at once are possible.
    pub struct Output {
        /// Spans and metrics over OTLP.
        pub otlp: OtlpSettings = OtlpSettings::default();
        /// Write OTLP/JSON lines to this file; `-` is standard output.
        pub otlp_file: Option<PathBuf> = None, flag("--otlp-file", "FILE", "Output");
        /// Record what the kernel side tells, to be replayed; without credentials and content.
        pub record: Option<PathBuf> = None, flag("--record", "FILE", "Output");
        /// Print spans to standard output: spans or none; if nothing is said, where there is no other
        /// output.
        pub print: Option<Print> = None, flag("--print", "WHAT", "Output");
        /// Serve metrics for Prometheus at this address, such as `127.0.0.1:9464`; `:9464` is that port of every
        /// address of the host. `OTEL_EXPORTER_PROMETHEUS_HOST` is `localhost` if nothing is said.
        pub prometheus: Option<SocketAddr> = None, flag("--prometheus", "ADDR", "Output"),
            also("`OTEL_EXPORTER_PROMETHEUS_HOST` and `OTEL_EXPORTER_PROMETHEUS_PORT` where \
                  `metrics.exporters` names prometheus");
        /// How spans are put together for export.
        pub batch: Batch = Batch::default();
    }
}

section! {
    /// How spans are put together for export.
    pub struct Batch {
        /// Longest time a span waits for others. As a variable in milliseconds.
        pub delay: Duration = Duration::from_secs(1),
            within(Duration::from_millis(1), Duration::from_secs(600)),
            spelled("OTEL_BSP_SCHEDULE_DELAY", millis, MILLIS);
        /// Most spans in one request.
        pub max_spans: u32 = 4096, within(1, 100_000), variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
    }
}

section! {
    /// Bounds of memory.
    pub struct Limits {
        /// Encoded spans waiting for export.
        pub queue: Size = Size::mib(16), within(Size::kib(64), Size::mib(4096));
        /// Connections followed at once.
        pub connections: u32 = 16_384, within(16, 4_194_304);
        /// Header blocks that come in pieces, of all connections together. Where there is no room, one is cut.
        pub heads: Size = Size::mib(32), within(Size::kib(64), Size::mib(4096));
        /// Spans that wait for `tail_sampling`. Beyond it the oldest trace is decided early.
        pub tail_sampling: Size = Size::mib(64), live(), within(Size::kib(64), Size::mib(16_384));
        /// An exchange is given up after its connection was silent for this long. It is counted as lost, and is no error.
        pub exchange_idle: Duration = Duration::from_secs(86_400),
            within(Duration::from_secs(1), Duration::from_secs(30 * 86_400));
        /// Ring buffer between kernel and agent; a power of two.
        pub ring: Size = Size::mib(4), within(Size::kib(64), Size::mib(1024)), rule(power_of_two),
            flag("--ring-size", "SIZE", "Kernel");
    }
}

/// The kernel takes ring buffers of a power of two, at least a page.
fn power_of_two(value: &Size) -> Result<(), String> {
    if value.0.is_power_of_two() {
        return Ok(());
    }
    let above = value.0.next_power_of_two();
    let (below, above) = (Size(above / 2), Size(above));
    Err(format!("found {value}, expected a power of two such as {below} or {above}"))
}

keywords! {
    impl HistogramKind { Explicit = "explicit", Exponential = "exponential" }
}

/// The words that the specification has for histograms.
fn histogram(text: &str) -> Result<String, String> {
    match text {
        "explicit_bucket_histogram" => Ok("explicit".into()),
        "base2_exponential_bucket_histogram" => Ok("exponential".into()),
        _ => Err("explicit_bucket_histogram or base2_exponential_bucket_histogram".into()),
    }
}

keywords! {
    // What lowmemory (OTLP exporter specification) leaves cumulative, exchanges do not have.
    impl Temporality { Cumulative = "cumulative", Delta = "delta" | "lowmemory" }
}

keywords! {
    impl ExemplarFilter {
        TraceBased = "trace_based",
        AlwaysOn = "always_on",
        AlwaysOff = "always_off",
    }
}

section! {
    /// RED metrics.
    pub struct Metrics {
        /// Which exporters: otlp, prometheus, none. If nothing is said: those that have an endpoint or
        /// address; otherwise no other, except what flags ask for.
        pub exporters: Vec<MetricsExporter> = vec![], variable("OTEL_METRICS_EXPORTER");
        /// Buckets: explicit are those of the semantic conventions, exponential are base-2.
        pub histogram: HistogramKind = HistogramKind::Explicit,
            spelled(
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                histogram,
                &["base2_exponential_bucket_histogram", "explicit_bucket_histogram"]
            );
        /// Aggregation temporality of what is exported over OTLP.
        pub temporality: Temporality = Temporality::Cumulative,
            variable("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
        /// Between two exports. As a variable in milliseconds.
        pub interval: Duration = Duration::from_secs(60), live(),
            within(Duration::from_millis(100), Duration::from_secs(86_400)),
            spelled("OTEL_METRIC_EXPORT_INTERVAL", millis, MILLIS);
        /// Which exchanges may become exemplars.
        pub exemplars: ExemplarFilter = ExemplarFilter::TraceBased,
            variable("OTEL_METRICS_EXEMPLAR_FILTER");
        /// Series per instrument and service; more go to the overflow series.
        pub max_series: u32 = 2000, within(1, 1_000_000);
        /// Processes with series. One more takes the place of those that have ended, if they were told already or not;
        /// where none has, it is not measured.
        pub max_resources: u32 = 10_000, within(1, 1_000_000);
        /// A series without new values is forgotten after this.
        pub idle: Duration = Duration::from_secs(900),
            within(Duration::from_secs(1), Duration::from_secs(7 * 86_400));
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

section! {
    /// Which traces are exported.
    pub struct Traces {
        /// Which exporters: otlp, console, none. If nothing is said: those that have an endpoint or file.
        pub exporters: Vec<TracesExporter> = vec![], variable("OTEL_TRACES_EXPORTER");
        /// What decides on a trace; `parentbased_` ones follow what a request carries.
        pub sampler: Sampler = Sampler::ParentBasedAlwaysOn, live(), variable("OTEL_TRACES_SAMPLER"),
            flag("--sampler", "NAME", "Sampling");
        /// Share of traces that a ratio sampler keeps.
        pub ratio: f64 = 1.0, live(), within(0.0, 1.0), variable("OTEL_TRACES_SAMPLER_ARG"),
            flag("--sampler-ratio", "RATIO", "Sampling");
    }
}

keywords! {
    impl Doors {
        Auto = "auto",
        Only(Door::Socket) = "socket",
        Only(Door::Fexit) = "fexit",
        Only(Door::SysExitBtf) = "tp-btf",
        Only(Door::SysExitRaw) = "raw-tp",
        Only(Door::Tracepoint) = "tracepoint",
    }
}

section! {
    /// The kernel side.
    pub struct Kernel {
        /// How system calls are seen; auto is the cheapest that works.
        pub door: Doors = Doors::Auto, flag("--door", "DOOR", "Kernel");
        /// Have the kernel measure the programs' run time, for the agent's own metrics. It then does so
        /// for every BPF program of the host.
        pub run_time: bool = false;
    }
}

impl Config {
    /// The OTLP exporters that are on.
    #[must_use]
    pub fn otlp(&self) -> Otlp {
        self.output.otlp.resolve(&self.traces.exporters, &self.metrics.exporters)
    }

    /// Whether spans are printed: if that was said, or if there is no other output.
    #[must_use]
    pub fn prints_spans(&self) -> bool {
        let Output { print, otlp_file, record, prometheus, .. } = &self.output;
        if let Some(print) = print {
            return *print == Print::Spans;
        }
        if self.traces.exporters.contains(&TracesExporter::Console) {
            return true;
        }
        let otlp = self.otlp();
        let over_otlp = otlp.traces.is_some() || otlp.metrics.is_some();
        !over_otlp && otlp_file.is_none() && record.is_none() && prometheus.is_none()
    }
}
