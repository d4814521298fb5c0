//! A small HTTP/1 server for scrapers and probes, bounded in connections and time.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

/// Connections at once; more wait in the kernel's queue.
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// For a request's head, also between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// For a connection as a whole: an idle one gives its place back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// Answers requests for what can be read.
pub trait Answer: Send + Sync + 'static {
    /// Called for GET and HEAD only.
    fn answer(
        &self,
        request: &Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one, `[::]` is every address, IPv4's included.
    ///
    /// # Errors
    /// The address is in use, or not ours.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = match TcpListener::bind(addr).await {
            // A host without IPv6.
            Err(error)
                if addr.ip() == Ipv6Addr::UNSPECIFIED
                    && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await?
            }
            bound => bound?,
        };
        Ok(Self { listener })
    }

    /// # Errors
    /// The socket has no address, which the kernel does not do to a bound one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`; responses that are being written are finished.
    pub async fn run(self, answers: impl Answer, stop: CancellationToken) {
        let answers = Arc::new(answers);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = async {
                // Never closed, so this only waits.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, stream) = tokio::select! {
                () = stop.cancelled() => return,
                (place, accepted) = accepted => match accepted {
                    Ok((stream, _)) => (place, stream),
                    Err(error) => {
                        // Out of descriptors, most likely: the next attempt may find one.
                        tracing::warn!(%error, "cannot accept a scrape");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (answers, stop) = (Arc::clone(&answers), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let answers = Arc::clone(&answers);
                    async move { Ok::<_, Infallible>(answer(&request, &*answers).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                let served = timeout(CONNECTION_TIMEOUT, async {
                    tokio::select! {
                        served = connection.as_mut() => served,
                        () = stop.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    }
                });
                // A scraper that goes away is no news.
                if let Ok(Err(error)) = served.await {
                    tracing::debug!(%error, "scrape ended early");
                }
            });
        }
    }
}

async fn answer(request: &Request<Incoming>, answers: &impl Answer) -> Response<Full<Bytes>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return answers.answer(request).await;
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// A text.
#[must_use]
pub fn plain(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
