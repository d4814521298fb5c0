//! The streams of a connection that are open: which frames belong to which exchange, and how that ends.
//!
//! A client opens streams with ascending numbers (RFC 9113, section 5.1.1). So what comes for a lower number than the
//! highest, and has no exchange, belongs to one that is over; for a higher one, to a request whose record comes later.

use std::collections::VecDeque;

use remora_common::record::Direction;

use super::in_stream::{InStream, carried};
use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        pending::{Begin, Pending, Stage},
        wire::Fragment,
    },
    exchange::{Failure, HttpExchange, Sink},
    protocol::http2::Head,
};

/// Streams of one connection that are followed at a time: servers allow 100 to 250, proxies and gRPC more.
const MAX_STREAMS: usize = 4096;
/// `REFUSED_STREAM`.
const REFUSED: u32 = 7;
/// More requests than this are not taken to be missing between two.
const MAX_MISSING: u32 = 1 << 16;

/// One that has an exchange.
#[derive(Debug)]
struct Stream {
    id: u32,
    pending: Pending<InStream>,
    /// Where the other direction stood when the request came: its response is not before that.
    answered_from: u64,
    /// Records were lost while it was open: it may have been given up in them.
    touched: bool,
}

impl Stream {
    fn lost<S: Sink>(&self, reason: Lost, cx: &mut Cx<'_, S>) {
        match self.pending.is_unrequested() {
            true => cx.lost(0, Lost::NoRequest),
            false => cx.lost(self.pending.serial, reason),
        }
    }
}

/// Those that are open, by number.
#[derive(Debug)]
pub(super) struct Streams {
    /// The direction of requests.
    requests: Direction,
    open: VecDeque<Stream>,
    /// The highest one that a client was seen to open.
    last: u32,
    /// Requests on streams before this one were not seen.
    seen_from: u32,
    /// Frames of the client were lost since `last` was opened.
    missed: bool,
    /// Responses on streams beyond `last`: if their requests do not come they are counted as having none.
    unasked: u32,
}

impl Streams {
    /// `begins`: no stream was opened before.
    pub(super) fn new(requests: Direction, begins: bool) -> Self {
        let seen_from = if begins { 0 } else { u32::MAX };
        Self { requests, open: VecDeque::new(), last: 0, seen_from, missed: false, unasked: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id)
    }

    fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.find(id).ok()?;
        self.open.get_mut(at)
    }

    pub(super) fn serial_of(&self, id: u32) -> Option<u64> {
        let stream = self.open.get(self.find(id).ok()?)?;
        (stream.pending.serial != 0).then_some(stream.pending.serial)
    }

    /// The request that was made before the protocol changed, which stream 1 answers.
    pub(super) fn upgraded(&mut self, request: Pending<Box<HttpExchange>>) {
        self.last = 1;
        let pending = request.map(InStream::upgraded);
        self.open.push_back(Stream { id: 1, pending, answered_from: 0, touched: false });
    }

    /// A header block of the client.
    pub(super) fn request<S: Sink>(
        &mut self,
        head: &Head<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let id = head.stream;
        if id.is_multiple_of(2) || id <= self.last {
            // Trailers, if it is open.
            return self.request_content(id, 0);
        }
        self.count_missing(id, cx);
        if self.open.len() >= MAX_STREAMS {
            return cx.lost(0, Lost::TooManyOpen);
        }
        let (detail, values_cut) = InStream::request(head, &cx.shared.headers);
        cx.shared.stats.values_cut += values_cut;
        let mut begin = Begin { number: Some(id.into()), ..begin };
        if self.requests == Direction::Tx
            && let Some(context) = cx.shared.asked.take(cx.wire.info.tgid, begin.context, id)
        {
            begin.context = context;
        }
        let mut pending = Pending::request(0, begin, detail);
        pending.trace = carried(head.fields, &cx.shared.headers.propagation);
        pending.marks.request_head_cut = head.fields.is_cut();
        pending.marks.request_fields_unknown = head.fields.has_unknown();
        match self.find(id) {
            Ok(at) => self.adopt(at, pending, cx),
            Err(at) => {
                pending.serial = cx.next_serial();
                cx.started(&pending.announcement(cx, self.requests));
                self.open.insert(
                    at,
                    Stream { id, pending, answered_from: fragment.other_pos, touched: false },
                );
            }
        }
    }

    /// The response came first.
    fn adopt<S: Sink>(&mut self, at: usize, request: Pending<InStream>, cx: &mut Cx<'_, S>) {
        let pending = &mut self.open[at].pending;
        let is_over = pending.stage == Stage::UnrequestedDone;
        let marks = request.marks;
        pending.adopt(request);
        pending.marks.request_head_cut = marks.request_head_cut;
        pending.marks.request_fields_unknown = marks.request_fields_unknown;
        cx.started(&pending.announcement(cx, self.requests));
        if is_over || pending.detail.becomes_tunnel() {
            self.finish(at, None, cx);
        }
    }

    /// A client opens one stream after the other: those between the last one and this were opened in records that were
    /// lost.
    fn count_missing<S: Sink>(&mut self, id: u32, cx: &mut Cx<'_, S>) {
        self.seen_from = self.seen_from.min(id);
        if std::mem::take(&mut self.missed) && self.last > 0 {
            let missing = ((id - self.last) / 2 - 1).saturating_sub(self.unasked);
            for _ in 0..missing.min(MAX_MISSING) {
                cx.lost(0, Lost::Gap);
            }
        }
        self.last = id;
        let beyond = |stream: &&Stream| stream.id > id;
        self.unasked = self.open.iter().rev().take_while(beyond).count() as u32;
    }

    /// Content of a request.
    pub(super) fn request_content(&mut self, id: u32, len: u64) {
        if let Some(Stream { pending, .. }) = self.get(id) {
            let moved = &mut pending.detail.http.request_content_len;
            *moved = moved.saturating_add(len);
        }
    }

    /// A header block of the server.
    pub(super) fn response<S: Sink>(
        &mut self,
        head: &Head<'_>,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let Some(at) = self.answered(head.stream, head.ends_stream, cx) else { return };
        let pending = &mut self.open[at].pending;
        let status = head.fields.status();
        let interim = (100..200).contains(&status) && !head.ends_stream;
        if interim {
            return;
        }
        pending.response_moved(fragment);
        pending.marks.response_head_cut |= head.fields.is_cut();
        pending.marks.response_fields_unknown |= head.fields.has_unknown();
        // Trailers have no status; nor has a response of which it is unknown, which may have been an interim one.
        let is_trailer = pending.answered && (status == 0 || pending.detail.http.status != 0);
        if is_trailer {
            pending.detail.take_grpc_status(head.fields);
        } else {
            if !pending.answered {
                pending.first_byte_ns = begin.mono_ns;
            }
            pending.answered = true;
            pending.detail.response(head, &cx.shared.headers.response);
            if pending.detail.becomes_tunnel() {
                pending.detail.http.upgraded = true;
                return self.ended(at, cx);
            }
        }
        if head.ends_stream {
            self.ended(at, cx);
        }
    }

    /// Content of a response.
    pub(super) fn response_content<S: Sink>(
        &mut self,
        id: u32,
        (len, ended): (u64, bool),
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let Ok(at) = self.find(id) else {
            if ended && id % 2 == 1 && id < self.seen_from {
                cx.lost(0, Lost::NoRequest);
            }
            return;
        };
        let pending = &mut self.open[at].pending;
        let moved = &mut pending.detail.http.response_content_len;
        *moved = moved.saturating_add(len);
        pending.response_moved(fragment);
        if ended {
            self.ended(at, cx);
        }
    }

    /// Where the exchange of a response stands. Its request may not be there yet; of one that was not seen, or is over,
    /// there is none.
    fn answered<S: Sink>(&mut self, id: u32, ends: bool, cx: &mut Cx<'_, S>) -> Option<usize> {
        match self.find(id) {
            Ok(at) => Some(at),
            Err(_) if id.is_multiple_of(2) => None, // pushed
            Err(_) if id <= self.last || self.missed || self.seen_from == u32::MAX => {
                if ends && id < self.seen_from {
                    cx.lost(0, Lost::NoRequest);
                }
                None
            }
            Err(at) if self.open.len() < MAX_STREAMS => {
                let serial = cx.next_serial();
                self.unasked += 1;
                self.open.insert(
                    at,
                    Stream {
                        id,
                        pending: Pending::unrequested(serial),
                        answered_from: 0,
                        touched: false,
                    },
                );
                Some(at)
            }
            Err(_) => None,
        }
    }

    /// The response is complete.
    fn ended<S: Sink>(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        let pending = &mut self.open[at].pending;
        if pending.is_unrequested() {
            pending.stage = Stage::UnrequestedDone;
            return cx.wire.make_due(pending.end_ns, cx.shared);
        }
        self.finish(at, None, cx);
    }

    /// One side gives the exchange up.
    pub(super) fn reset<S: Sink>(
        &mut self,
        id: u32,
        code: Option<u32>,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        if let Ok(at) = self.find(id) {
            self.open[at].pending.end_ns = fragment.mono_ns;
            self.finish(at, Some(Failure::StreamReset(code.unwrap_or(u32::MAX))), cx);
        }
    }

    /// The server does not look at requests beyond `last`.
    pub(super) fn going_away<S: Sink>(
        &mut self,
        last: u32,
        code: Option<u32>,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let code = code.filter(|&code| code != 0).unwrap_or(REFUSED);
        while self.open.back().is_some_and(|stream| stream.id > last) {
            let at = self.open.len() - 1;
            self.open[at].pending.end_ns = fragment.mono_ns;
            self.finish(at, Some(Failure::StreamReset(code)), cx);
        }
    }

    fn finish<S: Sink>(&mut self, at: usize, failure: Option<Failure>, cx: &mut Cx<'_, S>) {
        let Some(Stream { pending, .. }) = self.open.remove(at) else { return };
        if pending.is_unrequested() {
            return cx.lost(0, Lost::NoRequest);
        }
        let end_ns = pending.end_ns;
        cx.finished(pending.into_exchange(&cx.wire.info, self.requests, failure, end_ns));
    }

    /// The connection has ended with these open.
    pub(super) fn fail_all<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let (failure, end_ns) = cx.wire.failure.unwrap_or((Failure::Closed, mono_ns));
        while let Some(stream) = self.open.front_mut() {
            stream.pending.end_ns = end_ns;
            let (pending, touched) = (&stream.pending, stream.touched);
            let is_after_end =
                !pending.answered && cx.wire.is_after_end(self.requests, &pending.begin);
            if (touched || is_after_end) && !pending.is_unrequested() {
                let reason = if touched { Lost::Gap } else { Lost::AfterClose };
                cx.lost(pending.serial, reason);
                self.open.pop_front();
            } else {
                self.finish(0, Some(failure), cx);
            }
        }
    }

    pub(super) fn lose_all<S: Sink>(&mut self, reason: Lost, cx: &mut Cx<'_, S>) {
        for stream in self.open.drain(..) {
            stream.lost(reason, cx);
        }
    }

    /// Frames of the server were lost, up to this position: what was asked before may have been answered in them.
    pub(super) fn responses_missed<S: Sink>(
        &mut self,
        until: u64,
        reason: Lost,
        cx: &mut Cx<'_, S>,
    ) {
        self.open.retain_mut(|stream| {
            if stream.answered_from >= until && !stream.pending.is_unrequested() {
                stream.touched = true;
                return true;
            }
            stream.lost(reason, cx);
            false
        });
    }

    /// Frames of the client were lost: requests, ends of requests, and resets among them.
    pub(super) fn requests_missed(&mut self) {
        self.missed = true;
        for stream in &mut self.open {
            stream.touched = true;
        }
    }

    /// Records were lost while these were open.
    pub(super) fn mark_gap(&mut self) {
        for stream in &mut self.open {
            stream.pending.marks.gap = true;
        }
    }

    /// Some time has passed: gives up responses whose request has not come, and ends what is open once the transport has
    /// failed.
    pub(super) fn due<S: Sink>(&mut self, mono_ns: u64, cx: &mut Cx<'_, S>) {
        let grace_ns = cx.shared.limits.end_grace_ns;
        let over = |since_ns: u64| mono_ns.saturating_sub(since_ns) >= grace_ns;
        let done = |stream: &Stream| stream.pending.stage == Stage::UnrequestedDone;
        while let Some(at) =
            self.open.iter().position(|stream| done(stream) && over(stream.pending.end_ns))
        {
            self.finish(at, None, cx);
        }
        if let Some(waits) = self.open.iter().find(|stream| done(stream)) {
            cx.wire.make_due(waits.pending.end_ns, cx.shared);
        }
        if let Some((_, failed_ns)) = cx.wire.failure {
            match over(failed_ns) {
                true => self.fail_all(failed_ns, cx),
                false => cx.wire.make_due(failed_ns, cx.shared),
            }
        }
    }
}
