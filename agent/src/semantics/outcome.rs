//! How an exchange ended: what a person reads of it, and what failures of the transport are called.

use std::borrow::Cow;

use crate::{exchange::Failure, protocol::http2::code_name};

/// How a request ended, in a word: `200`, `ok`, `err`, `-` without a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub text: Cow<'static, str>,
    pub tone: Tone,
}

/// How good that is, where it is no error of the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Refused,
    Neutral,
}

/// `error.type` of a transport failure: a closed set.
#[must_use]
pub const fn failure_name(failure: Failure) -> &'static str {
    match failure {
        Failure::Closed => "connection_closed",
        Failure::Reset => "connection_reset",
        Failure::TimedOut => "timeout",
        Failure::StreamReset(code) => match code_name(code) {
            Some(name) => name,
            None => "_OTHER",
        },
        Failure::Errno(errno) => match errno {
            libc::EHOSTUNREACH => "host_unreachable",
            libc::ENETUNREACH => "network_unreachable",
            libc::ENETDOWN => "network_down",
            libc::ECONNREFUSED => "connection_refused",
            libc::ECONNABORTED => "connection_aborted",
            libc::ENOTCONN => "not_connected",
            libc::ENOBUFS | libc::ENOMEM => "no_memory",
            libc::EPROTO => "protocol_error",
            _ => "_OTHER",
        },
    }
}
