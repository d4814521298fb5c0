//! Requests whose both ends are watched: which SERVER exchange is the other end of which CLIENT exchange. Not a byte on the wire says
//! so; it is the same connection, by its addresses, and the same request of it, by where its bytes begin ([`At`]).
//!
//! Addresses mean one connection at a time, within a network namespace those of the loopback device, elsewhere nearly always: where
//! two namespaces have the same pair of addresses in use at once, nothing is joined.
//!
//! Who receives a request may tell of it before who sent it: a call of a TLS library tells when it returns. The receiver's trace is
//! *undecided* for that long, with all that belongs to it. When the sender is known, the trace *moves* into the sender's.

use std::{
    collections::VecDeque,
    mem,
    net::{IpAddr, SocketAddr},
};

use hashbrown::{HashMap, HashSet, hash_map::Entry};

use crate::{
    exchange::{At, Role, Started},
    span::{ParentFrom, Span},
    trace_context::{SpanId, TraceFlags, TraceId, TraceState},
};

/// A request is received this long after it was sent at most. What is older is what was left of another connection with these
/// addresses.
const LONGEST_NS: u64 = 30_000_000_000;
/// For so long the sender of a request is waited for.
const PATIENCE_NS: u64 = 200_000_000;
/// For so long a request waits for the answer of the thread that has sent it ([`super::pools`]).
const ANSWER_PATIENCE_NS: u64 = 30_000_000_000;
/// For so long it is known where a trace went: what began before it moved may end later.
const MEMORY_NS: u64 = 600_000_000_000;
/// Connections of watched clients, and undecided and moved traces, that are remembered.
const MAX: usize = 16_384;
/// Requests that wait for an answer; spans that wait for the other end of a request need room, too.
const MAX_FOR_ANSWERS: usize = 2048;
/// A trace moves into another one, which moves, and so on: as many services as a request passes at once.
const MAX_MOVES: usize = 16;

type Random = foldhash::fast::RandomState;

/// One end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    serial: u64,
    netns: u32,
    start_mono_ns: u64,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    client: Option<End>,
    server: Option<End>,
    /// Two connections with these addresses were open at once.
    is_ambiguous: bool,
}

/// A trace of which it is not known whether it is part of another one.
#[derive(Clone, Copy, Debug)]
struct Undecided {
    trace_id: TraceId,
    /// If it waits for its other end.
    at: Option<At>,
    /// Of the exchange that it begins with.
    span_id: SpanId,
    /// That is not open any more.
    has_ended: bool,
}

/// Where a trace went.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) trace_id: TraceId,
    pub(super) parent: SpanId,
    pub(super) flags: TraceFlags,
    pub(super) state: TraceState,
    /// Of the exchange that the trace began with.
    pub(super) span_id: SpanId,
    /// How that came to be known.
    pub(super) from: ParentFrom,
}

/// Ends that are open, and traces that wait for one.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// Client's and server's address of connections whose client is watched.
    watched: HashSet<(SocketAddr, SocketAddr), Random>,
    /// Addresses of such clients.
    hosts: HashSet<IpAddr, Random>,
    ends: HashMap<At, Ends, Random>,
    /// By the serial of the exchange that the trace begins with; and in the order in which patience ends.
    undecided: HashMap<u64, Undecided, Random>,
    patience: VecDeque<(u64, u64)>,
    answer_patience: VecDeque<(u64, u64)>,
    /// Of `undecided`, those that wait for an answer.
    for_answers: usize,
    /// The traces of `undecided`.
    traces: HashSet<TraceId, Random>,
    /// Those that were among them a moment ago.
    decided: Vec<TraceId>,
    moved: HashMap<TraceId, Move, Random>,
    memory: VecDeque<(u64, TraceId)>,
}

impl Joins {
    /// A process that is watched has opened a connection.
    pub(super) fn watch(&mut self, client: SocketAddr, server: SocketAddr) {
        if self.watched.len() >= MAX {
            self.watched.clear();
        }
        self.watched.insert((client, server));
        if self.hosts.len() < MAX {
            self.hosts.insert(client.ip());
        }
    }

    /// Whether the sender of a request may be watched. Of a connection's first one that is known only when the sender tells of it.
    pub(super) fn expects(&self, at: At) -> bool {
        let is_first = at.request <= 1;
        let is_here = || at.client.ip() == at.server.ip() || self.hosts.contains(&at.client.ip());
        is_first && is_here() || self.watched.contains(&(at.client, at.server))
    }

    /// An exchange began, which is [expected](Self::expects); the serial of its other end, if that is known.
    pub(super) fn started(&mut self, at: At, started: &Started) -> Option<u64> {
        let Started { serial, netns, start_mono_ns, .. } = *started;
        let end = End { serial, netns, start_mono_ns };
        let ends = self.ends.entry(at).or_default();
        let (own, other) = match started.role {
            Role::Client => (&mut ends.client, ends.server),
            Role::Server => (&mut ends.server, ends.client),
        };
        // One of the same namespace is what was left of a connection that has ended.
        ends.is_ambiguous |= own.is_some_and(|known| known.netns != end.netns);
        *own = Some(end);
        let other = other.filter(|other| other.is_near(&end))?;
        (!ends.is_ambiguous).then_some(other.serial)
    }

    /// The SERVER exchange `started` has a trace of its own, and its sender may come to be known.
    pub(super) fn wait(&mut self, at: At, started: &Started, trace_id: TraceId, span_id: SpanId) {
        if self.undecided.len() >= MAX {
            return;
        }
        self.waits(started.serial, trace_id, span_id, Some(at));
        let until_ns = started.start_mono_ns.saturating_add(PATIENCE_NS);
        self.patience.push_back((until_ns, started.serial));
    }

    /// The CLIENT exchange `started` has a trace of its own, until the thread that has sent it answers a request.
    pub(super) fn wait_for_answer(
        &mut self,
        started: &Started,
        trace_id: TraceId,
        span_id: SpanId,
    ) {
        if self.for_answers >= MAX_FOR_ANSWERS || self.undecided.len() >= MAX {
            return;
        }
        self.for_answers += 1;
        self.waits(started.serial, trace_id, span_id, None);
        let until_ns = started.start_mono_ns.saturating_add(ANSWER_PATIENCE_NS);
        self.answer_patience.push_back((until_ns, started.serial));
    }

    fn waits(&mut self, serial: u64, trace_id: TraceId, span_id: SpanId, at: Option<At>) {
        self.undecided.insert(serial, Undecided { trace_id, at, span_id, has_ended: false });
        self.traces.insert(trace_id);
    }

    /// Whether the trace that begins with the exchange `serial` may move.
    pub(super) fn is_undecided(&self, serial: u64) -> bool {
        self.undecided.contains_key(&serial)
    }

    /// The trace that begins with the exchange `serial`, which was waited with, is part of another one.
    pub(super) fn moves(&mut self, serial: u64, now_mono_ns: u64, to: impl FnOnce(SpanId) -> Move) {
        let Some(undecided) = self.decide(serial) else { return };
        if self.moved.len() >= MAX
            && let Some((_, oldest)) = self.memory.pop_front()
        {
            self.moved.remove(&oldest);
        }
        self.moved.insert(undecided.trace_id, to(undecided.span_id));
        self.memory.push_back((now_mono_ns.saturating_add(MEMORY_NS), undecided.trace_id));
    }

    /// The trace that begins with the exchange `serial` is no part of another one that anybody could know of.
    pub(super) fn stays(&mut self, serial: u64) {
        self.decide(serial);
    }

    fn decide(&mut self, serial: u64) -> Option<Undecided> {
        let undecided = self.undecided.remove(&serial)?;
        self.traces.remove(&undecided.trace_id);
        self.decided.push(undecided.trace_id);
        self.for_answers -= usize::from(undecided.at.is_none());
        if let Some(at) = undecided.at.filter(|_| undecided.has_ended) {
            self.remove(at, Role::Server, serial);
        }
        Some(undecided)
    }

    /// Whose patience has ended by now is what it is.
    pub(super) fn expire(&mut self, now_mono_ns: u64) {
        let is_over = |(until_ns, _): &mut (u64, u64)| *until_ns <= now_mono_ns;
        while let Some((_, serial)) = self.patience.pop_front_if(is_over) {
            self.decide(serial);
        }
        while let Some((_, serial)) = self.answer_patience.pop_front_if(is_over) {
            self.decide(serial);
        }
        while let Some((_, trace_id)) =
            self.memory.pop_front_if(|(until_ns, _)| *until_ns <= now_mono_ns)
        {
            self.moved.remove(&trace_id);
        }
    }

    /// The traces that were decided since this was asked.
    pub(super) fn take_decided(&mut self) -> Vec<TraceId> {
        mem::take(&mut self.decided)
    }

    /// Nobody is waited for any more.
    pub(super) fn give_up(&mut self) {
        for (_, serial) in mem::take(&mut self.patience) {
            self.decide(serial);
        }
        for (_, serial) in mem::take(&mut self.answer_patience) {
            self.decide(serial);
        }
    }

    /// Brings `span` to where its trace went.
    ///
    /// # Errors
    /// Its trace, if that is not decided.
    pub(super) fn settle(&self, span: &mut Span) -> Result<(), TraceId> {
        if self.moved.is_empty() && self.traces.is_empty() {
            return Ok(());
        }
        for _ in 0..MAX_MOVES {
            let Some(to) = self.moved.get(&span.trace_id) else { break };
            if span.span_id == to.span_id {
                span.parent_span_id = Some(to.parent);
                span.parent_from = to.from;
            }
            (span.trace_id, span.flags) = (to.trace_id, to.flags);
            span.exchange.trace.state = to.state.clone();
        }
        if self.traces.contains(&span.trace_id) { Err(span.trace_id) } else { Ok(()) }
    }

    /// An exchange is not open any more.
    pub(super) fn ended(&mut self, at: At, role: Role, serial: u64) {
        if role == Role::Server
            && let Some(undecided) = self.undecided.get_mut(&serial)
        {
            undecided.has_ended = true;
            return;
        }
        self.remove(at, role, serial);
    }

    fn remove(&mut self, at: At, role: Role, serial: u64) {
        let Entry::Occupied(mut entry) = self.ends.entry(at) else { return };
        let ends = entry.get_mut();
        let own = match role {
            Role::Client => &mut ends.client,
            Role::Server => &mut ends.server,
        };
        if own.is_some_and(|own| own.serial == serial) {
            *own = None;
        }
        if ends.client.is_none() && ends.server.is_none() {
            entry.remove();
        }
    }
}

#[cfg(test)]
impl Joins {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.undecided.is_empty() && self.traces.is_empty()
    }
}

impl End {
    fn is_near(&self, other: &Self) -> bool {
        self.start_mono_ns.abs_diff(other.start_mono_ns) < LONGEST_NS
    }
}
