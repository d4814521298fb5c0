//! Where OTLP goes: the rules of the OTLP exporter specification for endpoints, and which of several
//! settings for one signal counts.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use serde_json::Value as Json;

use super::{
    describe::{Key, Samples, Section, Value},
    node::{Content, Node},
    reader::Reader,
    section::{keys, section_value},
    shape::{Flag, Shape, join},
    value::{Setting, Url, keywords},
};
use crate::{discover::resource_attributes, semantics::redact::REDACTED};

keywords! {
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub enum Protocol {
        Grpc = "grpc",
        HttpProtobuf = "http/protobuf",
        HttpJson = "http/json",
    }
}

keywords! {
    /// `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub enum Compression {
        None = "none",
        Gzip = "gzip",
        Zstd = "zstd",
    }
}

/// The OTLP exporters that are on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Otlp {
    pub traces: Option<OtlpSignal>,
    pub metrics: Option<OtlpSignal>,
}

/// One signal's exporter, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSignal {
    /// With HTTP the whole URL, path included; with gRPC the server.
    pub url: Url,
    pub protocol: Protocol,
    /// Sent with each request, decoded.
    pub headers: Vec<(String, String)>,
    /// Longest time for one request; zero is no limit.
    pub timeout: Duration,
    pub compression: Compression,
    pub tls: TlsFiles,
}

/// PEM files for `https://`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFiles {
    /// Trusted instead of the system's authorities.
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

keywords! {
    /// `OTEL_TRACES_EXPORTER`; several are separated by commas.
    pub enum TracesExporter {
        Otlp = "otlp",
        Console = "console",
        None = "none",
    }
}

keywords! {
    /// `OTEL_METRICS_EXPORTER`; several are separated by commas. There is no `console`: what is printed
    /// are spans.
    pub enum MetricsExporter {
        Otlp = "otlp",
        Prometheus = "prometheus",
        None = "none",
    }
}

/// Headers as `key=value` pairs, percent-encoded, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct Headers(pub(super) Vec<(String, String)>);

impl Value for Option<Headers> {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        if matches!(node.content, Content::Scalar(_)) {
            // It may be a token, which is not repeated.
            let message = "found a text, expected a mapping of names to texts";
            reader.problem(node.place, setting, message.into());
            return false;
        }
        let Some(entries) = reader.entries(node, setting) else { return false };
        for entry in entries {
            if let Err(expected) = check_header(&entry.key, "") {
                let message = format!("found `{}`, expected {expected}", entry.key);
                reader.problem(entry.place, setting, message);
            }
            if let Content::Scalar(value) = &entry.value.content
                && let Err(expected) = check_header("x", value)
            {
                let setting = join(setting, &entry.key);
                let message = format!("found what cannot be sent, expected {expected}");
                reader.problem(entry.value.place, &setting, message);
            }
        }
        reader.pairs(node, setting).map(|pairs| *self = Some(Headers(pairs))).is_some()
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        let pairs = resource_attributes::parse(text).ok().filter(|pairs| !pairs.is_empty());
        let message = "found what cannot be read, expected key=value pairs, percent-encoded, \
                       separated by commas";
        let pairs = pairs.ok_or(message)?;
        for (name, value) in &pairs {
            // The name is not repeated: `authorization: Bearer s3cret=` is one, to the first `=`.
            check_header(name, value)
                .map_err(|expected| format!("found what cannot be sent, expected {expected}"))?;
        }
        *self = Some(Headers(pairs));
        Ok(())
    }

    fn shown(&self, secrets: bool) -> Json {
        let pairs = self.iter().flat_map(|headers| &headers.0);
        let value = |value: &String| if secrets { value.as_str() } else { REDACTED }.into();
        Json::Object(pairs.map(|(key, text)| (key.clone(), value(text))).collect())
    }

    fn shape(&self) -> Shape {
        Shape::Pairs
    }
}

/// Whether these can be a header field.
fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    if name.parse::<http::HeaderName>().is_err() {
        return Err("the name of a header field such as authorization");
    }
    let value = http::HeaderValue::from_bytes(value.as_bytes());
    value.map(drop).map_err(|_| "a value without control characters")
}

impl Samples for Option<Headers> {
    fn samples() -> &'static [&'static str] {
        &["a=1", "b=2", "c=3"]
    }
}

/// What is said of one signal, or of both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignalSettings {
    pub endpoint: Option<Url>,
    pub protocol: Option<Protocol>,
    pub headers: Option<Headers>,
    pub timeout: Option<Duration>,
    pub compression: Option<Compression>,
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// Of spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracesSignal(pub SignalSettings);

/// Of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSignal(pub SignalSettings);

/// What is said of OTLP; [`Self::resolve`] says what comes of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtlpSettings {
    pub both: SignalSettings,
    pub traces: TracesSignal,
    pub metrics: MetricsSignal,
}

macro_rules! signal_keys {
    ($prefix:literal) => {
        keys!(SignalSettings:
            /// Collector to send to, such as `http://localhost:4317`. Of what is said for both signals it is
            /// the base of an HTTP URL, to which `/v1/traces` and `/v1/metrics` are appended; one signal's
            /// own is used as it is. Without an endpoint, or an exporter list that names `otlp`, nothing is
            /// sent over OTLP.
            endpoint, variable(concat!($prefix, "ENDPOINT"));
            /// grpc (assumed on port 4317), http/protobuf (assumed elsewhere) or http/json.
            protocol, variable(concat!($prefix, "PROTOCOL"));
            /// Sent with every export; as a variable or flag `key=value,key=value`, percent-encoded. Values
            /// are not shown anywhere.
            headers, variable(concat!($prefix, "HEADERS"));
            /// Longest time for one request, 10s if nothing is said; 0s is no limit. As a variable in
            /// milliseconds.
            timeout, spelled(concat!($prefix, "TIMEOUT"), millis, MILLIS);
            /// Of requests; none if nothing is said.
            compression, variable(concat!($prefix, "COMPRESSION"));
            /// PEM file with the authorities that are trusted instead of the system's.
            certificate, variable(concat!($prefix, "CERTIFICATE"));
            /// PEM file with the client's certificate; together with `client_key`.
            client_certificate, variable(concat!($prefix, "CLIENT_CERTIFICATE"));
            /// PEM file with the client's key.
            client_key, variable(concat!($prefix, "CLIENT_KEY"));
        )
    };
}

impl Section for SignalSettings {
    const ABOUT: &'static [&'static str] = &["Where to, and how."];

    fn keys() -> Vec<Key<Self>> {
        let mut keys = signal_keys!("OTEL_EXPORTER_OTLP_");
        for key in &mut keys {
            let (name, value_name) = match key.about.name {
                "endpoint" => ("--otlp-endpoint", "URL"),
                "protocol" => ("--otlp-protocol", "PROTOCOL"),
                "headers" => ("--otlp-headers", "PAIRS"),
                _ => continue,
            };
            key.about.flag = Some(Flag { name, value_name, heading: "Output" });
        }
        keys
    }
}

impl Section for TracesSignal {
    const ABOUT: &'static [&'static str] = &["What differs for spans."];

    fn keys() -> Vec<Key<Self>> {
        let keys = signal_keys!("OTEL_EXPORTER_OTLP_TRACES_");
        keys.into_iter().map(|key| key.lift(|signal: &mut Self| &mut signal.0)).collect()
    }
}

impl Section for MetricsSignal {
    const ABOUT: &'static [&'static str] = &["What differs for metrics."];

    fn keys() -> Vec<Key<Self>> {
        let keys = signal_keys!("OTEL_EXPORTER_OTLP_METRICS_");
        keys.into_iter().map(|key| key.lift(|signal: &mut Self| &mut signal.0)).collect()
    }
}

impl Section for OtlpSettings {
    const ABOUT: &'static [&'static str] = &["Spans and metrics over OTLP."];

    fn keys() -> Vec<Key<Self>> {
        let both = SignalSettings::keys().into_iter();
        let mut keys: Vec<_> = both.map(|key| key.lift(|otlp: &mut Self| &mut otlp.both)).collect();
        keys.extend(keys!(Self:
            /// What differs for spans.
            traces;
            /// What differs for metrics.
            metrics;
        ));
        keys
    }
}

section_value!(TracesSignal);
section_value!(MetricsSignal);
section_value!(OtlpSettings);

/// Whether what an earlier source said of `path`, a key of one signal, does not count any more, because
/// a later one has `said` it of both.
pub(super) fn is_overridden(path: &str, said: &HashSet<String>) -> bool {
    let own = path.strip_prefix("output.otlp.").and_then(|path| path.split_once('.'));
    own.is_some_and(|(_, key)| said.contains(&format!("output.otlp.{key}")))
}

/// A duration in whole milliseconds, as `OTEL_*` variables give it.
pub(super) fn millis(text: &str) -> Result<String, String> {
    let millis: u64 = text.parse().map_err(|_| "whole milliseconds")?;
    Ok(format!("{millis}ms"))
}

/// Samples of it.
pub(super) const MILLIS: &[&str] = &["2000", "3000", "4000"];

impl OtlpSettings {
    /// The exporters that are on: with an endpoint, or because the exporter list names OTLP.
    pub(super) fn resolve(&self, traces: &[TracesExporter], metrics: &[MetricsExporter]) -> Otlp {
        let traces = is_named(traces, TracesExporter::Otlp);
        let metrics = is_named(metrics, MetricsExporter::Otlp);
        Otlp {
            traces: signal(&self.both, self.traces.0.clone(), traces, "v1/traces"),
            metrics: signal(&self.both, self.metrics.0.clone(), metrics, "v1/metrics"),
        }
    }
}

/// Whether a list of exporters names this one; `None` if there is no list.
pub(super) fn is_named<T: PartialEq>(list: &[T], exporter: T) -> Option<bool> {
    if list.is_empty() { None } else { Some(list.contains(&exporter)) }
}

fn signal(
    both: &SignalSettings,
    own: SignalSettings,
    named: Option<bool>,
    path: &str,
) -> Option<OtlpSignal> {
    if !named.unwrap_or_else(|| both.endpoint.is_some() || own.endpoint.is_some()) {
        return None;
    }
    let endpoint = own.endpoint.as_ref().or(both.endpoint.as_ref());
    let protocol = own.protocol.or(both.protocol).unwrap_or_else(|| {
        // The specification leaves the default to us; on the port assigned to gRPC nothing else
        // would work.
        match endpoint.and_then(Url::port) {
            Some(4317) => Protocol::Grpc,
            _ => Protocol::HttpProtobuf,
        }
    });
    let url = match (own.endpoint, &both.endpoint, protocol) {
        (Some(exact), _, _) => exact,
        (None, Some(server), Protocol::Grpc) => server.clone(),
        (None, Some(base), _) => base.join(path),
        (None, None, Protocol::Grpc) => local("http://localhost:4317"),
        (None, None, _) => local("http://localhost:4318").join(path),
    };
    let pairs = own.headers.or_else(|| both.headers.clone());
    Some(OtlpSignal {
        url,
        protocol,
        headers: pairs.map(|pairs| pairs.0).unwrap_or_default(),
        timeout: own.timeout.or(both.timeout).unwrap_or(Duration::from_secs(10)),
        compression: own.compression.or(both.compression).unwrap_or(Compression::None),
        tls: TlsFiles {
            certificate: own.certificate.or_else(|| both.certificate.clone()),
            client_certificate: own.client_certificate.or_else(|| both.client_certificate.clone()),
            client_key: own.client_key.or_else(|| both.client_key.clone()),
        },
    })
}

/// A URL known to be one.
fn local(url: &'static str) -> Url {
    Url::parse(url).unwrap_or_else(|_| unreachable!("{url} is a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<Url> {
        Some(Url::parse(text).unwrap())
    }

    fn both(endpoint: &str) -> OtlpSettings {
        let mut settings = OtlpSettings::default();
        settings.both.endpoint = url(endpoint);
        settings
    }

    fn urls(otlp: &Otlp) -> (Option<&str>, Option<&str>) {
        let of = |signal: &'_ Option<OtlpSignal>| signal.as_ref().map(|s| s.url.exact().to_owned());
        let (traces, metrics) = (of(&otlp.traces), of(&otlp.metrics));
        (traces.map(|s| &*s.leak()), metrics.map(|s| &*s.leak()))
    }

    #[test]
    fn nothing_said_means_no_exporter() {
        assert_eq!(OtlpSettings::default().resolve(&[], &[]), Otlp::default());
    }

    #[test]
    fn a_common_endpoint_is_a_base_and_a_signals_own_is_used_as_it_is() {
        let mut settings = both("http://h:4318/base");
        settings.metrics.0.endpoint = url("http://m:9/exact?token=x");
        let expected = (Some("http://h:4318/base/v1/traces"), Some("http://m:9/exact?token=x"));
        assert_eq!(urls(&settings.resolve(&[], &[])), expected);
    }

    #[test]
    fn grpc_is_assumed_on_its_port_only_and_takes_the_server() {
        let otlp = both("http://h:4317").resolve(&[], &[]);
        assert_eq!(otlp.traces.as_ref().unwrap().protocol, Protocol::Grpc);
        assert_eq!(urls(&otlp), (Some("http://h:4317"), Some("http://h:4317")));
        let mut stated = both("http://h:4317");
        stated.both.protocol = Some(Protocol::HttpJson);
        let otlp = stated.resolve(&[], &[]);
        assert_eq!(urls(&otlp).0, Some("http://h:4317/v1/traces"));
        let other = both("http://h:80").resolve(&[], &[]);
        assert_eq!(other.traces.unwrap().protocol, Protocol::HttpProtobuf);
    }

    #[test]
    fn an_exporter_list_switches_signals_on_and_off() {
        let otlp = both("http://h:1").resolve(&[TracesExporter::None], &[]);
        assert!(otlp.traces.is_none() && otlp.metrics.is_some());
        let otlp = OtlpSettings::default().resolve(&[TracesExporter::Otlp], &[]);
        assert_eq!(urls(&otlp), (Some("http://localhost:4318/v1/traces"), None));
    }
}
