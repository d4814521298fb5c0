//! Where an exchange belongs: its trace, its span id, its parent, and whether it is sampled.
//!
//! [`Correlator`] is told of every exchange twice: when its request is known (`started`: this is when
//! ids are given and a parent is looked for) and when it ended. What a *parent* may be:
//!
//! 1. A SERVER exchange belongs where its `traceparent` says, else to the CLIENT exchange that is the same request seen from
//!    its other end, if that is watched ([`joins`]), else it is a root.
//! 2. A CLIENT exchange belongs to the SERVER exchange that is open on the same execution context, if
//!    there is exactly one and the context never served two at once ([`threads`]); if it carries a
//!    `traceparent` of another trace, or no context is known, that field decides.
//! 3. Where a process hands requests to workers, a CLIENT exchange belongs to the SERVER exchange that the thread which has sent
//!    it answers next ([`pools`]).
//!
//! `docs/semantics.md` tells the same to users, with the reasons.

mod across;
mod joins;
pub mod pipeline;
pub mod policy;
mod pools;
pub mod sampler;
mod threads;
mod workers;

use std::sync::Arc;

use hashbrown::HashMap;

use self::{
    joins::Joins,
    pools::{Pools, Server, Thread},
    sampler::{Parent, Sampler},
    threads::{Context, Handling, Threads},
};
use crate::{
    attribute::AttributeOptions,
    clock::ClockOffset,
    exchange::{At, Exchange, Role, Started},
    ids::{IdGenerator, random_seed},
    resource::Resource,
    span::{ParentFrom, Span},
    trace_context::{SpanId, TraceFlags, TraceId, TraceParent, TraceState},
};

/// Bounds of what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Exchanges that are open at once. Beyond it they still become spans, without inferred parents.
    pub open: usize,
    /// Contexts known to serve several requests at once; beyond it whole processes are remembered.
    pub contexts: usize,
    /// An exchange that did not end in this time is forgotten.
    pub max_age_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open: 65_536, contexts: 16_384, max_age_ns: 3_600_000_000_000 }
    }
}

/// What was left out to keep within [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Exchanges for which no parent was looked for, and that are none.
    pub unplaced: u64,
    /// Exchanges that were open for too long to be remembered.
    pub expired: u64,
    /// Contexts that could not be remembered one by one: nothing is inferred from what takes their place.
    pub contexts: u64,
}

/// Everything that placing an exchange in a trace yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    trace_id: TraceId,
    span_id: SpanId,
    parent_span_id: Option<SpanId>,
    parent_from: ParentFrom,
    flags: TraceFlags,
}

/// An announced exchange that did not end yet.
#[derive(Debug)]
struct Open {
    place: Place,
    role: Role,
    context: Context,
    start_mono_ns: u64,
    /// Where it waits for its other end.
    at: Option<Box<At>>,
    /// Serial of the SERVER exchange that became the parent by context.
    parent: Option<u64>,
    /// Others have their places below this one: its ids stay.
    is_parent: bool,
    /// Of the trace that the place is in.
    state: TraceState,
}

/// Gives exchanges their place; one per agent, on the thread that runs reassembly.
#[derive(Debug)]
pub struct Correlator {
    ids: IdGenerator,
    sampler: Sampler,
    limits: Limits,
    open: HashMap<u64, Open, foldhash::fast::RandomState>,
    threads: Threads,
    joins: Joins,
    pools: Pools,
    left_out: LeftOut,
}

impl Correlator {
    #[must_use]
    pub fn new(sampler: Sampler, limits: Limits) -> Self {
        Self::seeded(sampler, limits, random_seed())
    }

    /// With ids that come in the same order for the same `seed`.
    #[must_use]
    pub fn seeded(sampler: Sampler, limits: Limits, seed: [u64; 4]) -> Self {
        Self {
            ids: IdGenerator::from_seed(seed),
            sampler,
            limits,
            open: HashMap::default(),
            threads: Threads::new(limits.contexts),
            joins: Joins::default(),
            pools: Pools::default(),
            left_out: LeftOut::default(),
        }
    }

    /// Who decides on sampling from now on: the next calls are of a process that may have another
    /// sampler than the last ones.
    pub const fn decide_by(&mut self, sampler: Sampler) {
        self.sampler = sampler;
    }

    /// A request is known: its ids and its parent are decided now, for others may become its children.
    pub fn started(&mut self, started: &Started) {
        let context = Context::of(started.tgid, started.tid, started.context);
        if self.open.len() >= self.limits.open {
            // What is not remembered cannot be told apart from what does not exist.
            self.left_out.unplaced += 1;
            if started.role == Role::Server {
                self.threads.distrust(context);
                self.with_pools(started.start_mono_ns, |pools, it| pools.mix(started.tgid, it));
            }
            return;
        }
        let at = started.at.filter(|at| self.joins.expects(*at));
        let other = at.and_then(|at| self.joins.started(at, started));
        let client =
            other.filter(|_| started.role == Role::Server && started.trace_parent.is_none());
        let (place, parent) = match client.and_then(|client| self.place_below(client)) {
            Some(place) => (place, None),
            None => self.place(started.role, context, started.trace_parent),
        };
        // A trace is carried on with its state (W3C Trace Context section 3.3): by children, too.
        let inherited = match (parent.or(client), started.trace_parent) {
            (Some(parent), None) => self.open.get(&parent).map(|open| open.state.clone()),
            _ => None,
        };
        let state = inherited.unwrap_or_else(|| started.trace_state.clone());
        match started.role {
            Role::Server => self.threads.server_started(context, started.serial),
            Role::Client => self.threads.client_started(context, started.serial),
        }
        if let Some(at) = at.filter(|_| started.role == Role::Server)
            && place.parent_from == ParentFrom::Root
        {
            self.joins.wait(at, started, place.trace_id, place.span_id);
        }
        self.note_in_pool(started, context, place, parent);
        let Started { serial, role, start_mono_ns, .. } = *started;
        let (at, is_parent) = (at.map(Box::new), false);
        let open = Open { place, role, context, start_mono_ns, at, parent, is_parent, state };
        self.open.insert(serial, open);
        if let Some(parent) = parent.and_then(|parent| self.open.get_mut(&parent)) {
            parent.is_parent = true;
        }
        if role == Role::Client
            && let Some(server) = other
        {
            self.join_later(server, serial, start_mono_ns);
        }
    }

    /// The place of an exchange whose parent has become doubtful. Below it others may have theirs, in its trace: then it has no
    /// parent any more, but stays where it is.
    fn place_without_parent(
        &mut self,
        place: Place,
        is_parent: bool,
        carried: Option<TraceParent>,
        otherwise: ParentFrom,
    ) -> Place {
        if is_parent {
            return Place { parent_span_id: None, parent_from: otherwise, ..place };
        }
        self.place_alone(carried, otherwise)
    }

    /// An exchange is not open any more.
    fn close(&mut self, serial: u64) -> Option<Open> {
        let open = self.open.remove(&serial)?;
        if let Some(at) = &open.at {
            self.joins.ended(**at, open.role, serial);
        }
        Some(open)
    }

    /// A SERVER exchange is handled in this execution context, and not in the one that has read its request.
    pub fn handled(&mut self, serial: u64, context: u64) {
        let Self { open, threads, .. } = self;
        if let Some(open) = open.get_mut(&serial).filter(|open| open.role == Role::Server) {
            threads.ended(open.role, open.context, serial);
            open.context = open.context.of_same_process(context);
            threads.server_started(open.context, serial);
        }
    }

    /// The response of an exchange is over: what its thread does from now on is not for it.
    pub fn answered(&mut self, serial: u64) {
        let Self { open, threads, .. } = self;
        if let Some(open) = open.get(&serial) {
            threads.ended(open.role, open.context, serial);
        }
    }

    /// An exchange ended: its span, and whether the span is to be exported (its flags say the same).
    /// Works for exchanges that were never announced, too. Route and peer are left to the caller.
    pub fn finished(
        &mut self,
        mut exchange: Exchange,
        resource: Arc<Resource>,
        offset: ClockOffset,
    ) -> Span {
        let by = exchange.response_tid;
        if exchange.context == 0 && by != 0 && by != exchange.tid {
            self.threads.distrust_threads_of(exchange.connection.tgid);
        }
        let (place, inherited) = self.final_place(&exchange);
        self.ended_in_pool(&exchange, place, inherited.as_ref());
        let Place { trace_id, span_id, parent_span_id, parent_from, flags } = place;
        if let Some(state) = inherited {
            exchange.trace.state = state;
        }
        Span {
            trace_id,
            span_id,
            parent_span_id,
            parent_from,
            flags,
            sampled_state: None,
            start_unix_ns: offset.unix_ns(exchange.start_mono_ns),
            end_unix_ns: offset.unix_ns(exchange.end_mono_ns.max(exchange.start_mono_ns)),
            route: None,
            peer: None,
            options: AttributeOptions::default(),
            resource,
            exchange,
        }
    }

    /// The place given at the start, unless it has become doubtful since; with the state of the trace, where
    /// the place came from the context.
    fn final_place(&mut self, exchange: &Exchange) -> (Place, Option<TraceState>) {
        let Some(open) = self.close(exchange.serial) else {
            // Not announced, or not remembered: nothing but what it carries is known.
            return (self.place_alone(exchange.trace.parent, ParentFrom::Root), None);
        };
        self.threads.ended(open.role, open.context, exchange.serial);
        if open.role == Role::Server && exchange.end_mono_ns != 0 {
            self.revoke_later_children(exchange.serial, open.context, exchange.end_mono_ns);
        }
        if open.parent.is_some() && !self.threads.trusts(open.context) {
            // Since this request was made, its thread turned out to serve several at once.
            let carried = exchange.trace.parent;
            return (
                self.place_without_parent(
                    open.place,
                    open.is_parent,
                    carried,
                    ParentFrom::Ambiguous,
                ),
                None,
            );
        }
        let inherits = open.parent.is_some() || open.place.parent_from == ParentFrom::Connection;
        (open.place, inherits.then_some(open.state))
    }

    /// An announced exchange will not become a span. Its thread may still be at work on it, so the
    /// next request of that thread gets no children.
    pub fn lost(&mut self, serial: u64) {
        if let Some(open) = self.close(serial) {
            self.threads.ended(open.role, open.context, serial);
            if open.role == Role::Server {
                self.threads.server_lost(open.context);
            }
            let Some(thread) = open.context.thread() else { return };
            let Place { trace_id, span_id, flags, .. } = open.place;
            let server = || Server { trace_id, span_id, flags, state: open.state };
            self.with_pools(open.start_mono_ns, |pools, verdict| match open.role {
                Role::Server => pools.server_ended(thread, serial, None, server, verdict),
                Role::Client => {
                    pools.client_ended(thread, serial, (true, open.start_mono_ns), verdict)
                }
            });
        }
    }

    /// A process ended (or began a new program): its threads mean nothing any more. Its exchanges stay
    /// open until reassembly ends them.
    pub fn process_gone(&mut self, tgid: u32) {
        self.threads.process_gone(tgid);
        self.with_pools(0, |pools, verdict| pools.process_gone(tgid, verdict));
    }

    /// Forgets exchanges older than [`Limits::max_age_ns`]; returns how many. Their threads infer no
    /// parents from then on, for they may still be at work on them.
    pub fn expire(&mut self, now_mono_ns: u64) -> usize {
        let before = self.open.len();
        let Self { open, threads, joins, limits, .. } = self;
        let mut unknown = Vec::new();
        open.retain(|&serial, open| {
            let keep = now_mono_ns.saturating_sub(open.start_mono_ns) < limits.max_age_ns;
            if !keep {
                if let Some(at) = &open.at {
                    joins.ended(**at, open.role, serial);
                }
                threads.ended(open.role, open.context, serial);
                if open.role == Role::Server {
                    threads.distrust(open.context);
                    unknown.extend(open.context.thread());
                }
            }
            keep
        });
        for Thread { tgid, .. } in unknown {
            self.with_pools(now_mono_ns, |pools, verdict| pools.mix(tgid, verdict));
        }
        let expired = before - self.open.len();
        self.left_out.expired += expired as u64;
        expired
    }

    /// What was left out so far.
    #[must_use]
    pub const fn left_out(&self) -> LeftOut {
        LeftOut { contexts: self.threads.not_remembered, ..self.left_out }
    }

    /// Exchanges that are open now, for the agent's own metrics.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.open.len()
    }

    fn place(
        &mut self,
        role: Role,
        context: Context,
        carried: Option<TraceParent>,
    ) -> (Place, Option<u64>) {
        if role == Role::Server {
            return (self.place_alone(carried, ParentFrom::Root), None);
        }
        let serial = match self.threads.handling(context) {
            Handling::Nothing => return (self.place_alone(carried, ParentFrom::Root), None),
            Handling::CannotTell => {
                return (self.place_alone(carried, ParentFrom::Ambiguous), None);
            }
            Handling::One(serial) => serial,
        };
        let Some(server) = self.open.get(&serial).map(|open| open.place) else {
            return (self.place_alone(carried, ParentFrom::Root), None);
        };
        if carried.is_some_and(|carried| carried.trace_id != server.trace_id) {
            // The application put this request into a trace of its own: it knows better.
            return (self.place_alone(carried, ParentFrom::Root), None);
        }
        let parent = Parent::Local(server.flags);
        let decision = self.sampler.decide(server.trace_id, parent);
        let place = Place {
            trace_id: server.trace_id,
            span_id: self.ids.span_id(),
            parent_span_id: Some(server.span_id),
            parent_from: ParentFrom::Context,
            flags: decision.flags(server.flags),
        };
        (place, Some(serial))
    }

    /// A place by what the request carries; `otherwise` is what a request without it is.
    fn place_alone(&mut self, carried: Option<TraceParent>, otherwise: ParentFrom) -> Place {
        let span_id = self.ids.span_id();
        match carried {
            Some(TraceParent { trace_id, span_id: parent, flags }) => Place {
                trace_id,
                span_id,
                parent_span_id: Some(parent),
                parent_from: ParentFrom::Header,
                flags: self.sampler.decide(trace_id, Parent::Remote(flags)).flags(flags),
            },
            None => {
                let trace_id = self.ids.trace_id();
                Place {
                    trace_id,
                    span_id,
                    parent_span_id: None,
                    parent_from: otherwise,
                    flags: self.sampler.decide(trace_id, Parent::None).flags(TraceFlags::RANDOM),
                }
            }
        }
    }

    /// Where the end of a response became known late (it was inferred), requests that were made after
    /// that end had been given to it. As long as they are open they can be taken back.
    fn revoke_later_children(&mut self, server: u64, context: Context, end_mono_ns: u64) {
        for serial in self.threads.clients(context) {
            let Some(client) = self.open.get(&serial) else { continue };
            if client.parent != Some(server) || client.start_mono_ns <= end_mono_ns {
                continue;
            }
            let (place, is_parent) = (client.place, client.is_parent);
            let place = self.place_without_parent(place, is_parent, None, ParentFrom::Root);
            if let Some(client) = self.open.get_mut(&serial) {
                client.place = place;
                client.parent = None;
                client.state = TraceState::default();
            }
        }
    }
}

#[cfg(test)]
mod tests;
