//! Exchanges that are not over: what is known of each so far, which response belongs to which request, and what is
//! lost when that can no longer be told. The same for every protocol; `D` is what the protocol keeps of an exchange.

use std::{collections::VecDeque, sync::Arc};

use super::{Cx, role_of, wire::Fragment};
use remora_common::record::Direction;

use crate::{
    accounting::Lost,
    exchange::{self, At, Detail, Exchange, Failure, Marks, Sink, Started},
    trace_context::TraceContext,
};

/// When and by whom the first byte of a message was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Begin {
    pub(super) mono_ns: u64,
    pub(super) tid: u32,
    pub(super) context: u64,
    /// Where the fragment with that byte began.
    pub(super) pos: u64,
    /// What both ends of the connection number the message by ([`At::request`]), if that is known.
    pub(super) number: Option<u64>,
}

/// What a protocol keeps of an exchange that is not over.
pub(super) trait InProgress: Default {
    /// What stays of it when the exchange was settled and its response is still awaited.
    fn settled(&self) -> Self;

    /// `self` is the response of `request`, whose record came later.
    fn join(&mut self, request: Self);

    fn into_detail(self) -> Detail;
}

/// A request whose response is not over, or the reverse.
#[derive(Debug)]
pub(super) struct Pending<D> {
    pub(super) serial: u64,
    pub(super) begin: Begin,
    pub(super) first_byte_ns: u64,
    /// Last byte of the response so far, and the thread that moved it.
    pub(super) end_ns: u64,
    pub(super) response_tid: u32,
    /// The thread that moved the first one; 0 before.
    answer_tid: u32,
    pub(super) marks: Marks,
    /// The final response has begun.
    pub(super) answered: bool,
    pub(super) stage: Stage,
    /// What the request carried.
    pub(super) trace: TraceContext,
    pub(super) detail: D,
}

/// Whether an exchange was announced and is still owed an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Announced; not settled.
    Open,
    /// Its response is over; more of the request is awaited, which changes nothing but what is known of its size.
    Answered,
    /// Settled; it stays in the queue so that its response does not become another's.
    Settled,
    /// A response whose request is not there yet: with two threads on a connection, the record of a
    /// request may come after that of its response. Not announced.
    Unrequested,
    /// The same, with the response over.
    UnrequestedDone,
}

impl<D> Pending<D> {
    /// This fragment is part of the response.
    pub(super) fn response_moved(&mut self, fragment: &Fragment) {
        self.end_ns = fragment.mono_ns;
        self.response_tid = fragment.begin.tid;
        if self.answer_tid == 0 {
            self.answer_tid = fragment.begin.tid;
        }
    }

    /// The same in another protocol, to which the connection changes.
    pub(super) fn map<E>(self, detail: impl FnOnce(D) -> E) -> Pending<E> {
        Pending {
            serial: self.serial,
            begin: self.begin,
            first_byte_ns: self.first_byte_ns,
            end_ns: self.end_ns,
            response_tid: self.response_tid,
            answer_tid: self.answer_tid,
            marks: self.marks,
            answered: self.answered,
            stage: self.stage,
            trace: self.trace,
            detail: detail(self.detail),
        }
    }
}

impl<D: InProgress> Pending<D> {
    pub(super) fn request(serial: u64, begin: Begin, detail: D) -> Self {
        Self {
            serial,
            begin,
            first_byte_ns: 0,
            end_ns: 0,
            response_tid: 0,
            answer_tid: 0,
            marks: Marks::default(),
            answered: false,
            stage: Stage::Open,
            trace: TraceContext::default(),
            detail,
        }
    }

    pub(super) fn unrequested(serial: u64) -> Self {
        let stage = Stage::Unrequested;
        Self { stage, ..Self::request(serial, Begin::default(), D::default()) }
    }

    /// Takes what is known out and leaves a settled exchange in its place.
    pub(super) fn settle(&mut self) -> Self {
        let left = Self {
            answered: self.answered,
            stage: Stage::Settled,
            ..Self::request(self.serial, self.begin, self.detail.settled())
        };
        std::mem::replace(self, left)
    }

    pub(super) fn is_unrequested(&self) -> bool {
        matches!(self.stage, Stage::Unrequested | Stage::UnrequestedDone)
    }

    /// Becomes the exchange of `request`, which came later than its response; keeps its serial.
    pub(super) fn adopt(&mut self, request: Self) {
        self.begin = request.begin;
        self.trace = request.trace;
        self.detail.join(request.detail);
        self.stage = Stage::Open;
    }

    pub(super) fn announcement<S>(&self, cx: &Cx<'_, S>, requests: Direction) -> Started {
        let connection = &cx.wire.info;
        let role = role_of(requests);
        Started {
            serial: self.serial,
            role,
            tgid: connection.tgid,
            at: self
                .begin
                .number
                .filter(|number| *number <= 1 || cx.shared.has_clients)
                .and_then(|number| At::of(connection, role, number)),
            netns: connection.netns,
            tid: self.begin.tid,
            context: self.begin.context,
            start_mono_ns: self.begin.mono_ns,
            trace_parent: self.trace.parent,
            trace_state: self.trace.state.clone(),
        }
    }

    /// The exchange as it is now, ended at `end_ns`.
    pub(super) fn into_exchange(
        self,
        connection: &Arc<exchange::Connection>,
        requests: Direction,
        failure: Option<Failure>,
        end_ns: u64,
    ) -> Exchange {
        let joined = self.marks.joined || connection.joined;
        // Where only the return of the request's call is known, the response may seem to be earlier.
        let first = if self.first_byte_ns == 0 { end_ns } else { self.first_byte_ns };
        let start_mono_ns = self.begin.mono_ns.min(first);
        Exchange {
            connection: Arc::clone(connection),
            role: role_of(requests),
            tid: self.begin.tid,
            context: self.begin.context,
            response_tid: self.response_tid,
            answer_tid: self.answer_tid,
            start_mono_ns,
            first_byte_mono_ns: self.first_byte_ns,
            end_mono_ns: end_ns.max(self.first_byte_ns).max(start_mono_ns),
            serial: self.serial,
            failure,
            marks: Marks { joined, ..self.marks },
            trace: self.trace,
            detail: self.detail.into_detail(),
        }
    }
}

/// The exchanges of a connection that are not over, in the order of their requests.
#[derive(Debug)]
pub(super) struct Queue<D> {
    open: VecDeque<Pending<D>>,
    /// Why new requests cannot be paired.
    pub(super) barrier: Option<Lost>,
    /// Requests already counted as lost whose responses may still come.
    pub(super) uncounted: u32,
    /// First byte of the last response that was given up for want of a request.
    unrequested_ns: u64,
}

impl<D> Default for Queue<D> {
    fn default() -> Self {
        Self { open: VecDeque::new(), barrier: None, uncounted: 0, unrequested_ns: 0 }
    }
}

impl<D: InProgress> Queue<D> {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending<D>> {
        self.open.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending<D>> {
        self.open.iter_mut()
    }

    pub(super) fn front(&self) -> Option<&Pending<D>> {
        self.open.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Pending<D>> {
        self.open.front_mut()
    }

    pub(super) fn back(&self) -> Option<&Pending<D>> {
        self.open.back()
    }

    /// The exchange with this serial; the newest are asked first, as requests in progress are new.
    pub(super) fn find(&mut self, serial: u64) -> Option<&mut Pending<D>> {
        self.open.iter_mut().rev().find(|pending| pending.serial == serial)
    }

    /// Whether one more request can be told; if not, it is counted as lost. `begin` is when it began.
    pub(super) fn admits<S: Sink>(
        &mut self,
        begin: Begin,
        requests: Direction,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        if cx.wire.flow(requests.flip()).ended {
            cx.lost(0, Lost::AfterClose);
            return false;
        }
        if self.barrier.is_none() && self.open.len() >= cx.shared.limits.max_open_per_connection {
            self.barrier = Some(Lost::TooManyOpen);
        }
        if let Some(reason) = self.barrier {
            cx.lost(0, reason);
            self.uncounted += 1;
            return false;
        }
        if begin.mono_ns <= self.unrequested_ns {
            cx.lost(0, Lost::Gap); // its response was given up before
            return false;
        }
        true
    }

    /// Takes a request that was admitted, and announces it; its serial.
    pub(super) fn push<S: Sink>(
        &mut self,
        mut pending: Pending<D>,
        requests: Direction,
        cx: &mut Cx<'_, S>,
    ) -> u64 {
        pending.serial = cx.next_serial();
        cx.started(&pending.announcement(cx, requests));
        let serial = pending.serial;
        self.open.push_back(pending);
        serial
    }

    /// As [`Self::push`], unless the response came first and waits for this request.
    pub(super) fn push_or_adopt<S: Sink>(
        &mut self,
        pending: Pending<D>,
        requests: Direction,
        cx: &mut Cx<'_, S>,
    ) -> u64 {
        let begin_ns = pending.begin.mono_ns;
        if let Some(front) = self.open.front_mut().filter(|front| front.is_unrequested()) {
            if begin_ns <= front.first_byte_ns {
                front.adopt(pending);
                cx.started(&front.announcement(cx, requests));
                return front.serial;
            }
            self.finish_front(requests, None, cx);
        }
        self.push(pending, requests, cx)
    }

    /// Announces and settles an exchange that has no response.
    pub(super) fn finish_alone<S: Sink>(
        &mut self,
        mut pending: Pending<D>,
        requests: Direction,
        cx: &mut Cx<'_, S>,
    ) {
        pending.serial = cx.next_serial();
        cx.started(&pending.announcement(cx, requests));
        let end_ns = pending.end_ns;
        cx.finished(pending.into_exchange(&cx.wire.info, requests, None, end_ns));
    }

    /// A response came first; its request may follow. Its serial.
    pub(super) fn push_unrequested<S: Sink>(&mut self, cx: &mut Cx<'_, S>) -> u64 {
        let serial = cx.next_serial();
        self.open.push_back(Pending::unrequested(serial));
        serial
    }

    /// Takes the front exchange off the queue, not settled: it goes on elsewhere.
    pub(super) fn take_front(&mut self) -> Option<Pending<D>> {
        self.open.pop_front()
    }

    /// Takes the front exchange off the queue and settles it, if it is not.
    pub(super) fn finish_front<S: Sink>(
        &mut self,
        requests: Direction,
        failure: Option<Failure>,
        cx: &mut Cx<'_, S>,
    ) {
        let Some(front) = self.open.pop_front() else { return };
        let end_ns = front.end_ns;
        match front.stage {
            Stage::Open => {
                cx.finished(front.into_exchange(&cx.wire.info, requests, failure, end_ns));
            }
            Stage::Answered => {
                cx.finished(front.into_exchange(&cx.wire.info, requests, None, end_ns));
            }
            Stage::Settled => {}
            Stage::Unrequested | Stage::UnrequestedDone => {
                self.unrequested_ns = self.unrequested_ns.max(front.first_byte_ns);
                cx.lost(0, Lost::NoRequest);
            }
        }
    }

    /// Ends whatever is open with the connection's failure, or with its end at `mono_ns`.
    pub(super) fn fail_all<S: Sink>(
        &mut self,
        requests: Direction,
        mono_ns: u64,
        cx: &mut Cx<'_, S>,
    ) {
        let (failure, end_ns) = cx.wire.failure.unwrap_or((Failure::Closed, mono_ns));
        while let Some(front) = self.open.front_mut() {
            let unanswered = front.stage == Stage::Open && !front.answered;
            if unanswered && cx.wire.is_after_end(requests, &front.begin) {
                let serial = front.serial;
                self.open.pop_front();
                cx.lost(serial, Lost::AfterClose);
                continue;
            }
            if front.stage != Stage::Answered {
                front.end_ns = end_ns;
            }
            self.finish_front(requests, Some(failure), cx);
        }
    }

    /// Some time has passed: gives up a response whose request has not come, and ends what is open once the transport
    /// has failed. For protocols that wait with nothing else.
    pub(super) fn due<S: Sink>(&mut self, requests: Direction, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let grace_ns = cx.shared.limits.end_grace_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= grace_ns;
        let unrequested = |front: &&Pending<D>| front.stage == Stage::UnrequestedDone;
        if let Some(end_ns) = self.open.front().filter(unrequested).map(|front| front.end_ns) {
            match over(end_ns) {
                true => self.finish_front(requests, None, cx),
                false => cx.wire.make_due(end_ns, cx.shared),
            }
        }
        if let Some((_, failed_ns)) = cx.wire.failure {
            match over(failed_ns) {
                true => self.fail_all(requests, failed_ns, cx),
                false => cx.wire.make_due(failed_ns, cx.shared),
            }
        }
    }

    pub(super) fn lose_all<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        self.lose_first(self.open.len(), reason, cx);
    }

    /// As [`Self::lose_all`], of the first `count`.
    pub(super) fn lose_first<S: Sink>(&mut self, count: usize, reason: Lost, cx: &mut Cx<'_, S>) {
        for pending in self.open.drain(..count) {
            match pending.stage {
                // Whoever knows of answered ones ends them first.
                Stage::Open | Stage::Answered => {
                    self.uncounted += 1;
                    cx.lost(pending.serial, reason);
                }
                Stage::Settled => self.uncounted += 1,
                Stage::Unrequested | Stage::UnrequestedDone => {
                    self.unrequested_ns = self.unrequested_ns.max(pending.first_byte_ns);
                    cx.lost(0, Lost::NoRequest);
                }
            }
        }
    }
}
