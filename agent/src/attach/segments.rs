//! Where in a file the code stands that is mapped at an address.

use object::{
    Endianness,
    elf::{PF_X, PT_LOAD},
    read::{
        ReadRef,
        elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
    },
};

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
