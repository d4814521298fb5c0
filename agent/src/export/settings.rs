//! From `OTEL_*` variables and flags to what the exporters do: endpoints, protocols, headers, TLS,
//! limits. Every mistake is found in one run and names the variable, what it held and what it may hold.
//!
//! A variable that is empty is unset. One for a signal (`OTEL_EXPORTER_OTLP_TRACES_*`) replaces the
//! general one. A flag overrides both, for both signals.
//!
//! | variable | default |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_}ENDPOINT` | none: nothing is sent, unless `OTEL_*_EXPORTER` has `otlp` |
//! | `.._PROTOCOL` | `http/protobuf` |
//! | `.._HEADERS`, `.._COMPRESSION`, `.._TIMEOUT` | none, `none`, 10000 ms |
//! | `.._CERTIFICATE`, `.._CLIENT_CERTIFICATE`, `.._CLIENT_KEY` | the system's roots, none, none |
//! | `.._INSECURE` | `false`; only for gRPC endpoints without a scheme |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` |
//! | `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` | `explicit_bucket_histogram` |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `otlp` if an endpoint is given |
//! | `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_BSP_EXPORT_TIMEOUT` | 5000 ms, 30000 ms |
//! | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | 512 spans; a backlog goes out in larger requests unless it is set |
//! | `OTEL_BSP_MAX_QUEUE_SIZE` | none: the queue is bounded in bytes; if set, in spans too |
//! | `OTEL_METRIC_EXPORT_TIMEOUT` | 30000 ms |
//! | `REMORA_EXPORT_QUEUE_BYTES` | 16 MiB for each destination and signal |
//!
//! Sources: the OpenTelemetry specification's pages on the OTLP exporter and on SDK environment variables.

use std::{fmt, fs, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{otlp::Signal, transport::tls::Tls};

/// Requests are kept below this many bytes, uncompressed: gRPC servers refuse messages of 4 MiB and
/// more by default. The margin is for their own framing.
pub const MAX_REQUEST_BYTES: usize = (4 << 20) - (64 << 10);

/// OTLP's three transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Protocol {
    const EXPECTED: &'static str = "grpc, http/protobuf or http/json";
}

impl FromStr for Protocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "http/json" => Ok(Self::HttpJson),
            _ => Err(Self::EXPECTED),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`, for aggregation to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TemporalityPreference {
    #[default]
    Cumulative,
    /// Counters and histograms in deltas.
    Delta,
    /// Synchronous counters and histograms in deltas, the rest cumulative.
    LowMemory,
}

/// `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`, for aggregation to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HistogramAggregation {
    #[default]
    Explicit,
    Exponential,
}

/// Where one signal goes and how.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    pub protocol: Protocol,
    /// Of HTTP the full URL; of gRPC scheme and authority.
    pub endpoint: Uri,
    /// Values are marked sensitive: they do not appear in debug output.
    pub headers: HeaderMap,
    pub compression: Compression,
    /// One attempt's bound.
    pub timeout: Duration,
    pub tls: Tls,
}

/// When spans leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// A span waits at most this long for others.
    pub schedule_delay: Duration,
    /// As many spans make a request at once.
    pub max_batch_items: u64,
    /// Whether a backlog may go out in requests of more than `max_batch_items`.
    pub merge_backlog: bool,
    /// See [`MAX_REQUEST_BYTES`].
    pub max_request_bytes: usize,
}

/// How much waits for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    pub max_bytes: usize,
    /// Spans; metric points are not counted.
    pub max_spans: Option<u64>,
}

/// How an attempt that failed for now is repeated: the `n`-th pause is `initial * 2^n`, at most `max`,
/// less up to half of it by chance. There is no last attempt: a request stays until it is accepted,
/// refused for good, or the queue needs its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    pub initial: Duration,
    pub max: Duration,
}

/// Where `--otlp-file` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileTarget {
    Stdout,
    /// Created if it does not exist, else appended to.
    Path(PathBuf),
}

/// Everything about export.
#[derive(Clone, Debug)]
pub struct Settings {
    pub traces: Option<OtlpSettings>,
    pub metrics: Option<OtlpSettings>,
    pub file: Option<FileTarget>,
    pub batch: BatchSettings,
    pub queue: QueueSettings,
    pub retry: RetrySettings,
    pub temporality: TemporalityPreference,
    pub histogram: HistogramAggregation,
}

/// What flags or the configuration file say; they win over the environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--otlp-endpoint`: a base, as `OTEL_EXPORTER_OTLP_ENDPOINT` is.
    pub endpoint: Option<String>,
    /// `--otlp-protocol`
    pub protocol: Option<String>,
    /// `--otlp-file`; `-` is standard output.
    pub file: Option<String>,
    pub queue_bytes: Option<usize>,
}

/// One wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable or flag.
    pub name: String,
    /// What it held; secrets are not repeated.
    pub found: String,
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, expected } = self;
        write!(f, "{name}: found {found}, expected {expected}")
    }
}

/// All of them, one per line when displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Settings {
    /// Reads `env` (a variable's value, if it has one) and files that it names.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read(env: &dyn Fn(&str) -> Option<String>, flags: &Overrides) -> Result<Self, Mistakes> {
        let mut reader = Reader { env, mistakes: Vec::new() };
        let max_spans = reader.at_least_one("OTEL_BSP_MAX_QUEUE_SIZE");
        let batch = reader.batch(max_spans);
        let settings = Self {
            traces: reader.signal(Signal::Traces, flags),
            metrics: reader.signal(Signal::Metrics, flags),
            file: flags.file.as_deref().map(|file| match file {
                "-" => FileTarget::Stdout,
                path => FileTarget::Path(path.into()),
            }),
            queue: QueueSettings {
                max_bytes: flags.queue_bytes.unwrap_or_else(|| {
                    reader
                        .at_least_one("REMORA_EXPORT_QUEUE_BYTES")
                        .map_or(16 << 20, |bytes| bytes as usize)
                }),
                max_spans,
            },
            batch,
            retry: RetrySettings {
                initial: Duration::from_millis(500),
                max: Duration::from_secs(15),
            },
            temporality: reader.choice(
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                &[
                    ("cumulative", TemporalityPreference::Cumulative),
                    ("delta", TemporalityPreference::Delta),
                    ("lowmemory", TemporalityPreference::LowMemory),
                ],
            ),
            histogram: reader.choice(
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                &[
                    ("explicit_bucket_histogram", HistogramAggregation::Explicit),
                    ("base2_exponential_bucket_histogram", HistogramAggregation::Exponential),
                ],
            ),
        };
        if let Some(spans) = settings.queue.max_spans
            && settings.batch.max_batch_items > spans
        {
            reader.mistake(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                settings.batch.max_batch_items,
                format!("at most OTEL_BSP_MAX_QUEUE_SIZE, which is {spans}"),
            );
        }
        if reader.mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(reader.mistakes)) }
    }
}

/// A value with the name of where it came from.
struct Named {
    name: String,
    value: String,
}

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn mistake(&mut self, name: &str, found: impl fmt::Display, expected: impl Into<String>) {
        // Both signals read the general variables; a mistake in one is reported once.
        let mistake =
            Mistake { name: name.into(), found: found.to_string(), expected: expected.into() };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn named(&self, name: String) -> Option<Named> {
        self.get(&name).map(|value| Named { name, value })
    }

    /// The signal's own variable, else the general one.
    fn either(&self, signal: Signal, key: &str) -> Option<Named> {
        self.own(signal, key).or_else(|| self.named(format!("OTEL_EXPORTER_OTLP_{key}")))
    }

    fn own(&self, signal: Signal, key: &str) -> Option<Named> {
        self.named(format!("OTEL_EXPORTER_OTLP_{}_{key}", upper(signal)))
    }

    fn whole(&mut self, name: &str, minimum: u64, unit: &str) -> Option<u64> {
        let value = self.get(name)?;
        match value.parse() {
            Ok(number) if number >= minimum => Some(number),
            _ => {
                self.mistake(name, quoted(&value), format!("{unit}, at least {minimum}"));
                None
            }
        }
    }

    fn at_least_one(&mut self, name: &str) -> Option<u64> {
        self.whole(name, 1, "a whole number")
    }

    fn millis(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_millis(
            self.whole(name, 1, "milliseconds as a whole number").unwrap_or(default),
        )
    }

    fn choice<T: Copy + Default>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let Some(value) = self.get(name) else { return T::default() };
        match choices.iter().find(|(text, _)| value.eq_ignore_ascii_case(text)) {
            Some((_, choice)) => *choice,
            None => {
                let names: Vec<_> = choices.iter().map(|(text, _)| *text).collect();
                self.mistake(name, quoted(&value), names.join(" or "));
                T::default()
            }
        }
    }

    fn batch(&mut self, max_spans: Option<u64>) -> BatchSettings {
        let batch = self.at_least_one("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        BatchSettings {
            schedule_delay: self.millis("OTEL_BSP_SCHEDULE_DELAY", 5000),
            max_batch_items: batch.unwrap_or(512.min(max_spans.unwrap_or(512))),
            merge_backlog: batch.is_none(),
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }

    fn signal(&mut self, signal: Signal, flags: &Overrides) -> Option<OtlpSettings> {
        let flag = |name: &str, value: &Option<String>| {
            value.clone().map(|value| Named { name: name.into(), value })
        };
        let flagged = flag("--otlp-endpoint", &flags.endpoint);
        // A signal's own URL is taken as it is; a base gets the signal's path.
        let (endpoint, is_base) = match (flagged, self.own(signal, "ENDPOINT")) {
            (Some(base), _) => (Some(base), true),
            (None, Some(own)) => (Some(own), false),
            (None, None) => (self.either(signal, "ENDPOINT"), true),
        };
        let exporters = self.get(&format!("OTEL_{}_EXPORTER", upper(signal)));
        let wanted = match &exporters {
            // Names that mean nothing to us belong to other exporters.
            Some(names) if flags.endpoint.is_none() => {
                names.split(',').any(|name| name.trim() == "otlp")
            }
            _ => endpoint.is_some(),
        };
        if !wanted {
            return None;
        }

        let protocol =
            flag("--otlp-protocol", &flags.protocol).or_else(|| self.either(signal, "PROTOCOL"));
        let protocol = match protocol {
            None => Protocol::HttpProtobuf,
            Some(named) => named.value.parse().unwrap_or_else(|expected: &str| {
                self.mistake(&named.name, quoted(&named.value), expected);
                Protocol::HttpProtobuf
            }),
        };
        let insecure = self.insecure(signal);
        let endpoint = match endpoint {
            Some(named) => endpoint_uri(protocol, signal, &named.value, is_base, insecure)
                .unwrap_or_else(|expected| {
                    self.mistake(&named.name, quoted(&without_userinfo(&named.value)), expected);
                    Uri::default()
                }),
            None => default_endpoint(protocol, signal),
        };
        let timeout = self.timeout(signal);
        let (compression, headers) = (self.compression(signal), self.headers(signal));
        let tls = self.tls(signal);
        Some(OtlpSettings { protocol, endpoint, headers, compression, timeout, tls })
    }

    fn insecure(&mut self, signal: Signal) -> bool {
        let Some(Named { name, value }) = self.either(signal, "INSECURE") else { return false };
        if !["true", "false"].iter().any(|known| value.eq_ignore_ascii_case(known)) {
            self.mistake(&name, quoted(&value), "true or false");
        }
        value.eq_ignore_ascii_case("true")
    }

    /// The exporter's own bound, and the processor's above it.
    fn timeout(&mut self, signal: Signal) -> Duration {
        let own = match self.either(signal, "TIMEOUT") {
            Some(named) => self.millis(&named.name, 10_000),
            None => Duration::from_secs(10),
        };
        own.min(match signal {
            Signal::Traces => self.millis("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
            Signal::Metrics => self.millis("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
        })
    }

    fn compression(&mut self, signal: Signal) -> Compression {
        let Some(Named { name, value }) = self.either(signal, "COMPRESSION") else {
            return Compression::None;
        };
        match &*value {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => {
                self.mistake(&name, quoted(&value), "gzip, zstd or none");
                Compression::None
            }
        }
    }

    fn headers(&mut self, signal: Signal) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(Named { name, value }) = self.either(signal, "HEADERS") else { return headers };
        for (index, pair) in value.split(',').enumerate() {
            if pair.trim().is_empty() {
                continue; // a trailing comma
            }
            match header(pair) {
                Ok((key, value)) => {
                    headers.append(key, value);
                }
                // The pair may hold a secret: say which one it is, not what it is.
                Err(expected) => self.mistake(&name, format!("pair {}", index + 1), expected),
            }
        }
        headers
    }

    fn tls(&mut self, signal: Signal) -> Tls {
        let mut file = |key: &str| {
            let named = self.either(signal, key)?;
            match fs::read(&named.value) {
                Ok(pem) => Some((named, pem)),
                Err(error) => {
                    let found = format!("{} ({error})", quoted(&named.value));
                    self.mistake(&named.name, found, "a readable PEM file");
                    None
                }
            }
        };
        let ca = file("CERTIFICATE");
        let certificate = file("CLIENT_CERTIFICATE");
        let key = file("CLIENT_KEY");
        for (one, other, missing) in
            [(&certificate, &key, "CLIENT_KEY"), (&key, &certificate, "CLIENT_CERTIFICATE")]
        {
            if let Some((named, _)) = one
                && other.is_none()
                && self.either(signal, missing).is_none()
            {
                let expected = format!("OTEL_EXPORTER_OTLP_{missing} with it");
                self.mistake(&named.name, quoted(&named.value), expected);
            }
        }
        let mut tls = Tls::default();
        if let Some((named, pem)) = ca {
            match Tls::certificates(&pem) {
                Ok(_) => tls.ca = Some(pem),
                Err(expected) => self.mistake(&named.name, quoted(&named.value), expected),
            }
        }
        if let (Some((certificate, chain)), Some((key, secret))) = (certificate, key) {
            let chain_ok = Tls::certificates(&chain).map(drop);
            let key_ok = Tls::key(&secret).map(drop);
            for (named, result) in [(&certificate, &chain_ok), (&key, &key_ok)] {
                if let Err(expected) = result {
                    self.mistake(&named.name, quoted(&named.value), *expected);
                }
            }
            if chain_ok.is_ok() && key_ok.is_ok() {
                tls.identity = Some((chain, secret));
            }
        }
        tls
    }
}

fn upper(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "TRACES",
        Signal::Metrics => "METRICS",
    }
}

fn quoted(value: &str) -> String {
    format!("{value:?}")
}

/// A URL for a message: what stands before `@` is a password.
fn without_userinfo(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://{}", &url[..scheme], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
    }
}

fn default_endpoint(protocol: Protocol, signal: Signal) -> Uri {
    match protocol {
        Protocol::Grpc => Uri::from_static("http://localhost:4317"),
        _ => format!("http://localhost:4318{}", path(signal))
            .parse()
            .expect("a constant that is a URL"),
    }
}

fn endpoint_uri(
    protocol: Protocol,
    signal: Signal,
    text: &str,
    is_base: bool,
    insecure: bool,
) -> Result<Uri, &'static str> {
    let grpc = protocol == Protocol::Grpc;
    let expected = if grpc {
        "http://HOST[:PORT] or https://HOST[:PORT] or HOST:PORT for gRPC"
    } else {
        "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]"
    };
    let mut text = text.to_owned();
    if grpc && !text.contains("://") {
        text.insert_str(0, if insecure { "http://" } else { "https://" });
    }
    let uri: Uri = text.parse().map_err(|_| expected)?;
    let authority = uri.authority().ok_or(expected)?;
    if !matches!(uri.scheme_str(), Some("http" | "https"))
        || authority.host().is_empty()
        || authority.as_str().contains('@')
        || (authority.port().is_some() && authority.port_u16().is_none())
    {
        return Err(expected);
    }
    if grpc {
        let plain = matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("" | "/"));
        return if plain { Ok(uri) } else { Err("no path for gRPC, or an http protocol") };
    }
    if !is_base {
        return Ok(uri);
    }
    let mut parts = uri.into_parts();
    let (base, query) = match &parts.path_and_query {
        Some(both) => (both.path().trim_end_matches('/'), both.query()),
        None => ("", None),
    };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let full = format!("{base}{}{query}", path(signal));
    parts.path_and_query = Some(full.parse().map_err(|_| expected)?);
    Uri::from_parts(parts).map_err(|_| expected)
}

/// `key=value` with a percent-encoded value, as in W3C Baggage without properties.
fn header(pair: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (key, value) = pair.split_once('=').ok_or("key=value pairs separated by commas")?;
    let key = HeaderName::from_str(key.trim()).map_err(|_| "a header name before '='")?;
    let value = percent_decode(value.trim()).ok_or("'%' followed by two hex digits in a value")?;
    let mut value =
        HeaderValue::from_bytes(&value).map_err(|_| "a header value without control characters")?;
    value.set_sensitive(true);
    Ok((key, value))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        out.push((high? * 16 + low?) as u8);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
