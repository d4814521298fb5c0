//! The stages behind reassembly, joined: it takes what [`Sink`] is told and yields spans, metrics and
//! the books. Everything runs on the one thread that runs reassembly; nothing here blocks.

use std::{
    collections::VecDeque,
    mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::HashMap;

mod exports;

use self::exports::ToldExports;
use super::{Correlator, policy::Policies};
use crate::{
    accounting::Lost,
    aggregate::Aggregator,
    clock::Clock,
    exchange::{Endpoint, Exchange, Role, Sink, Started},
    resource::Whose,
    semantics::{
        self,
        filter::Kept,
        telemetry::{self, Emits, Export},
    },
    span::{Peer, Span},
    tail::{self, Held, Tail},
    trace_context::TraceId,
};

/// Knows whose exchange it is.
pub trait Resources {
    /// Whose the exchanges of a process are; somebody's also if it is gone already.
    fn whose(&mut self, tgid: u32) -> Whose;

    /// Position of the selector that took the process, where that is known.
    fn selector(&self, tgid: u32) -> Option<usize>;

    /// Since when the process is captured; 0 where that is not known, or it was since it began.
    fn seen_since_ns(&self, tgid: u32) -> u64;

    /// Whether a process has its threads run on those of the kernel one after the other.
    fn shares_threads(&mut self, tgid: u32) -> bool {
        match self.whose(tgid) {
            Whose::Known(resource) | Whose::Provisional(resource) => resource.is_ruby(),
            Whose::OptedOut => false,
        }
    }

    /// What the other end of a client's exchange is called, that began at `start_mono_ns`.
    fn peer(&self, _address: IpAddr, _start_mono_ns: u64) -> Option<Arc<Peer>> {
        None
    }
}

/// Spans that wait at once for more to be known of their processes; beyond it the oldest go as they are.
const MAX_WAITING: usize = 4096;

/// Takes what is to leave the agent.
pub trait Output {
    /// A sampled span.
    fn span(&mut self, span: Span);
    /// As [`Sink::capture`].
    fn capture(&mut self, conn_id: u64, policy: u8);
}

/// What became of all requests: `ended = spans + sampled_out + filtered + waiting + sum(lost)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    pub spans: u64,
    /// By head sampling and by tail sampling.
    pub sampled_out: u64,
    /// Their traces are not decided; none at the end.
    pub waiting: u64,
    /// No span, for a filter says so, whatever sampling would have said.
    pub filtered: u64,
    /// Of `spans + sampled_out + filtered + waiting`, those that a filter keeps out of metrics.
    pub unmeasured: u64,
    /// By [`Lost`], in the order of [`Lost::ALL`].
    pub lost: [u64; Lost::ALL.len()],
}

impl Counts {
    /// Losses of one kind.
    #[must_use]
    pub const fn lost(&self, reason: Lost) -> u64 {
        self.lost[reason as usize]
    }

    /// All requests that ended in one way or another.
    #[must_use]
    pub fn ended(&self) -> u64 {
        let measurable = self.spans + self.sampled_out + self.filtered + self.waiting;
        measurable + self.lost.iter().sum::<u64>()
    }
}

/// From exchanges to spans and metrics.
#[derive(Debug)]
pub struct Pipeline<R, O> {
    pub correlator: Correlator,
    pub policies: Policies,
    /// Several, where readers want different temporalities or histograms.
    pub aggregators: Vec<Aggregator>,
    pub clock: Clock,
    pub resources: R,
    pub output: O,
    counts: Counts,
    /// Spans of processes of which more will be known soon, oldest first.
    waiting: VecDeque<Span>,
    /// Spans whose trace may be part of another one, by that trace; and whether their processes are known.
    undecided: HashMap<TraceId, Vec<(Span, bool)>>,
    /// How many these are.
    undecided_len: usize,
    /// Where traces wait to be sampled as a whole, if that is configured.
    tail: Option<Box<Tail>>,
    told_exports: ToldExports,
    /// Signals that processes export by themselves.
    emits: HashMap<u32, Emits>,
}

/// Processes of which it is remembered that they export signals by themselves.
const MAX_EMITTING: usize = 16_384;

impl<R: Resources, O: Output> Pipeline<R, O> {
    pub fn new(
        correlator: Correlator,
        policies: Policies,
        aggregators: Vec<Aggregator>,
        clock: Clock,
        resources: R,
        output: O,
    ) -> Self {
        let counts = Counts::default();
        let (waiting, undecided) = (VecDeque::new(), HashMap::default());
        Self {
            correlator,
            policies,
            aggregators,
            clock,
            resources,
            output,
            counts,
            waiting,
            undecided,
            undecided_len: 0,
            tail: None,
            told_exports: ToldExports::default(),
            emits: HashMap::default(),
        }
    }

    fn peer(&self, exchange: &Exchange) -> Option<Arc<Peer>> {
        match (exchange.role, &exchange.connection.remote) {
            (Role::Client, Endpoint::Inet { addr, .. }) => {
                self.resources.peer(*addr, exchange.start_mono_ns)
            }
            _ => None,
        }
    }

    /// The selector whose policy counts.
    fn selector(&self, tgid: u32) -> Option<usize> {
        if self.policies.is_uniform() { None } else { self.resources.selector(tgid) }
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Lets go of spans that have waited: for what they waited for, or long enough.
    pub fn release_settled(&mut self, now_mono_ns: u64) {
        self.correlator.decide_by_time(now_mono_ns);
        self.release_decided();
        self.release_known();
    }

    /// Those whose trace is decided.
    fn release_decided(&mut self) {
        for trace_id in self.correlator.take_decided() {
            for (span, known) in self.undecided.remove(&trace_id).unwrap_or_default() {
                self.undecided_len -= 1;
                self.settle(span, known);
            }
        }
    }

    /// Hands a span on when it is decided which trace it belongs to.
    fn settle(&mut self, mut span: Span, known: bool) {
        match self.correlator.settle(&mut span) {
            Err(trace_id) if self.undecided_len < MAX_WAITING => {
                self.undecided_len += 1;
                self.undecided.entry(trace_id).or_default().push((span, known));
            }
            Ok(()) | Err(_) => self.hand_on(span, known),
        }
    }

    /// Those whose process is known.
    fn release_known(&mut self) {
        for mut span in mem::take(&mut self.waiting) {
            match self.resources.whose(span.exchange.connection.tgid) {
                Whose::Known(resource) => {
                    span.resource = resource;
                    self.pass(span);
                }
                Whose::Provisional(_) => self.waiting.push_back(span),
                Whose::OptedOut => self.counts.lost[Lost::OptedOut as usize] += 1,
            }
        }
    }

    /// Lets go of all spans that wait, as they are: nothing more is going to be known.
    pub fn release_waiting(&mut self) {
        self.correlator.decide_all();
        self.release_decided();
        self.release_known();
        for span in mem::take(&mut self.waiting) {
            self.pass(span);
        }
    }

    /// A span whose trace is decided; whether its process is `known`.
    fn hand_on(&mut self, span: Span, known: bool) {
        if known {
            return self.pass(span);
        }
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.pass(oldest);
        }
        self.waiting.push_back(span);
    }

    /// A process began a new program: what is known of the one before does not hold.
    pub fn began(&mut self, tgid: u32) {
        self.emits.remove(&tgid);
    }

    /// The export `span` shows what its process exports by itself.
    fn note_export(&mut self, span: &Span, selector: Option<usize>) {
        let shown = Emits::shown_by(&span.exchange);
        let tgid = span.exchange.connection.tgid;
        if shown == Emits::default() {
            return;
        }
        if self.emits.len() >= MAX_EMITTING && !self.emits.contains_key(&tgid) {
            // Most of them have ended. The others export again.
            self.emits.clear();
        }
        let own = self.emits.entry(tgid).or_default();
        let before = *own;
        own.traces |= shown.traces;
        own.metrics |= shown.metrics;
        let known = *own;
        if known == before || !self.policies.defers(selector) {
            return;
        }
        let service = span.resource.service_name();
        let signal = if known.traces == before.traces { "metrics" } else { "spans" };
        tracing::info!(
            pid = tgid,
            service,
            "this process exports {signal} itself: those that would be made of it here are left out \
             (`filter.instrumented: both` keeps them)"
        );
    }

    /// Signals of a process that are left to it.
    fn deferred_to(&self, tgid: u32, selector: Option<usize>) -> Emits {
        let own = self.emits.get(&tgid).filter(|_| self.policies.defers(selector));
        own.copied().unwrap_or_default()
    }

    fn leaves_out(&self, export: Export, selector: Option<usize>) -> bool {
        export == Export::Agents || !self.policies.keeps_telemetry(selector)
    }

    fn pass(&mut self, mut span: Span) {
        let selector = self.selector(span.exchange.connection.tgid);
        span.options = self.policies.options(selector);
        if let Some((path, status)) = semantics::path_to_route(&span.exchange) {
            let service = span.resource.service_name();
            span.route = self.policies.route(selector, service, path, status);
        }
        let export = telemetry::export(&span.exchange);
        if export == Some(Export::Others) {
            self.note_export(&span, selector);
        }
        let kept = match export {
            Some(export) if self.leaves_out(export, selector) => {
                self.told_exports.tell(export, span.resource.service_name());
                Kept { traces: false, metrics: false }
            }
            _ => self.policies.keeps(selector, &span),
        };
        let own = self.deferred_to(span.exchange.connection.tgid, selector);
        let kept =
            Kept { traces: kept.traces && !own.traces, metrics: kept.metrics && !own.metrics };
        let goes_on = kept.traces && span.flags.is_sampled();
        if kept.metrics {
            let attributes = self.policies.metric_attributes(selector);
            let waits = goes_on && self.tail.is_some();
            for aggregator in &mut self.aggregators {
                if waits {
                    aggregator.record_undecided(&span, attributes);
                } else {
                    aggregator.record_chosen(&span, attributes);
                }
            }
        } else {
            self.counts.unmeasured += 1;
        }
        if !kept.traces {
            self.counts.filtered += 1;
        } else if !goes_on {
            self.counts.sampled_out += 1;
        } else if let Some(tail) = &mut self.tail {
            self.counts.waiting += 1;
            tail.take(Held { span, selector, measured: kept.metrics });
            self.release_tail();
        } else {
            self.counts.spans += 1;
            self.output.span(span);
        }
    }

    /// What tail sampling does from now on; `None`: nothing, and what waits is decided.
    pub fn sample_tails(&mut self, settings: Option<tail::Settings>) {
        match (&mut self.tail, settings) {
            (Some(tail), Some(settings)) => tail.change(settings),
            (tail @ None, Some(settings)) => *tail = Some(Box::new(Tail::new(settings))),
            (_, None) => {
                while self.decide_next() {}
                self.tail = None;
            }
        }
        self.release_tail();
    }

    /// What tail sampling has decided, where there is some.
    #[must_use]
    pub fn tail_counts(&self) -> Option<tail::Counts> {
        self.tail.as_deref().map(Tail::counts)
    }

    /// Decides traces that have waited long enough for it.
    pub fn reach(&mut self, now_mono_ns: u64) {
        if let Some(tail) = &mut self.tail {
            tail.reach(now_mono_ns, self.clock.offset());
            self.release_tail();
        }
    }

    /// Decides the trace that has waited longest; `false` if none waits.
    pub fn decide_next(&mut self) -> bool {
        let Some(tail) = &mut self.tail else { return false };
        let decided = tail.decide_next();
        self.release_tail();
        decided
    }

    /// Hands on what is decided, and accounts for what is not kept.
    fn release_tail(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        let left_out = tail.take_left_out();
        self.counts.sampled_out += left_out;
        self.counts.waiting -= left_out;
        for Held { span, selector, measured } in tail.take_kept() {
            self.counts.spans += 1;
            self.counts.waiting -= 1;
            if measured {
                let attributes = self.policies.metric_attributes(selector);
                for aggregator in &mut self.aggregators {
                    aggregator.exemplify(&span, attributes);
                }
            }
            self.output.span(span);
        }
    }
}

impl<R: Resources, O: Output> Sink for Pipeline<R, O> {
    fn opened(&mut self, client: SocketAddr, server: SocketAddr) {
        self.correlator.opened(client, server);
    }

    fn started(&mut self, started: &Started) {
        let selector = self.selector(started.tgid);
        self.correlator.decide_by(self.policies.sampler(selector));
        self.correlator.decide_by_time(started.start_mono_ns);
        if started.role == Role::Server && self.correlator.is_new(started.tgid) {
            let since_ns = self.resources.seen_since_ns(started.tgid);
            let one_each = !self.resources.shares_threads(started.tgid);
            self.correlator.seen_since(started.tgid, since_ns, one_each);
        }
        if started.role == Role::Client && self.deferred_to(started.tgid, selector).traces {
            // A parent that nobody exports is not named across processes.
            self.correlator.started(&Started { at: None, ..started.clone() });
        } else {
            self.correlator.started(started);
        }
        self.release_decided();
    }

    fn handled(&mut self, serial: u64, context: u64) {
        self.correlator.handled(serial, context);
    }

    fn answered_unseen(&mut self, tgid: u32, tid: u32, mono_ns: u64) {
        self.correlator.answered_unseen(tgid, tid, mono_ns);
    }

    fn answered(&mut self, serial: u64) {
        self.correlator.answered(serial);
    }

    fn finished(&mut self, mut exchange: Exchange) {
        let (resource, settled) = match self.resources.whose(exchange.connection.tgid) {
            Whose::Known(resource) => (resource, true),
            Whose::Provisional(resource) => (resource, false),
            Whose::OptedOut => return self.lost(exchange.serial, Lost::OptedOut),
        };
        let selector = self.selector(exchange.connection.tgid);
        self.correlator.decide_by(self.policies.sampler(selector));
        self.policies.headers(selector, &mut exchange.detail);
        let offset = self.clock.offset_at(exchange.end_mono_ns);
        // Its place is decided now: who comes after it must not wait for it.
        let mut span = self.correlator.finished(exchange, resource, offset);
        span.peer = self.peer(&span.exchange);
        self.settle(span, settled);
    }

    fn lost(&mut self, serial: u64, reason: Lost) {
        self.correlator.lost(serial);
        self.counts.lost[reason as usize] += 1;
    }

    fn capture(&mut self, conn_id: u64, policy: u8) {
        self.output.capture(conn_id, policy);
    }
}

#[cfg(test)]
mod tests;
