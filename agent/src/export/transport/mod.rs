//! How a request gets to a collector and what its answer means: gRPC, or HTTP with protobuf or JSON.
//!
//! - gRPC: tonic's `Channel` carries the connection (HTTP/2, TLS, reconnects). The call itself is framed
//!   here: a message is five bytes and what the encoder made, and tonic's own compressor is fixed at
//!   gzip level 6 (5.7 µs per span where level 1 takes 0.45).
//! - HTTP: `reqwest`. `opentelemetry-otlp` has a hook for a custom client, but a transport through it
//!   must be given a made-up span, replace the body it encodes, and gets neither `Retry-After` nor a
//!   partial success back; its environment variables lack certificates. What is left to it is one POST.
//!
//! Retryable or not: OTLP specification, "OTLP/gRPC Response" and "OTLP/HTTP Response".

pub(crate) mod compress;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod proxy;

use std::{error::Error, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use self::{grpc::Grpc, http::Http, proxy::Proxy};
use super::{
    otlp::{Format, Signal, response::PartialSuccess},
    settings::{OtlpSettings, Protocol},
};
use crate::{config::without_credentials, semantics::telemetry::OWN_USER_AGENT};

/// Sent with every request (OTLP exporter specification, "User Agent").
const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Remora/", env!("CARGO_PKG_VERSION"));

/// Without it spans of exports would be exported, and so on.
const _: () = assert!(USER_AGENT.len() > OWN_USER_AGENT.len());

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Maybe not all of it.
    Accepted(PartialSuccess),
    /// Not now. `after` is how long the collector asks to wait.
    Later { reason: String, after: Option<Duration> },
    /// Never.
    Refused(String),
}

pub(crate) enum Transport {
    Grpc(Box<Grpc>),
    Http(Box<Http>),
}

impl Transport {
    /// Prepares; connects with the first request.
    ///
    /// # Errors
    /// TLS files that are well-formed and yet unusable; no certificates on the system; a proxy that cannot be
    /// spoken to.
    pub(crate) fn build(signal: Signal, settings: &OtlpSettings) -> Result<Self, String> {
        let proxy = Proxy::of(&settings.endpoint, &|name| std::env::var(name).ok())?;
        Self::through(proxy, signal, settings)
    }

    /// Through `proxy`, whatever the environment says.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub(crate) fn through(
        proxy: Option<Proxy>,
        signal: Signal,
        settings: &OtlpSettings,
    ) -> Result<Self, String> {
        let http = |format, proxy| Http::build(format, settings, proxy);
        Ok(match settings.protocol {
            Protocol::Grpc => Self::Grpc(Grpc::build(signal, settings, proxy)?.into()),
            Protocol::HttpProtobuf => Self::Http(http(Format::Protobuf, proxy)?.into()),
            Protocol::HttpJson => Self::Http(http(Format::Json, proxy)?.into()),
        })
    }

    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Grpc(_) => Format::Protobuf,
            Self::Http(http) => http.format,
        }
    }

    /// Where to, as logs may show it.
    pub(crate) fn endpoint(&self) -> String {
        without_credentials(&self.settings().endpoint.to_string()).into_owned()
    }

    fn settings(&self) -> &OtlpSettings {
        match self {
            Self::Grpc(grpc) => &grpc.settings,
            Self::Http(http) => &http.settings,
        }
    }

    /// One attempt, connecting included, within the configured timeout.
    pub(crate) async fn send(&self, message: Bytes) -> Outcome {
        let bound = self.settings().timeout;
        let attempt = async {
            match self {
                Self::Grpc(grpc) => grpc.send(message).await,
                Self::Http(http) => http.send(message).await,
            }
        };
        let Some(bound) = bound else { return attempt.await };
        match timeout(bound, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => {
                if let Self::Grpc(grpc) = self {
                    grpc.give_up_connection(); // HTTP/1 does so by itself
                }
                Outcome::Later { reason: format!("no answer within {bound:?}"), after: None }
            }
        }
    }
}

/// Answers are small; no collector makes the agent grow.
const MAX_ANSWER: usize = 64 << 10;

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
