//! Protobuf on the wire, appended to a plain `Vec<u8>`: varints, fields, nested messages, attributes.
//!
//! Direct bytes cost about a twentieth of building message structs first. Lengths of small things are
//! computed before they are written; a message whose length is not known yet is opened with room for a
//! two-byte length and closed with a patch, so the encoding stays canonical (no padded varints).
//! Fields that have their default value are left out, as proto3 encoders do.
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use crate::attribute::AttributeSink;

/// Wire type of length-delimited fields.
const LEN: u32 = 2;

const fn tag(field: u32, wire_type: u32) -> u64 {
    (field << 3 | wire_type) as u64
}

/// Bytes that `value` takes as a varint: 1 to 10.
pub(crate) const fn varint_len(value: u64) -> usize {
    // 9/64 is just above 1/7: exact for every bit count from 1 to 64.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

#[inline]
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag: small magnitudes of either sign become small numbers (`sint32`).
pub(crate) const fn zigzag(value: i32) -> u64 {
    ((value << 1) ^ (value >> 31)) as u32 as u64
}

/// Bytes of a length-delimited field with `len` bytes inside.
pub(crate) const fn field_len(field: u32, len: usize) -> usize {
    varint_len(tag(field, LEN)) + varint_len(len as u64) + len
}

/// Tag and length of a length-delimited field; its bytes follow.
#[inline]
pub(crate) fn header(out: &mut Vec<u8>, field: u32, len: usize) {
    varint(out, tag(field, LEN));
    varint(out, len as u64);
}

#[inline]
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        header(out, field, value.len());
        out.extend_from_slice(value);
    }
}

#[inline]
pub(crate) fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        varint(out, tag(field, 0));
        varint(out, value);
    }
}

#[inline]
pub(crate) fn sint32(out: &mut Vec<u8>, field: u32, value: i32) {
    uint(out, field, zigzag(value));
}

#[inline]
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        fixed64_present(out, field, value);
    }
}

/// A member of a `oneof` or an `optional` field: written whatever its value.
#[inline]
pub(crate) fn fixed64_present(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, tag(field, 1));
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn double_present(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64_present(out, field, value.to_bits());
}

#[inline]
pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        varint(out, tag(field, 5));
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// `repeated fixed64`, `sfixed64` or `double`, packed.
pub(crate) fn packed_fixed64(
    out: &mut Vec<u8>,
    field: u32,
    values: impl ExactSizeIterator<Item = u64>,
) {
    if values.len() != 0 {
        header(out, field, values.len() * 8);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

/// `repeated uint64`, packed.
pub(crate) fn packed_varint(out: &mut Vec<u8>, field: u32, values: &[u64]) {
    if !values.is_empty() {
        header(out, field, values.iter().map(|&value| varint_len(value)).sum());
        values.iter().for_each(|&value| varint(out, value));
    }
}

/// A nested message of a length not known beforehand.
#[inline]
pub(crate) fn message(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    const ROOM: usize = 2; // right for 128..16384 bytes: nearly every span and data point
    varint(out, tag(field, LEN));
    let at = out.len();
    out.extend_from_slice(&[0; ROOM]);
    fill(out);
    let start = at + ROOM;
    let len = out.len() - start;
    if (0x80..0x4000).contains(&len) {
        out[at] = len as u8 | 0x80;
        out[at + 1] = (len >> 7) as u8;
        return;
    }
    let needed = varint_len(len as u64);
    if needed < ROOM {
        out.copy_within(start.., at + needed);
    } else {
        out.resize(at + needed + len, 0);
        out.copy_within(start..start + len, at + needed);
    }
    out.truncate(at + needed + len);
    let mut rest = len as u64;
    for byte in &mut out[at..at + needed] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + needed - 1] &= 0x7f;
}

/// Writes attributes as `repeated KeyValue` (`opentelemetry.proto.common.v1`) under one field number.
pub(crate) struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    tag: u8,
}

impl<'a> Attributes<'a> {
    /// `field` is at most 15, so that its tag is one byte.
    pub(crate) fn new(out: &'a mut Vec<u8>, field: u32) -> Self {
        debug_assert!(field < 16);
        Self { out, tag: (field << 3 | LEN) as u8 }
    }

    /// `KeyValue { key = 1, value = 2 { <any_len bytes, which the caller writes> } }`
    #[inline]
    fn open(&mut self, key: &str, any_len: usize) {
        let len = field_len(1, key.len()) + field_len(2, any_len);
        if len < 0x80 {
            self.out.extend_from_slice(&[self.tag, len as u8, 0x0a, key.len() as u8]);
            self.out.extend_from_slice(key.as_bytes());
            self.out.extend_from_slice(&[0x12, any_len as u8]);
        } else {
            self.out.push(self.tag);
            varint(self.out, len as u64);
            header(self.out, 1, key.len());
            self.out.extend_from_slice(key.as_bytes());
            header(self.out, 2, any_len);
        }
    }
}

// AnyValue: string_value = 1, bool_value = 2, int_value = 3, double_value = 4, array_value = 5. All are
// members of a oneof, hence written even when empty or zero.
impl AttributeSink for Attributes<'_> {
    #[inline]
    fn str(&mut self, key: &str, value: &str) {
        // Nearly every attribute: all lengths take one byte, so it is four copies and no arithmetic.
        if key.len() + value.len() < 0x80 - 6 {
            let (key_len, value_len) = (key.len() as u8, value.len() as u8);
            self.out.extend_from_slice(&[self.tag, key_len + value_len + 6, 0x0a, key_len]);
            self.out.extend_from_slice(key.as_bytes());
            self.out.extend_from_slice(&[0x12, value_len + 2, 0x0a, value_len]);
            self.out.extend_from_slice(value.as_bytes());
            return;
        }
        self.open(key, field_len(1, value.len()));
        header(self.out, 1, value.len());
        self.out.extend_from_slice(value.as_bytes());
    }

    #[inline]
    fn int(&mut self, key: &str, value: i64) {
        self.open(key, 1 + varint_len(value as u64));
        self.out.push(0x18);
        varint(self.out, value as u64);
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.open(key, 2);
        self.out.extend_from_slice(&[0x10, u8::from(value)]);
    }

    fn double(&mut self, key: &str, value: f64) {
        self.open(key, 9);
        double_present(self.out, 4, value);
    }

    fn strs(&mut self, key: &str, values: &[&str]) {
        let any_len = |value: &&str| field_len(1, value.len());
        let array_len = values.iter().map(|value| field_len(1, any_len(value))).sum();
        self.open(key, field_len(5, array_len));
        header(self.out, 5, array_len);
        for value in values {
            header(self.out, 1, any_len(value));
            header(self.out, 1, value.len());
            self.out.extend_from_slice(value.as_bytes());
        }
    }
}

/// One field of a received message.
#[derive(Debug, PartialEq)]
pub(crate) enum Field<'a> {
    /// Varint, fixed32 and fixed64.
    Number(u64),
    Bytes(&'a [u8]),
}

/// Fields of a message in order, as `(number, value)`. Ends at the first byte that is not protobuf: a
/// server's answer is read for what it has, never a reason to fail.
pub(crate) fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Field::Number(read_varint(&mut rest)?),
            1 => Field::Number(u64::from_le_bytes(*take::<8>(&mut rest)?)),
            2 => {
                let len = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(len)?;
                rest = after;
                Field::Bytes(value)
            }
            5 => Field::Number(u32::from_le_bytes(*take::<4>(&mut rest)?).into()),
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(head)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_agrees_with_what_is_written() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1_u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(read_varint(&mut out.as_slice()), Some(value));
            }
        }
    }

    #[test]
    fn message_length_is_canonical_at_every_size_class() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let content = vec![0xab; len];
            let mut out = vec![0x55];
            message(&mut out, 2, |out| out.extend_from_slice(&content));
            let mut expected = vec![0x55];
            header(&mut expected, 2, len);
            expected.extend_from_slice(&content);
            assert!(out == expected, "{len}");
        }
    }

    #[test]
    fn reading_stops_at_truncation_without_panic() {
        let mut whole = Vec::new();
        uint(&mut whole, 1, 300);
        bytes(&mut whole, 2, b"text");
        fixed64(&mut whole, 3, 7);
        fixed32(&mut whole, 4, 8);
        let all: Vec<_> = fields(&whole).collect();
        assert_eq!(
            all,
            [
                (1, Field::Number(300)),
                (2, Field::Bytes(b"text")),
                (3, Field::Number(7)),
                (4, Field::Number(8))
            ]
        );
        for cut in 0..whole.len() {
            assert!(fields(&whole[..cut]).count() < all.len());
        }
    }
}
