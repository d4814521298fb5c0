//! Traces across processes: the place of a SERVER exchange below the CLIENT exchange that is its other end ([`Joins`]).
//!
//! [`Joins`]: super::joins::Joins

use std::net::SocketAddr;

use super::{Correlator, Open, Place, joins::Move, sampler::Parent};
use crate::{
    span::{ParentFrom, Span},
    trace_context::TraceId,
};

impl Correlator {
    /// A process that is watched has opened a connection: who is at its other end may be watched, too.
    pub fn opened(&mut self, client: SocketAddr, server: SocketAddr) {
        self.joins.watch(client, server);
    }

    /// Brings a span to the trace that its own has become part of.
    ///
    /// # Errors
    /// Its trace, if that is not decided yet: [`Self::take_decided`] will have it.
    pub fn settle(&self, span: &mut Span) -> Result<(), TraceId> {
        self.joins.settle(span)
    }

    /// The undecided traces that were decided since this was asked.
    pub fn take_decided(&mut self) -> Vec<TraceId> {
        self.joins.take_decided()
    }

    /// By now some have waited long enough for the other end of a request.
    pub fn decide_by_time(&mut self, now_mono_ns: u64) {
        self.joins.expire(now_mono_ns);
        self.with_pools(now_mono_ns, |pools, it| pools.try_processes(now_mono_ns, it));
    }

    /// Everything is decided: nothing more is going to be known.
    pub fn decide_all(&mut self) {
        self.joins.give_up();
    }

    /// The place of a SERVER exchange whose other end is the CLIENT exchange `client`.
    pub(super) fn place_below(&mut self, client: u64) -> Option<Place> {
        let open = self.open.get_mut(&client)?;
        open.is_parent = true;
        let Place { trace_id, span_id, flags, .. } = open.place;
        Some(Place {
            trace_id,
            span_id: self.ids.span_id(),
            parent_span_id: Some(span_id),
            parent_from: ParentFrom::Connection,
            flags: self.sampler.decide(trace_id, Parent::Remote(flags)).flags(flags),
        })
    }

    /// The request of `server` was received before its sender told of it.
    pub(super) fn join_later(&mut self, server: u64, client: u64, now_mono_ns: u64) {
        let is_root = |open: &Open| open.place.parent_from == ParentFrom::Root;
        let waits = self.joins.is_undecided(server);
        // If nobody waits, its place can change as long as nobody has a place below it.
        if !waits && !self.open.get(&server).is_some_and(|open| is_root(open) && !open.is_parent) {
            return;
        }
        let Some(place) = self.place_below(client) else { return };
        let state = self.open.get(&client).map(|open| open.state.clone()).unwrap_or_default();
        if let (true, Some(parent)) = (waits, place.parent_span_id) {
            let Place { trace_id, flags, .. } = place;
            let state = state.clone();
            let from = ParentFrom::Connection;
            let to = |span_id| Move { trace_id, parent, flags, state, span_id, from };
            self.joins.moves(server, now_mono_ns, to);
        }
        if let Some(server) = self.open.get_mut(&server).filter(|open| is_root(open)) {
            server.place = Place { span_id: server.place.span_id, ..place };
            server.state = state;
        }
    }
}
