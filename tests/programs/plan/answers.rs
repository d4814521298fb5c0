//! Answers as the plan of `src/plan.rs` wants it, with hyper, and logs it.

#[path = "content.rs"]
mod content;

use std::{
    convert::Infallible,
    error::Error,
    fs::File,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use content::Content;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A line of the log, written when the content of the response has been taken.
struct Report {
    log: Arc<File>,
    method: Method,
    target: String,
    status: u16,
    request: usize,
    response: usize,
    begin: SystemTime,
    stopwatch: Instant,
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self { method, target, status, request, response, .. } = self;
        let ns = self.stopwatch.elapsed().as_nanos();
        let begin = self.begin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let begin = begin.as_nanos();
        let line = format!(
            r#"{{"method":"{method}","target":"{target}","status":{status},"request":{request},"response":{response},"begin":{begin},"ns":{ns}}}"#
        );
        // A line that is missing is seen by who reads the log.
        let _ = (&*self.log).write_all(format!("{line}\n").as_bytes());
    }
}

/// Prints the port and answers whoever connects, over TLS where there is an acceptor.
pub(crate) async fn run(log: File, acceptor: Option<TlsAcceptor>) -> Result<()> {
    let log = Arc::new(log);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (log, acceptor) = (Arc::clone(&log), acceptor.clone());
        tokio::spawn(async move {
            // A client that goes away concerns nobody else.
            let _ = match acceptor {
                None => serve(stream, log).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, log).await,
                    Err(error) => Err(error.into()),
                },
            };
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    log: Arc<File>,
) -> Result<()> {
    let service = service_fn(move |request| answer(request, Arc::clone(&log)));
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

async fn answer(
    request: Request<Incoming>,
    log: Arc<File>,
) -> std::result::Result<Response<Content<Report>>, Infallible> {
    let (begin, stopwatch) = (SystemTime::now(), Instant::now());
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, |data| data.len());
    }
    let mut words = head.uri.path()[1..].split('/');
    let kind = words.next().unwrap_or_default();
    let size = words.next().and_then(|size| size.parse().ok());
    let size = size.unwrap_or(if matches!(kind, "empty" | "nothing" | "same") { 0 } else { 5 });
    let wait = head.uri.query().and_then(|query| query.split_once("wait="));
    if let Some(wait) = wait.and_then(|(_, wait)| wait.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let status = match kind {
        "nothing" => StatusCode::NO_CONTENT,
        "same" => StatusCode::NOT_MODIFIED,
        "missing" => StatusCode::NOT_FOUND,
        "broken" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    };
    let report = Report {
        log,
        target: head.uri.to_string(),
        status: status.as_u16(),
        request: received,
        response: if head.method == Method::HEAD { 0 } else { size },
        method: head.method,
        begin,
        stopwatch,
    };
    let mut response = Response::new(Content::new(size, kind != "chunked", report));
    *response.status_mut() = status;
    if kind == "close" {
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}
