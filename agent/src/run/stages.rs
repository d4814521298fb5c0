//! What is done with each sample, with time and at the end, whether samples come from the kernel (the
//! worker) or from a recording (a replay).

use std::{
    io::{self, Write},
    time::Duration,
};

use remora_common::record::{Process, ProcessChange};

use super::{
    books::{Books, LeftOut},
    outlet::Outlet,
    readers::Readers,
    schedule::Schedule,
};
use crate::{
    aggregate::{self, Aggregator},
    assemble::Assembler,
    clock::Clock,
    correlate::{
        Correlator, Limits,
        pipeline::{Pipeline, Resources},
        policy::Policies,
    },
    decode::{DecodeError, Record},
    export::print::{RedTable, SpanPrinter, Style},
    metrics_data::MetricBatch,
};

/// Reassembly and everything behind it, with the books.
pub(super) struct Stages<R, W> {
    pub(super) assembler: Assembler,
    pub(super) pipeline: Pipeline<R, Outlet<W>>,
    pub(super) books: Books,
    /// Positions of their aggregators.
    pub(super) readers: Readers<usize>,
    /// The newest time of a record or a tick.
    pub(super) now_ns: u64,
    /// When metrics are told.
    pub(super) metrics: Schedule,
}

/// When stages begin, and what they must have the same again.
pub(super) struct Begin {
    pub(super) clock: Clock,
    pub(super) mono_ns: u64,
    pub(super) seed: [u64; 4],
}

impl<R: Resources, W: Write> Stages<R, W> {
    pub(super) fn new(
        begin: Begin,
        assembler: Assembler,
        policies: Policies,
        readers: Readers<aggregate::Config>,
        metric_interval: Duration,
        resources: R,
        outlet: impl FnOnce(&Readers<usize>) -> Outlet<W>,
    ) -> Self {
        let Begin { clock, mono_ns, seed } = begin;
        let (aggregators, readers) = readers.begin(clock.offset().unix_ns(mono_ns), seed);
        let correlator = Correlator::seeded(policies.sampler(None), Limits::default(), seed);
        let outlet = outlet(&readers);
        Self {
            assembler,
            pipeline: Pipeline::new(correlator, policies, aggregators, clock, resources, outlet),
            books: Books::default(),
            readers,
            now_ns: mono_ns,
            metrics: Schedule::new(metric_interval, mono_ns),
        }
    }

    fn reached(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.pipeline.output.now_ns = self.now_ns;
        self.pipeline.reach(self.now_ns);
    }

    /// Runs the stages on a sample, and says what it was.
    pub(super) fn sample<'a>(&mut self, sample: &'a [u8]) -> Result<Record<'a>, DecodeError> {
        self.books.records += 1;
        let record = Record::decode(sample).inspect_err(|_| self.books.undecodable += 1)?;
        self.reached(record.mono_ns());
        self.assembler.record(&record, &mut self.pipeline);
        if let Record::Process { change, process } = &record {
            self.process(*change, process);
        }
        Ok(record)
    }

    fn process(&mut self, change: ProcessChange, process: &Process) {
        let Process { tgid, tid, mono_ns, parent_tgid: by, .. } = *process;
        let correlator = &mut self.pipeline.correlator;
        match change {
            ProcessChange::Exec => {
                correlator.process_gone(tgid);
                self.pipeline.began(tgid);
            }
            ProcessChange::Exit => correlator.process_gone(tgid),
            ProcessChange::MovesWork => correlator.moves_work(tgid, mono_ns),
            ProcessChange::ThreadStart => correlator.thread_started(tgid, by, tid, mono_ns),
            ProcessChange::ThreadExit => correlator.thread_ended(tgid, tid, mono_ns),
            ProcessChange::Fork | ProcessChange::SpeaksTls => {}
        }
    }

    /// What time brings to reassembly.
    pub(super) fn tick(&mut self, now_ns: u64) {
        self.reached(now_ns);
        self.assembler.tick(now_ns, &mut self.pipeline);
    }

    /// Ends what is open: nothing more will come. Then [`Self::decide`] ends what waits.
    pub(super) fn finish(&mut self, now_ns: u64) {
        self.reached(now_ns);
        self.assembler.finish(now_ns, &mut self.pipeline);
        self.pipeline.release_waiting();
    }

    /// Decides up to so many traces that wait for tail sampling; `false` if none waits any more.
    pub(super) fn decide(&mut self, traces: usize) -> bool {
        (0..traces).all(|_| self.pipeline.decide_next())
    }

    /// What one of the [`Readers`] has to read; nothing where there is no such.
    pub(super) fn collect(&mut self, reader: Option<usize>, now_ns: u64) -> Vec<MetricBatch> {
        let now_unix_ns = self.pipeline.clock.offset_at(now_ns).unix_ns(now_ns);
        reader.map(|at| self.pipeline.aggregators[at].collect(now_unix_ns)).unwrap_or_default()
    }

    /// Prints the spans that wait, and the table of requests.
    pub(super) fn finish_printing(&mut self, now_ns: u64) {
        self.pipeline.output.terminal.print(SpanPrinter::finish);
        let table = self.collect(self.readers.table, now_ns);
        let table = RedTable::new(&table, Style::detect(&io::stdout()));
        if !table.is_empty() {
            self.pipeline.output.terminal.print(|printer| writeln!(printer.out(), "\n{table}"));
        }
    }

    /// Brings the books up to date with what the stages have counted.
    pub(super) fn close_books(&mut self) {
        self.books.assembled = *self.assembler.stats();
        self.books.counts = self.pipeline.counts();
        self.books.tail = self.pipeline.tail_counts();
        let measured = self.pipeline.aggregators.iter().map(Aggregator::left_out);
        self.books.left_out = LeftOut {
            measured: measured.max_by_key(aggregate::LeftOut::all).unwrap_or_default(),
            correlated: self.pipeline.correlator.left_out(),
            routes: self.pipeline.policies.forgotten_services(),
        };
    }
}
