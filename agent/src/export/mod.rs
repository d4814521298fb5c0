//! From finished spans and metric points to the wire or a file. Nothing here decides what a span is or
//! says; [`exportable`] and [`crate::metrics_data`] are what it asks for.
//!
//! ```text
//! pipeline thread                                         tokio tasks, one per destination and signal
//! span() ─ encode once per format ─► open request ─full or due─► queue (bytes) ─► sender ─► gRPC / HTTP
//! metrics() ─ encode ─────────────► request at once ───────────► queue         ─► sender
//!                                                          └───► queue         ─► file, a line each
//! ```
//! - [`otlp`]: bytes of spans, metrics, requests, and what answers say.
//! - `queue`: bounded, oldest dropped first. `sender`: order, retry, logs. [`transport`]: one attempt.
//! - [`settings`]: `OTEL_*` and flags. [`stats`]: the books, which always close.
//!
//! The pipeline never waits: encoding is memory only, and the locks it takes are held by others for a
//! few instructions (the scheduled seal of an open request copies at most 4 MiB).

pub mod exportable;
pub mod otlp;
pub mod print;
pub mod prometheus;
pub mod settings;
pub mod stats;
pub mod transport;

mod file;
mod queue;
mod sender;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use self::{
    exportable::Exportable,
    file::LineFile,
    otlp::{
        Format, Signal, metrics,
        request::{Encoded, Pushed, Request},
        spans,
    },
    queue::Queue,
    sender::Sender,
    settings::{BatchSettings, FileTarget, OtlpSettings, Settings},
    stats::{Destination, DropReason, LaneStats},
    transport::Transport,
};
use crate::{
    config::without_credentials,
    metrics_data::{Metric, MetricBatch},
    resource::Resource,
};

/// Why export cannot be set up; the settings themselves were well-formed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot set up the export of {} to {endpoint}: {reason}", signal.as_str())]
    Transport { signal: Signal, endpoint: String, reason: String },
    #[error("cannot open {file} for --otlp-file")]
    File { file: String, source: io::Error },
}

/// One destination of one signal, not running yet.
enum Carrier {
    Otlp(Transport),
    File(Arc<Mutex<LineFile>>),
}

/// Everything that can fail has succeeded; nothing runs, nothing is connected.
pub struct Exporters {
    settings: Settings,
    lanes: Vec<(Arc<Queue>, Carrier)>,
    traces: Vec<Arc<Open>>,
    metrics: Vec<Arc<Open>>,
}

/// A request in the making, for all destinations of one signal and format.
struct Open {
    format: Format,
    max_items: u64,
    queues: Vec<Arc<Queue>>,
    state: Mutex<OpenState>,
}

struct OpenState {
    request: Request,
    /// Items ever taken.
    accepted: u64,
    /// Nothing sends any more: what comes is counted as dropped, not kept.
    closed: bool,
}

impl Exporters {
    /// Prepares what `settings` ask for; without any destination, spans are taken and forgotten.
    ///
    /// # Errors
    /// A file that cannot be opened; certificates that cannot be used.
    pub fn build(settings: &Settings) -> Result<Self, BuildError> {
        let file = match &settings.file {
            Some(target) => Some(Arc::new(Mutex::new(open_file(target)?))),
            None => None,
        };
        let mut lanes = Vec::new();
        let mut signal = |signal: Signal, otlp: &Option<OtlpSettings>| {
            let mut formats: Vec<(Format, Vec<Arc<Queue>>)> = Vec::new();
            let mut lane = |destination, format, carrier| {
                let queue = Arc::new(Queue::new(signal, destination, &settings.queue));
                match formats.iter_mut().find(|(known, _)| *known == format) {
                    Some((_, queues)) => queues.push(Arc::clone(&queue)),
                    None => formats.push((format, vec![Arc::clone(&queue)])),
                }
                lanes.push((queue, carrier));
            };
            if let Some(otlp) = otlp {
                let transport = Transport::build(signal, otlp).map_err(|reason| {
                    let endpoint = without_credentials(&otlp.endpoint.to_string()).into_owned();
                    BuildError::Transport { signal, endpoint, reason }
                })?;
                lane(Destination::Otlp, transport.format(), Carrier::Otlp(transport));
            }
            if let Some(file) = &file {
                lane(Destination::File, Format::Json, Carrier::File(Arc::clone(file)));
            }
            let open =
                |(format, queues)| Arc::new(Open::new(signal, format, queues, &settings.batch));
            Ok(formats.into_iter().map(open).collect::<Vec<_>>())
        };
        let traces = signal(Signal::Traces, &settings.traces)?;
        let metrics = signal(Signal::Metrics, &settings.metrics)?;
        Ok(Self { settings: settings.clone(), lanes, traces, metrics })
    }

    /// Starts the tasks on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn spawn(self) -> Exporter {
        let Self { settings, lanes, traces, metrics } = self;
        let mut tasks = Vec::new();
        let mut queues = Vec::new();
        for (queue, carrier) in lanes {
            queues.push(Arc::clone(&queue));
            tasks.push(match carrier {
                Carrier::Otlp(transport) => {
                    let sender = Sender::new(queue, transport, &settings.retry, &settings.batch);
                    tokio::spawn(sender.run())
                }
                Carrier::File(file) => tokio::spawn(file::run(queue, file)),
            });
        }
        for open in &traces {
            let (open, delay) = (Arc::clone(open), settings.batch.schedule_delay);
            tasks.push(tokio::spawn(async move {
                loop {
                    sleep(delay).await;
                    open.seal();
                }
            }));
        }
        let max_queue_bytes = settings.queue.max_bytes;
        Exporter(Arc::new(Inner {
            traces,
            metrics,
            queues,
            max_queue_bytes,
            tasks: Mutex::new(tasks),
        }))
    }
}

fn open_file(target: &FileTarget) -> Result<LineFile, BuildError> {
    LineFile::open(target).map_err(|source| BuildError::File {
        file: match target {
            FileTarget::Stdout => "standard output".into(),
            FileTarget::Path(path) => path.display().to_string(),
        },
        source,
    })
}

/// Takes spans and metrics from any thread; cheap to clone. Its tasks end with [`Exporter::shutdown`].
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    traces: Vec<Arc<Open>>,
    metrics: Vec<Arc<Open>>,
    queues: Vec<Arc<Queue>>,
    max_queue_bytes: usize,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exporter").field(&self.stats()).finish()
    }
}

impl Exporter {
    /// Encodes the span, once for each format in use. The hot path: no allocation but for the growth of
    /// buffers, no waiting.
    pub fn span(&self, span: &impl Exportable) {
        for open in &self.0.traces {
            let mut state = open.lock();
            state.accepted += 1;
            let pushed = state.request.push(span.resource(), 1, |out| match open.format {
                Format::Protobuf => spans::protobuf(out, span),
                Format::Json => spans::json(out, span),
            });
            open.settle(pushed, 1);
            if state.request.items() >= open.max_items || state.closed {
                open.seal_locked(&mut state);
            }
        }
    }

    /// Encodes what one collection yielded, of all resources, and hands it to the queues at once.
    pub fn metrics(&self, batches: &[MetricBatch]) {
        for open in &self.0.metrics {
            let mut state = open.lock();
            for MetricBatch { resource, metrics } in batches {
                for metric in metrics {
                    let points = metric.data.len();
                    state.accepted += points as u64;
                    open.push_metric(&mut state, resource, metric, 0..points);
                }
            }
            open.seal_locked(&mut state);
        }
    }

    /// Sends what is there without waiting for the schedule, retrying at once where a pause is under way.
    /// False if something is still queued after `within`.
    pub async fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.0.traces.iter().chain(&self.0.metrics).for_each(|open| open.seal());
        self.0.queues.iter().for_each(|queue| queue.hurry.notify_one());
        let mut all = true;
        for queue in &self.0.queues {
            all &= timeout_at(deadline, queue.drained()).await.is_ok();
        }
        all
    }

    /// Waits until every queue is at most half full. For a source that can wait, such as a recording that
    /// is replayed: spans that come faster than a destination takes them need not be dropped then. A live
    /// pipeline must not call it.
    pub async fn room(&self) {
        for queue in &self.0.queues {
            queue.below(self.0.max_queue_bytes / 2).await;
        }
    }

    /// Flushes, ends the tasks, and drops (counted) what is still queued after `within` and what comes
    /// later. Afterwards nothing is queued: `accepted = exported + dropped`.
    pub async fn shutdown(&self, within: Duration) -> Vec<LaneStats> {
        self.flush(within).await;
        let tasks =
            std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            // Cancelled is what it should be; a panic has been reported by its own hook.
            let _ = task.await;
        }
        self.0.queues.iter().for_each(|queue| queue.close());
        for open in self.0.traces.iter().chain(&self.0.metrics) {
            let mut state = open.lock();
            state.closed = true;
            open.seal_locked(&mut state);
        }
        self.stats()
    }

    /// The books, one line per signal and destination.
    #[must_use]
    pub fn stats(&self) -> Vec<LaneStats> {
        let mut stats = Vec::new();
        for open in self.0.traces.iter().chain(&self.0.metrics) {
            // Under this lock nothing moves from the open request to the queues: the account closes.
            let state = open.lock();
            let (accepted, waiting) = (state.accepted, state.request.items());
            stats.extend(open.queues.iter().map(|queue| queue.stats(accepted, waiting)));
        }
        stats
    }
}

impl Open {
    fn new(signal: Signal, format: Format, queues: Vec<Arc<Queue>>, batch: &BatchSettings) -> Self {
        let request = Request::new(signal, format, batch.max_request_bytes);
        let state = Mutex::new(OpenState { request, accepted: 0, closed: false });
        Self { format, max_items: batch.max_batch_items, queues, state }
    }

    fn lock(&self) -> MutexGuard<'_, OpenState> {
        // A panic while encoding (in an attribute visitor) may leave half an item; the request that has
        // it is one lost request, not a lost exporter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self) {
        self.seal_locked(&mut self.lock());
    }

    fn seal_locked(&self, state: &mut OpenState) {
        if let Some(encoded) = state.request.seal() {
            self.offer(&encoded);
        }
    }

    fn offer(&self, encoded: &Encoded) {
        self.queues.iter().for_each(|queue| queue.offer(encoded.clone()));
    }

    fn settle(&self, pushed: Pushed, items: u64) {
        match pushed {
            Pushed::Fits => {}
            Pushed::Sealed(encoded) => self.offer(&encoded),
            Pushed::TooLarge => {
                self.queues
                    .iter()
                    .for_each(|queue| queue.drop_unqueued(DropReason::TooLarge, items));
            }
        }
    }

    /// A metric whose points do not fit in one request goes in several.
    fn push_metric(
        &self,
        state: &mut OpenState,
        resource: &Arc<Resource>,
        metric: &Metric,
        range: Range<usize>,
    ) {
        let items = range.len() as u64;
        if items == 0 {
            return;
        }
        let pushed = state.request.push(resource, items, |out| match self.format {
            Format::Protobuf => metrics::protobuf(out, metric, range.clone()),
            Format::Json => metrics::json(out, metric, range.clone()),
        });
        if pushed == Pushed::TooLarge && items > 1 {
            let middle = range.start + range.len() / 2;
            self.push_metric(state, resource, metric, range.start..middle);
            self.push_metric(state, resource, metric, middle..range.end);
            return;
        }
        self.settle(pushed, items);
    }
}
