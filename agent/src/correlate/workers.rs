//! Parents that come to be known when a worker answers: what the [`Pools`] are told, and what comes of what they say.

use remora_common::context;

use super::{
    Correlator, Place,
    joins::Move,
    pools::{Pools, Server, Thread, Verdict},
    sampler::Parent,
    threads::Context,
};
use crate::{
    exchange::{Exchange, Role, Started},
    span::ParentFrom,
    trace_context::TraceState,
};

impl Correlator {
    /// Whether [`Self::seen_since`] has not been told of a process.
    #[must_use]
    pub fn is_new(&self, tgid: u32) -> bool {
        self.pools.is_new(tgid)
    }

    /// A process is seen since this time. `one_each`: a thread of the kernel is one thread of the program.
    pub fn seen_since(&mut self, tgid: u32, mono_ns: u64, one_each: bool) {
        self.pools.seen_since(tgid, mono_ns, one_each);
    }

    /// Tells the [`Pools`] of a request that has this place.
    pub(super) fn note_in_pool(
        &mut self,
        started: &Started,
        context: Context,
        place: Place,
        parent: Option<u64>,
    ) {
        let Some(thread) = context.thread() else { return };
        let Started { serial, at, start_mono_ns, .. } = *started;
        if started.role == Role::Server {
            return self.with_pools(start_mono_ns, |pools, verdict| {
                pools.server_started(thread.tgid, serial, start_mono_ns, verdict);
            });
        }
        if parent.is_some()
            || started.trace_parent.is_some()
            || self.threads.has_multiplexed(thread)
        {
            return;
        }
        let mut waits = false;
        self.with_pools(start_mono_ns, |pools, verdict| {
            waits = pools.client_started(thread, serial, at, start_mono_ns, verdict);
        });
        if waits {
            self.joins.wait_for_answer(started, place.trace_id, place.span_id);
        }
    }

    /// Does what comes of what the [`Pools`] are told at this time.
    pub(super) fn with_pools(
        &mut self,
        now_mono_ns: u64,
        tell: impl FnOnce(&mut Pools, &mut Verdict),
    ) {
        let mut verdict = Verdict::default();
        tell(&mut self.pools, &mut verdict);
        for serial in verdict.unknown {
            self.joins.stays(serial);
        }
        for (client, server) in verdict.children {
            let Server { trace_id, span_id: parent, flags, ref state } = *server;
            let (state, from) = (state.clone(), ParentFrom::Context);
            let to = |span_id| Move { trace_id, parent, flags, state, span_id, from };
            self.joins.moves(client, now_mono_ns, to);
        }
    }

    /// Tells the [`Pools`] of an exchange that has ended at this place, in a trace of this state.
    pub(super) fn ended_in_pool(
        &mut self,
        exchange: &Exchange,
        place: Place,
        state: Option<&TraceState>,
    ) {
        let Exchange { tid, response_tid, answer_tid, serial, end_mono_ns, .. } = *exchange;
        let thread = Thread { tgid: exchange.connection.tgid, tid };
        if context::unit(exchange.context) != 0 {
            return;
        }
        if exchange.role == Role::Client {
            let is_own = response_tid == 0 || response_tid == tid;
            return self.with_pools(end_mono_ns, |pools, verdict| {
                pools.client_ended(thread, serial, (is_own, end_mono_ns), verdict);
            });
        }
        let by = (answer_tid != 0).then_some((answer_tid, end_mono_ns));
        let sampler = self.sampler;
        let server = || {
            let decision = sampler.decide(place.trace_id, Parent::Local(place.flags));
            Server {
                trace_id: place.trace_id,
                span_id: place.span_id,
                flags: decision.flags(place.flags),
                state: state.unwrap_or(&exchange.trace.state).clone(),
            }
        };
        let answerer = Thread { tid: answer_tid, ..thread };
        let is_event_loop =
            self.pools.waits_for(thread.tgid) && self.threads.has_multiplexed(answerer);
        self.with_pools(end_mono_ns, |pools, verdict| {
            if is_event_loop {
                // What it has asked for may be for any of its requests.
                pools.answered_other(answerer, end_mono_ns, verdict);
            }
            pools.server_ended(thread, serial, by, server, verdict);
        });
    }

    /// A thread has answered a request that was not seen.
    pub fn answered_unseen(&mut self, tgid: u32, tid: u32, now_mono_ns: u64) {
        let thread = Thread { tgid, tid };
        self.with_pools(now_mono_ns, |pools, verdict| {
            pools.answered_other(thread, now_mono_ns, verdict);
        });
    }

    /// A thread of a process has started another one.
    pub fn thread_started(&mut self, tgid: u32, by: u32, tid: u32, mono_ns: u64) {
        self.pools.thread_started(Thread { tgid, tid: by }, tid, mono_ns);
    }

    /// A thread, not the last one of its process, has ended.
    pub fn thread_ended(&mut self, tgid: u32, tid: u32, mono_ns: u64) {
        let thread = Thread { tgid, tid };
        self.with_pools(mono_ns, |pools, verdict| pools.thread_ended(thread, mono_ns, verdict));
    }

    /// Threads that say nothing if they wait for events of several connections: [`Self::moves_work`] should be told then.
    pub fn on_trial(&self) -> impl Iterator<Item = (u32, u32)> {
        self.pools.on_trial().map(|Thread { tgid, tid }| (tgid, tid))
    }

    /// The threads of a process say nothing: its runtime moves work between them and is not followed, or they go on with
    /// another request wherever one waits.
    pub fn moves_work(&mut self, tgid: u32, now_mono_ns: u64) {
        self.threads.distrust_threads_of(tgid);
        self.with_pools(now_mono_ns, |pools, verdict| pools.mix(tgid, verdict));
    }
}
