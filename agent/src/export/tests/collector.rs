//! A collector in process, on loopback: decodes with the reference types, answers by script.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tonic::{
    Code, Status,
    codec::CompressionEncoding,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::pki::Pki;

/// What to do with a request; without one it is accepted.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// HTTP status and `Retry-After`.
    Http(u16, Option<String>),
    /// gRPC code and encoded details.
    Grpc(Code, Vec<u8>),
    /// Accepted but for so many.
    Partly(i64),
    /// Never.
    Hang,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) headers: HeaderMap,
    /// HTTP: the body after decompression.
    pub(crate) raw: Bytes,
    /// HTTP: with the query.
    pub(crate) path: String,
    pub(crate) at: Instant,
    pub(crate) accepted: bool,
}

/// Outlives the collector that follows it.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) answers: Mutex<VecDeque<Answer>>,
    pub(crate) received: Mutex<Vec<Received>>,
}

impl Script {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    /// Everything that came, refused requests included.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Names of the spans in accepted requests, in order of arrival.
    pub(crate) fn span_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for received in self.received().into_iter().filter(|received| received.accepted) {
            let Content::Traces(request) = received.content else { continue };
            for scope_spans in
                request.resource_spans.into_iter().flat_map(|group| group.scope_spans)
            {
                names.extend(scope_spans.spans.into_iter().map(|span| span.name));
            }
        }
        names
    }

    fn note(
        &self,
        content: Content,
        headers: HeaderMap,
        raw: Bytes,
        path: String,
    ) -> Option<Answer> {
        let answer = self.answers.lock().unwrap().pop_front();
        let accepted = matches!(answer, None | Some(Answer::Partly(_)));
        let at = Instant::now();
        self.received.lock().unwrap().push(Received { content, headers, raw, path, at, accepted });
        answer
    }
}

pub(crate) struct Collector {
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// On `addr`, or a free port.
    pub(crate) async fn grpc(
        script: &Arc<Script>,
        addr: Option<SocketAddr>,
        pki: Option<&Pki>,
    ) -> Self {
        let (listener, addr) = bind(addr).await;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = Server::builder();
        if let Some(pki) = pki {
            let tls = ServerTlsConfig::new()
                .identity(Identity::from_pem(&pki.server.0, &pki.server.1))
                .client_ca_root(Certificate::from_pem(&pki.ca));
            server = server.tls_config(tls).unwrap();
        }
        let service = Service(Arc::clone(script));
        let traces = TraceServiceServer::new(service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let metrics = MetricsServiceServer::new(service)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let router = server.add_service(traces).add_service(metrics);
            router.serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
        });
        Self { addr, stop: Some(stop), task }
    }

    /// On `addr`, or a free port.
    pub(crate) async fn http(
        script: &Arc<Script>,
        addr: Option<SocketAddr>,
        pki: Option<&Pki>,
    ) -> Self {
        let (listener, addr) = bind(addr).await;
        let acceptor = pki.map(Pki::acceptor);
        let script = Arc::clone(script);
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = &mut stopped => return, // and every connection with it
                };
                stream.set_nodelay(true).unwrap();
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, script).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, stop: Some(stop), task }
    }

    /// Stops listening and ends connections.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn bind(addr: Option<SocketAddr>) -> (TcpListener, SocketAddr) {
    let listener =
        TcpListener::bind(addr.unwrap_or((Ipv4Addr::LOCALHOST, 0).into())).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, script: Arc<Script>) {
    let service = service_fn(|request| answer_http(Arc::clone(&script), request));
    // The client may go at any time; that is not what is tested here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer_http(
    script: Arc<Script>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
    let raw = match header("content-encoding") {
        None => body,
        Some("gzip") => {
            let mut raw = Vec::new();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut raw).unwrap();
            raw.into()
        }
        Some("zstd") => zstd::decode_all(&*body).unwrap().into(),
        Some(other) => panic!("content-encoding {other}"),
    };
    let json = match header("content-type") {
        Some("application/json") => true,
        Some("application/x-protobuf") => false,
        other => panic!("content-type {other:?}"),
    };
    let path = head.uri.to_string();
    let content = match (head.uri.path().ends_with("/v1/metrics"), json) {
        (false, true) => Content::Traces(serde_json::from_slice(&raw).unwrap()),
        (false, false) => Content::Traces(Message::decode(&*raw).unwrap()),
        (true, true) => Content::Metrics(serde_json::from_slice(&raw).unwrap()),
        (true, false) => Content::Metrics(Message::decode(&*raw).unwrap()),
    };
    let mut response = Response::new(Full::default());
    match script.note(content, head.headers, raw, path) {
        None => {}
        Some(Answer::Http(status, retry_after)) => {
            *response.status_mut() = status.try_into().unwrap();
            if let Some(value) = retry_after {
                response.headers_mut().insert("retry-after", value.parse().unwrap());
            }
        }
        Some(Answer::Partly(rejected)) => {
            let body = if json {
                format!(
                    r#"{{"partialSuccess":{{"rejectedSpans":"{rejected}","errorMessage":"old"}}}}"#
                )
                .into()
            } else {
                partly(rejected).encode_to_vec().into()
            };
            *response.body_mut() = Full::new(body);
        }
        Some(Answer::Hang) => sleep(Duration::from_secs(3600)).await,
        Some(Answer::Grpc(..)) => panic!("an answer for gRPC"),
    }
    Ok(response)
}

fn partly(rejected: i64) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "old".into(),
        }),
    }
}

#[derive(Clone)]
struct Service(Arc<Script>);

impl Service {
    async fn answer(
        &self,
        content: Content,
        headers: HeaderMap,
    ) -> Result<ExportTraceServiceResponse, Status> {
        match self.0.note(content, headers, Bytes::new(), String::new()) {
            None => Ok(ExportTraceServiceResponse::default()),
            Some(Answer::Partly(rejected)) => Ok(partly(rejected)),
            Some(Answer::Grpc(code, details)) => {
                Err(Status::with_details(code, "as told", details.into()))
            }
            Some(Answer::Hang) => {
                sleep(Duration::from_secs(3600)).await;
                Err(Status::internal("nobody waits this long"))
            }
            Some(Answer::Http(..)) => panic!("an answer for HTTP"),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.answer(Content::Traces(request), metadata.into_headers())
            .await
            .map(tonic::Response::new)
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.answer(Content::Metrics(request), metadata.into_headers()).await?;
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}
