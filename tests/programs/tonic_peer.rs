//! The server and the client of `targets/http2/README.md`, of gRPC with tonic: `tonic_peer server LOG`, `tonic_peer client
//! PORT WORKERS ROUNDS`; over rustls, if `PEER_TLS` names the folder of a certificate. What a compiler of services would write
//! is written by hand.

mod tls {
    pub(crate) mod client;
    pub(crate) mod server;
}

use std::{
    convert::Infallible,
    env,
    error::Error,
    fs::{File, OpenOptions},
    future::Future,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::stream;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Uri, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Answer<T> = Pin<Box<dyn Future<Output = std::result::Result<Response<T>, Status>> + Send>>;

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct EchoStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SimpleRequest {
    #[prost(message, optional, tag = "7")]
    response_status: Option<EchoStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameters {
    #[prost(int32, tag = "1")]
    size: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StreamRequest {
    #[prost(message, repeated, tag = "2")]
    response_parameters: Vec<Parameters>,
}

struct EmptyCall;
struct UnaryCall;
struct StreamingOutputCall;

impl UnaryService<Empty> for EmptyCall {
    type Response = Empty;
    type Future = Answer<Empty>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        Box::pin(async { Ok(Response::new(Empty {})) })
    }
}

impl UnaryService<SimpleRequest> for UnaryCall {
    type Response = Empty;
    type Future = Answer<Empty>;

    fn call(&mut self, request: Request<SimpleRequest>) -> Self::Future {
        Box::pin(async move {
            match request.into_inner().response_status {
                Some(asked) => Err(Status::new(Code::from_i32(asked.code), "QZQZQZQZ")),
                None => Ok(Response::new(Empty {})),
            }
        })
    }
}

impl ServerStreamingService<StreamRequest> for StreamingOutputCall {
    type Response = Empty;
    type ResponseStream = stream::Iter<std::vec::IntoIter<std::result::Result<Empty, Status>>>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, request: Request<StreamRequest>) -> Self::Future {
        Box::pin(async move {
            let messages = request.into_inner().response_parameters.into_iter();
            let messages: Vec<_> = messages.map(|_| Ok(Empty {})).collect();
            Ok(Response::new(stream::iter(messages)))
        })
    }
}

#[derive(Clone)]
struct TestService(Arc<File>);

impl NamedService for TestService {
    const NAME: &'static str = "grpc.testing.TestService";
}

impl Service<http::Request<Body>> for TestService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let log = Arc::clone(&self.0);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let (response, code) = match path.rsplit('/').next() {
                Some("EmptyCall") => {
                    let mut grpc = Grpc::new(ProstCodec::<Empty, Empty>::default());
                    (grpc.unary(EmptyCall, request).await, 0)
                }
                Some("UnaryCall") => {
                    let mut grpc = Grpc::new(ProstCodec::<Empty, SimpleRequest>::default());
                    (grpc.unary(UnaryCall, request).await, 5)
                }
                Some("StreamingOutputCall") => {
                    let mut grpc = Grpc::new(ProstCodec::<Empty, StreamRequest>::default());
                    (grpc.server_streaming(StreamingOutputCall, request).await, 0)
                }
                _ => (Status::unimplemented("no").into_http(), 12),
            };
            let line = format!("{path} {code}\n");
            (&*log).write_all(line.as_bytes()).expect("a log that can be written");
            Ok(response)
        })
    }
}

async fn serve(log: &str) -> Result<()> {
    let log = OpenOptions::new().append(true).create(true).open(log)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let service = TestService(Arc::new(log));
    if let Some(folder) = env::var_os("PEER_TLS") {
        return serve_tls(Path::new(&folder), &listener, service).await;
    }
    let server = tonic::transport::Server::builder().add_service(service);
    Ok(server.serve_with_incoming(TcpIncoming::from(listener)).await?)
}

/// tonic's own server has TLS where its features are chosen; hyper is what it stands on.
async fn serve_tls(folder: &Path, listener: &TcpListener, service: TestService) -> Result<()> {
    let acceptor = tls::server::acceptor(folder)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(move |request: http::Request<Incoming>| {
                service.clone().call(request.map(Body::new))
            });
            let server = http2::Builder::new(TokioExecutor::new());
            // A client that goes away concerns nobody else.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Connects over TLS, whatever the address says.
struct Connect(TlsConnector);

impl Service<Uri> for Connect {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.0.clone();
        Box::pin(async move {
            let port = uri.port_u16().ok_or("no port")?;
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            let name = ServerName::try_from("localhost")?;
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        })
    }
}

/// One call; its code.
async fn unary<M: Message + Default + 'static>(
    channel: &Channel,
    method: &str,
    message: M,
) -> Result<Code> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = format!("/grpc.testing.TestService/{method}").parse()?;
    let answer = grpc.unary(Request::new(message), path, ProstCodec::<M, Empty>::default()).await;
    Ok(answer.map_or_else(|status| status.code(), |_| Code::Ok))
}

async fn work(channel: Channel, rounds: u64) -> Result<()> {
    for _ in 0..rounds {
        assert_eq!(unary(&channel, "EmptyCall", Empty {}).await?, Code::Ok);
        let asked = SimpleRequest { response_status: Some(EchoStatus { code: 5 }) };
        assert_eq!(unary(&channel, "UnaryCall", asked).await?, Code::NotFound);
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await?;
        let asked = StreamRequest { response_parameters: vec![Parameters { size: 10 }; 3] };
        let path = "/grpc.testing.TestService/StreamingOutputCall".parse()?;
        let codec = ProstCodec::<StreamRequest, Empty>::default();
        let mut messages =
            grpc.server_streaming(Request::new(asked), path, codec).await?.into_inner();
        let mut count = 0;
        while messages.message().await?.is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
        assert_eq!(unary(&channel, "UnimplementedCall", Empty {}).await?, Code::Unimplemented);
    }
    Ok(())
}

async fn ask(port: &str, workers: &str, rounds: u64) -> Result<()> {
    let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}"))?;
    let channel = match env::var_os("PEER_TLS") {
        None => endpoint.connect().await?,
        Some(_) => endpoint.connect_with_connector(Connect(tls::client::connector())).await?,
    };
    for number in workers.split(',') {
        let mut all = JoinSet::new();
        for _ in 0..number.parse::<u32>()? {
            all.spawn(work(channel.clone(), rounds));
        }
        for done in all.join_all().await {
            done?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(|argument| &**argument).collect::<Vec<_>>()[..] {
        ["server", log] => serve(log).await,
        ["client", port, workers, rounds] => ask(port, workers, rounds.parse()?).await,
        _ => Err("tonic_peer server LOG | client PORT WORKERS ROUNDS".into()),
    }
}
