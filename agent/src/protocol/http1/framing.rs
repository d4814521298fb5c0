//! How far a message's content reaches, by the fields of its head (RFC 9112 section 6.3).

use super::{Request, Response};

/// `Content-Length` over all of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ContentLength {
    #[default]
    Absent,
    /// One value, or several that are equal (RFC 9112 section 6.3, rule 5).
    Is(u64),
    /// Not a number, too large, or contradictory.
    Invalid,
}

/// `Transfer-Encoding` over all of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TransferCoding {
    #[default]
    Absent,
    /// `chunked` is the final coding.
    Chunked,
    /// Something else is.
    Other,
}

/// How far a message's content reaches (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The message ends with its head.
    None,
    Length(u64),
    Chunked,
    /// To the end of the connection.
    UntilClose,
    /// The head contradicts itself; a recipient must not go on.
    Unknown,
    /// What follows is not HTTP any more: a successful `CONNECT`, or `101 Switching Protocols`.
    Tunnel,
}

/// What the framing of a response depends on in its request (RFC 9112 section 6.3, rules 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RequestKind {
    Head,
    Connect,
    #[default]
    Other,
}

impl RequestKind {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

impl ContentLength {
    /// One more field: a number, or a list of equal ones.
    pub(super) fn add(&mut self, value: &[u8]) {
        for member in value.split(|&byte| byte == b',') {
            *self = match (*self, decimal(member.trim_ascii())) {
                (Self::Absent, Some(number)) => Self::Is(number),
                (Self::Is(before), Some(number)) if before == number => Self::Is(number),
                _ => Self::Invalid,
            };
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    })
}

impl TransferCoding {
    /// One more field: its last coding is the last that was applied.
    pub(super) fn add(&mut self, value: &[u8]) {
        let codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        // `identity` changes nothing (RFC 2616 section 3.6), and is sent still: it is as if it was not there.
        let is_none = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
        for coding in codings.filter(|coding| !is_none(coding)) {
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            *self = if is_chunked { Self::Chunked } else { Self::Other };
        }
    }
}

impl Request<'_> {
    /// RFC 9112 section 6.3 for requests.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match (self.fields.transfer_coding, self.fields.content_length) {
            (TransferCoding::Chunked, _) => Framing::Chunked,
            (TransferCoding::Other, _) | (_, ContentLength::Invalid) => Framing::Unknown,
            (TransferCoding::Absent, ContentLength::Is(0) | ContentLength::Absent) => Framing::None,
            (TransferCoding::Absent, ContentLength::Is(len)) => Framing::Length(len),
        }
    }
}

impl Response<'_> {
    /// Whether another response to the same request follows (RFC 9110 section 15.2).
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// RFC 9112 section 6.3 for a response to a request of `kind`.
    #[must_use]
    pub fn framing(&self, kind: RequestKind) -> Framing {
        match (kind, self.status) {
            (_, 101) => return Framing::Tunnel,
            (RequestKind::Head, _) | (_, 100..=199 | 204 | 304) => return Framing::None,
            (RequestKind::Connect, 200..=299) => return Framing::Tunnel,
            _ => {}
        }
        match (self.fields.transfer_coding, self.fields.content_length) {
            (TransferCoding::Chunked, _) => Framing::Chunked,
            (TransferCoding::Absent, ContentLength::Is(0)) => Framing::None,
            (TransferCoding::Absent, ContentLength::Is(len)) => Framing::Length(len),
            // To the end of the connection by the standard, and by the length for recipients that do not know better.
            (TransferCoding::Other, ContentLength::Is(_)) => Framing::Unknown,
            _ => Framing::UntilClose,
        }
    }
}
