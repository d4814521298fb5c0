//! `/metrics` for Prometheus: a small HTTP/1 server, bounded in connections and time, that renders
//! what its source collects in the format that the scraper prefers.

mod names;
mod text;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::text::{Format, render};
use crate::export::metrics_data::MetricBatch;

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// For a request's head, also between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// For a connection as a whole: an idle one gives its place back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// Where the metrics of a scrape come from: cumulative ones, the format has no others.
pub trait Source: Send + Sync + 'static {
    /// Called once per scrape.
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send;
}

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is in use, or not ours.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(addr).await? })
    }

    /// # Errors
    /// The socket has no address, which the kernel does not do to a bound one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`; responses that are being written are finished.
    pub async fn run(self, source: impl Source, stop: CancellationToken) {
        let source = Arc::new(source);
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
            let (source, stop) = (Arc::clone(&source), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let source = Arc::clone(&source);
                    async move { Ok::<_, Infallible>(answer(&request, &*source).await) }
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

/// [`Server::bind`] and [`Server::run`].
///
/// # Errors
/// See [`Server::bind`].
pub async fn serve(
    addr: SocketAddr,
    source: impl Source,
    stop: CancellationToken,
) -> io::Result<()> {
    Server::bind(addr).await?.run(source, stop).await;
    Ok(())
}

async fn answer(request: &Request<Incoming>, source: &impl Source) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return plain(StatusCode::OK, "metrics are at /metrics\n"),
        _ => return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
    let format = preferred(request.headers());
    let page = render(&source.collect().await, format);
    let (page, encoding) = match gzip(request.headers(), &page) {
        Some(packed) => (packed, Some("gzip")),
        None => (page.into_bytes(), None),
    };
    let mut response = Response::new(Full::new(Bytes::from(page)));
    let headers = response.headers_mut();
    let value = header::HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, value(format.content_type()));
    headers.insert(header::VARY, value("accept, accept-encoding"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, value(encoding));
    }
    response
}

/// OpenMetrics if it is asked for by name, and not less than plain text (RFC 9110 section 12.5.1).
fn preferred(headers: &HeaderMap) -> Format {
    let open = quality(headers, header::ACCEPT, "application/openmetrics-text");
    let text = quality(headers, header::ACCEPT, "text/plain");
    match open {
        Some(open) if open > 0.0 && open >= text.unwrap_or(0.0) => Format::OpenMetrics,
        _ => Format::Prometheus,
    }
}

/// `page` compressed, if that is accepted and pays.
fn gzip(headers: &HeaderMap, page: &str) -> Option<Vec<u8>> {
    let accepted = quality(headers, header::ACCEPT_ENCODING, "gzip")? > 0.0;
    if !accepted || page.len() < 1024 {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    io::Write::write_all(&mut encoder, page.as_bytes()).ok()?;
    encoder.finish().ok()
}

/// The highest quality that a list field gives to `wanted`.
fn quality(headers: &HeaderMap, field: header::HeaderName, wanted: &str) -> Option<f32> {
    let values = headers.get_all(field);
    let items = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let qualities = items.filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(wanted) {
            return None;
        }
        let quality = parts.find_map(|parameter| parameter.strip_prefix("q="));
        Some(quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
    });
    qualities.fold(None, |best, quality| Some(best.map_or(quality, |best: f32| best.max(quality))))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        aggregate::{Aggregator, Config},
        exchange::Role,
        semantics::tests::{exchange, span},
    };

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, header::HeaderValue::from_static(value))])
    }

    #[test]
    fn format_is_negotiated() {
        for (accept, expected) in [
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.3, text/plain", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
        ] {
            assert_eq!(preferred(&headers(header::ACCEPT, accept)), expected, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new()), Format::Prometheus);
    }

    #[test]
    fn pages_are_compressed_when_accepted_and_worth_it() {
        let page = "long ".repeat(1000);
        let packed = gzip(&headers(header::ACCEPT_ENCODING, "deflate, gzip;q=0.8"), &page).unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*packed).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, page);
        assert!(gzip(&headers(header::ACCEPT_ENCODING, "gzip;q=0"), &page).is_none());
        assert!(gzip(&headers(header::ACCEPT_ENCODING, "gzip"), "short").is_none());
        assert!(gzip(&HeaderMap::new(), &page).is_none());
    }

    struct Fixed;

    impl Source for Fixed {
        async fn collect(&self) -> Vec<MetricBatch> {
            let mut aggregator = Aggregator::new(Config::default(), 0);
            aggregator.record(&span(exchange(Role::Server)));
            aggregator.collect(1)
        }
    }

    async fn get(addr: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn serves_metrics_and_stops() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(Fixed, stop.clone()));
        for (request, status, part) in [
            ("GET /metrics", "200 OK", "http_server_request_duration_seconds_count"),
            ("GET /", "200 OK", "metrics are at /metrics"),
            ("GET /other", "404 Not Found", "metrics are at /metrics"),
            ("POST /metrics", "405 Method Not Allowed", "allow: GET, HEAD"),
        ] {
            let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = get(addr, &head).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(answer.contains(part), "{answer}");
        }
        let open = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                    accept: application/openmetrics-text\r\n\r\n";
        assert!(get(addr, open).await.ends_with("# EOF\n"));
        stop.cancel();
        running.await.unwrap();
        assert!(TcpStream::connect(addr).await.is_err());
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = server.local_addr().unwrap();
        tokio::spawn(server.run(Fixed, CancellationToken::new()));
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            // An answer shows that the place is taken.
            stream.write_all(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
            idle.push(stream);
        }
        let head = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut waiting = std::pin::pin!(get(addr, head));
        assert!(timeout(Duration::from_millis(200), waiting.as_mut()).await.is_err());
        idle.pop();
        assert!(waiting.await.starts_with("HTTP/1.1 200"));
    }
}
