//! What is kept of an exchange on a stream, and what heads add to it.

use crate::{
    assemble::{
        http::{Carried, KeptHeader, KeptHeaders, RequestHead, headers},
        pending::InProgress,
    },
    exchange::{Detail, HttpExchange, RpcExchange},
    protocol::http2::{Fields, Head, Known},
    trace_context::{B3, Propagation, TraceContext},
};

/// As [`crate::protocol::http1::IDENTIFIERS`].
const IDENTIFIERS: [Known; 5] =
    [Known::B3, Known::XB3Sampled, Known::XB3SpanId, Known::XB3TraceId, Known::XRequestId];

/// An exchange of which it may turn out only at its end that it is a call of gRPC.
#[derive(Debug, Default)]
pub(super) struct InStream {
    pub(super) http: Box<HttpExchange>,
    is_grpc: bool,
    /// The variant for browsers, whose errors may stand in the head of a response as those of gRPC do.
    is_grpc_web: bool,
    grpc_status: Option<u32>,
}

impl InProgress for InStream {
    fn settled(&self) -> Self {
        Self::default()
    }

    fn join(&mut self, request: Self) {
        let response = std::mem::replace(&mut self.http, request.http);
        self.http.status = response.status;
        self.http.response_content_len = response.response_content_len;
        self.http.response_head_len = response.response_head_len;
        self.http.response_headers = response.response_headers;
        self.is_grpc |= request.is_grpc;
        self.is_grpc_web |= request.is_grpc_web;
    }

    fn into_detail(self) -> Detail {
        if !self.is_grpc || self.is_grpc_web {
            return Detail::Http(self.http);
        }
        let mut http = *self.http;
        as_metadata(&mut http);
        Detail::Grpc(Box::new(RpcExchange { http, status: self.grpc_status }))
    }
}

impl InStream {
    /// The request of an HTTP/1 exchange that is answered on a stream.
    pub(super) fn upgraded(mut http: Box<HttpExchange>) -> Self {
        http.version = (2, 0);
        http.status = 0;
        Self { http, ..Self::default() }
    }

    /// And how many of its values are longer than what is kept of them.
    pub(super) fn request(head: &Head<'_>, asked: &KeptHeaders) -> (Self, u64) {
        let fields = head.fields;
        let method = fields.get(Known::Method).unwrap_or_default();
        let is_tunnel = method == b"CONNECT" && fields.get(Known::Protocol).is_none();
        let authority = fields.get(Known::Authority);
        let request = RequestHead {
            method,
            // A tunnel has no path (RFC 9113, section 8.5).
            target: if is_tunnel { authority } else { fields.get(Known::Path) }.unwrap_or_default(),
            version: (2, 0),
            host: authority.or_else(|| fields.get(Known::Host)),
            user_agent: fields.get(Known::UserAgent),
            forwarded: fields.get(Known::Forwarded),
            x_forwarded_for: fields.get(Known::XForwardedFor),
            x_forwarded_proto: fields.get(Known::XForwardedProto),
            len: head.len,
        };
        let mut http = request.describe();
        let has_identifier = IDENTIFIERS.iter().any(|known| fields.count(*known) > 0);
        http.request_headers = asked.of_request(has_identifier, fields.lines());
        let request_of_call = Self {
            http,
            is_grpc: is_grpc(fields),
            is_grpc_web: is_grpc_web(fields),
            grpc_status: None,
        };
        (request_of_call, request.values_cut())
    }

    /// The head of a response, unless it is an interim one; `ends`: it is all of it.
    pub(super) fn response(&mut self, head: &Head<'_>, asked: &[KeptHeader]) {
        self.http.status = head.fields.status();
        self.http.response_head_len = u32::try_from(head.len).unwrap_or(u32::MAX);
        self.http.response_headers = headers::kept(asked, head.fields.lines());
        self.is_grpc |= is_grpc(head.fields);
        self.is_grpc_web |= is_grpc_web(head.fields);
        self.take_grpc_status(head.fields);
    }

    /// Trailers, or the only block of a response.
    pub(super) fn take_grpc_status(&mut self, fields: &Fields) {
        if let Some(status) = fields.get(Known::GrpcStatus) {
            self.is_grpc = true;
            self.grpc_status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
        }
    }

    /// Whether what follows a response of this status is another protocol (RFC 9113, section 8.5; RFC 8441).
    pub(super) fn becomes_tunnel(&self) -> bool {
        &*self.http.method == "CONNECT" && (200..300).contains(&self.http.status)
    }
}

/// `application/grpc`, alone or with the name of an encoding (gRPC over HTTP/2, "Requests"). The variant for browsers has
/// its trailers in the content, where they are not read: that is HTTP.
fn is_grpc(fields: &Fields) -> bool {
    fields
        .get(Known::ContentType)
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

fn is_grpc_web(fields: &Fields) -> bool {
    fields.get(Known::ContentType).is_some_and(|value| value.starts_with(b"application/grpc-web"))
}

/// What the request carries.
pub(super) fn carried(fields: &Fields, read: &Propagation) -> TraceContext {
    let carried = Carried {
        traceparent: fields.get(Known::Traceparent),
        traceparent_count: fields.count(Known::Traceparent),
        has_tracestate: fields.count(Known::Tracestate) > 0,
        b3: B3 {
            single: fields.get(Known::B3),
            trace_id: fields.get(Known::XB3TraceId),
            span_id: fields.get(Known::XB3SpanId),
            sampled: fields.get(Known::XB3Sampled),
            flags: fields.get(Known::XB3Flags),
        },
        has_baggage: fields.count(Known::Baggage) > 0,
    };
    carried.read(|| fields.lines(), read)
}

/// Header fields of calls have other keys than those of HTTP.
fn as_metadata(http: &mut HttpExchange) {
    for (list, from, to) in [
        (&mut http.request_headers, "http.request.header.", "rpc.request.metadata."),
        (&mut http.response_headers, "http.response.header.", "rpc.response.metadata."),
    ] {
        for header in list {
            if let Some(name) = header.key.strip_prefix(from) {
                header.key = format!("{to}{name}").into();
            }
        }
    }
}
