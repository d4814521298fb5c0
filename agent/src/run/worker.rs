//! The thread that does the work: it drains the ring and runs every stage up to the encoded span on
//! each record, so that nothing is handed over or locked on the way. It also keeps the table of
//! selected processes, in step with the records that tell of them.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Stdout, Write},
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use remora_common::target::{INHERIT, SELECTED};
use tokio::sync::oneshot;

use super::{
    RunError,
    parts::Parts,
    telemetry::{Observed, Telemetry},
    tls::{News, TlsThread},
    watch::Watch,
};
use crate::{
    aggregate::Aggregator,
    assemble::{self, Assembler},
    attach::TlsSources,
    bpf::{self, ControlWords, KernelUsage, Programs, Reader, RunTime, Verdicts, Waker},
    clock::{Clock, mono_ns},
    correlate::{
        Correlator, Limits,
        pipeline::{Counts, Output, Pipeline, Resources},
        random_seed,
    },
    decode::Record,
    discover::Scanner,
    export::{
        Exporter,
        metrics_data::MetricBatch,
        print::{RedTable, SpanPrinter, Style},
        prometheus,
    },
    recording::{
        format::{self, End, Facts, Layout},
        write::{Recorder, Summary},
    },
    resource::Resource,
    semantics::route::Routes,
    span::Span,
};

/// Records between two looks at orders and time-outs.
const BATCH: usize = 4096;
/// Time-outs and printing are looked at this often, nanoseconds.
const TICK_NS: u64 = 10_000_000;
/// Correlation forgets this often.
const EXPIRE_NS: u64 = 10_000_000_000;

/// What the worker is asked to do.
pub(super) enum Order {
    /// Look at every process.
    Scan,
    /// Select this process: the child of `exec`.
    Adopt(u32),
    /// Answer when every order before this one is done, by the TLS thread too.
    Settle(mpsc::Sender<()>),
    /// Hand over the totals.
    Collect(oneshot::Sender<Vec<MetricBatch>>),
    /// Detach, drain, answer with the books, end.
    Stop(mpsc::Sender<Books>),
}

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// Samples taken from the ring, and those of them that were no records.
    pub(super) records: u64,
    pub(super) undecodable: u64,
    pub(super) assembled: assemble::Stats,
    pub(super) counts: Counts,
    /// What the kernel side gave up on, by reason.
    pub(super) drops: Vec<(String, u64)>,
    pub(super) kernel: KernelUsage,
    /// What became of the recording, if there is one.
    pub(super) recording: Option<Summary>,
}

/// The worker as the rest of the agent sees it.
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Gives an order. A worker that has ended (it panicked) takes none; [`Self::stop`] will tell.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.waker.wake();
    }

    /// Waits until all orders so far are done.
    pub(super) fn settle(&self) {
        let (done, wait) = mpsc::channel();
        self.order(Order::Settle(done));
        let _ = wait.recv();
    }

    pub(super) fn source(&self) -> Totals {
        Totals { orders: self.orders.clone(), waker: self.waker.clone() }
    }

    /// Detaches and drains; afterwards no span comes any more.
    pub(super) fn stop(self) -> Books {
        let (answer, books) = mpsc::channel();
        self.order(Order::Stop(answer));
        let books = books.recv();
        let ended = self.thread.join();
        books.ok().filter(|_| ended.is_ok()).unwrap_or_else(|| {
            tracing::error!("the worker thread has panicked; its books are lost");
            Books::default()
        })
    }
}

/// The totals, for scrapes.
pub(super) struct Totals {
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl prometheus::Source for Totals {
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send {
        let (answer, batches) = oneshot::channel();
        let _ = self.orders.send(Order::Collect(answer));
        self.waker.wake();
        async move { batches.await.unwrap_or_default() }
    }
}

/// Starts the worker on attached programs.
pub(super) fn spawn(
    mut programs: Programs,
    parts: Parts,
    exporter: Exporter,
) -> Result<Handle, RunError> {
    let (targets, control, verdicts) = programs.shared()?;
    let reader = programs.reader()?;
    let waker = reader.waker();
    let (orders, inbox) = mpsc::channel();
    let failed = |source| RunError::Start { what: "the worker thread".into(), source };
    let start = Start { clock: Clock::start(), mono_ns: mono_ns(), seed: random_seed() };
    let recorder = match &parts.record {
        Some(path) => Some(recorder(path, &parts, &programs, &start)?),
        None => None,
    };
    let tls = match TlsSources::new(&mut programs) {
        Ok(sources) => Some(TlsThread::spawn(sources).map_err(failed)?),
        Err(error) => {
            tracing::warn!(%error, "TLS is not seen");
            None
        }
    };
    let thread = thread::Builder::new()
        .name("remora-worker".into())
        .spawn(move || {
            if let Err(error) = bpf::hurry_this_thread() {
                tracing::debug!(%error, "the worker has no priority");
            }
            let watch = Watch { targets, tls, recorder };
            Worker::new(programs, reader, control, inbox, watch, verdicts, parts, exporter, start)
                .run();
        })
        .map_err(failed)?;
    Ok(Handle { orders, waker, thread })
}

/// What a replay has to have the same.
struct Start {
    clock: Clock,
    mono_ns: u64,
    seed: [u64; 4],
}

fn recorder(
    path: &Path,
    parts: &Parts,
    programs: &Programs,
    start: &Start,
) -> Result<Recorder, RunError> {
    let host = parts.host.attributes.iter().map(|(key, value)| (&**key, value));
    let facts = Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        layout: Layout::HERE,
        limits: format::Limits::of(&parts.assemble),
        seed: start.seed,
        start_mono_ns: start.mono_ns,
        offset_ns: start.clock.offset().offset_ns(),
        host: format::attributes(host),
        door: programs.door().as_str().to_owned(),
        selection: parts.selection.clone(),
        query_keys: parts.query_keys.clone(),
    };
    Recorder::create(path, &facts)
        .map_err(|source| RunError::Record { path: path.to_owned(), source })
}

/// Where spans and advice go.
struct Outlet {
    exporter: Exporter,
    printer: Option<SpanPrinter<Stdout>>,
    verdicts: Verdicts,
}

impl Outlet {
    /// Printing ends for good when standard output is closed; everything else goes on.
    fn print(&mut self, write: impl FnOnce(&mut SpanPrinter<Stdout>) -> io::Result<()>) {
        if let Some(printer) = &mut self.printer
            && let Err(error) = write(printer)
        {
            tracing::warn!(%error, "cannot print any more");
            self.printer = None;
        }
    }
}

impl Output for Outlet {
    fn span(&mut self, span: Span) {
        self.exporter.span(&span);
        self.print(|printer| printer.push(&span, mono_ns()));
    }

    fn capture(&mut self, conn_id: u64, mode: u8) {
        self.verdicts.advise(conn_id, mode);
    }
}

/// The table of processes, as the pipeline asks it.
struct Table {
    scanner: Scanner,
    unknown: Arc<Resource>,
}

impl Resources for Table {
    fn resource(&mut self, tgid: u32) -> Arc<Resource> {
        self.scanner.find(tgid).map_or(&self.unknown, |target| &target.resource).clone()
    }
}

struct Worker {
    programs: Option<Programs>,
    /// While the programs' run time is measured.
    _run_time: Option<RunTime>,
    reader: Reader,
    control: ControlWords,
    inbox: mpsc::Receiver<Order>,
    watch: Watch,
    assembler: Assembler,
    pipeline: Pipeline<Table, Outlet>,
    telemetry: Telemetry,
    books: Books,
    metric_interval: std::time::Duration,
    next_metrics: Instant,
    last_tick_ns: u64,
    last_expire_ns: u64,
    /// Positions of the aggregators for OTLP, for Prometheus and for the table, where they are wanted.
    otlp: Option<usize>,
    totals: Option<usize>,
    table: Option<usize>,
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "called once, each argument of its own type")]
    fn new(
        programs: Programs,
        reader: Reader,
        control: ControlWords,
        inbox: mpsc::Receiver<Order>,
        watch: Watch,
        verdicts: Verdicts,
        parts: Parts,
        exporter: Exporter,
        start: Start,
    ) -> Self {
        let needs = parts.selectors.needs();
        control.watch(true, needs.ports);
        let Start { clock, mono_ns: start_ns, seed } = start;
        let now_unix_ns = clock.offset().unix_ns(start_ns);
        let mut aggregators = Vec::new();
        let mut add = |config: Option<_>| {
            let config = config?;
            aggregators.push(Aggregator::seeded(config, now_unix_ns, seed));
            Some(aggregators.len() - 1)
        };
        let (otlp, totals) = (add(parts.otlp_metrics), add(parts.total_metrics));
        let table = add(parts.table_metrics);
        let unknown = Resource::new([("service.name".into(), "unknown_service".into())]);
        let printer = table.is_some().then(|| {
            let stdout = io::stdout();
            let style = Style::detect(&stdout);
            SpanPrinter::new(stdout, style)
        });
        let run_time = parts.measure_run_time.then(RunTime::measure).and_then(|measured| {
            measured.inspect_err(|error| tracing::warn!(%error, "run time not measured")).ok()
        });
        let mut assembler = Assembler::new(parts.assemble);
        if watch.recorder.is_some() {
            assembler.keep();
        }
        Self {
            programs: Some(programs),
            _run_time: run_time,
            reader,
            control,
            inbox,
            watch,
            assembler,
            otlp,
            totals,
            table,
            telemetry: Telemetry::new(&parts.host, now_unix_ns),
            pipeline: Pipeline::new(
                Correlator::seeded(parts.sampler, Limits::default(), seed),
                Routes::new(parts.routes),
                aggregators,
                clock,
                Table {
                    scanner: Scanner::new(parts.selectors, parts.host),
                    unknown: Arc::new(unknown),
                },
                Outlet { exporter, printer, verdicts },
            ),
            books: Books::default(),
            metric_interval: parts.metric_interval,
            next_metrics: Instant::now() + parts.metric_interval,
            last_tick_ns: 0,
            last_expire_ns: mono_ns(),
        }
    }

    fn run(mut self) {
        loop {
            let count = self.drain();
            self.tick();
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::Scan => self.scan(),
                    Order::Adopt(tgid) => {
                        if let Some(change) = self.pipeline.resources.scanner.adopt(tgid) {
                            // Not the command yet, but what will become it once this is settled.
                            self.watch.targets.set(tgid, SELECTED | INHERIT);
                            self.watch.apply(change, News::Started);
                        }
                    }
                    Order::Settle(done) => self.watch.settle(done),
                    Order::Collect(answer) => _ = answer.send(self.collect_totals()),
                    Order::Stop(answer) => {
                        _ = answer.send(self.stop());
                        return;
                    }
                }
            }
            if count < BATCH {
                self.reader.wait(&self.control);
            }
        }
    }

    /// Runs the stages on what is in the ring; returns how many records that were.
    fn drain(&mut self) -> usize {
        let Self { reader, assembler, pipeline, watch, books, .. } = self;
        reader.drain(BATCH, |sample| {
            books.records += 1;
            match Record::decode(sample) {
                Ok(record) => {
                    assembler.record(&record, pipeline);
                    if let Some(recorder) = &mut watch.recorder {
                        recorder.offset(pipeline.clock.offset());
                        recorder.record(&record, assembler.kept());
                    }
                    let scanner = &mut pipeline.resources.scanner;
                    watch.record(&record, scanner, &mut pipeline.correlator);
                }
                Err(error) => {
                    books.undecodable += 1;
                    if let Some(recorder) = &mut watch.recorder {
                        recorder.undecodable();
                    }
                    tracing::debug!(%error, "not a record");
                }
            }
        })
    }

    fn scan(&mut self) {
        for change in self.pipeline.resources.scanner.scan() {
            self.watch.apply(change, News::Selected);
        }
        let selected = self.pipeline.resources.scanner.targets().len();
        if selected == 0 {
            tracing::info!("no running process is selected; waiting for one that starts");
        } else {
            tracing::info!(processes = selected, "running processes selected");
        }
    }

    /// What time brings.
    fn tick(&mut self) {
        let now = mono_ns();
        if now.saturating_sub(self.last_tick_ns) < TICK_NS {
            return;
        }
        self.last_tick_ns = now;
        let due = self.assembler.is_due(now);
        self.assembler.tick(now, &mut self.pipeline);
        self.pipeline.output.print(|printer| printer.flush_due(now));
        let expire = now.saturating_sub(self.last_expire_ns) > EXPIRE_NS;
        if expire {
            self.last_expire_ns = now;
            self.pipeline.correlator.expire(now);
        }
        if let Some(recorder) = &mut self.watch.recorder {
            if due || expire {
                recorder.offset(self.pipeline.clock.offset());
                recorder.tick(now, expire);
            }
            recorder.flush_due(now);
        }
        if Instant::now() >= self.next_metrics {
            self.next_metrics += self.metric_interval;
            self.export_metrics();
        }
    }

    fn now_unix_ns(&mut self) -> u64 {
        let now = mono_ns();
        self.pipeline.clock.offset_at(now).unix_ns(now)
    }

    fn export_metrics(&mut self) {
        let now = self.now_unix_ns();
        let Some(at) = self.otlp else { return };
        let mut batches = self.pipeline.aggregators[at].collect(now);
        batches.push(self.own_metrics(now));
        self.pipeline.output.exporter.metrics(&batches);
    }

    fn collect_totals(&mut self) -> Vec<MetricBatch> {
        let now = self.now_unix_ns();
        let totals = self.totals.map(|at| self.pipeline.aggregators[at].collect(now));
        let mut batches = totals.unwrap_or_default();
        batches.push(self.own_metrics(now));
        batches
    }

    fn own_metrics(&mut self, now_unix_ns: u64) -> MetricBatch {
        self.close_books();
        let processes = self.pipeline.resources.scanner.targets().len();
        let connections = self.assembler.connections();
        let observed = Observed {
            lanes: &self.pipeline.output.exporter.stats(),
            processes,
            connections,
            ring_peak: self.reader.take_peak(),
            blind_spots: self.watch.tls.as_ref().map(TlsThread::blind_spots).unwrap_or_default(),
        };
        self.telemetry.collect(now_unix_ns, &self.books, &observed)
    }

    fn close_books(&mut self) {
        self.books.assembled = *self.assembler.stats();
        self.books.counts = self.pipeline.counts();
        let Some(programs) = &self.programs else { return };
        match (programs.usage(), programs.drops()) {
            (Ok(kernel), Ok(drops)) => {
                let counted = drops.iter().map(|(counter, count)| (counter.as_str(), *count));
                let all = counted.chain([("missed", kernel.missed())]);
                self.books.drops = all.map(|(name, count)| (name.to_owned(), count)).collect();
                self.books.kernel = kernel;
            }
            (usage, drops) => {
                let errors = (usage.err(), drops.err());
                tracing::debug!(?errors, "the kernel does not tell what it gave up on");
            }
        }
    }

    fn stop(mut self) -> Books {
        self.control.watch(false, false);
        self.watch.targets.clear();
        let mut blind_spots = BTreeMap::new();
        if let Some(tls) = self.watch.tls.take() {
            blind_spots = tls.blind_spots();
            tls.stop();
        }
        self.close_books(); // the drop counters go with the programs
        self.programs = None; // detaches
        while self.drain() > 0 {}
        let now_ns = mono_ns();
        self.assembler.finish(now_ns, &mut self.pipeline);
        if let Some(mut recorder) = self.watch.recorder.take() {
            recorder.offset(self.pipeline.clock.offset());
            let libraries = blind_spots.into_iter().map(|(name, count)| (name.to_owned(), count));
            self.books.recording = Some(recorder.finish(&End {
                mono_ns: now_ns,
                drops: self.books.drops.clone(),
                tls_blind_spots: libraries.collect(),
            }));
        }
        self.export_metrics();
        self.pipeline.output.print(SpanPrinter::finish);
        if let Some(at) = self.table {
            let now = self.now_unix_ns();
            let batches = self.pipeline.aggregators[at].collect(now);
            let stdout = io::stdout();
            let table = RedTable::new(&batches, Style::detect(&stdout));
            if !table.is_empty() {
                let _ = writeln!(stdout.lock(), "\n{table}");
            }
        }
        self.close_books();
        self.books
    }
}
