//! Tail sampling: spans wait here until their trace has been looked at as a whole, and policies say whether it is kept.
//! It answers which spans leave the agent, and when. What is measured of them was measured before; which
//! spans come here at all, head sampling and filters have said.
//!
//! A trace is decided when it has waited long enough, when the agent stops, or early: when there are too many
//! traces, or they take too much memory. Then the oldest goes first. Time is that of records, so that a replay
//! decides as the agent did.

mod counts;
mod decided;
mod held;
mod policy;
mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod trace_state;

use std::{collections::VecDeque, mem, sync::Arc};

use hashbrown::HashMap;

use self::{
    decided::Decided,
    held::resource_bytes,
    policy::{Outcome, Policies, Trace, Verdict},
};
use crate::{clock::ClockOffset, resource::Resource, trace_context::TraceId};

pub use self::{
    counts::{Counts, OfPolicy, Tally},
    held::Held,
    policy::compile,
    settings::{Definition, Mode, Policy, Remembered, Settings, StatusCode},
};

/// Bytes of a trace that waits beside those of its spans: its slot in the table, at the table's lowest load, and its places in the
/// queues.
const TRACE_BYTES: usize = 3 * (size_of::<(TraceId, Waiting)>() + 1) + 6 * size_of::<Due>();

/// A trace that is not decided.
#[derive(Debug)]
struct Waiting {
    spans: Vec<Held>,
    /// Of all of its spans.
    bytes: usize,
    /// Tells it from an earlier one with the same id.
    serial: u64,
}

/// When something began that ends a trace's waiting.
#[derive(Clone, Copy, Debug)]
struct Due {
    since_ns: u64,
    id: TraceId,
    serial: u64,
}

/// A resource that spans that wait share.
#[derive(Clone, Copy, Debug)]
struct OfResource {
    spans: usize,
    /// Of the resource itself.
    bytes: usize,
}

/// Why a trace is decided before its time.
#[derive(Clone, Copy, Debug)]
enum Early {
    Traces,
    Memory,
}

/// The stage.
#[derive(Debug)]
pub struct Tail {
    settings: Settings,
    policies: Policies,
    traces: HashMap<TraceId, Waiting, foldhash::fast::RandomState>,
    /// By first span, and by root span, oldest first. Traces that are decided may stand there still.
    by_first: VecDeque<Due>,
    by_root: VecDeque<Due>,
    /// Resources of spans that wait, by their addresses.
    resources: HashMap<usize, OfResource, foldhash::fast::RandomState>,
    /// Of everything that waits.
    bytes: usize,
    waiting_spans: u64,
    decided: Decided,
    counts: Counts,
    /// The serial of the last trace.
    serial: u64,
    /// The time that the stages have come to, and what makes it Unix time.
    now_ns: u64,
    offset: ClockOffset,
    kept: Vec<Held>,
    left_out: u64,
}

impl Tail {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut counts = Counts::default();
        let policies = Policies::new(&settings, |name| counts.place(name));
        Self {
            settings,
            policies,
            traces: HashMap::default(),
            by_first: VecDeque::new(),
            by_root: VecDeque::new(),
            resources: HashMap::default(),
            bytes: 0,
            waiting_spans: 0,
            decided: Decided::default(),
            counts,
            serial: 0,
            now_ns: 0,
            offset: ClockOffset::fixed(0),
            kept: Vec::new(),
            left_out: 0,
        }
    }

    /// Takes other settings; traces that wait are decided by them. What did not change goes on as it was.
    pub fn change(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        self.policies = Policies::new(&settings, |name| self.counts.place(name));
        self.settings = settings;
        self.keep_bounds();
    }

    /// What became of traces so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let waiting = Tally { traces: self.traces.len() as u64, spans: self.waiting_spans };
        Counts { waiting, waiting_bytes: self.bytes as u64, ..self.counts.clone() }
    }

    /// Bytes of everything that waits.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Spans of traces that are kept, which were decided since the last time.
    pub fn take_kept(&mut self) -> Vec<Held> {
        mem::take(&mut self.kept)
    }

    /// How many spans were left out since the last time.
    pub const fn take_left_out(&mut self) -> u64 {
        mem::replace(&mut self.left_out, 0)
    }

    /// Takes a span that is sampled so far.
    pub fn take(&mut self, held: Held) {
        let id = held.span.trace_id;
        if !self.traces.contains_key(&id) {
            if let Some(verdict) = self.decided.find(id) {
                let late = match verdict.outcome {
                    Outcome::Sampled => &mut self.counts.late_sampled,
                    Outcome::NotSampled | Outcome::Dropped => &mut self.counts.late_left_out,
                };
                *late += 1;
                return self.settle(verdict, 0, vec![held]);
            }
            while self.traces.len() >= self.settings.max_traces.max(1) {
                self.decide_oldest(Some(Early::Traces));
            }
        }
        self.wait(id, held);
        self.keep_bounds();
    }

    /// Decides traces that have waited long enough.
    pub fn reach(&mut self, now_ns: u64, offset: ClockOffset) {
        let now_ns = self.now_ns.max(now_ns);
        (self.now_ns, self.offset) = (now_ns, offset);
        let Settings { wait_ns, wait_after_root_ns, .. } = self.settings;
        let is_over = |due: &mut Due, wait_ns: u64| due.since_ns.saturating_add(wait_ns) <= now_ns;
        while let Some(due) = self.by_first.pop_front_if(|due| is_over(due, wait_ns)) {
            self.decide_if_waiting(due);
        }
        while let Some(due) = self.by_root.pop_front_if(|due| is_over(due, wait_after_root_ns)) {
            self.decide_if_waiting(due);
        }
    }

    /// Decides the oldest of all traces, however long it has waited; `false` if there is none.
    pub fn decide_next(&mut self) -> bool {
        self.decide_oldest(None)
    }

    /// Adds a span to its trace, which begins with it if it is the first.
    fn wait(&mut self, id: TraceId, held: Held) {
        let Self { settings, traces, by_first, by_root, resources, bytes, serial, .. } = self;
        let waiting = traces.entry(id).or_insert_with(|| {
            *serial += 1;
            by_first.push_back(Due { since_ns: self.now_ns, id, serial: *serial });
            *bytes += TRACE_BYTES;
            Waiting { spans: Vec::new(), bytes: TRACE_BYTES, serial: *serial }
        });
        if settings.wait_after_root_ns > 0 && held.span.parent_span_id.is_none() {
            by_root.push_back(Due { since_ns: self.now_ns, id, serial: waiting.serial });
        }
        let resource = resources.entry(address(&held.span.resource)).or_insert_with(|| {
            let own = resource_bytes(&held.span.resource);
            *bytes += own;
            OfResource { spans: 0, bytes: own }
        });
        resource.spans += 1;
        let room = waiting.spans.capacity();
        let heap = held.heap_bytes();
        waiting.spans.push(held);
        let own = heap + (waiting.spans.capacity() - room) * size_of::<Held>();
        waiting.bytes += own;
        *bytes += own;
        self.waiting_spans += 1;
        self.forget_decided();
    }

    /// Keeps queues in proportion to what waits: of traces that are decided early, places stay in them.
    fn forget_decided(&mut self) {
        let Self { traces, by_first, by_root, .. } = self;
        for queue in [by_first, by_root] {
            if queue.len() > 2 * traces.len() + 64 {
                let is_waiting =
                    |due: &Due| traces.get(&due.id).is_some_and(|one| one.serial == due.serial);
                queue.retain(is_waiting);
            }
        }
    }

    fn keep_bounds(&mut self) {
        while self.bytes > self.settings.max_bytes && self.decide_oldest(Some(Early::Memory)) {}
        while self.traces.len() > self.settings.max_traces.max(1) {
            self.decide_oldest(Some(Early::Traces));
        }
    }

    fn decide_oldest(&mut self, early: Option<Early>) -> bool {
        while let Some(due) = self.by_first.pop_front() {
            if self.decide_if_waiting(due) {
                match early {
                    Some(Early::Traces) => self.counts.early_traces += 1,
                    Some(Early::Memory) => self.counts.early_memory += 1,
                    None => {}
                }
                return true;
            }
        }
        false
    }

    /// A trace that was decided before may stand in the queues still.
    fn decide_if_waiting(&mut self, due: Due) -> bool {
        let waits = self.traces.get(&due.id).is_some_and(|one| one.serial == due.serial);
        if waits {
            self.decide(due.id);
        }
        waits
    }

    fn decide(&mut self, id: TraceId) {
        let Some(Waiting { spans, bytes, .. }) = self.traces.remove(&id) else { return };
        self.bytes -= bytes;
        self.waiting_spans -= spans.len() as u64;
        for held in &spans {
            self.let_go(&held.span.resource);
        }
        let second = self.offset.unix_ns(self.now_ns) / 1_000_000_000;
        let verdict = self.policies.decide(&Trace { id, spans: &spans, second });
        self.decided.remember(id, verdict, self.settings.remembered);
        self.settle(verdict, 1, spans);
    }

    fn let_go(&mut self, resource: &Arc<Resource>) {
        let address = address(resource);
        let Some(held) = self.resources.get_mut(&address) else { return };
        held.spans -= 1;
        if held.spans == 0 {
            self.bytes -= held.bytes;
            self.resources.remove(&address);
        }
    }

    /// Counts spans of a trace that is decided, and lets them go or leaves them out.
    fn settle(&mut self, verdict: Verdict, traces: u64, spans: Vec<Held>) {
        let Self { counts, kept, left_out, .. } = self;
        let place = verdict.policy.map(usize::from).and_then(|at| counts.policies.get_mut(at));
        let tally = match (verdict.outcome, place) {
            (Outcome::Sampled, Some(policy)) => &mut policy.sampled,
            (Outcome::Dropped, Some(policy)) => &mut policy.dropped,
            (_, _) => &mut counts.not_sampled,
        };
        tally.traces += traces;
        tally.spans += spans.len() as u64;
        if verdict.outcome != Outcome::Sampled {
            *left_out += spans.len() as u64;
            return;
        }
        kept.extend(spans.into_iter().map(|mut held| {
            if verdict.threshold > 0 {
                let span = &mut held.span;
                let state = trace_state::with_threshold(
                    span.trace_state(),
                    span.trace_id,
                    verdict.threshold,
                );
                span.sampled_state = Some(state);
            }
            held
        }));
    }
}

/// Tells resources that are held apart.
fn address(resource: &Arc<Resource>) -> usize {
    Arc::as_ptr(resource) as usize
}
