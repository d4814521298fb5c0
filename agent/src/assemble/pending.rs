//! An exchange that is not over: what is known of it so far, and how it becomes an [`Exchange`].

use std::sync::Arc;

use super::role_of;
use remora_common::record::Direction;

use crate::{
    exchange::{self, Detail, Exchange, Failure, HttpExchange, Marks, Started},
    protocol::http1::RequestKind,
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
}

/// A request whose response is not over, or the reverse.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) serial: u64,
    pub(super) begin: Begin,
    pub(super) request_end_ns: u64,
    pub(super) first_byte_ns: u64,
    /// Last byte of the response so far, and the thread that moved it.
    pub(super) end_ns: u64,
    pub(super) response_tid: u32,
    pub(super) kind: RequestKind,
    pub(super) marks: Marks,
    /// The final response's head is known.
    pub(super) answered: bool,
    pub(super) stage: Stage,
    /// What the request carried.
    pub(super) trace: TraceContext,
    pub(super) http: Box<HttpExchange>,
}

/// Whether an exchange was announced and is still owed an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Announced; not settled.
    Open,
    /// Settled; it stays in the queue so that its response does not become another's.
    Settled,
    /// A response whose request is not there yet: with two threads on a connection, the record of a
    /// request may come after that of its response. Not announced.
    Unrequested,
    /// The same, with the response over.
    UnrequestedDone,
}

impl Pending {
    pub(super) fn request(serial: u64, begin: Begin, http: Box<HttpExchange>) -> Self {
        Self {
            serial,
            begin,
            request_end_ns: begin.mono_ns,
            first_byte_ns: 0,
            end_ns: 0,
            response_tid: 0,
            kind: RequestKind::of(http.method.as_bytes()),
            marks: Marks::default(),
            answered: false,
            stage: Stage::Open,
            trace: TraceContext::default(),
            http,
        }
    }

    pub(super) fn unrequested(serial: u64) -> Self {
        let stage = Stage::Unrequested;
        Self { stage, ..Self::request(serial, Begin::default(), Box::default()) }
    }

    /// Takes what is known out and leaves a settled exchange in its place.
    pub(super) fn settle(&mut self) -> Self {
        let left = Self {
            kind: self.kind,
            answered: self.answered,
            stage: Stage::Settled,
            ..Self::request(self.serial, self.begin, Box::default())
        };
        std::mem::replace(self, left)
    }

    pub(super) fn is_unrequested(&self) -> bool {
        matches!(self.stage, Stage::Unrequested | Stage::UnrequestedDone)
    }

    /// Becomes the exchange of `request`, which came later than its response; keeps its serial.
    pub(super) fn adopt(&mut self, request: Self) {
        self.begin = request.begin;
        self.request_end_ns = request.request_end_ns;
        self.kind = request.kind;
        self.trace = request.trace;
        let response = std::mem::replace(&mut self.http, request.http);
        self.http.status = response.status;
        self.http.response_content_len = response.response_content_len;
        self.http.response_head_len = response.response_head_len;
        self.http.response_headers = response.response_headers;
        self.stage = Stage::Open;
    }

    pub(super) fn announcement(
        &self,
        connection: &exchange::Connection,
        requests: Direction,
    ) -> Started {
        Started {
            serial: self.serial,
            role: role_of(requests),
            tgid: connection.tgid,
            tid: self.begin.tid,
            context: self.begin.context,
            start_mono_ns: self.begin.mono_ns,
            trace_parent: self.trace.parent,
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
            start_mono_ns,
            request_end_mono_ns: self.request_end_ns.max(start_mono_ns),
            first_byte_mono_ns: self.first_byte_ns,
            end_mono_ns: end_ns.max(self.first_byte_ns).max(start_mono_ns),
            serial: self.serial,
            failure,
            marks: Marks { joined, ..self.marks },
            trace: self.trace,
            detail: Detail::Http(self.http),
        }
    }
}
