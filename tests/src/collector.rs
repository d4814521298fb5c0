//! An OTLP collector in process that can be stopped and started again at the same address: speaks gRPC
//! or HTTP/protobuf, decodes with the reference types.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Server, server::TcpIncoming};

use crate::address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

impl Protocol {
    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// What came, in order: the spans of a request together. Outlives a restart.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Vec<Span>>>>);

pub struct Collector {
    protocol: Protocol,
    address: SocketAddr,
    received: Received,
    running: Option<Runtime>,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start(protocol: Protocol) -> Self {
        let (listener, address) = address::listener();
        let received = Received::default();
        let running = Some(serve(protocol, listener, received.clone()));
        Self { protocol, address, received, running }
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The flags that make an agent send to it.
    #[must_use]
    pub fn flags(&self) -> [String; 4] {
        let flags =
            ["--otlp-endpoint", &self.endpoint(), "--otlp-protocol", self.protocol.as_str()];
        flags.map(str::to_owned)
    }

    /// From now on it refuses connections; those that are open end, whatever goes on on them.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Listens again where it did.
    ///
    /// # Panics
    /// If it runs, or its port is taken.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let listener = TcpListener::bind(self.address).expect("an address of its own");
        self.running = Some(serve(self.protocol, listener, self.received.clone()));
    }

    /// `url.path` of all spans that came, those of one request together.
    ///
    /// # Panics
    /// If the collector did.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<String>> {
        let requests = self.received.0.lock().expect("nobody panics");
        requests.iter().map(|spans| spans.iter().map(path).collect()).collect()
    }
}

/// Of a span that came: trace, span and parent, in hexadecimal digits; no parent is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub trace_id: String,
    pub span_id: String,
    pub parent: String,
}

impl Collector {
    /// Of all spans that came, by their names.
    ///
    /// # Panics
    /// If the collector did.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Ids> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let requests = self.received.0.lock().expect("nobody panics");
        let named = requests.iter().flatten().filter(|span| span.name == name);
        let ids = named.map(|span| Ids {
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
        });
        ids.collect()
    }
}

fn path(span: &Span) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == "url.path");
    match attribute.and_then(|attribute| attribute.value.as_ref()?.value.clone()) {
        Some(Value::StringValue(path)) => path,
        other => panic!("no path but {other:?}"),
    }
}

fn serve(protocol: Protocol, listener: TcpListener, received: Received) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    listener.set_nonblocking(true).expect("a socket of ours");
    let _guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket of ours");
    match protocol {
        Protocol::Grpc => {
            // Without it each request waits for the client's delayed acknowledgement.
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let traces = TraceServiceServer::new(received.clone());
            let router = Server::builder().add_service(traces);
            let router = router.add_service(MetricsServiceServer::new(received));
            runtime.spawn(router.serve_with_incoming(incoming));
        }
        Protocol::HttpProtobuf => {
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let received = received.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| answer(received.clone(), request));
                        let stream = TokioIo::new(stream);
                        // The agent may go at any time.
                        let _ = http1::Builder::new().serve_connection(stream, service).await;
                    });
                }
            });
        }
    }
    runtime
}

impl Received {
    fn traces(&self, request: ExportTraceServiceRequest) {
        let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
        let spans = groups.flat_map(|scope| scope.spans).collect();
        self.0.lock().expect("nobody panics").push(spans);
    }
}

async fn answer(
    received: Received,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let traces = request.uri().path().ends_with("/v1/traces");
    let Ok(body) = request.into_body().collect().await else {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    if traces {
        received.traces(Message::decode(body.to_bytes()).expect("what the agent writes"));
    }
    let mut response = Response::new(Full::default());
    let value = hyper::header::HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    Ok(response)
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.traces(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        _: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}
