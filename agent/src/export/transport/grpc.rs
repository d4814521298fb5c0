//! OTLP/gRPC: the unary call `Export`, framed by hand on tonic's channel.

use std::{
    future::poll_fn,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use tonic::{
    Code, Status,
    body::Body,
    codegen::Service,
    transport::{Channel, Endpoint},
};

use super::{MAX_ANSWER, Outcome, USER_AGENT, chain, compress::compress, proxy::Proxy};
use crate::export::{
    otlp::{
        Format, Signal,
        response::{PartialSuccess, partial_success, retry_delay},
    },
    settings::OtlpSettings,
};

/// Compressed flag and big-endian length before every message.
const FRAME: usize = 5;

pub(crate) struct Grpc {
    pub(super) settings: OtlpSettings,
    path: Uri,
    headers: HeaderMap,
    endpoint: Endpoint,
    proxy: Option<Proxy>,
    /// Opened by the first request, since it needs a runtime. It reconnects by itself when the connection
    /// ends, but not when the peer is gone without a word: see [`Grpc::give_up_connection`].
    channel: Mutex<Option<Channel>>,
}

impl Grpc {
    pub(super) fn build(
        signal: Signal,
        settings: &OtlpSettings,
        proxy: Option<Proxy>,
    ) -> Result<Self, String> {
        let describe = |error: tonic::transport::Error| chain(&error);
        let mut endpoint =
            Endpoint::from(settings.endpoint.clone()).user_agent(USER_AGENT).map_err(describe)?;
        if let Some(bound) = settings.timeout {
            endpoint = endpoint.connect_timeout(bound);
        }
        if settings.endpoint.scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(settings.tls.tonic_config()).map_err(describe)?;
        }
        let path = Uri::from_static(match signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        });
        let mut headers = settings.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(name) = settings.compression.name() {
            headers.insert("grpc-encoding", HeaderValue::from_static(name));
        }
        let (settings, channel) = (settings.clone(), Mutex::default());
        Ok(Self { settings, path, headers, endpoint, proxy, channel })
    }

    pub(super) async fn send(&self, message: Bytes) -> Outcome {
        let compression = self.settings.compression;
        let mut body = compress(compression, message, FRAME).await;
        let len = u32::try_from(body.len() - FRAME).expect("requests are below 4 MiB");
        body[0] = u8::from(compression.name().is_some());
        body[1..FRAME].copy_from_slice(&len.to_be_bytes());

        let mut request = Request::post(self.path.clone())
            .body(Body::new(Full::new(Bytes::from(body))))
            .expect("a path and a method that are valid");
        request.headers_mut().clone_from(&self.headers);
        match self.call(request).await {
            Ok(outcome) => outcome,
            Err(reason) => {
                let proxy = self.proxy.as_ref();
                let reason = proxy.map_or(reason.clone(), |proxy| proxy.failed(&reason));
                Outcome::Later { reason, after: None }
            }
        }
    }

    /// To be called when an answer did not come in time: the next request opens a connection of its own.
    /// A host that vanished resets nothing, and HTTP/2 would queue every request behind the same dead
    /// connection until TCP gives up, a quarter of an hour later. (Pings are no way out: servers end
    /// connections of clients that ping more often than every five minutes.)
    pub(super) fn give_up_connection(&self) {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Fails where the connection does.
    async fn call(&self, request: Request<Body>) -> Result<Outcome, String> {
        let mut channel = {
            let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
            let open = || match &self.proxy {
                Some(proxy) => self.endpoint.connect_with_connector_lazy(proxy.tunnel()),
                None => self.endpoint.connect_lazy(),
            };
            channel.get_or_insert_with(open).clone()
        };
        poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|error| chain(&error))?;
        let response = channel.call(request).await.map_err(|error| chain(&error))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Ok(http_failure(head.status));
        }
        // A call that failed at once has its status in the head, any other in the trailers.
        if let Some(status) = Status::from_header_map(&head.headers) {
            return Ok(outcome(&status, &[]));
        }
        let body =
            Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| chain(&*error))?;
        let status = body.trailers().and_then(Status::from_header_map);
        Ok(match status {
            Some(status) => outcome(&status, &body.to_bytes()),
            None => Outcome::Refused("an answer without grpc-status".into()),
        })
    }
}

fn outcome(status: &Status, body: &[u8]) -> Outcome {
    let delay = retry_delay(status.details());
    let retryable = match status.code() {
        Code::Ok => {
            // We offer no encodings, so the answer is plain.
            let answer = body.get(FRAME..).unwrap_or_default();
            return Outcome::Accepted(if body.first() == Some(&0) {
                partial_success(Format::Protobuf, answer)
            } else {
                PartialSuccess::default()
            });
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Only a server that says when it recovers does recover.
        Code::ResourceExhausted => delay.is_some(),
        _ => false,
    };
    let reason = match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    };
    if retryable { Outcome::Later { reason, after: delay } } else { Outcome::Refused(reason) }
}

/// A proxy answered instead of a gRPC server: as gRPC's "HTTP to gRPC status code mapping" says, these
/// count as UNAVAILABLE and the rest as errors that do not pass.
fn http_failure(status: StatusCode) -> Outcome {
    let reason = format!("HTTP status {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Later { reason, after: None },
        _ => Outcome::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_retried_as_the_specification_says() {
        for code in 1..=16 {
            let status = Status::new(Code::from_i32(code), "why");
            let expected = [1, 4, 10, 11, 14, 15].contains(&code);
            match outcome(&status, &[]) {
                Outcome::Later { reason, after: None } => {
                    assert!(expected, "{code}");
                    assert!(reason.ends_with(": why"), "{reason}");
                }
                Outcome::Refused(_) => assert!(!expected, "{code}"),
                other => panic!("{code}: {other:?}"),
            }
        }
    }
}
