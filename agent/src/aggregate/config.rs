//! How to aggregate, by the variables that the OpenTelemetry specification names.

use std::sync::Arc;

use thiserror::Error;

use crate::export::metrics_data::Temporality;

/// Bucket bounds of `http.*.request.duration`, seconds (semconv, "HTTP metrics").
const DURATION_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bucket bounds of body sizes, bytes: the conventions advise none, and the SDKs' default ends at 10 kB.
/// From an empty body to 1 GiB, by factors of 4 and 8.
const SIZE_BOUNDS: [f64; 14] = [
    0.0,
    128.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Which measurements may become exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExemplarFilter {
    AlwaysOn,
    AlwaysOff,
    /// Those of sampled spans.
    #[default]
    TraceBased,
}

/// What distributions are kept as.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramKind {
    /// Fixed upper bounds, ascending.
    Explicit { durations: Arc<[f64]>, sizes: Arc<[f64]> },
    /// Base-2 exponential buckets: at most `max_size` of them, finer than `2^(2^-max_scale)` never.
    Exponential { max_size: u16, max_scale: i8 },
}

impl HistogramKind {
    /// The bounds that the conventions advise.
    #[must_use]
    pub fn explicit() -> Self {
        Self::Explicit { durations: DURATION_BOUNDS.into(), sizes: SIZE_BOUNDS.into() }
    }

    /// The specification's defaults.
    #[must_use]
    pub const fn exponential() -> Self {
        Self::Exponential { max_size: 160, max_scale: 20 }
    }
}

/// How one [`super::Aggregator`] aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub histogram: HistogramKind,
    pub temporality: Temporality,
    pub exemplars: ExemplarFilter,
    /// Series per metric and resource, the overflow series included.
    pub max_series: usize,
    /// A cumulative series without a measurement for this long is dropped.
    pub idle_ns: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            histogram: HistogramKind::explicit(),
            temporality: Temporality::Cumulative,
            exemplars: ExemplarFilter::default(),
            max_series: 2000,
            idle_ns: 300_000_000_000,
        }
    }
}

/// A variable whose value is none of those specified.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable} is `{found}`, expected {expected}")]
pub struct ConfigError {
    pub variable: &'static str,
    pub found: String,
    pub expected: &'static str,
}

impl Config {
    /// The defaults with what the variables say; `lookup` gives a variable's value. Values are not
    /// case-sensitive, empty is unset.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let mut config = Self::default();
        let mut errors = Vec::new();
        let mut set = |variable, expected, take: &mut dyn FnMut(&str) -> bool| {
            let found = lookup(variable).unwrap_or_default();
            let value = found.trim().to_ascii_lowercase();
            if !value.is_empty() && !take(&value) {
                errors.push(ConfigError { variable, found, expected });
            }
        };
        set("OTEL_METRICS_EXEMPLAR_FILTER", "always_on, always_off or trace_based", &mut |value| {
            config.exemplars = match value {
                "always_on" => ExemplarFilter::AlwaysOn,
                "always_off" => ExemplarFilter::AlwaysOff,
                "trace_based" => ExemplarFilter::TraceBased,
                _ => return false,
            };
            true
        });
        set(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "cumulative, delta or lowmemory",
            &mut |value| {
                config.temporality = match value {
                    "cumulative" => Temporality::Cumulative,
                    // lowmemory: delta for synchronous histograms, which these are.
                    "delta" | "lowmemory" => Temporality::Delta,
                    _ => return false,
                };
                true
            },
        );
        set(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram or base2_exponential_bucket_histogram",
            &mut |value| {
                config.histogram = match value {
                    "explicit_bucket_histogram" => HistogramKind::explicit(),
                    "base2_exponential_bucket_histogram" => HistogramKind::exponential(),
                    _ => return false,
                };
                true
            },
        );
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_override_defaults() {
        assert_eq!(Config::from_env(|_| None), Ok(Config::default()));
        let config = Config::from_env(|variable| {
            let value = match variable {
                "OTEL_METRICS_EXEMPLAR_FILTER" => "Always_Off",
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" => "lowmemory",
                _ => "base2_exponential_bucket_histogram",
            };
            Some(value.to_owned())
        });
        let config = config.unwrap();
        assert_eq!(config.exemplars, ExemplarFilter::AlwaysOff);
        assert_eq!(config.temporality, Temporality::Delta);
        assert_eq!(config.histogram, HistogramKind::exponential());
    }

    #[test]
    fn every_wrong_variable_is_named() {
        let errors = Config::from_env(|_| Some("Nonsense".into())).unwrap_err();
        assert_eq!(errors.len(), 3);
        assert_eq!(
            errors[0].to_string(),
            "OTEL_METRICS_EXEMPLAR_FILTER is `Nonsense`, expected always_on, always_off or trace_based"
        );
    }
}
