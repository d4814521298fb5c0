//! The thread that does the work: it drains the ring and runs every stage up to the encoded span on
//! each record, so that nothing is handed over or locked on the way. It also keeps the table of
//! selected processes, in step with the records that tell of them.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
    net::IpAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use remora_common::target::{INHERIT, SELECTED};
use tokio_util::sync::CancellationToken;

use super::{
    RunError,
    books::Books,
    handle::{Handle, Order},
    live::{Live, Reload},
    parts::Parts,
    readers::Readers,
    telemetry::Telemetry,
    terminal::Terminal,
    tls::{News, TlsThread},
    watch::Watch,
};
use crate::{
    assemble::Assembler,
    attach::TlsSources,
    bpf::{self, ControlWords, Programs, Reader, RunTime, Verdicts},
    clock::{Clock, mono_ns},
    correlate::{
        Correlator, Limits,
        pipeline::{Output, Pipeline, Resources},
        random_seed,
    },
    decode::Record,
    discover::Scanner,
    export::{
        Exporter,
        print::{Aside, RedTable, SpanPrinter, Style},
    },
    kubernetes::{Peer, Peers},
    recording::{
        format::{self, End, Facts, Layout},
        write::Recorder,
    },
    resource::{Resource, Whose},
    span::Span,
};

mod processes;
mod telling;

/// Records between two looks at orders and time-outs.
const BATCH: usize = 4096;
/// Time-outs and printing are looked at this often, nanoseconds.
const TICK_NS: u64 = 10_000_000;
/// What is printed at the end may take so long.
const PRINT: Duration = Duration::from_secs(2);
/// Correlation forgets this often.
const EXPIRE_NS: u64 = 10_000_000_000;

/// Starts the worker on attached programs; without `tls` no TLS is seen.
pub(super) fn spawn(
    mut programs: Programs,
    tls: Option<TlsSources>,
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
    let tls = tls.map(TlsThread::spawn).transpose().map_err(failed)?;
    let ended = CancellationToken::new();
    let running = ended.clone().drop_guard();
    let thread = thread::Builder::new()
        .name("remora-worker".into())
        .spawn(move || {
            let _running = running;
            if let Err(error) = bpf::hurry_this_thread() {
                tracing::debug!(%error, "the worker has no priority");
            }
            let watch = Watch { targets, tls, ended: HashSet::new(), recorder };
            Worker::new(programs, reader, control, inbox, watch, verdicts, parts, exporter, start)
                .run();
        })
        .map_err(failed)?;
    Ok(Handle::new(orders, waker, thread, ended))
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
    terminal: Terminal<Aside>,
    verdicts: Verdicts,
}

impl Output for Outlet {
    fn span(&mut self, span: Span) {
        self.exporter.span(&span);
        self.terminal.print(|printer| printer.push(&span, mono_ns()));
    }

    fn capture(&mut self, conn_id: u64, policy: u8) {
        self.verdicts.advise(conn_id, policy);
    }
}

/// The table of processes, as the pipeline asks it.
struct Table {
    scanner: Scanner,
    peers: Option<Peers>,
    unknown: Arc<Resource>,
}

impl Resources for Table {
    fn whose(&mut self, tgid: u32) -> Whose {
        self.scanner.whose(tgid).unwrap_or_else(|| Whose::Known(Arc::clone(&self.unknown)))
    }

    fn selector(&self, tgid: u32) -> Option<usize> {
        self.scanner.find(tgid).map(|target| target.selector)
    }

    fn peer(&self, address: IpAddr, start_mono_ns: u64) -> Option<Arc<Peer>> {
        self.peers.as_ref()?.find(address, start_mono_ns)
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
    metric_interval: Duration,
    next_metrics: Instant,
    /// The newest record so far.
    newest_ns: u64,
    last_tick_ns: u64,
    last_expire_ns: u64,
    last_rescan_ns: u64,
    last_orphans_ns: u64,
    last_pods_ns: u64,
    /// Records, and lost notices of processes, at the last look.
    looked_at: (u64, u64),
    /// Positions of their aggregators.
    readers: Readers<usize>,
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
        let (aggregators, readers) = parts.readers.begin(now_unix_ns, seed);
        let printer = readers.table.is_some().then(|| {
            let stdout = io::stdout();
            let style = Style::detect(&stdout);
            Aside::new(stdout).map(|aside| SpanPrinter::new(aside, style))
        });
        let printer = printer.and_then(|printer| {
            printer.inspect_err(|error| tracing::warn!(%error, "spans are not printed")).ok()
        });
        let run_time = parts.measure_run_time.then(RunTime::measure).and_then(|measured| {
            measured.inspect_err(|error| tracing::warn!(%error, "run time not measured")).ok()
        });
        let mut assembler = Assembler::new(parts.assemble);
        let Live { policies, headers, max_head_len, metric_interval, .. } = parts.live;
        assembler.keep_of_heads(headers, max_head_len);
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
            readers,
            telemetry: Telemetry::new(&parts.host, now_unix_ns),
            pipeline: Pipeline::new(
                Correlator::seeded(policies.sampler(None), Limits::default(), seed),
                policies,
                aggregators,
                clock,
                Table {
                    scanner: Scanner::with_pods(parts.selectors, Arc::new(parts.host), parts.pods),
                    peers: parts.peers,
                    unknown: Arc::new(Resource::unknown()),
                },
                Outlet { exporter, terminal: Terminal::new(printer), verdicts },
            ),
            books: Books::default(),
            metric_interval,
            next_metrics: Instant::now() + metric_interval,
            newest_ns: 0,
            last_tick_ns: 0,
            last_expire_ns: mono_ns(),
            last_rescan_ns: mono_ns(),
            last_orphans_ns: mono_ns(),
            last_pods_ns: 0,
            looked_at: (0, 0),
        }
    }

    fn run(mut self) {
        loop {
            let count = self.drain();
            self.tick(count < BATCH);
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
                    Order::Pod(news) => {
                        for change in self.pipeline.resources.scanner.on_pod(news) {
                            self.watch.apply(change, News::Selected);
                        }
                    }
                    Order::Reload(reload) => self.reload(*reload),
                    Order::Settle(done) => self.watch.settle(done),
                    Order::Own(answer) => {
                        let now = self.now_unix_ns();
                        _ = answer.send(self.own_metrics(now));
                    }
                    Order::Snapshot(answer) => _ = answer.send(self.snapshot()),
                    Order::Answer(answer) => _ = answer.send(()),
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
        let Self { reader, assembler, pipeline, watch, books, newest_ns, .. } = self;
        reader.drain(BATCH, |sample| {
            books.records += 1;
            match Record::decode(sample) {
                Ok(record) => {
                    *newest_ns = record.mono_ns().max(*newest_ns);
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

    /// All of it between two records, so that no exchange is of both configurations by halves. Who stays
    /// selected stays so in the kernel side's table, without a moment in which it is not.
    fn reload(&mut self, reload: Reload) {
        let Reload { selectors, live, done } = reload;
        live.redact();
        let Live { policies, headers, max_head_len, metric_interval, .. } = live;
        self.pipeline.policies.replace(policies);
        self.assembler.keep_of_heads(headers, max_head_len);
        if metric_interval != self.metric_interval {
            self.metric_interval = metric_interval;
            self.next_metrics = Instant::now() + metric_interval;
        }
        if let Some(selectors) = selectors {
            self.control.watch(true, selectors.needs().ports);
            for change in self.pipeline.resources.scanner.reselect(selectors) {
                self.watch.apply(change, News::Selected);
            }
        }
        // Who asked may have given up.
        let _ = done.send(());
    }

    /// What time brings. Where more records wait in the ring, time has come no further than they have.
    fn tick(&mut self, drained: bool) {
        let now = mono_ns();
        if now.saturating_sub(self.last_tick_ns) < TICK_NS {
            return;
        }
        self.last_tick_ns = now;
        self.pipeline.clock.look();
        let tick_ns = if drained { now } else { self.newest_ns };
        let due = self.assembler.is_due(tick_ns);
        self.assembler.tick(tick_ns, &mut self.pipeline);
        if let Some(recorder) = self.watch.recorder.as_mut().filter(|_| due) {
            recorder.offset(self.pipeline.clock.offset());
            recorder.tick(tick_ns);
        }
        self.rescan(now);
        self.scan_for_pods(now);
        self.pipeline.look_at_waiting();
        if drained {
            self.forget_orphans(now);
        }
        self.pipeline.output.terminal.print(|printer| printer.flush_due(now));
        if now.saturating_sub(self.last_expire_ns) > EXPIRE_NS {
            self.last_expire_ns = now;
            self.pipeline.correlator.expire(now);
            if let Some(recorder) = &mut self.watch.recorder {
                recorder.forgot(now);
            }
        }
        if let Some(recorder) = &mut self.watch.recorder {
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

    fn stop(mut self) -> Books {
        self.control.watch(false, false);
        self.watch.targets.clear();
        let mut blind_spots = BTreeMap::new();
        if let Some(tls) = self.watch.tls.take() {
            blind_spots = tls.blind_spots();
            tls.stop();
        }
        self.close_books(); // what programs say of themselves goes with them
        let counters = self.programs.take().map(Programs::detach);
        while self.drain() > 0 {}
        // Those that were lost meanwhile are among the lost.
        if let Some(drops) = counters.and_then(|counters| counters.drops().ok()) {
            self.books.note_drops(drops);
        }
        let now_ns = mono_ns();
        self.assembler.finish(now_ns, &mut self.pipeline);
        self.pipeline.let_go();
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
        self.pipeline.output.terminal.print(SpanPrinter::finish);
        if let Some(at) = self.readers.table {
            let now = self.now_unix_ns();
            let batches = self.pipeline.aggregators[at].collect(now);
            let table = RedTable::new(&batches, Style::detect(&io::stdout()));
            if !table.is_empty() {
                self.pipeline.output.terminal.print(|printer| writeln!(printer.out(), "\n{table}"));
            }
        }
        self.pipeline.output.terminal.print(|printer| {
            printer.out().finish(PRINT);
            Ok(())
        });
        self.close_books();
        self.books
    }
}
