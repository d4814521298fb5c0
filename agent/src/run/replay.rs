//! `remora replay`: a recording through the same stages as the ring's records, without the kernel, and
//! as fast as they go. Time is the recording's: nothing looks at a clock, nothing is chosen by chance,
//! so that the same recording gives the same bytes again.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Stdout, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use remora_common::record::ProcessChange;
use tokio::runtime::Runtime;

use super::{
    FLUSH, RunError, announce_options, books::Books, live::Live, parts::Parts, readers::Readers,
    report::Report, runtime, terminal::Terminal,
};
use crate::{
    assemble::Assembler,
    clock::{Clock, ClockOffset},
    config::Loaded,
    correlate::{
        Correlator, Limits,
        pipeline::{Output, Pipeline, Resources},
    },
    decode::Record,
    discover::{REMEMBERED, Selectors},
    export::{
        Exporter, Exporters,
        print::{RedTable, SpanPrinter, Style},
        prometheus,
        settings::Settings,
    },
    metrics_data::MetricBatch,
    recording::{
        format::{self, End, Facts},
        read::{ReadError, Reader, Section},
    },
    resource::{Resource, Whose},
    span::Span,
};

/// Spans between two looks at whether the exporters keep up.
const PACE: u64 = 1024;
/// Spans are sent when there are enough of them, or at the end, never because time passed.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Runs the recording at `path` through the stages.
///
/// # Errors
/// What keeps it from starting. What is wrong with the recording further on ends the replay there, and
/// is said when what came before is exported.
pub fn replay(loaded: Loaded, path: &Path) -> Result<ExitCode, RunError> {
    let mut config = loaded.config;
    let fault = |source| RunError::Recording { path: path.to_owned(), source };
    let mut reader = Reader::open(path).map_err(fault)?;
    let facts = reader.facts().clone();
    config.redaction.query_keys.extend(facts.query_keys.iter().cloned());
    announce_options();

    let runtime = runtime()?;
    let _guard = runtime.enter();
    let mut settings = Settings::of(&config)?;
    settings.batch.schedule_delay = NEVER;
    settings.batch.merge_backlog = false; // how far behind a destination is must not show
    let exporters = Exporters::build(&settings)?;
    let server = match config.output.prometheus {
        Some(addr) => Some(super::prometheus_server(addr)?),
        None => None,
    };
    let parts = Parts::of(&config, Selectors::for_exec(None, Vec::new(), std::process::id()));
    parts.live.redact();
    tracing::info!(
        made_by = facts.agent,
        door = facts.door,
        outputs = %parts.outputs,
        "replaying {}: {}", path.display(), facts.selection
    );
    let (begun, busy) = (Instant::now(), cpu_time());
    let mut stages = Stages::new(parts, &facts, exporters.spawn(), &runtime);
    let fault = stages.run(&mut reader).err();
    let (books, totals) = stages.finish();
    let (elapsed, busy) = (begun.elapsed(), cpu_time().saturating_sub(busy));
    let lanes = runtime.block_on(stages.pipeline.output.exporter.shutdown(FLUSH));
    eprint!("{}", Report { books: &books, lanes: &lanes });
    stages.notes.report(&books, elapsed, busy);
    if let Some(server) = server {
        tracing::info!("serving the totals until interrupted");
        let stop = tokio_util::sync::CancellationToken::new();
        runtime.block_on(async {
            tokio::select! {
                () = server.run(prometheus::Scrapes(Totals(totals)), stop.clone()) => {}
                () = super::interrupted() => {}
            }
        });
    }
    match fault {
        None => Ok(ExitCode::SUCCESS),
        Some(error @ ReadError::Cut { .. }) => {
            tracing::warn!("{error}: replayed what is whole");
            Ok(ExitCode::SUCCESS)
        }
        Some(source) => Err(RunError::Recording { path: path.to_owned(), source }),
    }
}

/// What this thread has used of a processor: on a busy machine it says more than a clock.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Totals that do not change any more.
struct Totals(Vec<MetricBatch>);

impl prometheus::Source for Totals {
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send {
        std::future::ready(self.0.clone())
    }
}

/// Where spans go.
struct Outlet {
    exporter: Exporter,
    terminal: Terminal<Stdout>,
    spans: u64,
    mono_ns: u64,
}

impl Output for Outlet {
    fn span(&mut self, span: Span) {
        self.spans += 1;
        self.exporter.span(&span);
        let now_ns = self.mono_ns;
        self.terminal.print(|printer| printer.push(&span, now_ns));
    }

    /// What is captured was decided when the recording was made.
    fn capture(&mut self, _: u64, _: u8) {}
}

/// The processes of the recording, as the scanner would know them.
struct Processes {
    targets: HashMap<u32, Arc<Resource>>,
    ended: VecDeque<(u32, Arc<Resource>)>,
    unknown: Arc<Resource>,
}

impl Resources for Processes {
    fn whose(&mut self, tgid: u32) -> Whose {
        let ended = || self.ended.iter().rev().find(|(ended, _)| *ended == tgid);
        let known = self.targets.get(&tgid).or_else(|| ended().map(|(_, resource)| resource));
        Whose::Known(Arc::clone(known.unwrap_or(&self.unknown)))
    }

    /// Which of the selectors that are configured now would have taken it is not to be known.
    fn selector(&self, _: u32) -> Option<usize> {
        None
    }
}

impl Processes {
    fn gone(&mut self, tgid: u32) {
        let Some(resource) = self.targets.remove(&tgid) else { return };
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((tgid, resource));
    }
}

/// What there is to say of a recording besides the books.
#[derive(Default)]
struct Notes {
    end: Option<End>,
    missing: u64,
    unknown: u64,
}

impl Notes {
    fn report(&self, books: &Books, elapsed: Duration, busy: Duration) {
        let Self { end, missing, unknown } = self;
        if *missing > 0 {
            tracing::warn!(records = missing, "missing in the recording: the disk was too slow");
        }
        if *unknown > 0 {
            tracing::warn!(
                sections = unknown,
                "skipped: of a type that this version does not know"
            );
        }
        match end {
            None => {
                tracing::warn!("the recording has no end: the agent was killed, or still writes it")
            }
            Some(end) => {
                for (library, processes) in &end.tls_blind_spots {
                    tracing::warn!(processes, library, "TLS was not seen when this was recorded");
                }
            }
        }
        let requests = books.counts.ended();
        let rate = |time: Duration| requests as f64 / time.as_secs_f64().max(1e-9);
        eprintln!(
            "remora: replayed {} records, {requests} requests in {elapsed:.3?}: {:.0} requests/s, \
             {:.0} per second of the thread's own {busy:.3?}",
            books.records,
            rate(elapsed),
            rate(busy),
        );
    }
}

struct Stages<'a> {
    assembler: Assembler,
    pipeline: Pipeline<Processes, Outlet>,
    runtime: &'a Runtime,
    books: Books,
    notes: Notes,
    mono_ns: u64,
    metric_interval_ns: u64,
    next_metrics_ns: u64,
    /// Spans when the exporters were waited for.
    paced: u64,
    /// Positions of their aggregators.
    readers: Readers<usize>,
}

impl<'a> Stages<'a> {
    fn new(parts: Parts, facts: &Facts, exporter: Exporter, runtime: &'a Runtime) -> Self {
        let offset = ClockOffset::fixed(facts.offset_ns);
        let start_unix_ns = offset.unix_ns(facts.start_mono_ns);
        let (aggregators, readers) = parts.readers.begin(start_unix_ns, facts.seed);
        let printer = readers.table.is_some().then(|| {
            let stdout = io::stdout();
            let style = Style::detect(&stdout);
            SpanPrinter::new(stdout, style)
        });
        let unknown = Arc::new(Resource::unknown());
        let Live { policies, metric_interval, .. } = parts.live;
        let metric_interval_ns = u64::try_from(metric_interval.as_nanos()).unwrap_or(u64::MAX);
        let processes = Processes { targets: HashMap::new(), ended: VecDeque::new(), unknown };
        Self {
            assembler: Assembler::new(facts.limits.of_assembler()),
            pipeline: Pipeline::new(
                Correlator::seeded(policies.sampler(None), Limits::default(), facts.seed),
                policies,
                aggregators,
                Clock::fixed(offset),
                processes,
                Outlet {
                    exporter,
                    terminal: Terminal::new(printer),
                    spans: 0,
                    mono_ns: facts.start_mono_ns,
                },
            ),
            runtime,
            books: Books::default(),
            notes: Notes::default(),
            mono_ns: facts.start_mono_ns,
            metric_interval_ns,
            next_metrics_ns: facts.start_mono_ns.saturating_add(metric_interval_ns),
            paced: 0,
            readers,
        }
    }

    fn run(&mut self, reader: &mut Reader<impl io::Read>) -> Result<(), ReadError> {
        while let Some(section) = reader.next()? {
            self.section(section);
            if self.pipeline.output.spans - self.paced >= PACE {
                self.paced = self.pipeline.output.spans;
                self.runtime.block_on(self.pipeline.output.exporter.room());
            }
        }
        Ok(())
    }

    fn section(&mut self, section: Section<'_>) {
        match section {
            Section::Record(sample) => {
                self.books.records += 1;
                match Record::decode(sample) {
                    Ok(record) => self.record(&record),
                    Err(_) => self.books.undecodable += 1,
                }
            }
            Section::Undecodable => {
                self.books.records += 1;
                self.books.undecodable += 1;
            }
            Section::Tick(mono_ns) => self.tick(mono_ns),
            Section::Forgot(mono_ns) => _ = self.pipeline.correlator.expire(mono_ns),
            Section::Orphan(close) => self.assembler.gone(&close, &mut self.pipeline),
            Section::Offset(offset) => self.pipeline.clock = Clock::fixed(offset),
            Section::Target(target) => {
                let resource = format::resource(&target.resource);
                let resource =
                    Arc::new(if target.shared { resource.of_shared_instance() } else { resource });
                self.pipeline.resources.targets.insert(target.tgid, resource);
            }
            Section::Gone(tgid) => self.pipeline.resources.gone(tgid),
            Section::Lost(records) => self.notes.missing += records,
            Section::End(end) => {
                self.mono_ns = self.mono_ns.max(end.mono_ns);
                self.books.drops = end.drops.clone();
                self.notes.end = Some(end);
            }
            Section::Unknown(_) => self.notes.unknown += 1,
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        let mono_ns = record.mono_ns();
        self.mono_ns = self.mono_ns.max(mono_ns);
        self.pipeline.output.mono_ns = self.mono_ns;
        self.assembler.record(record, &mut self.pipeline);
        if let Record::Process { change: ProcessChange::Exec | ProcessChange::Exit, process } =
            record
        {
            self.pipeline.correlator.process_gone(process.tgid);
        }
    }

    fn tick(&mut self, mono_ns: u64) {
        self.mono_ns = self.mono_ns.max(mono_ns);
        self.pipeline.output.mono_ns = self.mono_ns;
        self.assembler.tick(mono_ns, &mut self.pipeline);
        self.pipeline.output.terminal.print(|printer| printer.flush_due(mono_ns));
        if mono_ns >= self.next_metrics_ns {
            self.next_metrics_ns = mono_ns.saturating_add(self.metric_interval_ns);
            self.export_metrics();
        }
    }

    fn now_unix_ns(&mut self) -> u64 {
        let now = self.mono_ns;
        self.pipeline.clock.offset_at(now).unix_ns(now)
    }

    /// Between the spans before and after it: a file has one order.
    fn export_metrics(&mut self) {
        let now = self.now_unix_ns();
        let Some(at) = self.readers.otlp else { return };
        let batches = self.pipeline.aggregators[at].collect(now);
        let exporter = &self.pipeline.output.exporter;
        self.runtime.block_on(exporter.flush(FLUSH));
        exporter.metrics(&batches);
        self.runtime.block_on(exporter.flush(FLUSH));
    }

    fn finish(&mut self) -> (Books, Vec<MetricBatch>) {
        let now_ns = self.mono_ns;
        self.assembler.finish(now_ns, &mut self.pipeline);
        self.export_metrics();
        self.pipeline.output.terminal.print(SpanPrinter::finish);
        let now = self.now_unix_ns();
        let mut collect = |at: Option<usize>| {
            at.map(|at| self.pipeline.aggregators[at].collect(now)).unwrap_or_default()
        };
        let (totals, table) = (collect(self.readers.totals), collect(self.readers.table));
        if self.readers.table.is_some() {
            let stdout = io::stdout();
            let table = RedTable::new(&table, Style::detect(&stdout));
            if !table.is_empty() {
                let _ = writeln!(stdout.lock(), "\n{table}");
            }
        }
        self.books.assembled = *self.assembler.stats();
        self.books.counts = self.pipeline.counts();
        (self.books.clone(), totals)
    }
}
