//! The values that replies are made of. Nesting needs no stack: what is counted is how many values are still to come.

use memchr::memchr;

use super::{
    number::{Number, Size, Step},
    reply::{At, MAX_STREAMED, Replies, ReplyKind},
    word::{Found, Wanted},
};
use crate::protocol::{Keep, Unframed};

/// Longer than any value.
const MAX_LEN: u64 = 1 << 40;
/// More elements than any aggregate has.
const MAX_ELEMENTS: u64 = u32::MAX as u64;

impl Replies {
    /// A value of this type begins. `false`: there is no such type, or it cannot stand here.
    pub(super) fn begin_value(&mut self, of: u8) -> bool {
        if self.values == 0 {
            // In a streamed aggregate, between its elements.
            if of == b'.' {
                return self.end_streamed();
            }
            self.values = 1;
        }
        self.number = Number::default();
        (self.line_len, self.top) = (0, false);
        let mut wanted = Wanted::Nothing;
        // An attribute is no value: it stands before one.
        if of != b'|' {
            let Some(kind) = kind(of) else { return false };
            let first = std::mem::take(&mut self.first);
            let is_error = kind == ReplyKind::Error;
            if self.kind.is_none() && self.values == 1 && self.depth == 0 {
                self.top = true;
                self.kind = Some(kind);
                self.first = matches!(kind, ReplyKind::Array | ReplyKind::Push);
            } else if kind == ReplyKind::Push {
                return false;
            } else if is_error {
                self.errors = self.errors.saturating_add(1);
            }
            wanted = match kind {
                ReplyKind::Error if self.code.is_none() => Wanted::Code,
                ReplyKind::Simple if self.top || first => Wanted::Word,
                ReplyKind::Bulk if first => Wanted::WholeWord,
                _ => Wanted::Nothing,
            };
        }
        self.text.begin(wanted);
        self.at = match of {
            b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|' => At::Size(of),
            _ => At::Line(of),
        };
        true
    }

    /// More of a count or a length. Whether it ended the reply.
    pub(super) fn size(&mut self, bytes: &[u8], used: &mut usize, keep: &mut impl Keep) -> bool {
        let from = *used;
        while let Some(&byte) = bytes.get(*used) {
            match self.number.push(byte) {
                Step::More => *used += 1,
                Step::Invalid => {
                    keep.keep(from..*used);
                    return self.malformed();
                }
                Step::Done(size) => {
                    *used += 1;
                    keep.keep(from..*used);
                    return self.sized(size).unwrap_or_else(|| self.malformed());
                }
            }
        }
        keep.keep(from..*used);
        false
    }

    fn malformed(&mut self) -> bool {
        self.at = At::Lost(Unframed::Malformed);
        false
    }

    /// Whether the reply ended; `None` if nothing can have that size.
    fn sized(&mut self, size: Size) -> Option<bool> {
        let of = match self.at {
            At::Size(of) => of,
            _ => b';',
        };
        match (of, size) {
            (b'$' | b'*', Size::Null) => {
                if self.top {
                    self.kind = Some(ReplyKind::Null);
                }
                Some(self.end_value())
            }
            (b';', Size::Of(0)) => {
                self.in_parts = false;
                Some(self.end_value())
            }
            (b'$' | b'!' | b'=' | b';', Size::Of(len @ 0..=MAX_LEN)) => {
                self.left = len;
                self.at = if len == 0 { At::Cr } else { At::Data };
                Some(false)
            }
            (b'$', Size::Streamed) => {
                self.text.begin(Wanted::Nothing);
                (self.in_parts, self.at) = (true, At::Part);
                Some(false)
            }
            (b'*' | b'~' | b'>' | b'%' | b'|', Size::Of(count @ 0..=MAX_ELEMENTS)) => {
                let values = if matches!(of, b'%' | b'|') { count * 2 } else { count };
                self.values = self.values.checked_add(values)?;
                if of == b'|' {
                    self.at = At::Type;
                    return Some(false);
                }
                if self.top {
                    self.elements = values;
                }
                Some(self.end_value())
            }
            (b'*' | b'~' | b'%', Size::Streamed) => {
                *self.outer.get_mut(usize::from(self.depth))? = self.values;
                (self.depth, self.values, self.at) = (self.depth + 1, 0, At::Type);
                Some(false)
            }
            _ => None,
        }
    }

    /// `.`: the innermost streamed aggregate has no more elements.
    fn end_streamed(&mut self) -> bool {
        let Some(depth) = self.depth.checked_sub(1).filter(|depth| *depth < MAX_STREAMED as u8)
        else {
            return false;
        };
        (self.depth, self.values) = (depth, self.outer[usize::from(depth)]);
        self.at = At::Cr;
        true
    }

    /// More of a line that is a value.
    pub(super) fn line(
        &mut self,
        of: u8,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> bool {
        let from = *used;
        let rest = &bytes[from..];
        let end = memchr(b'\r', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        if matches!(of, b'+' | b'-') {
            if self.text.is_wanted() {
                let found = self.text.bytes(line, from, keep);
                self.found(found);
            }
        } else {
            for (&byte, at) in line.iter().zip(from..) {
                match scalar(of, byte, self.line_len) {
                    Some(mask) if mask == byte => keep.keep(at..at + 1),
                    Some(mask) => keep.mask(at..at + 1, mask),
                    None => {
                        *used = at;
                        return self.malformed();
                    }
                }
                self.line_len = match byte {
                    // Alone, it is no number.
                    b'+' | b'-' => self.line_len,
                    _ => self.line_len.saturating_add(1),
                };
            }
        }
        *used += line.len();
        if end.is_some() {
            if self.line_len == 0 && !matches!(of, b'+' | b'-' | b'_') {
                return self.malformed();
            }
            keep.keep(*used..*used + 1);
            *used += 1;
            self.at = At::LineEnd;
        }
        false
    }

    /// More of the data in progress.
    pub(super) fn data(&mut self, bytes: &[u8], at: usize, keep: &mut impl Keep) {
        if self.text.is_wanted() {
            let found = self.text.bytes(bytes, at, keep);
            self.found(found);
        }
        self.left -= bytes.len() as u64;
        if self.left == 0 {
            self.at = At::Cr;
        }
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Nothing => {}
            Found::Word(word) => self.word = Some(word),
            Found::Code(code) => self.code = Some(code),
        }
    }

    /// Behind a line end that is not part of a size.
    pub(super) fn end_value_or_part(&mut self) -> bool {
        if self.in_parts {
            self.at = At::Part;
            return false;
        }
        let found = self.text.end();
        self.found(found);
        self.end_value()
    }

    /// Whether it was the last one of the reply.
    fn end_value(&mut self) -> bool {
        self.at = At::Type;
        self.values = self.values.saturating_sub(1);
        self.values == 0 && self.depth == 0
    }
}

/// What stands for a byte of a scalar in a recording; `None` if it cannot be one.
fn scalar(of: u8, byte: u8, before: u8) -> Option<u8> {
    match (of, byte) {
        (b':' | b'(', b'+' | b'-') if before == 0 => Some(byte),
        (b',', b'+' | b'-') => Some(byte),
        (b':' | b'(' | b',', b'0'..=b'9') => Some(b'0'),
        (b',', b'.' | b'e' | b'E' | b'i' | b'n' | b'f' | b'a' | b'N') => Some(b'0'),
        (b'#', b't' | b'f') if before == 0 => Some(b't'),
        _ => None,
    }
}

fn kind(of: u8) -> Option<ReplyKind> {
    Some(match of {
        b'+' => ReplyKind::Simple,
        b'-' | b'!' => ReplyKind::Error,
        b':' => ReplyKind::Integer,
        b'$' => ReplyKind::Bulk,
        b'=' => ReplyKind::Verbatim,
        b'*' => ReplyKind::Array,
        b'%' => ReplyKind::Map,
        b'~' => ReplyKind::Set,
        b'>' => ReplyKind::Push,
        b'_' => ReplyKind::Null,
        b'#' => ReplyKind::Boolean,
        b',' => ReplyKind::Double,
        b'(' => ReplyKind::BigNumber,
        _ => return None,
    })
}
