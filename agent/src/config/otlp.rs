//! Where OTLP goes: the rules of the OTLP exporter specification for endpoints, and which of several
//! settings for one signal counts.

use std::{path::PathBuf, time::Duration};

use super::value::{Setting, Url, keywords};
use crate::discover::resource_attributes;

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
    /// Longest time for one request.
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
    /// `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`; several are separated by commas.
    pub enum Exporter {
        Otlp = "otlp",
        Console = "console",
        Prometheus = "prometheus",
        None = "none",
    }
}

/// Headers as `key=value` pairs, percent-encoded, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Headers(pub(super) Vec<(String, String)>);

impl Setting for Headers {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let pairs = resource_attributes::parse(text).ok().filter(|pairs| !pairs.is_empty());
        pairs.map(Self).ok_or("key=value pairs, percent-encoded, separated by commas".into())
    }
}

/// What one source says of one signal, or of both.
#[derive(Clone, Debug, Default)]
pub(super) struct SignalSettings {
    pub(super) endpoint: Option<Url>,
    pub(super) protocol: Option<Protocol>,
    pub(super) headers: Option<Headers>,
    pub(super) timeout: Option<Duration>,
    pub(super) compression: Option<Compression>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
}

/// What one source says, or all of them after [`Self::overlay`].
#[derive(Clone, Debug, Default)]
pub(super) struct OtlpSettings {
    pub(super) both: SignalSettings,
    pub(super) traces: SignalSettings,
    pub(super) metrics: SignalSettings,
}

impl OtlpSettings {
    /// Puts a later source over this one: what it says of both signals also overrides what an
    /// earlier source said of one.
    pub(super) fn overlay(&mut self, later: Self) {
        macro_rules! overlay {
            ($($field:ident),*) => {$(
                if later.both.$field.is_some() {
                    self.both.$field = later.both.$field;
                    self.traces.$field = None;
                    self.metrics.$field = None;
                }
                if later.traces.$field.is_some() {
                    self.traces.$field = later.traces.$field;
                }
                if later.metrics.$field.is_some() {
                    self.metrics.$field = later.metrics.$field;
                }
            )*};
        }
        overlay!(
            endpoint,
            protocol,
            headers,
            timeout,
            compression,
            certificate,
            client_certificate,
            client_key
        );
    }

    /// The exporters that are on: with an endpoint, or because the exporter list names OTLP.
    pub(super) fn resolve(self, traces: Option<&[Exporter]>, metrics: Option<&[Exporter]>) -> Otlp {
        Otlp {
            traces: signal(&self.both, self.traces, traces, "v1/traces"),
            metrics: signal(&self.both, self.metrics, metrics, "v1/metrics"),
        }
    }
}

fn signal(
    both: &SignalSettings,
    own: SignalSettings,
    exporters: Option<&[Exporter]>,
    path: &str,
) -> Option<OtlpSignal> {
    let on = match exporters {
        Some(exporters) => exporters.contains(&Exporter::Otlp),
        None => both.endpoint.is_some() || own.endpoint.is_some(),
    };
    if !on {
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
        let of =
            |signal: &'_ Option<OtlpSignal>| signal.as_ref().map(|s| s.url.as_str().to_owned());
        let (traces, metrics) = (of(&otlp.traces), of(&otlp.metrics));
        (traces.map(|s| &*s.leak()), metrics.map(|s| &*s.leak()))
    }

    #[test]
    fn nothing_said_means_no_exporter() {
        assert_eq!(OtlpSettings::default().resolve(None, None), Otlp::default());
    }

    #[test]
    fn a_common_endpoint_is_a_base_and_a_signals_own_is_used_as_it_is() {
        let mut settings = both("http://h:4318/base");
        settings.metrics.endpoint = url("http://m:9/exact");
        let expected = (Some("http://h:4318/base/v1/traces"), Some("http://m:9/exact"));
        assert_eq!(urls(&settings.resolve(None, None)), expected);
    }

    #[test]
    fn grpc_is_assumed_on_its_port_only_and_takes_the_server() {
        let otlp = both("http://h:4317").resolve(None, None);
        assert_eq!(otlp.traces.as_ref().unwrap().protocol, Protocol::Grpc);
        assert_eq!(urls(&otlp), (Some("http://h:4317"), Some("http://h:4317")));
        let mut stated = both("http://h:4317");
        stated.both.protocol = Some(Protocol::HttpJson);
        let otlp = stated.resolve(None, None);
        assert_eq!(urls(&otlp).0, Some("http://h:4317/v1/traces"));
        let other = both("http://h:80").resolve(None, None);
        assert_eq!(other.traces.unwrap().protocol, Protocol::HttpProtobuf);
    }

    #[test]
    fn an_exporter_list_switches_signals_on_and_off() {
        let otlp = both("http://h:1").resolve(Some(&[Exporter::None]), None);
        assert!(otlp.traces.is_none() && otlp.metrics.is_some());
        let otlp = OtlpSettings::default().resolve(Some(&[Exporter::Otlp]), None);
        assert_eq!(urls(&otlp), (Some("http://localhost:4318/v1/traces"), None));
    }

    #[test]
    fn a_later_common_setting_overrides_an_earlier_signals_own() {
        let mut settings = OtlpSettings::default();
        settings.traces.endpoint = url("http://file/traces");
        settings.overlay(both("http://flag"));
        assert_eq!(urls(&settings.resolve(None, None)).0, Some("http://flag/v1/traces"));
    }
}
