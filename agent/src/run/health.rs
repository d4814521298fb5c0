//! `--listen`: whether the agent is alive, whether it is attached, its own metrics, and what it knows of
//! itself. Answers from the first moment on, so that whoever waits for it can see that it is on its way.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    handle::{Order, Questions},
    snapshot::Snapshot,
};
use crate::{
    doctor::Check,
    export::prometheus,
    kubernetes::peers::Counts,
    serve::{Answer, plain},
    status::{Configuration, Export, Feature, Phase, Status},
};

/// The worker answers in milliseconds; one that does not in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

const PAGES: &str = "/healthz: whether it is alive\n/readyz: whether it is attached\n/metrics: of the agent itself\n/status: \
                     what it knows of itself\n";

/// See the module.
pub(super) struct Health {
    started: Instant,
    inner: Mutex<Inner>,
    worker: OnceLock<Questions>,
}

struct Inner {
    phase: Phase,
    features: Vec<Feature>,
    configuration: Configuration,
}

impl Health {
    pub(super) fn new(file: Option<String>) -> Self {
        let configuration = Configuration { file, ..Configuration::default() };
        let inner = Inner { phase: Phase::Starting, features: Vec::new(), configuration };
        Self { started: Instant::now(), inner: Mutex::new(inner), worker: OnceLock::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker runs; this is how well.
    pub(super) fn attached(&self, checks: &[Check], worker: Questions) {
        let feature = |check: &Check| Feature {
            name: check.feature.to_owned(),
            health: check.state.as_str().to_owned(),
            reason: check.reason.clone(),
        };
        self.inner().features = checks.iter().map(feature).collect();
        // There is one worker in a process's life.
        let _ = self.worker.set(worker);
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.inner().phase = phase;
    }

    pub(super) fn configuration(&self, edit: impl FnOnce(&mut Configuration)) {
        edit(&mut self.inner().configuration);
    }

    async fn ask<T>(&self, order: fn(tokio::sync::oneshot::Sender<T>) -> Order) -> Option<T> {
        timeout(PATIENCE, self.worker.get()?.ask(order)).await.ok()?
    }

    async fn alive(&self) -> Response<Full<Bytes>> {
        if self.inner().phase == Phase::Ready && self.ask(Order::Answer).await.is_none() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the worker does not answer\n");
        }
        plain(StatusCode::OK, "alive\n")
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.inner().phase {
            Phase::Ready => plain(StatusCode::OK, "attached\n"),
            phase => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", phase.as_str())),
        }
    }

    async fn status(&self) -> Response<Full<Bytes>> {
        let snapshot = self.ask(Order::Snapshot).await;
        let inner = self.inner();
        if snapshot.is_none() && inner.phase == Phase::Ready {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the worker does not answer\n");
        }
        let Snapshot { accounting, targets, blind_spots, peers } = snapshot.unwrap_or_default();
        let mut features = inner.features.clone();
        features.extend(peers.as_ref().map(of_peers));
        features.extend(accounting.exports.iter().map(of_export));
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: inner.phase,
            uptime_seconds: self.started.elapsed().as_secs(),
            configuration: inner.configuration.clone(),
            features,
            targets,
            blind_spots,
            accounting,
        };
        let text = serde_json::to_string(&status).unwrap_or_default() + "\n";
        let mut response = plain(StatusCode::OK, text);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// An output as a feature.
fn of_export(export: &Export) -> Feature {
    let Export { signal, destination, queued, failed_attempts, dropped, .. } = export;
    let dropped = dropped.sum();
    let (health, reason) = match (*queued, *failed_attempts, dropped) {
        (queued, failed, _) if queued > 0 && failed > 0 => {
            ("degraded", format!("{queued} wait, {failed} attempts have failed"))
        }
        (_, _, 0) => ("ok", "nothing dropped".to_owned()),
        (_, _, dropped) => ("degraded", format!("{dropped} dropped")),
    };
    let name = format!("{signal} to {destination}");
    Feature { name, health: health.to_owned(), reason }
}

/// The names of peers as a feature.
fn of_peers(counts: &Counts) -> Feature {
    let Counts { services, pods, names, bytes, away, unlisted } = counts;
    let kilobytes = bytes / 1024;
    let mut reason = format!("{services} Services, {pods} pods, {names} names, {kilobytes} KiB");
    if !unlisted.is_empty() {
        reason += &format!("; not listed yet: {}", unlisted.join(", "));
    }
    for why in away {
        reason += &format!("; not followed: {why}");
    }
    let health = if away.is_empty() && unlisted.is_empty() { "ok" } else { "degraded" };
    Feature { name: "peers".to_owned(), health: health.to_owned(), reason }
}

/// [`Health`] as a server.
pub(super) struct Answers(pub(super) Arc<Health>);

impl Answer for Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let health = &self.0;
        match request.uri().path() {
            "/healthz" => health.alive().await,
            "/readyz" => health.ready(),
            "/status" => health.status().await,
            "/metrics" => match health.ask(Order::Own).await {
                Some(batch) => prometheus::page(request.headers(), &[batch]),
                None => plain(StatusCode::SERVICE_UNAVAILABLE, "no metrics yet, or any more\n"),
            },
            "/" => plain(StatusCode::OK, PAGES),
            _ => plain(StatusCode::NOT_FOUND, PAGES),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{serve::Server, status};

    async fn get(addr: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn peers_are_degraded_while_not_all_of_them_are_followed() {
        let all = Counts { services: 2, pods: 30, names: 4, bytes: 2048, ..Counts::default() };
        let feature = of_peers(&all);
        assert_eq!(feature.health, "ok");
        assert_eq!(feature.reason, "2 Services, 30 pods, 4 names, 2 KiB");
        let some =
            Counts { unlisted: vec!["pods"], away: vec!["Services: not allowed".into()], ..all };
        let feature = of_peers(&some);
        assert_eq!(feature.health, "degraded");
        assert!(
            feature
                .reason
                .ends_with("2 KiB; not listed yet: pods; not followed: Services: not allowed")
        );
    }

    #[tokio::test]
    async fn before_and_after_the_worker_it_is_alive_and_not_ready() {
        let health = Arc::new(Health::new(Some("remora.yaml".into())));
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = server.local_addr().unwrap();
        tokio::spawn(server.run(Answers(Arc::clone(&health)), CancellationToken::new()));
        for phase in [Phase::Starting, Phase::Stopping] {
            health.enter(phase);
            assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
            let ready = get(addr, "/readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(phase.as_str()), "{ready}");
            assert!(get(addr, "/metrics").await.starts_with("HTTP/1.1 503"));
            let status = tokio::task::spawn_blocking(move || status::ask(addr)).await;
            let status = status.unwrap().unwrap();
            assert_eq!((status.phase, status.targets.count), (phase, 0));
            assert_eq!(status.configuration.file.as_deref(), Some("remora.yaml"));
        }
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_is_not_alive() {
        let health = Arc::new(Health::new(None));
        health.enter(Phase::Ready);
        assert_eq!(health.alive().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.status().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
