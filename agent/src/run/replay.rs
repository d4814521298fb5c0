//! `remora replay`: a recording through the same stages as the ring's records, without the kernel, and
//! as fast as they go. Time is the recording's: nothing looks at a clock, nothing is chosen by chance,
//! so that the same recording gives the same bytes again.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Stdout},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use super::{
    FLUSH, RunError, announce_options,
    books::Books,
    live::Live,
    outlet::Outlet,
    parts::Parts,
    report::Report,
    runtime,
    stages::{Begin, Stages},
    terminal::Terminal,
};
use crate::{
    assemble::Assembler,
    clock::{Clock, ClockOffset},
    config::Loaded,
    correlate::pipeline::Resources,
    discover::{REMEMBERED, Selectors},
    export::{
        Exporter, Exporters,
        print::{SpanPrinter, Style},
        prometheus,
        settings::Settings,
    },
    metrics_data::MetricBatch,
    recording::{
        format::{self, End, Facts},
        read::{ReadError, Reader, Section},
    },
    resource::{Resource, Whose},
};

/// Spans between two looks at whether the exporters keep up.
const PACE: u64 = 1024;
/// Traces that are decided at once when nothing more comes.
const DECIDE: usize = 256;
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
    let mut replay = Replay::new(parts, &facts, exporters.spawn(), &runtime);
    let fault = replay.run(&mut reader).err();
    let (books, totals) = replay.finish();
    let (elapsed, busy) = (begun.elapsed(), cpu_time().saturating_sub(busy));
    let lanes = runtime.block_on(replay.exporter().shutdown(FLUSH));
    eprint!("{}", Report { books: &books, lanes: &lanes });
    replay.notes.report(&books, elapsed, busy);
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

/// The processes of the recording, as the scanner would know them.
struct Processes {
    /// And since when.
    targets: HashMap<u32, (Arc<Resource>, u64)>,
    ended: VecDeque<(u32, Arc<Resource>)>,
    unknown: Arc<Resource>,
}

impl Resources for Processes {
    fn whose(&mut self, tgid: u32) -> Whose {
        let ended = || self.ended.iter().rev().find(|(ended, _)| *ended == tgid);
        let known = self.targets.get(&tgid).map(|(resource, _)| resource);
        let known = known.or_else(|| ended().map(|(_, resource)| resource));
        Whose::Known(Arc::clone(known.unwrap_or(&self.unknown)))
    }

    /// Which of the selectors that are configured now would have taken it is not to be known.
    fn selector(&self, _: u32) -> Option<usize> {
        None
    }

    fn seen_since_ns(&self, tgid: u32) -> u64 {
        self.targets.get(&tgid).map_or(0, |(_, since_ns)| *since_ns)
    }
}

impl Processes {
    fn gone(&mut self, tgid: u32) {
        let Some((resource, _)) = self.targets.remove(&tgid) else { return };
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

/// The stages, fed from the recording.
struct Replay<'a> {
    stages: Stages<Processes, Stdout>,
    runtime: &'a Runtime,
    notes: Notes,
    /// Spans when the exporters were waited for.
    paced: u64,
}

impl<'a> Replay<'a> {
    fn new(parts: Parts, facts: &Facts, exporter: Exporter, runtime: &'a Runtime) -> Self {
        let begin = Begin {
            clock: Clock::fixed(ClockOffset::fixed(facts.offset_ns)),
            mono_ns: facts.start_mono_ns,
            seed: facts.seed,
        };
        let unknown = Arc::new(Resource::unknown());
        let Live { policies, tail, metric_interval, .. } = parts.live;
        let processes = Processes { targets: HashMap::new(), ended: VecDeque::new(), unknown };
        let assembler = Assembler::new(facts.limits.of_assembler());
        let now_ns = facts.start_mono_ns;
        let mut stages = Stages::new(
            begin,
            assembler,
            policies,
            parts.readers,
            metric_interval,
            processes,
            |readers| {
                let printer = readers.table.is_some().then(|| {
                    let stdout = io::stdout();
                    let style = Style::detect(&stdout);
                    SpanPrinter::new(stdout, style)
                });
                let terminal = Terminal::new(printer);
                Outlet { exporter, terminal, verdicts: None, now_ns, spans: 0 }
            },
        );
        stages.pipeline.sample_tails(tail);
        Self { stages, runtime, notes: Notes::default(), paced: 0 }
    }

    fn exporter(&self) -> &Exporter {
        &self.stages.pipeline.output.exporter
    }

    fn run(&mut self, reader: &mut Reader<impl io::Read>) -> Result<(), ReadError> {
        while let Some(section) = reader.next()? {
            self.section(section);
            let spans = self.stages.pipeline.output.spans;
            if spans - self.paced >= PACE {
                self.paced = spans;
                self.runtime.block_on(self.exporter().room());
            }
        }
        Ok(())
    }

    fn section(&mut self, section: Section<'_>) {
        let stages = &mut self.stages;
        match section {
            // One that is none is in the books.
            Section::Record(sample) => _ = stages.sample(sample),
            Section::Undecodable => {
                stages.books.records += 1;
                stages.books.undecodable += 1;
            }
            Section::Tick(mono_ns) => self.tick(mono_ns),
            Section::Forgot(mono_ns) => _ = stages.pipeline.correlator.expire(mono_ns),
            Section::Orphan(close) => stages.assembler.gone(&close, &mut stages.pipeline),
            Section::Offset(offset) => stages.pipeline.clock = Clock::fixed(offset),
            Section::Target(target) => {
                let resource = format::resource(&target.resource);
                let resource =
                    Arc::new(if target.shared { resource.of_shared_instance() } else { resource });
                let targets = &mut stages.pipeline.resources.targets;
                let since_ns = targets.get(&target.tgid).map_or(stages.now_ns, |(_, since)| *since);
                targets.insert(target.tgid, (resource, since_ns));
            }
            Section::Gone(tgid) => stages.pipeline.resources.gone(tgid),
            Section::Lost(records) => self.notes.missing += records,
            Section::End(end) => {
                stages.now_ns = stages.now_ns.max(end.mono_ns);
                stages.books.drops = end.drops.clone();
                self.notes.end = Some(end);
            }
            Section::Unknown(_) => self.notes.unknown += 1,
        }
    }

    fn tick(&mut self, mono_ns: u64) {
        self.stages.tick(mono_ns);
        self.stages.pipeline.output.terminal.print(|printer| printer.flush_due(mono_ns));
        if self.stages.metrics.is_due(mono_ns) {
            self.export_metrics();
        }
    }

    /// Between the spans before and after it: a file has one order.
    fn export_metrics(&mut self) {
        let Some(reader) = self.stages.readers.otlp else { return };
        let batches = self.stages.collect(Some(reader), self.stages.now_ns);
        self.runtime.block_on(self.exporter().flush(FLUSH));
        self.exporter().metrics(&batches);
        self.runtime.block_on(self.exporter().flush(FLUSH));
    }

    /// The books, and what whoever scrapes is told from now on.
    fn finish(&mut self) -> (Books, Vec<MetricBatch>) {
        let now_ns = self.stages.now_ns;
        self.stages.finish(now_ns);
        while self.stages.decide(DECIDE) {
            self.runtime.block_on(self.exporter().room());
        }
        self.export_metrics();
        self.stages.finish_printing(now_ns);
        let totals = self.stages.collect(self.stages.readers.totals, now_ns);
        self.stages.close_books();
        (self.stages.books.clone(), totals)
    }
}
