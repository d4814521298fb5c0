//! Which response belongs to which request, and when an exchange is over. Responses pair with requests
//! in order (RFC 9112 section 9.3.2); a request whose record comes after its response's is found by
//! time.

use super::{Fragment, Http1, InHttp, Upgraded, describe, half::State, half_mut, half_of};
use crate::{
    accounting::Lost,
    assemble::{
        Cx,
        http::headers,
        pending::{Begin, Pending, Stage},
        role_of,
    },
    exchange::{Failure, Role, Sink},
    protocol::{
        chunked::Chunked,
        http1::{Fields, Framing, Request, RequestKind, Response},
    },
};

impl Http1 {
    pub(super) fn request<S: Sink>(
        &mut self,
        request: &Request<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let requests = fragment.direction;
        self.requests = Some(requests);
        self.finish_answered(cx);
        self.end_blind_response(cx);
        let owner = self.admit(request, len, cut, begin, fragment, cx);
        let half = half_mut(&mut self.halves, requests);
        half.owner = owner;
        match request.framing() {
            Framing::Length(len) if !cut => half.enter(State::Length(len)),
            Framing::Chunked if !cut => half.enter(State::Chunked(Chunked::default())),
            Framing::None if !cut => self.message_ended(fragment, cx),
            _ => {
                half.enter(State::Blind);
                self.finish_answered(cx);
            }
        }
    }

    /// Gives a request its place; 0 if it cannot have one.
    pub(super) fn admit<S: Sink>(
        &mut self,
        request: &Request<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> u64 {
        if !self.open.admits(begin, fragment.direction, cx) {
            return 0;
        }
        let head = describe::head(request, len);
        cx.shared.stats.values_cut += head.values_cut();
        let mut http = head.describe();
        let Fields { has_identifier, .. } = request.fields;
        http.request_headers = cx.shared.headers.of_request(has_identifier, request.fields.lines());
        let mut pending = Pending::request(0, begin, InHttp::new(http));
        pending.trace = describe::trace_context(&request.fields, &cx.shared.headers.propagation);
        pending.marks.request_head_cut = cut;
        let requests = fragment.direction;
        if let Some(front) = self.open.front_mut().filter(|front| front.is_unrequested()) {
            if begin.mono_ns <= front.first_byte_ns {
                let done = front.stage == Stage::UnrequestedDone;
                front.adopt(pending);
                let serial = front.serial;
                cx.started(&front.announcement(cx, requests));
                if done {
                    front.stage = Stage::Answered; // until its own content is over
                } else if front_kind_has_no_content(front) {
                    let responses = half_mut(&mut self.halves, requests.flip());
                    responses.enter(State::Start);
                    self.finish_front(None, cx);
                }
                return serial;
            }
            self.give_up_unrequested(cx);
        }
        if self.open.is_empty() {
            self.open.uncounted = 0;
            let responses = half_mut(&mut self.halves, requests.flip());
            let settled = matches!(responses.state, State::Start | State::Head | State::Ended);
            if !settled && cx.wire.flow(requests.flip()).other_pos > begin.pos {
                // Bytes that nobody asked for came in the middle of this request: its response?
                cx.lost(0, Lost::Gap);
                return 0;
            }
            if !settled && !self.pipelines {
                responses.enter(State::Start);
                responses.owner = 0;
            }
        } else {
            if !self.pipelines {
                self.pipelines = true;
                self.pipelined_pos = begin.pos;
            }
            self.ask_for_all(cx);
        }
        self.open.push(pending, requests, cx)
    }

    pub(super) fn response<S: Sink>(
        &mut self,
        response: &Response<'_>,
        len: usize,
        cut: bool,
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) {
        let responses = fragment.direction;
        self.requests = Some(responses.flip());
        self.finish_answered(cx);
        if response.is_interim() && !cut {
            half_mut(&mut self.halves, responses).enter(State::Start);
            return;
        }
        if self.open.front().is_some_and(|front| front.stage == Stage::UnrequestedDone) {
            self.give_up_unrequested(cx);
        }
        if self.open.is_empty() {
            if role_of(responses.flip()) == Role::Server {
                let tgid = cx.wire.info.tgid;
                cx.sink.answered_unseen(tgid, fragment.begin.tid, begin.mono_ns);
            }
            if self.open.uncounted > 0 {
                self.open.uncounted -= 1;
            } else if let Some(reason) = self.open.barrier {
                cx.lost(0, reason);
            } else {
                self.open.push_unrequested(cx);
            }
        }
        let mut kind = RequestKind::Other;
        let mut owner = 0;
        if let Some(front) = self.open.front_mut() {
            (kind, owner) = (front.detail.kind, front.serial);
            front.answered = true;
            front.first_byte_ns = begin.mono_ns;
            front.response_moved(fragment);
            front.marks.response_head_cut = cut;
            front.detail.http.status = response.status;
            front.detail.http.response_head_len = u32::try_from(len).unwrap_or(u32::MAX);
            front.detail.http.response_headers =
                headers::kept(&cx.shared.headers.response, response.fields.lines());
        }
        let half = half_mut(&mut self.halves, responses);
        half.owner = owner;
        match response.framing(kind) {
            _ if cut => half.enter(State::Blind),
            Framing::None => self.message_ended(fragment, cx),
            Framing::Length(len) => half.enter(State::Length(len)),
            Framing::Chunked => half.enter(State::Chunked(Chunked::default())),
            Framing::UntilClose => half.enter(State::UntilClose),
            Framing::Unknown => half.enter(State::Blind),
            Framing::Tunnel if becomes_http2(response) && self.open.len() == 1 && owner != 0 => {
                if let Some(front) = self.open.take_front() {
                    let request = front.map(|in_http| in_http.http);
                    self.upgraded = Some(Upgraded { request, rest: 0 });
                }
                self.is_over = true;
            }
            Framing::Tunnel => {
                if let Some(front) = self.open.front_mut() {
                    front.detail.http.upgraded = true;
                }
                self.message_ended(fragment, cx);
                self.open.lose_all(Lost::Malformed, cx);
                self.is_over = true;
            }
        }
    }

    /// The message in the fragment's direction is complete.
    pub(super) fn message_ended<S: Sink>(&mut self, fragment: &Fragment, cx: &mut Cx<'_, S>) {
        self.ended_message = true;
        let is_request = self.carries_requests(fragment.direction);
        let half = half_mut(&mut self.halves, fragment.direction);
        let owner = std::mem::take(&mut half.owner);
        half.enter(State::Start);
        if is_request {
            return self.finish_answered(cx);
        }
        let Some(front) = self.open.front_mut().filter(|front| front.serial == owner) else {
            self.note_settled(fragment.end);
            return;
        };
        front.response_moved(fragment);
        if front.stage == Stage::Unrequested {
            front.stage = Stage::UnrequestedDone;
            cx.wire.make_due(fragment.mono_ns, cx.shared);
        } else {
            self.response_over(cx);
        }
        self.note_settled(fragment.end);
    }

    pub(super) fn note_settled(&mut self, pos: u64) {
        if self.open.iter().all(|pending| pending.stage == Stage::UnrequestedDone) {
            self.settled_pos = pos;
        }
    }

    /// A request begins: a response whose end nothing shows is over, if the connection takes turns.
    pub(super) fn end_blind_response<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        let tail_ends = half_of(&self.halves, requests.flip()).tail_ends;
        if tail_ends || (self.open.len() == 1 && !self.pipelines) {
            self.end_front_if_blind(cx);
        }
    }

    /// Ends the front exchange at its last byte, if its response is content without a visible end.
    pub(super) fn end_front_if_blind<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        let half = half_mut(&mut self.halves, requests.flip());
        let Some(front) = self.open.front_mut() else { return };
        if half.state != State::Blind || half.owner != front.serial {
            return;
        }
        front.marks.end_inferred |= !half.tail_ends;
        half.owner = 0;
        half.tail_ends = false;
        let pos = cx.wire.flow(requests.flip()).pos;
        if front.stage == Stage::Unrequested {
            front.stage = Stage::UnrequestedDone;
            let end_ns = front.end_ns;
            cx.wire.make_due(end_ns, cx.shared);
        } else {
            self.response_over(cx);
        }
        self.note_settled(pos);
    }

    /// The response of the front exchange is over. So is the exchange, unless more of the request's content will come: a
    /// server may answer before it reads it.
    fn response_over<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        let half = half_of(&self.halves, requests);
        match self.open.front_mut() {
            Some(front)
                if front.stage == Stage::Open
                    && half.owner == front.serial
                    && half.state.is_in_content() =>
            {
                front.stage = Stage::Answered;
                cx.sink.answered(front.serial);
            }
            _ => self.finish_front(None, cx),
        }
    }

    /// Nothing more of a request is awaited whose response is over.
    pub(super) fn finish_answered<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.open.front().is_some_and(|front| front.stage == Stage::Answered) {
            self.finish_front(None, cx);
        }
    }

    /// What ends now may end before all of a request's content was seen.
    pub(super) fn mark_incomplete(&mut self) {
        let Some(requests) = self.requests else { return };
        let half = half_of(&self.halves, requests);
        if half.state.is_in_content()
            && let Some(pending) = self.open.find(half.owner)
        {
            pending.marks.request_content_incomplete = true;
        }
    }

    pub(super) fn finish_front<S: Sink>(&mut self, failure: Option<Failure>, cx: &mut Cx<'_, S>) {
        if let Some(requests) = self.requests {
            self.mark_incomplete();
            self.open.finish_front(requests, failure, cx);
        }
    }

    pub(super) fn give_up_unrequested<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(requests) = self.requests else { return };
        if self.open.front().is_some_and(|front| front.stage == Stage::Unrequested) {
            // Its content goes on, for nobody.
            half_mut(&mut self.halves, requests.flip()).owner = 0;
        }
        self.finish_front(None, cx);
    }
}

/// Whether the server agrees to go on in HTTP/2 without TLS (RFC 7540, section 3.2).
fn becomes_http2(response: &Response<'_>) -> bool {
    let agrees = |(name, value): (&[u8], &[u8])| {
        name.eq_ignore_ascii_case(b"upgrade") && value.eq_ignore_ascii_case(b"h2c")
    };
    response.status == 101 && response.fields.lines().any(agrees)
}

/// A response to this request has no content, whatever it was taken for when it came first.
fn front_kind_has_no_content(pending: &Pending<InHttp>) -> bool {
    pending.detail.kind == RequestKind::Head && pending.answered
}
