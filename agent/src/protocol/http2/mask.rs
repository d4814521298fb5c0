//! What of a header block may be written to a file: numbers, the names and values of fields that spans are made of, and
//! of all other strings only how long they are. What is hidden is overwritten in place with zeros, so that the block
//! decodes to as many fields as it did. `0` has the shortest code of all, so that bits of any number are zeros of the
//! text, up to the padding.
//!
//! A block comes in pieces, and each is written before the next one is seen. A string that comes in one piece is judged as
//! a whole; of one that does not, a value that may hold a credential is hidden from its first byte on.

use super::{
    fields::Known,
    hpack::{Layout, Text},
    huffman,
};
use crate::{protocol::Keep, semantics::redact};

/// Of a representation the bytes before `from` were told of already; the next one stands at `at` in the piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) from: usize,
    pub(super) at: usize,
}

impl Told {
    /// Where the bytes `begin..end` of the representation stand in the piece, those of them that are not told of.
    fn range(self, begin: usize, end: usize) -> std::ops::Range<usize> {
        let (begin, end) = (begin.max(self.from), end.max(self.from));
        self.at + (begin - self.from)..self.at + (end - self.from)
    }
}

/// What comes is no representation, for at `number` stands none: it has to be none again. Of a number nothing is secret.
pub(super) fn tell_rest(bytes: &[u8], number: usize, told: Told, keep: &mut impl Keep) {
    /// Longest number that is read to its end, and the byte that makes it one.
    const NUMBER: usize = 7;
    let first = number.min(NUMBER + 1);
    keep_as_it_is(told, 0, first, keep);
    let name = told.range(first, number);
    if !name.is_empty() {
        keep.mask(name, b'0');
    }
    keep_as_it_is(told, number, bytes.len().min(number + NUMBER), keep);
}

/// Tells of `bytes`, which are all that has come of a representation. `name` and `value` are what its strings say;
/// `bad_name`: the name says nothing.
pub(super) fn tell(
    bytes: &[u8],
    told: Told,
    layout: &Layout,
    name: Option<&[u8]>,
    value: Option<&[u8]>,
    bad_name: bool,
    keep: &mut impl Keep,
) {
    let known = name.and_then(Known::of);
    let mut at = 0;
    if let Some(text) = layout.name {
        keep_as_it_is(told, at, text.begin, keep);
        at = text.end.min(bytes.len());
        let in_one = text.begin >= told.from && text.end <= bytes.len();
        match (in_one, bad_name) {
            (true, true) => spoil(told, text.begin, at, keep),
            (true, false) if known.is_none() => hide(bytes, told, text, 0, keep),
            _ => keep_as_it_is(told, text.begin, at, keep),
        }
    }
    let Some(text) = layout.value.filter(|text| text.begin <= bytes.len()) else {
        return keep_as_it_is(told, at, bytes.len(), keep);
    };
    keep_as_it_is(told, at, text.begin, keep);
    let end = text.end.min(bytes.len());
    let in_one = text.begin >= told.from && text.end <= bytes.len();
    let hidden_from = match (known, value) {
        (None, _) => Some(0),
        (Some(known), _) if !known.may_hide() => None,
        (Some(known), Some(value)) if in_one => hidden_for_good(known, value, text),
        (Some(_), _) => Some(0),
    };
    match hidden_from {
        _ if value.is_none() && in_one => spoil(told, text.begin, end, keep),
        None => keep_as_it_is(told, text.begin, end, keep),
        Some(from) if text.huffman => {
            let shown = value.unwrap_or_default().iter().take(from);
            hide(bytes, told, text, shown.map(|&byte| huffman::bits(byte)).sum(), keep);
        }
        Some(from) => hide(bytes, told, text, from * 8, keep),
    }
}

/// From which byte on a value is hidden so that as much of it is hidden when it is read from a recording: what was
/// overwritten may be part of something else that has to be.
fn hidden_for_good(known: Known, value: &[u8], text: Text) -> Option<usize> {
    let mut from = hidden_from(known, value)?;
    loop {
        let shown = &value[..from];
        let hidden = match text.huffman {
            true => {
                let bits: usize = shown.iter().map(|&byte| huffman::bits(byte)).sum();
                (text.len() * 8).saturating_sub(bits) / huffman::bits(b'0')
            }
            false => value.len() - from,
        };
        let recorded = [shown, &vec![b'0'; hidden]].concat();
        match hidden_from(known, &recorded) {
            Some(earlier) if earlier < from => from = earlier,
            _ => return Some(from),
        }
    }
}

/// From which byte on a value has a credential in it.
fn hidden_from(known: Known, value: &[u8]) -> Option<usize> {
    let Ok(text) = std::str::from_utf8(value) else { return Some(0) };
    if known != Known::Path {
        return text.contains('@').then_some(0);
    }
    let (path, query) =
        text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if redact::redact_path(path) != path {
        return Some(path.len().min(1));
    }
    match query {
        Some(query) if redact::redact_query(query) != query => Some(path.len() + 1),
        _ => text.find('#').map(|at| at + 1),
    }
}

fn keep_as_it_is(told: Told, begin: usize, end: usize, keep: &mut impl Keep) {
    let range = told.range(begin, end);
    if !range.is_empty() {
        keep.keep(range);
    }
}

/// Makes it as wrong as it was: more ones than a padding may have.
fn spoil(told: Told, begin: usize, end: usize, keep: &mut impl Keep) {
    let range = told.range(begin, end);
    if !range.is_empty() {
        keep.mask(range, 0xff);
    }
}

/// Overwrites a string from its bit `shown` on.
fn hide(bytes: &[u8], told: Told, text: Text, shown: usize, keep: &mut impl Keep) {
    let end = text.end.min(bytes.len());
    let begin = text.begin.max(told.from);
    if !text.huffman {
        keep_as_it_is(told, text.begin, text.begin + shown / 8, keep);
        let hidden = told.range(text.begin + shown / 8, end);
        if !hidden.is_empty() {
            keep.mask(hidden, b'0');
        }
        return;
    }
    let bits = text.len() * 8;
    let padding = (bits - shown.min(bits)) % 5;
    let byte = |at: usize| {
        let first_bit = (at - text.begin) * 8;
        let shown = shown.saturating_sub(first_bit).min(8) as u32;
        let kept = bytes[at] & !0xff_u8.checked_shr(shown).unwrap_or(0);
        let ones = if first_bit + 8 == bits { !(0xff_u8 << padding) } else { 0 };
        kept | ones
    };
    let mut at = begin;
    while at < end {
        let value = byte(at);
        let same = (at + 1..end).take_while(|&next| byte(next) == value).count();
        keep.mask(told.range(at, at + same + 1), value);
        at += same + 1;
    }
}
