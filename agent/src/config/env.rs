//! The environment: `OTEL_*` variables with their specified meaning (OpenTelemetry specification,
//! "Environment variable specification"; OTLP exporter specification). An empty variable counts as
//! unset; a value that cannot be used is a warning and is ignored.

use std::time::Duration;

use super::{
    Histogram, Origin, Sampler,
    load::{Draft, Notes},
    otlp::{Exporter, OtlpSettings, SignalSettings},
    value::{Millis, Setting},
};
use crate::discover::resource_attributes;

/// Sets what the environment says.
pub(super) fn apply(draft: &mut Draft, lookup: &dyn Fn(&str) -> Option<String>) {
    let Draft { config, otlp, traces_exporters, metrics_exporters, notes } = draft;
    let mut env = Environment { lookup, notes };

    let mut later = OtlpSettings::default();
    env.signal(
        &mut later.both,
        "output.otlp",
        [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ],
    );
    env.signal(
        &mut later.traces,
        "output.otlp.traces",
        [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        ],
    );
    env.signal(
        &mut later.metrics,
        "output.otlp.metrics",
        [
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
            "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
        ],
    );
    otlp.overlay(later);

    *traces_exporters = env.exporters("OTEL_TRACES_EXPORTER");
    *metrics_exporters = env.exporters("OTEL_METRICS_EXPORTER");
    if metrics_exporters.as_deref().is_some_and(|list| list.contains(&Exporter::Prometheus)) {
        let host = lookup("OTEL_EXPORTER_PROMETHEUS_HOST").unwrap_or_else(|| "localhost".into());
        let port = lookup("OTEL_EXPORTER_PROMETHEUS_PORT").unwrap_or_else(|| "9464".into());
        let text = format!("{host}:{port}");
        config.output.prometheus =
            env.value_of("OTEL_EXPORTER_PROMETHEUS_HOST", "output.prometheus", &text);
    }

    env.set("OTEL_TRACES_SAMPLER", "traces.sampler", &mut config.traces.sampler);
    let by_ratio =
        matches!(config.traces.sampler, Sampler::TraceIdRatio | Sampler::ParentBasedTraceIdRatio);
    // Other samplers give the argument another meaning; a flag may still choose a ratio sampler.
    let readable =
        lookup("OTEL_TRACES_SAMPLER_ARG").is_some_and(|text| Ratio::parse(&text).is_ok());
    if (by_ratio || readable)
        && let Some(Ratio(ratio)) = env.value("OTEL_TRACES_SAMPLER_ARG", "traces.ratio")
    {
        config.traces.ratio = ratio;
    }
    env.set_millis("OTEL_BSP_SCHEDULE_DELAY", "output.batch.delay", &mut config.output.batch.delay);
    env.set(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "output.batch.max_spans",
        &mut config.output.batch.max_spans,
    );
    env.set_millis("OTEL_METRIC_EXPORT_INTERVAL", "metrics.interval", &mut config.metrics.interval);
    env.set("OTEL_METRICS_EXEMPLAR_FILTER", "metrics.exemplars", &mut config.metrics.exemplars);
    env.set(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "metrics.temporality",
        &mut config.metrics.temporality,
    );
    let aggregation = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    if let Some(HistogramAggregation(histogram)) = env.value(aggregation, "metrics.histogram") {
        config.metrics.histogram = histogram;
    }
    if let Some(Attributes(pairs)) = env.value("OTEL_RESOURCE_ATTRIBUTES", "resource") {
        let overridden = |key: &str| pairs.iter().any(|(later, _)| later == key);
        config.resource.retain(|(key, _)| !overridden(key));
        config.resource.extend(pairs);
    }
    for name in crate::log::VARIABLES {
        env.set(name, "log_level", &mut config.log_level);
    }
}

struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    notes: &'a mut Notes,
}

impl Environment<'_> {
    fn value<T: Setting>(&mut self, name: &'static str, setting: &str) -> Option<T> {
        let text = (self.lookup)(name)?;
        self.value_of(name, setting, &text)
    }

    fn value_of<T: Setting>(&mut self, name: &'static str, setting: &str, text: &str) -> Option<T> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let mut own = Notes::default();
        let value = own.parse(setting, Origin::Environment(name), text);
        if value.is_some() {
            self.notes.came_from(setting, Origin::Environment(name));
        }
        self.notes.warnings.append(&mut own.problems);
        value
    }

    fn set<T: Setting>(&mut self, name: &'static str, setting: &str, slot: &mut T) {
        if let Some(value) = self.value(name, setting) {
            *slot = value;
        }
    }

    fn set_millis(&mut self, name: &'static str, setting: &str, slot: &mut Duration) {
        if let Some(Millis(value)) = self.value(name, setting) {
            *slot = value;
        }
    }

    fn exporters(&mut self, name: &'static str) -> Option<Vec<Exporter>> {
        let text = (self.lookup)(name)?;
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let list: Vec<Exporter> =
            words.filter_map(|word| self.value_of(name, "output", word)).collect();
        Some(list).filter(|list| !list.is_empty())
    }

    fn signal(&mut self, settings: &mut SignalSettings, path: &str, names: [&'static str; 8]) {
        let at = |setting: &str| format!("{path}.{setting}");
        let [endpoint, protocol, headers, timeout, compression, certificate, chain, key] = names;
        settings.endpoint = self.value(endpoint, &at("endpoint"));
        settings.protocol = self.value(protocol, &at("protocol"));
        settings.headers = self.value(headers, &at("headers"));
        settings.timeout = self.value(timeout, &at("timeout")).map(|Millis(timeout)| timeout);
        settings.compression = self.value(compression, &at("compression"));
        settings.certificate = self.value(certificate, &at("certificate"));
        settings.client_certificate = self.value(chain, &at("client_certificate"));
        settings.client_key = self.value(key, &at("client_key"));
    }
}

/// The words the specification has for histogram aggregations.
struct HistogramAggregation(Histogram);

impl Setting for HistogramAggregation {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "explicit_bucket_histogram" => Ok(Self(Histogram::Explicit)),
            "base2_exponential_bucket_histogram" => Ok(Self(Histogram::Exponential)),
            _ => Err("explicit_bucket_histogram or base2_exponential_bucket_histogram".into()),
        }
    }
}

/// A sampling ratio; out of range it is ignored like any other unusable value.
struct Ratio(f64);

impl Setting for Ratio {
    fn parse(text: &str) -> Result<Self, String> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or("a number from 0 to 1".into())
    }
}

/// `OTEL_RESOURCE_ATTRIBUTES` of the agent itself.
struct Attributes(Vec<(String, String)>);

impl Setting for Attributes {
    fn parse(text: &str) -> Result<Self, String> {
        resource_attributes::parse(text)
            .map(Self)
            .map_err(|error| format!("key=value pairs, percent-encoded: {error}"))
    }
}
