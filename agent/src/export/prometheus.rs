//! `/metrics` for Prometheus: what a source collects, in the format that the scraper prefers.

mod names;
mod text;

use std::{future::Future, io};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

pub use self::text::{Format, render};
use crate::{
    metrics_data::MetricBatch,
    serve::{Answer, plain},
};

/// Where the metrics of a scrape come from: cumulative ones, the format has no others.
pub trait Source: Send + Sync + 'static {
    /// Called once per scrape.
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send;
}

/// A source as a server.
pub struct Scrapes<S>(pub S);

impl<S: Source> Answer for Scrapes<S> {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/metrics" => page(request.headers(), &self.0.collect().await),
            "/" => plain(StatusCode::OK, "metrics are at /metrics\n"),
            _ => plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
        }
    }
}

/// The metrics as whoever sent these headers prefers them.
#[must_use]
pub fn page(headers: &HeaderMap, batches: &[MetricBatch]) -> Response<Full<Bytes>> {
    let format = preferred(headers);
    let page = render(batches, format);
    let (page, encoding) = match gzip(headers, &page) {
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
    use std::{io::Read, net::SocketAddr, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        aggregate::{Aggregator, Config},
        exchange::Role,
        semantics::tests::{exchange, span},
        serve::{MAX_CONNECTIONS, Server},
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
        let running = tokio::spawn(server.run(Scrapes(Fixed), stop.clone()));
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
        tokio::spawn(server.run(Scrapes(Fixed), CancellationToken::new()));
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
