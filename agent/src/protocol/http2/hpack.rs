//! Header blocks (RFC 7541): fields as they come, in pieces that are cut anywhere.
//!
//! Whatever is lost of a block leaves the table behind it unknown ([`Decoder::forget`]); decoding goes on, and what refers
//! to entries that were not seen is an unknown field.

use super::{
    fields::{Fields, Known},
    huffman,
    mask::{self, Told},
    table::{Found, Table},
};
use crate::protocol::Keep;

/// The bytes are no header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A string of a representation: where its bytes are, which may be beyond those that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) huffman: bool,
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Text {
    pub(super) const fn len(self) -> usize {
        self.end - self.begin
    }
}

/// What a representation is (RFC 7541, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Indexed,
    Literal { insert: bool },
    Resize,
}

/// How the bytes of a representation are to be read, as far as they have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    kind: Kind,
    /// Of the field or its name; 0 with a name of its own. The size of a [`Kind::Resize`].
    index: u64,
    pub(super) name: Option<Text>,
    pub(super) value: Option<Text>,
    /// Behind its last byte, once that is known.
    end: Option<usize>,
}

/// Decodes the blocks of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// The beginning of a representation whose end has not come.
    partial: Vec<u8>,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// `begins`: no block came before.
    pub(super) fn new(begins: bool) -> Self {
        Self { table: Table::new(begins), partial: Vec::new(), name: Vec::new(), value: Vec::new() }
    }

    /// Blocks, or parts of one, were lost.
    pub(super) fn forget(&mut self) {
        self.table.forget();
        self.partial = Vec::new();
    }

    /// The block is over; whether that is where a representation ends.
    pub(super) fn ends(&mut self) -> bool {
        let whole = self.partial.is_empty();
        self.partial = Vec::new();
        whole
    }

    /// More of a block: what `bytes` hold in `from..to`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        from: usize,
        to: usize,
        keep: &mut impl Keep,
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        let mut at = from;
        while at < to {
            if self.partial.is_empty() {
                let rest = &bytes[at..to];
                let told = Told { from: 0, at };
                match self.representation(rest, told, keep, fields)? {
                    Some(used) => at += used,
                    None => {
                        self.partial.extend_from_slice(rest);
                        return Ok(());
                    }
                }
                continue;
            }
            let mut partial = std::mem::take(&mut self.partial);
            let before = partial.len();
            partial.extend_from_slice(&bytes[at..to]);
            let told = Told { from: before, at };
            match self.representation(&partial, told, keep, fields)? {
                Some(used) => at += used - before,
                None => {
                    self.partial = partial;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The representation that `bytes` begin with; how long it is, `None` if it is longer than they are.
    fn representation(
        &mut self,
        bytes: &[u8],
        told: Told,
        keep: &mut impl Keep,
        fields: &mut Fields,
    ) -> Result<Option<usize>, Malformed> {
        let layout = match layout(bytes) {
            Ok(layout) => layout,
            Err(at) => {
                mask::tell_rest(bytes, at, told, keep);
                return Err(Malformed);
            }
        };
        let name = self.read_name(bytes, &layout);
        let end = layout.end.filter(|&end| end <= bytes.len());
        let value = match (layout.value, end) {
            (Some(text), Some(_)) => read(bytes, text, &mut self.value),
            _ => Ok(()),
        };
        if keep.listens() {
            let known = matches!(name, Ok(true)).then_some(&*self.name);
            let decoded = value.is_ok().then_some(&*self.value);
            let bytes = &bytes[..end.unwrap_or(bytes.len())];
            mask::tell(bytes, told, &layout, known, decoded, name.is_err(), keep);
        }
        let named = name?;
        let Some(end) = end else { return Ok(None) };
        match layout.kind {
            Kind::Resize => self.table.resize(layout.index),
            Kind::Indexed => match self.table.get(layout.index) {
                Found::Field(Some(name), value) => fields.take(name, value),
                Found::Field(None, _) | Found::Unknown => fields.push_unknown(),
                Found::Nothing => return Err(Malformed),
            },
            Kind::Literal { insert } => {
                let name = named.then_some(&*self.name);
                // A string that says nothing is a field's own affair: what follows it can be read.
                let value = match (value, name.and_then(Known::of)) {
                    (Ok(()), _) => Some(&*self.value),
                    // Of one that is hidden a recording cannot tell, if it comes in pieces.
                    (Err(_), Some(known)) if known.may_hide() => Some(&[][..]),
                    (Err(_), _) => None,
                };
                match name {
                    Some(name) => fields.take(name, value),
                    None => fields.push_unknown(),
                }
                if insert {
                    let wire_len = |text: Option<Text>| text.map_or(0, Text::len);
                    let wire_len = wire_len(layout.name) + wire_len(layout.value);
                    self.table.insert(name, value, wire_len);
                }
            }
        }
        Ok(Some(end))
    }

    /// Puts the name of a literal into `self.name`, if it has come; whether it is known.
    fn read_name(&mut self, bytes: &[u8], layout: &Layout) -> Result<bool, Malformed> {
        self.name.clear();
        match (layout.kind, layout.name) {
            (Kind::Literal { .. }, None) if layout.index > 0 => {
                match self.table.get(layout.index) {
                    Found::Field(Some(name), _) => {
                        self.name.extend_from_slice(name);
                        Ok(true)
                    }
                    Found::Field(None, _) | Found::Unknown => Ok(false),
                    Found::Nothing => Err(Malformed),
                }
            }
            (Kind::Literal { .. }, Some(text)) if text.end <= bytes.len() => {
                read(bytes, text, &mut self.name).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

/// Puts a string that has come into `out`.
fn read(bytes: &[u8], text: Text, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let bytes = &bytes[text.begin..text.end];
    out.clear();
    if text.huffman {
        return huffman::decode(bytes, out).then_some(()).ok_or(Malformed);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Strings and sizes beyond this are taken for a mistake.
const MAX_NUMBER: u64 = 1 << 30;

/// Section 6, as far as it can be told. The error is where a number that is none begins.
fn layout(bytes: &[u8]) -> Result<Layout, usize> {
    let mut layout = Layout { kind: Kind::Indexed, index: 0, name: None, value: None, end: None };
    let Some(&first) = bytes.first() else { return Ok(layout) };
    let prefix = match first {
        0x80.. => 7,
        0x40..0x80 => {
            layout.kind = Kind::Literal { insert: true };
            6
        }
        0x20..0x40 => {
            layout.kind = Kind::Resize;
            5
        }
        _ => {
            layout.kind = Kind::Literal { insert: false };
            4
        }
    };
    let Some((index, mut at)) = number(bytes, 0, prefix).map_err(|_| 0_usize)? else {
        return Ok(layout);
    };
    layout.index = index;
    if !matches!(layout.kind, Kind::Literal { .. }) {
        layout.end = Some(at);
        return Ok(layout);
    }
    if index == 0 {
        layout.name = text(bytes, at).map_err(|_| at)?;
        let Some(name) = layout.name else { return Ok(layout) };
        at = name.end;
    }
    layout.value = text(bytes, at).map_err(|_| at)?;
    layout.end = layout.value.map(|value| value.end);
    Ok(layout)
}

/// Section 5.2.
fn text(bytes: &[u8], at: usize) -> Result<Option<Text>, Malformed> {
    let Some((len, begin)) = number(bytes, at, 7)? else { return Ok(None) };
    let Ok(len) = usize::try_from(len) else { return Err(Malformed) };
    Ok(Some(Text { huffman: bytes[at] & 0x80 != 0, begin, end: begin + len }))
}

/// Section 5.1: a number and what comes behind it; `None` if not all of it has come.
fn number(bytes: &[u8], at: usize, prefix: u32) -> Result<Option<(u64, usize)>, Malformed> {
    let Some(&first) = bytes.get(at) else { return Ok(None) };
    let mask = (1_u64 << prefix) - 1;
    let mut value = u64::from(first) & mask;
    if value < mask {
        return Ok(Some((value, at + 1)));
    }
    for (nth, &byte) in bytes[at + 1..].iter().enumerate() {
        if nth > 4 {
            return Err(Malformed);
        }
        value += u64::from(byte & 0x7f) << (7 * nth);
        if byte < 0x80 {
            return if value > MAX_NUMBER {
                Err(Malformed)
            } else {
                Ok(Some((value, at + nth + 2)))
            };
        }
    }
    Ok(None)
}
