//! The thread that does the work: it drains the ring and runs every stage up to the encoded span on
//! each record, so that nothing is handed over or locked on the way. It also keeps the table of
//! selected processes, in step with the records that tell of them.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use remora_common::record::{Kind, Process, ProcessChange};
use tokio_util::sync::CancellationToken;

use super::{
    RunError,
    books::Books,
    deltas::Deltas,
    event_loops::waits_for_events,
    handle::{Handle, Order},
    live::{Live, Reload},
    outlet::Outlet,
    parts::Parts,
    stages::{Begin, Stages},
    telemetry::Telemetry,
    terminal::Terminal,
    tls::{ProcessUpdate, TlsThread},
    unseen::Unseen,
    watch::Watch,
};
use crate::{
    aggregate,
    assemble::Assembler,
    attach::TlsSources,
    bpf::{self, ControlWords, Programs, Reader, RunTime, Verdicts},
    clock::{Clock, mono_ns},
    correlate::pipeline::Resources,
    decode::Record,
    discover::{Change, Scanner},
    export::{
        Exporter,
        print::{BackgroundWriter, SpanPrinter, Style},
    },
    ids::random_seed,
    kubernetes::Peers,
    metrics_data::Temporality,
    recording::{
        format::{self, End, Facts, Layout},
        write::Recorder,
    },
    resource::{Resource, Whose},
    span::Peer,
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
    let begin = Begin { clock: Clock::start(), mono_ns: mono_ns(), seed: random_seed() };
    let recorder = match &parts.record {
        Some(path) => Some(recorder(path, &parts, &programs, &begin)?),
        None => None,
    };
    let tell = (orders.clone(), waker.clone());
    let moves_work = move |tgid| {
        let (orders, waker) = &tell;
        // A worker that has ended does not care any more.
        let _ = orders.send(Order::MovesWork(tgid));
        waker.wake();
    };
    let tls = Some(TlsThread::spawn(tls, moves_work).map_err(failed)?);
    let ended = CancellationToken::new();
    let running = ended.clone().drop_guard();
    let thread = thread::Builder::new()
        .name("remora-worker".into())
        .spawn(move || {
            let _running = running;
            if let Err(error) = bpf::hurry_this_thread() {
                tracing::debug!(%error, "the worker has no priority");
            }
            let unseen = Unseen::default();
            let watch = Watch { targets, tls, ended: HashSet::new(), recorder, unseen };
            Worker::new(programs, reader, control, inbox, watch, verdicts, parts, exporter, begin)
                .run();
        })
        .map_err(failed)?;
    Ok(Handle::new(orders, waker, thread, ended))
}

fn recorder(
    path: &Path,
    parts: &Parts,
    programs: &Programs,
    begin: &Begin,
) -> Result<Recorder, RunError> {
    let host = parts.host.attributes.iter().map(|(key, value)| (&**key, value));
    let facts = Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        layout: Layout::HERE,
        limits: format::Limits::of(&parts.assemble),
        seed: begin.seed,
        start_mono_ns: begin.mono_ns,
        offset_ns: begin.clock.offset().offset_ns(),
        host: format::attributes(host),
        door: programs.door().as_str().to_owned(),
        selection: parts.selection.clone(),
        query_keys: parts.query_keys.clone(),
    };
    Recorder::create(path, &facts)
        .map_err(|source| RunError::Record { path: path.to_owned(), source })
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

    fn seen_since_ns(&self, tgid: u32) -> u64 {
        self.scanner.find(tgid).map_or(0, |target| target.since_mono_ns)
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
    stages: Stages<Table, BackgroundWriter>,
    telemetry: Telemetry,
    /// Where what is exported is what came since the last time.
    deltas: Option<Deltas>,
    last_tick_ns: u64,
    last_expire_ns: u64,
    last_rescan_ns: u64,
    last_orphans_ns: u64,
    last_pods_ns: u64,
    /// Records, and lost notices of processes, at the last look.
    looked_at: (u64, u64),
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
        begin: Begin,
    ) -> Self {
        let needs = parts.selectors.needs();
        control.watch(true, needs.ports);
        let now_ns = begin.mono_ns;
        let now_unix_ns = begin.clock.offset().unix_ns(now_ns);
        let run_time = parts.measure_run_time.then(RunTime::measure).and_then(|measured| {
            measured.inspect_err(|error| tracing::warn!(%error, "run time not measured")).ok()
        });
        let mut assembler = Assembler::new(parts.assemble);
        let Live { policies, tail, headers, max_head_len, metric_interval, .. } = parts.live;
        assembler.keep_of_heads(headers, max_head_len);
        if watch.recorder.is_some() {
            assembler.keep();
        }
        let wants_deltas = |otlp: &aggregate::Config| otlp.temporality == Temporality::Delta;
        let deltas = parts.readers.otlp.as_ref().is_some_and(wants_deltas).then(Deltas::default);
        let telemetry = Telemetry::new(&parts.host, now_unix_ns);
        let processes = Table {
            scanner: Scanner::with_pods(parts.selectors, Arc::new(parts.host), parts.pods),
            peers: parts.peers,
            unknown: Arc::new(Resource::unknown()),
        };
        let mut stages = Stages::new(
            begin,
            assembler,
            policies,
            parts.readers,
            metric_interval,
            processes,
            |readers| {
                let terminal = Terminal::new(readers.table.and_then(|_| printer()));
                Outlet { exporter, terminal, verdicts: Some(verdicts), now_ns, spans: 0 }
            },
        );
        stages.pipeline.sample_tails(tail);
        Self {
            programs: Some(programs),
            _run_time: run_time,
            reader,
            control,
            inbox,
            watch,
            stages,
            telemetry,
            deltas,
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
                    Order::Adopt(tgid, executable) => {
                        if let Some(executable) = executable {
                            self.watch.tell(ProcessUpdate::Awaited(tgid, executable));
                        }
                        let scanner = &mut self.stages.pipeline.resources.scanner;
                        if let Some(change) = scanner.adopt(tgid) {
                            // Not the command yet, but what will become it once this is settled.
                            if let Change::Select(target) = &change {
                                self.watch.select(target);
                            }
                            self.watch.apply(change, ProcessUpdate::Started, scanner);
                        }
                    }
                    Order::Cluster(update) => {
                        let scanner = &mut self.stages.pipeline.resources.scanner;
                        for change in scanner.on_cluster_update(update) {
                            self.watch.apply(change, ProcessUpdate::Selected, scanner);
                        }
                    }
                    Order::MovesWork(tgid) => self.moves_work(tgid),
                    Order::Reload(reload) => self.reload(*reload),
                    Order::Settle(done) => self.watch.settle(done),
                    Order::Own(answer) => _ = answer.send(self.own_metrics(mono_ns())),
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
        let Self { reader, stages, watch, .. } = self;
        reader.drain(BATCH, |sample| match stages.sample(sample) {
            Ok(record) => {
                let Stages { pipeline, assembler, .. } = &mut *stages;
                if let Some(recorder) = &mut watch.recorder {
                    recorder.offset(pipeline.clock.offset());
                    recorder.record(&record, assembler.kept());
                }
                watch.record(&record, &mut pipeline.resources.scanner);
            }
            Err(error) => {
                if let Some(recorder) = &mut watch.recorder {
                    recorder.undecodable();
                }
                tracing::debug!(%error, "not a record");
            }
        })
    }

    /// Among the threads that may be workers.
    fn look_for_event_loops(&mut self) {
        let on_trial = self.stages.pipeline.correlator.on_trial();
        let found = on_trial.filter(|(tgid, tid)| waits_for_events(*tgid, *tid));
        let found: HashSet<u32> = found.map(|(tgid, _)| tgid).collect();
        found.into_iter().for_each(|tgid| self.moves_work(tgid));
    }

    /// Says of a process that its threads say nothing.
    fn moves_work(&mut self, tgid: u32) {
        let (kind, change) = (Kind::Process as u8, ProcessChange::MovesWork);
        let mono_ns = self.stages.now_ns;
        let process = Process { kind, change: change as u8, tgid, mono_ns, ..Process::default() };
        self.stages.pipeline.correlator.moves_work(tgid, mono_ns);
        if let Some(recorder) = &mut self.watch.recorder {
            recorder.record(&Record::Process { change, process: &process }, None);
        }
    }

    /// All of it between two records, so that no exchange is of both configurations by halves. Who stays
    /// selected stays so in the kernel side's table, without a moment in which it is not.
    fn reload(&mut self, reload: Reload) {
        let Reload { selectors, live, done } = reload;
        live.redact();
        let Live { policies, tail, headers, max_head_len, metric_interval, .. } = live;
        self.stages.pipeline.policies.replace(policies);
        self.stages.pipeline.sample_tails(tail);
        self.stages.assembler.keep_of_heads(headers, max_head_len);
        self.stages.metrics.change(metric_interval, mono_ns());
        if let Some(selectors) = selectors {
            self.control.watch(true, selectors.needs().ports);
            let scanner = &mut self.stages.pipeline.resources.scanner;
            let changes = scanner.reselect(selectors);
            self.watch.apply_all(changes, scanner);
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
        self.stages.pipeline.clock.look();
        let tick_ns = if drained { now } else { self.stages.now_ns };
        let due = self.stages.assembler.is_due(tick_ns);
        self.stages.tick(tick_ns);
        if let Some(recorder) = self.watch.recorder.as_mut().filter(|_| due) {
            recorder.offset(self.stages.pipeline.clock.offset());
            recorder.tick(tick_ns);
        }
        self.look_for_event_loops();
        self.rescan(now);
        self.scan_for_pods(now);
        self.stages.pipeline.release_settled(tick_ns);
        if drained {
            self.forget_orphans(now);
        }
        self.stages.pipeline.output.terminal.print(|printer| printer.flush_due(now));
        if now.saturating_sub(self.last_expire_ns) > EXPIRE_NS {
            self.last_expire_ns = now;
            self.stages.pipeline.correlator.expire(now);
            if let Some(recorder) = &mut self.watch.recorder {
                recorder.forgot(now);
            }
        }
        if let Some(recorder) = &mut self.watch.recorder {
            recorder.flush_due(now);
        }
        if self.stages.metrics.is_due(now) {
            self.export_metrics();
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
        self.close_books(); // what programs say of themselves goes with them
        let counters = self.programs.take().map(Programs::detach);
        while self.drain() > 0 {}
        // Those that were lost meanwhile are among the lost.
        if let Some(drops) = counters.and_then(|counters| counters.drops().ok()) {
            self.stages.books.note_drops(drops);
        }
        let now_ns = mono_ns();
        self.stages.finish(now_ns);
        while self.stages.decide(usize::MAX) {}
        if let Some(mut recorder) = self.watch.recorder.take() {
            recorder.offset(self.stages.pipeline.clock.offset());
            let libraries = blind_spots.into_iter().map(|(name, count)| (name.to_owned(), count));
            self.stages.books.recording = Some(recorder.finish(&End {
                mono_ns: now_ns,
                drops: self.stages.books.drops.clone(),
                tls_blind_spots: libraries.collect(),
            }));
        }
        self.export_metrics();
        self.stages.finish_printing(mono_ns());
        self.stages.pipeline.output.terminal.print(|printer| {
            printer.out().finish(PRINT);
            Ok(())
        });
        self.close_books();
        self.stages.books
    }
}

/// Prints on a thread of its own, if that can be had.
fn printer() -> Option<SpanPrinter<BackgroundWriter>> {
    let stdout = io::stdout();
    let style = Style::detect(&stdout);
    let writer = BackgroundWriter::new(stdout)
        .inspect_err(|error| tracing::warn!(%error, "spans are not printed"))
        .ok()?;
    Some(SpanPrinter::new(writer, style))
}
