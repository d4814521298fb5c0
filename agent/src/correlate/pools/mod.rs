//! Thread pools: one thread reads requests, and others handle them. Which thread handles a request shows when the response is
//! written. So a CLIENT request on a worker waits for the worker's next response: it was made for the request that this answers.
//!
//! That is so for threads that do one thing after the other. An event loop that answers one request between two steps of
//! another one gives itself away ([`Pools::mix`]), and then nothing is inferred in its process any more:
//! - another thread reads the response of a request than the one that has sent it;
//! - a thread sends a request, or answers one, while a request that it has sent on another connection is unanswered;
//! - a worker sends a request for nobody: when no SERVER request is open, or before the one was received that it answers next.
//!
//! A request waits as long as one is open that it may have been made for.
//!
//! A worker may also ask for something *behind* its answer, for the request that it has answered. Where others wait for it, that looks
//! as if it asked for the next one. So a worker is believed from a request on that came when it had nothing to do for [`REST_NS`], and
//! for which it has asked before it answered, until it answers a request without having asked for anything. When that was seen of
//! [`ASK_FIRST`] requests, all workers of the process are believed.
//!
//! Threads that a worker starts for a request ask for it, too ([`helpers`]).
//!
//! Before a process is believed, [`PROOF`] requests that were handled beside others must have shown nothing of the kind, nor their
//! workers for [`TRIAL_NS`] that they wait for events of several connections, where somebody looks ([`Pools::on_trial`]). What
//! belongs to them waits meanwhile. A request that was handled alone needs no proof.

mod call;
mod helpers;
mod verdict;

use std::sync::Arc;

use hashbrown::HashMap;

pub(super) use self::verdict::{Server, Thread, Verdict};
use self::{call::Call, helpers::Helpers};
use crate::exchange::At;

/// As many requests that were handled beside others prove that a process has workers.
const PROOF: u32 = 4;
/// For so long a process is on trial at least.
const TRIAL_NS: u64 = 100_000_000;
/// Workers of a process on trial that are looked at.
const MAX_ON_TRIAL: usize = 64;
/// A worker that has answered nothing for so long has nothing left to do for it.
const REST_NS: u64 = 20_000_000;
/// As many requests that came to workers with nothing to do, and were asked for before they were answered, show how a process works.
const ASK_FIRST: u32 = 8;
/// Threads of one process that are told apart.
const MAX_WORKERS: usize = 4096;
/// CLIENT requests of a worker that wait for one response.
const MAX_CALLS: usize = 1024;
/// Those of a thread that has answered nothing yet: it may never do so.
const MAX_CALLS_UNANSWERED: usize = 256;
/// SERVER requests that are open in a process with workers; more are those of an event loop.
const MAX_OPEN: usize = 4096;
/// Processes that are remembered; of those beyond it nothing is inferred here.
const MAX_PROCESSES: usize = 16_384;

type Random = foldhash::fast::RandomState;

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    /// When it has answered last; 0: not since its process is seen.
    answered_ns: u64,
    /// It asks for a request before it answers that.
    asks_first: bool,
    /// It has read requests that others answered.
    is_reader: bool,
    /// [`Process::given_up`] at its last response.
    given_up: u32,
}

#[derive(Debug, Default)]
struct Process {
    workers: HashMap<u32, Worker, Random>,
    /// By thread, those since its last response.
    calls: HashMap<u32, Vec<Call>, Random>,
    /// SERVER exchanges that are open, and when they began.
    open: HashMap<u64, u64, Random>,
    /// Since when the process is seen.
    since_ns: u64,
    /// When the latest one began.
    latest_mono_ns: u64,
    /// SERVER exchanges that nobody has answered. Some worker may be at work on one, until it answers another one.
    given_up: u32,
    proof: u32,
    /// Since when it is on trial, and by which workers.
    trial: Option<(u64, Vec<u32>)>,
    is_proved: bool,
    /// Requests that came to a worker with nothing to do, which has asked before it answered.
    asked_first: u32,
    /// What waits for [`PROOF`].
    unproved: Vec<(u64, Arc<Server>)>,
    helpers: Helpers,
    /// Its threads do several things at once.
    mixes: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pools {
    processes: HashMap<u32, Process, Random>,
    /// Those that are on trial.
    on_trial: Vec<u32>,
}

impl Pools {
    /// Whether something that threads of a process have asked for is not decided.
    pub(super) fn waits_for(&self, tgid: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|process| !process.calls.is_empty())
    }

    /// Whether nothing is known of a process yet.
    pub(super) fn is_new(&self, tgid: u32) -> bool {
        !self.processes.contains_key(&tgid)
    }

    /// A process is seen since this time. `one_each`: a thread of the kernel is one thread of the program.
    pub(super) fn seen_since(&mut self, tgid: u32, since_ns: u64, one_each: bool) {
        if self.processes.len() < MAX_PROCESSES {
            let helpers = if one_each { Helpers::default() } else { Helpers::none() };
            self.processes.insert(tgid, Process { since_ns, helpers, ..Process::default() });
        }
    }

    /// A thread of the process has read a request.
    pub(super) fn server_started(
        &mut self,
        tgid: u32,
        serial: u64,
        start_mono_ns: u64,
        verdict: &mut Verdict,
    ) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        if process.mixes {
            return;
        }
        if process.open.len() >= MAX_OPEN {
            return process.mix(verdict);
        }
        process.open.insert(serial, start_mono_ns);
        process.latest_mono_ns = process.latest_mono_ns.max(start_mono_ns);
    }

    /// This thread has sent a request, and on which connection if that is known. Whether it waits for a response of the thread.
    pub(super) fn client_started(
        &mut self,
        by: Thread,
        serial: u64,
        at: Option<At>,
        start_mono_ns: u64,
        verdict: &mut Verdict,
    ) -> bool {
        let Some(process) = self.process(by.tgid) else { return false };
        let worker = process.workers.get(&by.tid).copied().unwrap_or_default();
        let last = process.calls.get(&by.tid).and_then(|calls| calls.last());
        let beside = last.is_some_and(|call| !call.has_ended() && call.is_beside(at));
        if beside || process.open.is_empty() && worker.answered_ns != 0 {
            process.mix(verdict);
            return false;
        }
        if worker.is_reader || process.open.is_empty() || process.calls.len() >= MAX_WORKERS {
            return false;
        }
        let is_alone = process.open.len() == 1;
        let calls = process.calls.entry(by.tid).or_default();
        let most = if worker.answered_ns == 0 { MAX_CALLS_UNANSWERED } else { MAX_CALLS };
        if calls.len() >= most {
            return false;
        }
        calls.push(Call { serial, at, start_mono_ns, end_ns: 0, is_alone });
        true
    }

    /// A request that this thread has sent was answered, to the end at this time; the thread has read the response, or `is_own` is `false`.
    pub(super) fn client_ended(
        &mut self,
        by: Thread,
        serial: u64,
        (is_own, end_ns): (bool, u64),
        verdict: &mut Verdict,
    ) {
        let Some(process) = self.process(by.tgid) else { return };
        if !is_own {
            return process.mix(verdict);
        }
        let calls = process.calls.get_mut(&by.tid);
        let call = calls.and_then(|calls| calls.iter_mut().find(|call| call.serial == serial));
        if let Some(call) = call {
            call.end_ns = end_ns.max(1);
            process.stop_waiting(verdict);
        }
    }

    /// A request that was read by `reader` was answered by the thread `by`, to the end at this time; by nobody, where that is `None`.
    pub(super) fn server_ended(
        &mut self,
        reader: Thread,
        serial: u64,
        by: Option<(u32, u64)>,
        server: impl FnOnce() -> Server,
        verdict: &mut Verdict,
    ) {
        let Self { processes, on_trial } = self;
        let Some(process) = processes.get_mut(&reader.tgid) else { return };
        let Some(start_mono_ns) = process.open.remove(&serial) else { return };
        match by {
            Some((by, end_ns)) => {
                let during = (start_mono_ns, end_ns);
                if process.answered(reader.tid, by, during, server, verdict)
                    && !on_trial.contains(&reader.tgid)
                {
                    on_trial.push(reader.tgid);
                }
            }
            None => process.given_up = process.given_up.wrapping_add(1),
        }
        process.stop_waiting(verdict);
    }

    /// This thread has started another one.
    pub(super) fn thread_started(&mut self, by: Thread, thread: u32, start_ns: u64) {
        // Before its first request no process has anything to do with it.
        let Some(process) = self.process(by.tgid) else { return };
        process.helpers.started(thread, by.tid, start_ns);
        if process.given_up != 0 && process.workers.len() < MAX_WORKERS {
            // It is at work on none of those that nobody has answered.
            let given_up = process.given_up;
            process.workers.insert(thread, Worker { given_up, ..Worker::default() });
        }
    }

    pub(super) fn thread_ended(&mut self, thread: Thread, now_ns: u64, verdict: &mut Verdict) {
        let Some(process) = self.process(thread.tgid) else { return };
        let waits = process.calls.contains_key(&thread.tid);
        process.helpers.ended(thread.tid, waits, now_ns, verdict);
        process.workers.remove(&thread.tid);
    }

    /// Threads that are no workers if they wait for events of several connections, as event loops do.
    pub(super) fn on_trial(&self) -> impl Iterator<Item = Thread> {
        let trials = self.on_trial.iter().filter_map(|&tgid| {
            let (_, threads) = self.processes.get(&tgid)?.trial.as_ref()?;
            Some(threads.iter().map(move |&tid| Thread { tgid, tid }))
        });
        trials.flatten()
    }

    /// Decides on what was on trial for long enough.
    pub(super) fn try_processes(&mut self, now_ns: u64, verdict: &mut Verdict) {
        let Self { processes, on_trial } = self;
        if on_trial.is_empty() {
            return;
        }
        on_trial.retain(|tgid| {
            processes.get_mut(tgid).is_some_and(|process| {
                let holds = process.helpers.expire(now_ns, verdict);
                process.stays_on_trial(now_ns, verdict) || holds
            })
        });
    }

    /// This thread has answered a request that was not seen, or one of several that it has read itself.
    pub(super) fn answered_other(&mut self, by: Thread, end_ns: u64, verdict: &mut Verdict) {
        let Some(process) = self.process(by.tgid) else { return };
        process.give_up_on(by.tid, verdict);
        if process.workers.len() < MAX_WORKERS {
            let worker = process.workers.entry(by.tid).or_default();
            (worker.answered_ns, worker.asks_first) = (end_ns, false);
        }
    }

    /// The threads of this process do several things at once.
    pub(super) fn mix(&mut self, tgid: u32, verdict: &mut Verdict) {
        if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&tgid) {
            self.processes.entry(tgid).or_default().mix(verdict);
        }
    }

    /// The process ended, or began a new program.
    pub(super) fn process_gone(&mut self, tgid: u32, verdict: &mut Verdict) {
        if let Some(mut process) = self.processes.remove(&tgid) {
            process.mix(verdict);
        }
    }

    /// One that may have workers.
    fn process(&mut self, tgid: u32) -> Option<&mut Process> {
        self.processes.get_mut(&tgid).filter(|process| !process.mixes)
    }
}

impl Process {
    /// Whether something has to be decided when time has passed.
    fn answered(
        &mut self,
        reader: u32,
        by: u32,
        (start_mono_ns, end_ns): (u64, u64),
        server: impl FnOnce() -> Server,
        verdict: &mut Verdict,
    ) -> bool {
        if self.workers.len() >= MAX_WORKERS {
            self.mix(verdict);
            return false;
        }
        if by != reader {
            self.workers.entry(reader).or_default().is_reader = true;
            self.give_up_on(reader, verdict);
        }
        let worker = self.workers.entry(by).or_default();
        if self.calls.is_empty() {
            (worker.answered_ns, worker.given_up) = (end_ns, self.given_up);
            worker.asks_first = false;
            return false;
        }
        let before_ns = std::mem::replace(&mut worker.answered_ns, end_ns).max(self.since_ns);
        let helpers = self.helpers.of(by, before_ns.max(start_mono_ns));
        let (has_rested, has_read) = (start_mono_ns >= before_ns + REST_NS, by == reader);
        let threads: Vec<u32> = [by].into_iter().chain(helpers).collect();
        let has_asked = threads.iter().any(|thread| self.calls.contains_key(thread));
        let is_shown = has_rested || has_read && start_mono_ns >= before_ns;
        worker.asks_first = has_asked && (worker.asks_first || is_shown);
        let asks_first = worker.asks_first || has_asked && self.asked_first >= ASK_FIRST;
        let is_suspect = std::mem::replace(&mut worker.given_up, self.given_up) != self.given_up;
        if worker.is_reader || is_suspect && !has_read {
            threads.iter().for_each(|thread| self.give_up_on(*thread, verdict));
            return false;
        }
        if is_suspect && let Some(calls) = self.calls.get_mut(&by) {
            // What it has asked for before it has read this one was for one that nobody has answered.
            let older = calls.extract_if(.., |call| call.start_mono_ns < start_mono_ns);
            verdict.unknown.extend(older.map(|call| call.serial));
        }
        let of = |thread: &u32| self.calls.get(thread).into_iter().flatten();
        let is_for_it = |call: &Call| call.has_ended() && call.start_mono_ns >= start_mono_ns;
        if !of(&by).all(is_for_it) {
            self.mix(verdict);
            return false;
        }
        let calls = threads.iter().flat_map(of);
        let Some(first) = calls.clone().min_by_key(|call| call.start_mono_ns) else { return false };
        let begins_alone = self.latest_mono_ns <= first.start_mono_ns;
        let is_alone = begins_alone && calls.clone().all(|call| call.is_alone);
        self.asked_first = self.asked_first.saturating_add(u32::from(is_shown));
        let server = Arc::new(server());
        let (mut own, mut holds) = (Vec::new(), false);
        for thread in threads {
            let Some(calls) = self.calls.remove(&thread) else { continue };
            let serials = calls.iter().map(|call| call.serial);
            if !asks_first || !calls.iter().all(is_for_it) {
                verdict.unknown.extend(serials);
                continue;
            }
            let got_ns = calls.iter().map(|call| call.end_ns).max().unwrap_or(0);
            let ended = match thread == by {
                true => Some(true),
                false => self.helpers.take_ended(thread, got_ns),
            };
            if ended == Some(true) {
                own.extend(serials.map(|serial| (serial, Arc::clone(&server))));
            } else if ended.is_none() && (self.is_proved || is_alone || has_read) {
                holds = true;
                self.helpers.hold(thread, serials.collect(), Arc::clone(&server), got_ns);
            } else {
                verdict.unknown.extend(serials);
            }
        }
        if own.is_empty() {
            return holds;
        }
        if self.is_proved || is_alone {
            verdict.children.append(&mut own);
            return holds;
        }
        self.unproved.append(&mut own);
        self.proof = self.proof.saturating_add(1);
        let (_, threads) = self.trial.get_or_insert_with(|| (end_ns, Vec::new()));
        if threads.len() < MAX_ON_TRIAL && !threads.contains(&by) {
            threads.push(by);
        }
        true
    }

    /// Whether it is still on trial at this time.
    fn stays_on_trial(&mut self, now_ns: u64, verdict: &mut Verdict) -> bool {
        let Some((since_ns, _)) = self.trial else { return false };
        if now_ns < since_ns + TRIAL_NS {
            return true;
        }
        if self.proof >= PROOF {
            self.is_proved = true;
            verdict.children.append(&mut self.unproved);
        } else if self.open.is_empty() {
            // Nothing more will come soon. What was seen counts when it does.
            verdict.unknown.extend(self.unproved.drain(..).map(|(serial, _)| serial));
        } else {
            return true;
        }
        self.trial = None;
        false
    }

    fn give_up_on(&mut self, thread: u32, verdict: &mut Verdict) {
        let calls = self.calls.remove(&thread).unwrap_or_default();
        verdict.unknown.extend(calls.iter().map(|call| call.serial));
    }

    /// Gives up what is for none of the requests that are open.
    fn stop_waiting(&mut self, verdict: &mut Verdict) {
        if self.calls.is_empty() {
            return;
        }
        let oldest = self.open.values().min().copied().unwrap_or(u64::MAX);
        self.calls.retain(|_, calls| {
            calls.retain(|call| {
                let waits = !call.has_ended() || call.start_mono_ns >= oldest;
                if !waits {
                    verdict.unknown.push(call.serial);
                }
                waits
            });
            !calls.is_empty()
        });
    }

    fn mix(&mut self, verdict: &mut Verdict) {
        self.helpers.expire(u64::MAX, verdict);
        let calls = self.calls.values().flatten().map(|call| call.serial);
        verdict.unknown.extend(calls.chain(self.unproved.iter().map(|(serial, _)| *serial)));
        *self = Self { mixes: true, ..Self::default() };
    }
}

#[cfg(test)]
impl Pools {
    pub(super) fn is_waiting(&self) -> bool {
        self.processes.values().any(|it| !it.calls.is_empty() || !it.unproved.is_empty())
    }
}
