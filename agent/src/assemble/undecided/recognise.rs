//! What the first bytes of a client tell of the protocol.

use super::{super::http2::Beginning, Spoken};
use crate::protocol::{Parse, Sure, http1, http2, postgres, redis};

/// What the first bytes of a client's tell.
pub(super) enum Recognised {
    Is(Spoken),
    /// More of them, or an answer, will tell.
    MayBe,
    No,
}

/// What a client that sends `bytes` first, or first since the connection was `joined`, speaks.
pub(super) fn recognise(bytes: &[u8], joined: bool) -> Recognised {
    let mut may_be = false;
    match http2::opens(bytes) {
        Parse::Parsed { .. } => return Recognised::Is(Spoken::Http2(Beginning::Preface)),
        Parse::NeedMore => may_be = true,
        Parse::NotThis(()) => {}
    }
    match redis::looks_like_commands(bytes) {
        Parse::Parsed { value: Sure::Yes, .. } => return Recognised::Is(Spoken::Redis),
        Parse::Parsed { value: Sure::IfAnswered, .. } | Parse::NeedMore => may_be = true,
        Parse::NotThis(_) => {}
    }
    match postgres::opens(bytes) {
        Parse::Parsed { .. } => return Recognised::Is(Spoken::Postgres { begins: true }),
        Parse::NeedMore => may_be = true,
        Parse::NotThis(_) => {}
    }
    if joined && postgres::looks_like_requests(bytes) {
        return Recognised::Is(Spoken::Postgres { begins: false });
    }
    if may_be { Recognised::MayBe } else { Recognised::No }
}

/// Whether a request begins here, whatever the protocol: it is counted although its connection is not followed.
pub(in crate::assemble) fn begins_request(bytes: &[u8]) -> bool {
    http1::cut_request(bytes).is_some() || matches!(recognise(bytes, true), Recognised::Is(_))
}

/// How many bytes of a record header [`is_tls`] looks at.
pub(super) const TLS_HEADER_LEN: usize = 3;

/// A TLS record header (RFC 8446 section 5.1): content type 20 to 23, legacy version 3.x.
pub(super) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}
