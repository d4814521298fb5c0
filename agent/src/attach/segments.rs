//! Parts of a program's file: where in it the code stands that is mapped at an address, and its bytes.

use std::{fs::File, io, os::unix::fs::FileExt};

use object::{
    Endianness,
    elf::{PF_X, PT_LOAD},
    read::{
        ReadCache, ReadRef,
        elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
    },
};

/// A 64-bit ELF file, of which the cache keeps what was looked at.
pub(super) type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<&'a File>>;

/// `len` bytes of `file` at `offset`.
pub(super) fn read(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// [`pieces`] have so many bytes, and what they overlap.
const PIECE: u64 = 64 << 10;

/// Shows `len` bytes of `file` at `offset` piece by piece, each with how far into them it begins. What is not longer than `overlap` is
/// whole in one of them at least, and may be in two.
pub(super) fn pieces(
    file: &File,
    (offset, len): (u64, u64),
    overlap: usize,
    mut see: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    for at in (0..len).step_by(PIECE as usize) {
        let piece = (len - at).min(PIECE + overlap as u64);
        see(at, &read(file, offset.saturating_add(at), piece)?);
    }
    Ok(())
}

/// File offset of an address in an executable segment of `elf`, which was read from `data`.
pub(super) fn file_offset<'a, R: ReadRef<'a>>(
    elf: &ElfFile64<'a, Endianness, R>,
    data: R,
    vaddr: u64,
) -> Option<u64> {
    let header = elf.elf_header();
    let endian = header.endian().ok()?;
    header.program_headers(endian, data).ok()?.iter().find_map(|segment| {
        let start = segment.p_vaddr(endian);
        let inside = vaddr.checked_sub(start).filter(|at| *at < segment.p_filesz(endian));
        (segment.p_type(endian) == PT_LOAD && segment.p_flags(endian) & PF_X != 0)
            .then_some(inside?)
            .map(|at| at + segment.p_offset(endian))
    })
}
