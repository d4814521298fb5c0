//! What of a message's head may be written to a file: the start line without credentials, the fields
//! that spans and framing are made of ([`http1::Fields`]), and every line's end. Everything else is
//! overwritten in place, so that lengths and positions stay and the head parses as it did.
//!
//! Fields are kept by a list of those that are needed, not blanked by a list of those that are secret:
//! a credential in a field that nobody has heard of is as safe as one in `Authorization`.
//!
//! A head comes in pieces that are cut anywhere, and each piece is written before the next one is seen.
//! That is possible because a name always stands before its secret. Two things are known too late, and
//! are blanked rather than kept: userinfo, once a port that is no number gives it away, and an unknown
//! method in a start line that is itself cut, or behind a loss, which may as well be content, or
//! another protocol.
//!
//! [`http1::Fields`]: crate::protocol::http1::Fields

mod host;

use memchr::memchr;

use self::host::{Host, blank_userinfo};
use crate::semantics::{
    http::{begins_common_method, is_common_method},
    redact,
};

/// What bytes are overwritten with. No field name, no colon, no digit; and it prints.
const BLANK: u8 = b'x';

/// The fields of a request that are kept.
const REQUEST_FIELDS: &[&[u8]] = &[
    b"content-length",
    b"forwarded",
    b"host",
    b"traceparent",
    b"tracestate",
    b"transfer-encoding",
    b"user-agent",
    b"x-forwarded-for",
    b"x-forwarded-proto",
];
const RESPONSE_FIELDS: &[&[u8]] = &[b"content-length", b"transfer-encoding", b"upgrade"];

const LONGEST_FIELD: usize = 17;
/// A parameter with a longer name is taken for a secret.
const LONGEST_PARAMETER: usize = 1024;
/// As `http1::MAX_METHOD_LEN`, and the byte that ends it.
const LONGEST_METHOD: usize = 33;

/// Where in a head the next byte falls, and what of it is kept.
#[derive(Clone, Debug)]
pub(crate) struct HeadMask {
    at: At,
    is_response: bool,
    /// The method, then the name of the parameter, then that of the field.
    name: Vec<u8>,
    /// How much of ` HTTP/1.` has come; in a target, where it may be its end.
    version: usize,
    host: Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Line ends before the head, or as many bytes of `HTTP/`.
    Begin(usize),
    Method,
    /// The first byte of a target, or in what may be its scheme.
    Target,
    Scheme {
        slashes: u8,
    },
    Authority,
    Path,
    /// In a parameter of a path or a query.
    Name {
        query: bool,
    },
    Value {
        query: bool,
    },
    Secret {
        query: bool,
    },
    /// To the end of the start line nothing is kept, if that is not its version.
    Nothing,
    /// A status line behind `HTTP/`, with how many bytes came before.
    Status(usize),
    /// The name of a field; whether only whitespace may follow.
    Field {
        ended: bool,
    },
    /// To the end of the line: a value that is kept, or one that is an authority, or nothing.
    Kept,
    HostValue,
    Blanked,
}

impl HeadMask {
    pub(crate) fn new() -> Self {
        Self {
            at: At::Begin(0),
            is_response: false,
            name: Vec::new(),
            version: 0,
            host: Host::default(),
        }
    }

    /// Writes what is kept of `bytes`, which go on where the last ones ended, to `out`. Both have one
    /// length.
    ///
    /// `certain` says that a whole start line begins here, and that it cannot be anything else.
    pub(crate) fn mask(&mut self, bytes: &[u8], certain: bool, out: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let room = &mut out[at..bytes.len()];
            at += match self.at {
                At::Field { ended: false } if self.name.is_empty() => self.line(rest, room),
                At::Kept | At::HostValue | At::Blanked => self.rest_of_line(rest, room),
                At::Authority => self.authority(rest, room),
                _ => {
                    room[0] = self.byte(rest[0], certain);
                    1
                }
            };
        }
    }

    /// The rest of a head that turned out to be none: bytes of the same class.
    pub(crate) fn junk(bytes: &[u8], out: &mut [u8]) {
        for (&byte, out) in bytes.iter().zip(out) {
            *out = match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => BLANK,
                0x80.. => 0x80,
                _ => byte,
            };
        }
    }

    /// A field line of which nothing has come, at once if all of it is there.
    fn line(&mut self, rest: &[u8], out: &mut [u8]) -> usize {
        let Some(end) = memchr(b'\n', rest) else {
            out[0] = self.byte(rest[0], false);
            return 1;
        };
        let line = &rest[..end];
        let out = &mut out[..=end];
        let name = memchr(b':', line).map(|colon| line[..colon].trim_ascii_end());
        match name.and_then(|name| self.known(name)) {
            Some(b"host") => {
                out.copy_from_slice(&rest[..=end]);
                blank_userinfo(out);
            }
            Some(_) => out.copy_from_slice(&rest[..=end]),
            None => {
                out.fill(BLANK);
                keep_line_end(line, out);
            }
        }
        end + 1
    }

    fn known(&self, name: &[u8]) -> Option<&'static [u8]> {
        let mut fields = self.fields().iter();
        fields.find(|field| field.eq_ignore_ascii_case(name)).copied()
    }

    fn fields(&self) -> &'static [&'static [u8]] {
        if self.is_response { RESPONSE_FIELDS } else { REQUEST_FIELDS }
    }

    /// A value, to the end of the line or of what there is.
    fn rest_of_line(&mut self, rest: &[u8], out: &mut [u8]) -> usize {
        let end = memchr(b'\n', rest);
        let used = end.map_or(rest.len(), |end| end + 1);
        let (rest, out) = (&rest[..used], &mut out[..used]);
        match self.at {
            At::Kept => out.copy_from_slice(rest),
            At::HostValue => self.host.mask(rest, out),
            _ => {
                for (&byte, out) in rest.iter().zip(&mut *out) {
                    *out = if matches!(byte, b'\r' | b'\n') { byte } else { BLANK };
                }
            }
        }
        if end.is_some() {
            self.field_begins();
        }
        used
    }

    fn field_begins(&mut self) {
        self.name.clear();
        self.host = Host::default();
        self.at = At::Field { ended: false };
    }

    /// An authority within a target, as far as it goes.
    fn authority(&mut self, rest: &[u8], out: &mut [u8]) -> usize {
        let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b' ') || is_control(*byte);
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        self.host.mask(&rest[..end], &mut out[..end]);
        let Some(&ended_by) = rest.get(end) else { return end };
        self.at = if matches!(ended_by, b'/' | b'?' | b'#') { At::Path } else { At::Nothing };
        out[end] = self.byte(ended_by, true);
        end + 1
    }

    fn byte(&mut self, byte: u8, certain: bool) -> u8 {
        match self.at {
            At::Begin(matched) => self.begin(byte, matched, certain),
            At::Method => self.method(byte, certain),
            At::Status(before) => self.status(byte, before),
            At::Field { ended } => self.field(byte, ended),
            At::Kept | At::HostValue | At::Blanked | At::Authority => unreachable!("taken at once"),
            _ => self.target(byte),
        }
    }

    fn method(&mut self, byte: u8, certain: bool) -> u8 {
        let name = |name: &[u8]| std::str::from_utf8(name).is_ok_and(is_common_method);
        if byte == b' ' {
            self.at = match &*self.name {
                b"CONNECT" => At::Authority,
                method if certain || name(method) => At::Target,
                _ => At::Nothing,
            };
            return byte;
        }
        if self.name.len() >= LONGEST_METHOD || is_control(byte) {
            self.at = At::Nothing;
            return byte;
        }
        self.name.push(byte);
        let known = std::str::from_utf8(&self.name).is_ok_and(begins_common_method);
        match byte {
            _ if certain || known => byte,
            b'A'..=b'Z' => BLANK.to_ascii_uppercase(), // a first word is recognised by them
            b'a'..=b'z' | b'0'..=b'9' => BLANK,
            _ => byte,
        }
    }

    fn begin(&mut self, byte: u8, matched: usize, certain: bool) -> u8 {
        const RESPONSE: &[u8] = b"HTTP/";
        match byte {
            b'\r' | b'\n' if matched == 0 => {}
            _ if byte == RESPONSE[matched] && matched + 1 == RESPONSE.len() => {
                self.is_response = true;
                self.at = At::Status(RESPONSE.len());
            }
            _ if byte == RESPONSE[matched] => self.at = At::Begin(matched + 1),
            _ => {
                self.name.extend_from_slice(&RESPONSE[..matched]);
                self.at = At::Method;
                return self.byte(byte, certain);
            }
        }
        byte
    }

    /// `HTTP/1.x nnn`; what follows says nothing that is needed.
    fn status(&mut self, byte: u8, before: usize) -> u8 {
        self.at = At::Status(before.saturating_add(1));
        match byte {
            b'\n' => {
                self.field_begins();
                byte
            }
            b'\r' | b' ' | b'\t' => byte,
            b'0'..=b'9' | b'.' if before < 12 => byte,
            _ => BLANK,
        }
    }

    /// A byte of a target, and what it means for the next one. A target ends where the line ends with
    /// a space and a version; there may be spaces in it.
    fn target(&mut self, byte: u8) -> u8 {
        const VERSION: &[u8] = b" HTTP/1.";
        if byte == b'\n' {
            self.field_begins();
            return byte;
        }
        self.version = match self.version {
            matched if matched < VERSION.len() && byte == VERSION[matched] => matched + 1,
            matched if matched == VERSION.len() && byte.is_ascii_digit() => matched + 1,
            _ => usize::from(byte == b' '),
        };
        let kept = self.target_part(byte);
        // A constant tells nothing, wherever it stands; whitespace tells as little.
        if self.version > 0 || is_control(byte) { byte } else { kept }
    }

    fn target_part(&mut self, byte: u8) -> u8 {
        let (next, kept) = match self.at {
            At::Target if matches!(byte, b'/' | b'*') => (At::Path, true),
            At::Target if byte.is_ascii_alphabetic() => (At::Scheme { slashes: 0 }, true),
            At::Target => return self.path(byte),
            At::Scheme { slashes } => match (slashes, byte) {
                (0, b':') => (At::Scheme { slashes: 1 }, true),
                (1, b'/') => (At::Scheme { slashes: 2 }, true),
                (2, b'/') => (At::Authority, true),
                (0, _) if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => (self.at, true),
                _ => return self.path(byte),
            },
            At::Path => return self.path(byte),
            At::Name { query } => return self.parameter_name(byte, query),
            At::Value { query } => (self.after_value(byte, query).unwrap_or(self.at), true),
            At::Secret { query } => match self.after_value(byte, query) {
                Some(At::Name { query: true }) if byte == b';' => (self.at, false),
                Some(next) => (next, true),
                None => (self.at, false),
            },
            _ => (self.at, false),
        };
        self.at = next;
        if kept { byte } else { BLANK }
    }

    fn path(&mut self, byte: u8) -> u8 {
        self.at = match byte {
            b'?' => self.parameter_begins(true),
            b';' => self.parameter_begins(false),
            b'#' => At::Nothing,
            _ => At::Path,
        };
        byte
    }

    fn parameter_begins(&mut self, query: bool) -> At {
        self.name.clear();
        At::Name { query }
    }

    fn parameter_name(&mut self, byte: u8, query: bool) -> u8 {
        if byte == b'=' {
            let long = self.name.len() >= LONGEST_PARAMETER;
            let secret = long || redact::is_sensitive(&String::from_utf8_lossy(&self.name));
            self.at = if secret { At::Secret { query } } else { At::Value { query } };
        } else if let Some(next) = self.after_value(byte, query) {
            self.at = next;
        } else if self.name.len() < LONGEST_PARAMETER {
            self.name.push(byte);
        }
        byte
    }

    /// What `byte` begins, if it ends a parameter.
    fn after_value(&mut self, byte: u8, query: bool) -> Option<At> {
        match (byte, query) {
            (b'#', _) => Some(At::Nothing),
            (b'&' | b';', true) => Some(self.parameter_begins(true)),
            (b';', false) => Some(self.parameter_begins(false)),
            (b'?', false) => Some(self.parameter_begins(true)),
            (b'/', false) => Some(At::Path),
            _ => None,
        }
    }

    /// A byte of a field's name that came in pieces: kept as long as it may be one that is known.
    fn field(&mut self, byte: u8, ended: bool) -> u8 {
        match byte {
            b'\n' => self.field_begins(),
            b':' => match self.known(&self.name) {
                Some(b"host") => self.at = At::HostValue,
                Some(_) => self.at = At::Kept,
                None => {
                    self.at = At::Blanked;
                    return BLANK;
                }
            },
            b'\r' if self.name.is_empty() => self.name.push(b'\r'), // half of the head's end
            b'\r' | b' ' | b'\t' | 0x0c if self.known(&self.name).is_some() => {
                self.at = At::Field { ended: true };
            }
            _ => {
                self.name.push(byte.to_ascii_lowercase());
                let is_start = |field: &&[u8]| field.starts_with(&self.name);
                let known = self.name.len() <= LONGEST_FIELD && self.fields().iter().any(is_start);
                if ended || !known {
                    self.at = At::Blanked;
                    return if byte == b'\r' { byte } else { BLANK };
                }
            }
        }
        byte
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Copies the end of `line`, which lies behind it.
fn keep_line_end(line: &[u8], out: &mut [u8]) {
    out[line.len()] = b'\n';
    if line.last() == Some(&b'\r') {
        out[line.len() - 1] = b'\r';
    }
}

#[cfg(test)]
mod tests;
