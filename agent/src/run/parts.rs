//! From the configuration to the settings of each stage.

use std::{fmt, path::PathBuf};

use super::{live::Live, readers::Readers};
use crate::{
    aggregate::{self, HistogramKind},
    assemble, bpf,
    config::Config,
    discover::{Host, Selectors},
    doctor::{HostFacts, State},
    kubernetes::{self, Peers, Pods},
    metrics_data::Temporality,
};

/// What the stages are built from.
pub(super) struct Parts {
    pub(super) kernel: bpf::Options,
    pub(super) measure_run_time: bool,
    pub(super) assemble: assemble::Limits,
    pub(super) live: Live,
    pub(super) readers: Readers<aggregate::Config>,
    pub(super) selectors: Selectors,
    pub(super) host: Host,
    /// How pods are followed; `None`: they are not.
    pub(super) kubernetes: Option<kubernetes::Settings>,
    pub(super) pods: Pods,
    /// Names of addresses, if they are asked for.
    pub(super) peers: Option<Peers>,
    /// Where to record to, and what is hidden in it besides what always is.
    pub(super) record: Option<PathBuf>,
    pub(super) query_keys: Vec<String>,
    pub(super) outputs: String,
    pub(super) selection: String,
}

impl Parts {
    pub(super) fn of(config: &Config, selectors: Selectors) -> Self {
        let metrics = &config.metrics;
        let output = &config.output;
        let total_metrics = aggregate::Config {
            // The text that Prometheus reads has no exponential buckets.
            histogram: HistogramKind::Explicit,
            temporality: Temporality::Cumulative,
            exemplars: metrics.exemplars,
            keep_exemplars_ns: u64::MAX,
            max_series: metrics.max_series as usize,
            max_resources: metrics.max_resources as usize,
            idle_ns: nanos(metrics.idle),
            conventional: false,
        };
        let otlp_metrics = aggregate::Config {
            histogram: metrics.histogram,
            temporality: metrics.temporality,
            // Whoever scrapes a collector comes once a minute or so, and meets what was told last. A delta point has
            // those of its own interval.
            keep_exemplars_ns: match metrics.temporality {
                Temporality::Cumulative => 60_000_000_000,
                Temporality::Delta => 0,
            },
            ..total_metrics.clone()
        };
        let kubernetes = followed_pods(config.kubernetes.settings(), &selectors);
        let ring_bytes = u32::try_from(config.limits.ring.0).unwrap_or(1 << 31);
        Self {
            kernel: bpf::Options {
                doors: config.kernel.door.list(),
                ring_bytes,
                max_connections: config.limits.connections,
                ..bpf::Options::default()
            },
            measure_run_time: config.kernel.run_time,
            assemble: assemble::Limits {
                max_connections: config.limits.connections as usize,
                max_head_len: usize::try_from(config.capture.max_head.0).unwrap_or(usize::MAX),
                max_heads_len: usize::try_from(config.limits.heads.0).unwrap_or(usize::MAX),
                exchange_idle_ns: nanos(config.limits.exchange_idle),
                ..assemble::Limits::default()
            },
            live: Live::of(config),
            readers: Readers {
                otlp: (config.otlp().metrics.is_some() || output.otlp_file.is_some())
                    .then_some(otlp_metrics),
                table: config.prints_spans().then(|| aggregate::Config {
                    histogram: HistogramKind::Exponential,
                    conventional: true, // its rows are made of them
                    ..total_metrics.clone()
                }),
                totals: output.prometheus.is_some().then_some(total_metrics),
            },
            selectors,
            pods: kubernetes.as_ref().map(Pods::expected).unwrap_or_default(),
            peers: kubernetes.as_ref().filter(|one| one.peers).map(|_| Peers::default()),
            kubernetes,
            host: Host::detect(&config.resource),
            record: output.record.clone(),
            query_keys: config.redaction.query_keys.clone(),
            outputs: Outputs(config).to_string(),
            selection: Selection(config).to_string(),
        }
    }
}

/// How pods are followed, if they are.
fn followed_pods(
    mut settings: kubernetes::Settings,
    selectors: &Selectors,
) -> Option<kubernetes::Settings> {
    if !cfg!(feature = "kubernetes") || !settings.wanted(|name| std::env::var(name).ok()) {
        return None;
    }
    let asked = selectors.annotations().map(Box::from);
    let told = settings.naming.pod_annotations.iter().cloned();
    settings.keep.annotations.extend(asked.chain(told));
    Some(settings)
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The capability that is missing to load programs, in one sentence.
pub(super) fn missing_privilege(facts: &HostFacts) -> Option<String> {
    let check = crate::doctor::load_programs(facts);
    let remedy = check.remedy.unwrap_or_default();
    (check.state == State::Failed).then(|| format!("{}: {remedy}", check.reason))
}

/// For the start-up line.
struct Outputs<'a>(&'a Config);

impl fmt::Display for Outputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = &self.0.output;
        let otlp = self.0.otlp();
        let mut parts = Vec::new();
        if let Some(otlp) = &otlp.traces {
            parts.push(format!("spans to {}", otlp.url.as_str()));
        }
        if let Some(otlp) = &otlp.metrics {
            parts.push(format!("metrics to {}", otlp.url.as_str()));
        }
        if let Some(file) = &output.otlp_file {
            parts.push(format!("file {}", file.display()));
        }
        if let Some(file) = &output.record {
            parts.push(format!("recording {}", file.display()));
        }
        if let Some(addr) = output.prometheus {
            parts.push(format!("Prometheus at {addr}"));
        }
        if self.0.prints_spans() {
            parts.push("terminal".into());
        }
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// For the start-up line.
struct Selection<'a>(&'a Config);

impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.selectors.len() {
            0 => f.write_str("one command and its children"),
            1 => f.write_str("what one selector takes"),
            many => write!(f, "what {many} selectors take"),
        }
    }
}
