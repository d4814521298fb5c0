//! Finds member offsets in the running kernel's type information (`/sys/kernel/btf/vmlinux`). Reads the
//! format itself: Rust programs carry no CO-RE relocations, and aya does not publish offsets.
//! Format: Documentation/bpf/btf.rst of the kernel.

use std::collections::HashMap;

use remora_common::layout::{ABSENT, KernelLayout};

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("cannot read {VMLINUX} (a kernel built with CONFIG_DEBUG_INFO_BTF is needed)")]
    Read(#[source] std::io::Error),
    #[error("BTF is malformed: {0}")]
    Malformed(&'static str),
}

/// The layout of the running kernel.
///
/// # Errors
/// If there is no BTF or it cannot be understood. A missing member is not an error but
/// [`ABSENT`].
pub fn kernel_layout() -> Result<KernelLayout, BtfError> {
    let bytes = std::fs::read(VMLINUX).map_err(BtfError::Read)?;
    let types = Types::parse(&bytes)?;
    let mut offsets = [ABSENT; KernelLayout::MEMBERS.len()];
    for (offset, (container, path)) in offsets.iter_mut().zip(KernelLayout::MEMBERS) {
        *offset = types.member_offset(container, path).unwrap_or(ABSENT);
    }
    Ok(KernelLayout::from_offsets(&offsets))
}

/// For `fuzzing`: as [`kernel_layout`] of any bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_layout(bytes: &[u8]) {
    if let Ok(types) = Types::parse(bytes) {
        for (container, path) in KernelLayout::MEMBERS {
            types.member_offset(container, path);
        }
    }
}

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_TYPEDEF: u32 = 8;
const KIND_UNION: u32 = 5;

/// An index over raw BTF: type id → place, wanted struct name → type id.
struct Types<'a> {
    /// Places of the types in `section`, by id - 1.
    places: Vec<u32>,
    section: &'a [u8],
    strings: &'a [u8],
    structs: HashMap<&'a [u8], u32>,
}

#[derive(Clone, Copy)]
struct Header {
    name: u32,
    kind: u32,
    vlen: u32,
    kind_flag: bool,
    size_or_type: u32,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let cut = BtfError::Malformed("header is cut short");
        let word = |at: usize| u32_at(bytes, at);
        let (Some(0xeb9f), Some(header_len)) = (word(0).map(|magic| magic & 0xffff), word(4))
        else {
            return Err(BtfError::Malformed("no BTF magic in native byte order"));
        };
        let (Some(type_at), Some(type_len), Some(str_at), Some(str_len)) =
            (word(8), word(12), word(16), word(20))
        else {
            return Err(cut);
        };
        let part = |at: u32, len: u32| {
            let start = header_len as usize + at as usize;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        let section = part(type_at, type_len).ok_or(BtfError::Malformed("types out of bounds"))?;
        let strings = part(str_at, str_len).ok_or(BtfError::Malformed("strings out of bounds"))?;

        let mut types = Self {
            places: Vec::with_capacity(section.len() / 24),
            section,
            strings,
            structs: HashMap::new(),
        };
        let mut at = 0;
        while at < section.len() {
            let header = types.header(at).ok_or(BtfError::Malformed("type is cut short"))?;
            let size = payload(header)
                .ok_or(BtfError::Malformed("a kind of type that this version does not know"))?;
            types.places.push(at as u32);
            if header.kind == KIND_STRUCT && header.name != 0 {
                let name = types.string(header.name);
                if KernelLayout::MEMBERS.iter().any(|(container, _)| container.as_bytes() == name) {
                    types.structs.entry(name).or_insert(types.places.len() as u32);
                }
            }
            at += 12 + size;
        }
        Ok(types)
    }

    fn header(&self, at: usize) -> Option<Header> {
        let info = u32_at(self.section, at + 4)?;
        Some(Header {
            name: u32_at(self.section, at)?,
            kind: info >> 24 & 0x1f,
            vlen: info & 0xffff,
            kind_flag: info >> 31 != 0,
            size_or_type: u32_at(self.section, at + 8)?,
        })
    }

    fn string(&self, at: u32) -> &'a [u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        &rest[..memchr::memchr(0, rest).unwrap_or(rest.len())]
    }

    /// Byte offset of `path` (members joined by dots) in struct `container`.
    fn member_offset(&self, container: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(container.as_bytes())?;
        let mut bits = 0;
        for name in path.split('.') {
            let (at, inner) = self.find(id, name.as_bytes(), 0)?;
            bits = at.checked_add(bits)?;
            id = inner;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Bit offset and type of member `name` of type `id`, also in anonymous members.
    fn find(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let at = *self.places.get(id.checked_sub(1)? as usize)? as usize;
        let header = self.header(at)?;
        match header.kind {
            _ if depth > 8 => return None,
            KIND_STRUCT | KIND_UNION => {}
            KIND_TYPEDEF => return self.find(header.size_or_type, name, depth + 1),
            _ => return None,
        }
        for index in 0..header.vlen as usize {
            let member = at + 12 + index * 12;
            let (name_at, inner) =
                (u32_at(self.section, member)?, u32_at(self.section, member + 4)?);
            let mut bits = u32_at(self.section, member + 8)?;
            if header.kind_flag {
                bits &= 0x00ff_ffff; // the upper byte is a bit field's size
            }
            if name_at == 0 {
                if let Some((more, found)) = self.find(inner, name, depth + 1) {
                    return Some((bits.checked_add(more)?, found));
                }
            } else if self.string(name_at) == name {
                return Some((bits, inner));
            }
        }
        None
    }
}

/// Bytes that follow a type's 12-byte header; `None` for an unknown kind.
fn payload(header: Header) -> Option<usize> {
    let each = match header.kind {
        // int, variable, declaration tag
        1 | 14 | 17 => return Some(4),
        KIND_ARRAY => return Some(12),
        // struct, union, 64-bit enum; data section
        KIND_STRUCT | KIND_UNION | 19 | 15 => 12,
        // enum, function prototype
        6 | 13 => 8,
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    };
    Some(header.vlen as usize * each)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_member_the_programs_need_in_this_kernel() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            println!("skipped: no {VMLINUX}");
            return;
        };
        let types = Types::parse(&bytes).unwrap();
        for (container, path) in KernelLayout::MEMBERS {
            assert!(types.member_offset(container, path).is_some(), "{container}.{path}");
        }
        assert_eq!(types.member_offset("sock_common", "skc_daddr"), Some(0));
        assert_eq!(types.member_offset("sock_common", "skc_rcv_saddr"), Some(4));
    }

    #[test]
    fn refuses_what_is_not_btf() {
        assert!(Types::parse(b"").is_err());
        assert!(Types::parse(&[0; 64]).is_err());
        assert!(
            Types::parse(
                b"\x9f\xeb\x01\x00\x18\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"
            )
            .is_err()
        );
    }
}
