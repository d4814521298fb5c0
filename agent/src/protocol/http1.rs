//! HTTP/1.x message heads (RFC 9112): start line, the fields that a span or the framing needs, and
//! which framing follows. Fields that mean nothing to either are stepped over, so a head that some
//! recipient would refuse is still told: it is the recipient's answer that matters.

mod framing;

use memchr::memchr;

pub use self::framing::{ContentLength, Framing, RequestKind, TransferCoding};
use super::Parse;
use crate::trace_context::B3;

/// Longest method that is taken for one. The longest registered one has 16 bytes.
pub const MAX_METHOD_LEN: usize = 32;

/// Why bytes are not the head of an HTTP/1.x message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotHttp {
    /// No token of acceptable length followed by a space.
    Method,
    /// Control characters in the start line, or no target.
    Target,
    /// The start line does not name `HTTP/1.x`.
    Version,
    /// Not three digits between 100 and 999 (RFC 9110 section 15).
    Status,
}

impl NotHttp {
    /// The value of a `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::Version => "version",
            Self::Status => "status",
        }
    }
}

/// A request's head; everything borrows from the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'a> {
    pub method: &'a [u8],
    /// As on the wire, never empty (RFC 9112 section 3.2: any of its four forms).
    pub target: &'a [u8],
    /// `x` of `HTTP/1.x`.
    pub minor: u8,
    pub fields: Fields<'a>,
}

/// A response's head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response<'a> {
    pub minor: u8,
    /// 100 to 999.
    pub status: u16,
    pub fields: Fields<'a>,
}

/// The fields of a head that are of use. Of a field that occurs more than once the first is kept,
/// where nothing else is said; values are without surrounding whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Fields<'a> {
    /// All field lines, for [`Fields::lines`].
    block: &'a [u8],
    pub content_length: ContentLength,
    pub transfer_coding: TransferCoding,
    pub host: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub forwarded: Option<&'a [u8]>,
    pub x_forwarded_for: Option<&'a [u8]>,
    pub x_forwarded_proto: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
    /// `traceparent` fields in the head; more than one makes it invalid.
    pub traceparent_count: u8,
    /// `tracestate` fields in the head; several are one list.
    pub tracestate_count: u8,
    pub b3: B3<'a>,
    /// There are `baggage` fields; several are one list.
    pub has_baggage: bool,
    /// There is an identifier that is always kept ([`IDENTIFIERS`]).
    pub has_identifier: bool,
}

/// Fields of requests by which requests are told apart, in this or another system, in lower case.
pub const IDENTIFIERS: [&str; 5] =
    ["b3", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-request-id"];

/// Which of the two a message's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

/// Tells from the first bytes whether a head that begins here can only be a request's or a
/// response's; `None` as long as both are possible (`H`). A method cannot contain `/`.
#[must_use]
pub fn side(input: &[u8]) -> Option<Side> {
    const RESPONSE: &[u8] = b"HTTP/";
    let common = input.len().min(RESPONSE.len());
    match (input[..common] == RESPONSE[..common], common == RESPONSE.len()) {
        (true, true) => Some(Side::Response),
        (true, false) => None,
        (false, _) => Some(Side::Request),
    }
}

/// Bytes of empty lines at the start of `input`, which a recipient skips before a start line
/// (RFC 9112 section 2.2). A `CR` at the very end is left: it may be half a line end.
#[must_use]
pub fn empty_lines(input: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &input[at..] {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => return at,
        }
    }
}

/// The head of a request at the start of `input`.
#[must_use]
pub fn request(input: &[u8]) -> Parse<Request<'_>, NotHttp> {
    match request_line(input) {
        Parse::Parsed { value: (method, target, minor), used } => match fields(&input[used..]) {
            Some((fields, len)) => {
                Parse::Parsed { value: Request { method, target, minor, fields }, used: used + len }
            }
            None => Parse::NeedMore,
        },
        Parse::NeedMore => Parse::NeedMore,
        Parse::NotThis(reason) => Parse::NotThis(reason),
    }
}

/// The head of a response at the start of `input`.
#[must_use]
pub fn response(input: &[u8]) -> Parse<Response<'_>, NotHttp> {
    match status_line(input) {
        Parse::Parsed { value: (minor, status), used } => match fields(&input[used..]) {
            Some((fields, len)) => {
                Parse::Parsed { value: Response { minor, status, fields }, used: used + len }
            }
            None => Parse::NeedMore,
        },
        Parse::NeedMore => Parse::NeedMore,
        Parse::NotThis(reason) => Parse::NotThis(reason),
    }
}

/// What is left of a request's head whose end was not captured: the start line and the complete
/// field lines of `input`. `None` without a complete start line.
#[must_use]
pub fn cut_request(input: &[u8]) -> Option<Request<'_>> {
    let Parse::Parsed { value: (method, target, minor), used } = request_line(input) else {
        return None;
    };
    Some(Request { method, target, minor, fields: cut_fields(&input[used..]) })
}

/// As [`cut_request`], for a response.
#[must_use]
pub fn cut_response(input: &[u8]) -> Option<Response<'_>> {
    let Parse::Parsed { value: (minor, status), used } = status_line(input) else {
        return None;
    };
    Some(Response { minor, status, fields: cut_fields(&input[used..]) })
}

/// `method SP target SP HTTP/1.x` and the line's end. Whitespace inside the target is kept: invalid
/// as it is, some servers take it, and those that do not answer 400, which is an exchange too.
fn request_line(input: &[u8]) -> Parse<(&[u8], &[u8], u8), NotHttp> {
    let window = &input[..input.len().min(MAX_METHOD_LEN + 1)];
    let Some(method_len) = window.iter().position(|&byte| !is_token(byte)) else {
        return if window.len() > MAX_METHOD_LEN {
            Parse::NotThis(NotHttp::Method)
        } else {
            Parse::NeedMore
        };
    };
    if method_len == 0 || input[method_len] != b' ' {
        return Parse::NotThis(NotHttp::Method);
    }
    let rest = &input[method_len + 1..];
    let Some((line, used)) = line(rest) else {
        // `CR` may be the first half of the line's end, so the last byte does not count.
        let seen = &rest[..rest.len().saturating_sub(1)];
        return if seen.iter().any(|&byte| is_control(byte)) {
            Parse::NotThis(NotHttp::Target)
        } else {
            Parse::NeedMore
        };
    };
    let Some((target, version)) = line.len().checked_sub(8).map(|at| line.split_at(at)) else {
        return Parse::NotThis(NotHttp::Version);
    };
    let Some(minor) = version_minor(version) else {
        return Parse::NotThis(NotHttp::Version);
    };
    match target {
        [target @ .., b' '] if !target.is_empty() && target[0] != b' ' => {
            if target.iter().any(|&byte| is_control(byte)) {
                return Parse::NotThis(NotHttp::Target);
            }
            let value = (&input[..method_len], target, minor);
            Parse::Parsed { value, used: method_len + 1 + used }
        }
        _ => Parse::NotThis(NotHttp::Target),
    }
}

/// `HTTP/1.x SP status`, anything up to the line's end.
fn status_line(input: &[u8]) -> Parse<(u8, u16), NotHttp> {
    const SHAPE: &[u8; 7] = b"HTTP/1.";
    let common = input.len().min(SHAPE.len());
    if input[..common] != SHAPE[..common] {
        return Parse::NotThis(NotHttp::Version);
    }
    let Some((line, used)) = line(input) else {
        return match input.get(7..12) {
            Some(rest) if status(rest).is_none() => Parse::NotThis(NotHttp::Status),
            _ => Parse::NeedMore,
        };
    };
    let end_ok = matches!(line.get(12), None | Some(b' ' | b'\t'));
    match line.get(7..12).and_then(status).filter(|_| end_ok) {
        Some(value) => Parse::Parsed { value, used },
        None => Parse::NotThis(NotHttp::Status),
    }
}

/// `x SP nnn`.
fn status(bytes: &[u8]) -> Option<(u8, u16)> {
    match bytes {
        [minor @ b'0'..=b'9', b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some((minor - b'0', digit(*a) * 100 + digit(*b) * 10 + digit(*c)))
        }
        _ => None,
    }
}

fn version_minor(version: &[u8]) -> Option<u8> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => Some(minor - b'0'),
        _ => None,
    }
}

/// The line at the start of `input` without its end (`CRLF`, or a bare `LF` as RFC 9112 section 2.2
/// allows), and its length with it.
fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr(b'\n', input)?;
    Some((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), end + 1))
}

/// All field lines and the empty line that ends them; `None` if that one is not there yet.
fn fields(input: &[u8]) -> Option<(Fields<'_>, usize)> {
    let mut fields = Fields::default();
    let mut at = 0;
    loop {
        let (line, used) = line(&input[at..])?;
        at += used;
        if line.is_empty() {
            fields.block = &input[..at];
            return Some((fields, at));
        }
        fields.take(line);
    }
}

fn cut_fields(input: &[u8]) -> Fields<'_> {
    let mut fields = Fields::default();
    let mut at = 0;
    while let Some((line, used)) = line(&input[at..]) {
        at += used;
        fields.take(line);
    }
    fields.block = &input[..at];
    fields
}

/// Name and value of a field line. Whitespace before the colon is forgiven; a folded line has no
/// name and is stepped over (RFC 9112 section 5.2 has servers refuse it).
fn name_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.first().is_none_or(|&byte| byte == b' ' || byte == b'\t') {
        return None;
    }
    Some((name.trim_ascii_end(), value.trim_ascii()))
}

impl<'a> Fields<'a> {
    /// Every field in order, as `(name, value)`.
    pub fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.block.split(|&byte| byte == b'\n').filter_map(name_value)
    }

    fn take(&mut self, line: &'a [u8]) {
        // Most fields are of no use: their first byte and length say so without looking at the rest.
        let Some(&first) = line.first() else { return };
        if !matches!(first | 0x20, b'b' | b'c' | b'f' | b'h' | b't' | b'u' | b'x') {
            return;
        }
        let Some((name, value)) = name_value(line) else { return };
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"b3") => self.keep_identifier(|b3| &mut b3.single, value),
            4 if is(b"host") => keep_first(&mut self.host, value),
            7 if is(b"baggage") => self.has_baggage = true,
            9 if is(b"forwarded") => keep_first(&mut self.forwarded, value),
            10 if is(b"user-agent") => keep_first(&mut self.user_agent, value),
            10 if is(b"tracestate") => {
                self.tracestate_count = self.tracestate_count.saturating_add(1);
            }
            11 if is(b"traceparent") => {
                self.traceparent_count = self.traceparent_count.saturating_add(1);
                keep_first(&mut self.traceparent, value);
            }
            10 if is(b"x-b3-flags") => keep_first(&mut self.b3.flags, value),
            11 if is(b"x-b3-spanid") => self.keep_identifier(|b3| &mut b3.span_id, value),
            12 if is(b"x-b3-traceid") => self.keep_identifier(|b3| &mut b3.trace_id, value),
            12 if is(b"x-b3-sampled") => self.keep_identifier(|b3| &mut b3.sampled, value),
            12 if is(b"x-request-id") => self.has_identifier = true,
            14 if is(b"content-length") => self.content_length.add(value),
            15 if is(b"x-forwarded-for") => keep_first(&mut self.x_forwarded_for, value),
            17 if is(b"x-forwarded-proto") => keep_first(&mut self.x_forwarded_proto, value),
            17 if is(b"transfer-encoding") => self.transfer_coding.add(value),
            _ => {}
        }
    }

    fn keep_identifier(
        &mut self,
        of: for<'b> fn(&'b mut B3<'a>) -> &'b mut Option<&'a [u8]>,
        value: &'a [u8],
    ) {
        keep_first(of(&mut self.b3), value);
        self.has_identifier = true;
    }
}

fn keep_first<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    slot.get_or_insert(value);
}

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z')
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

#[cfg(test)]
mod tests;
