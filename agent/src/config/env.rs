//! The environment: `OTEL_*` variables with their specified meaning (OpenTelemetry specification,
//! "Environment variable specification"; OTLP exporter specification). An empty variable counts as
//! unset; a value that cannot be used is a warning and is ignored.

use std::{collections::HashSet, net::IpAddr};

use super::{
    Config, Origin, Problem, Sampler,
    describe::{Leaf, leaves},
    notes::Notes,
    otlp::{MetricsExporter, is_overridden},
    shape::{Shape, Variable},
    value::read_one,
};

const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const PROMETHEUS_HOST: &str = "OTEL_EXPORTER_PROMETHEUS_HOST";
const PROMETHEUS_PORT: &str = "OTEL_EXPORTER_PROMETHEUS_PORT";

/// Sets what the environment says.
pub(super) fn apply(
    config: &mut Config,
    notes: &mut Notes,
    lookup: &dyn Fn(&str) -> Option<String>,
) {
    let lookup = |name: &str| {
        let text = lookup(name)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let mut said = HashSet::new();
    leaves(config, "", &mut |path, leaf| {
        if is_overridden(path, &said) {
            leaf.reset();
            notes.forget(path);
        }
        for variable in leaf.about().variables.clone() {
            let Some(text) = lookup(variable.name) else { continue };
            let (taken, wrong) = take(leaf, &variable, &text);
            if taken {
                notes.came_from(path, Origin::Environment(variable.name));
                said.insert(path.to_owned());
            }
            notes.warnings.extend(wrong.into_iter().map(|message| Problem {
                origin: Origin::Environment(variable.name),
                setting: path.to_owned(),
                message,
            }));
        }
    });
    if let Some(name) = lookup(SERVICE_NAME) {
        config.resource.retain(|(key, _)| key != "service.name");
        config.resource.push(("service.name".to_owned(), name));
        notes.came_from("resource", Origin::Environment(SERVICE_NAME));
    }
    if !matches!(config.traces.sampler, Sampler::TraceIdRatio | Sampler::ParentBasedTraceIdRatio) {
        // Other samplers give the argument another meaning.
        notes.warnings.retain(|warning| warning.origin != Origin::Environment(SAMPLER_ARG));
    }
    let by_variable = matches!(notes.origin("metrics.exporters"), Origin::Environment(_));
    if config.metrics.exporters.contains(&MetricsExporter::Prometheus)
        && (by_variable || config.output.prometheus.is_none())
    {
        let host = lookup(PROMETHEUS_HOST).unwrap_or_else(|| "localhost".into());
        let port = lookup(PROMETHEUS_PORT).unwrap_or_else(|| "9464".into());
        let wrong_port = port.parse::<u16>().is_err();
        let variable = if wrong_port { PROMETHEUS_PORT } else { PROMETHEUS_HOST };
        let (setting, origin) = ("output.prometheus", Origin::Environment(variable));
        let address = match host.parse() {
            Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        match read_one(&address) {
            Ok(address) => {
                config.output.prometheus = Some(address);
                notes.came_from(setting, origin);
            }
            Err(message) => {
                notes.warnings.push(Problem { origin, setting: setting.to_owned(), message });
            }
        }
    }
}

/// Takes what a variable says; of a list every item that can be read. Whether there was anything to
/// take, and what was wrong.
fn take(leaf: &mut dyn Leaf, variable: &Variable, text: &str) -> (bool, Vec<String>) {
    let mut wrong = Vec::new();
    let mut readable = text.to_owned();
    // Of header fields that are wrong, the others stay; attributes of a resource count together or not
    // at all (specification, "Resource SDK").
    let is_headers = variable.name.ends_with("_HEADERS");
    if is_headers || matches!(leaf.about().shape, Shape::List(_)) {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let words = words.filter(|word| match leaf.take_text(word) {
            Ok(()) => true,
            Err(message) => {
                wrong.push(message);
                false
            }
        });
        readable = words.collect::<Vec<_>>().join(",");
        if readable.is_empty() {
            return (false, wrong);
        }
    }
    let own = (variable.spelling)(&readable)
        .map_err(|expected| format!("found `{readable}`, expected {expected}"));
    match own.and_then(|own| leaf.take_text(&own)) {
        Ok(()) => (true, wrong),
        Err(message) => {
            wrong.push(message);
            (false, wrong)
        }
    }
}
