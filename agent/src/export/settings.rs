//! What the exporters do: endpoints, protocols, headers, TLS, limits. Made of the [`Config`], which
//! has read file, environment and flags; here files that it names are read.

use std::{fs, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::otlp::Signal;
use crate::config::{Batch, Config, OtlpSignal, TlsFiles};
pub use crate::config::{Compression, Protocol};
use crate::trust::Tls;

/// Requests are kept below this many bytes, uncompressed: gRPC servers refuse messages of 4 MiB and
/// more by default. The margin is for their own framing.
pub const MAX_REQUEST_BYTES: usize = (4 << 20) - (64 << 10);

/// A queue has room for as many requests at least: one that is longer than its queue would never leave,
/// and few long ones would leave a full queue mostly empty each time the oldest goes.
const REQUESTS_PER_QUEUE: usize = 8;

/// Where one signal goes and how.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    pub protocol: Protocol,
    /// Of HTTP the full URL; of gRPC scheme and authority.
    pub endpoint: Uri,
    /// Values are marked sensitive: they do not appear in debug output.
    pub headers: HeaderMap,
    pub compression: Compression,
    /// One attempt's bound, if there is one.
    pub timeout: Option<Duration>,
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
    /// See [`MAX_REQUEST_BYTES`]; less where the queue is small.
    pub max_request_bytes: usize,
}

/// How much waits for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    pub max_bytes: usize,
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
}

/// A value of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("export of {}: {what}", signal.as_str())]
pub struct SettingsError {
    pub signal: Signal,
    pub what: String,
}

impl Settings {
    /// Takes what is about export out of `config`, and reads the certificates it names.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should; a header or URL that cannot be sent.
    pub fn of(config: &Config) -> Result<Self, SettingsError> {
        let signal = |signal: Signal, otlp: &Option<OtlpSignal>| match otlp {
            Some(otlp) => {
                OtlpSettings::of(otlp).map(Some).map_err(|what| SettingsError { signal, what })
            }
            None => Ok(None),
        };
        let (output, otlp) = (&config.output, config.otlp());
        let queue_bytes = usize::try_from(config.limits.queue.0).unwrap_or(usize::MAX);
        Ok(Self {
            traces: signal(Signal::Traces, &otlp.traces)?,
            metrics: signal(Signal::Metrics, &otlp.metrics)?,
            file: output.otlp_file.as_ref().map(|path| match path.to_str() {
                Some("-") => FileTarget::Stdout,
                _ => FileTarget::Path(path.clone()),
            }),
            batch: BatchSettings {
                schedule_delay: output.batch.delay,
                max_batch_items: output.batch.max_spans.into(),
                merge_backlog: output.batch.max_spans == Batch::default().max_spans,
                max_request_bytes: MAX_REQUEST_BYTES.min(queue_bytes / REQUESTS_PER_QUEUE),
            },
            queue: QueueSettings { max_bytes: queue_bytes },
            retry: RetrySettings {
                initial: Duration::from_millis(500),
                max: Duration::from_secs(15),
            },
        })
    }
}

impl OtlpSettings {
    fn of(otlp: &OtlpSignal) -> Result<Self, String> {
        let endpoint: Uri = otlp
            .url
            .exact()
            .parse()
            .map_err(|error| format!("`{}` is no URL: {error}", otlp.url.as_str()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &otlp.headers {
            let name =
                name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no header name"))?;
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| format!("header {name}: its value has control characters"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self {
            protocol: otlp.protocol,
            endpoint,
            headers,
            compression: otlp.compression,
            timeout: (!otlp.timeout.is_zero()).then_some(otlp.timeout),
            tls: tls(&otlp.tls)?,
        })
    }
}

/// The PEM files, read and looked into.
fn tls(files: &TlsFiles) -> Result<Tls, String> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let wrong = |path: &PathBuf, expected| format!("{}: expected {expected}", path.display());
    let mut tls = Tls::default();
    if let Some(path) = &files.certificate {
        let pem = read(path)?;
        Tls::certificates(&pem).map_err(|expected| wrong(path, expected))?;
        tls.ca = Some(pem);
    }
    tls.identity = match (&files.client_certificate, &files.client_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let (chain, secret) = (read(certificate)?, read(key)?);
            Tls::certificates(&chain).map_err(|expected| wrong(certificate, expected))?;
            Tls::key(&secret).map_err(|expected| wrong(key, expected))?;
            Some((chain, secret))
        }
        (Some(path), None) => return Err(wrong(path, "a client key beside the certificate")),
        (None, Some(path)) => return Err(wrong(path, "a client certificate beside the key")),
    };
    Ok(tls)
}
