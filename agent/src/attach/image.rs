//! Functions of a program or a library by their names: those that it exports, and those that only its own symbols name, if it was
//! not stripped.

use std::{fs::File, io};

use memchr::memmem;
use object::{
    Architecture, Object as _, SectionIndex,
    elf::{SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, Sym64},
    read::{
        ReadCache, ReadRef as _,
        elf::{SectionHeader as _, Sym as _},
    },
};

use super::segments::{Elf, file_offset, pieces};

/// Largest table that is read.
const TABLE_LIMIT: u64 = 64 << 20;
/// Bytes of a symbol in its table.
const SYMBOL: usize = size_of::<Sym64<object::Endianness>>();

/// A 64-bit ELF file, and where some functions begin that it defines.
pub(super) struct Image<'a> {
    pub(super) elf: Elf<'a>,
    cache: &'a ReadCache<&'a File>,
    found: Vec<Function>,
    /// The name of some symbol contains [`Wanted::mark`].
    pub(super) is_marked: bool,
}

#[derive(Clone, Copy)]
struct Function {
    name: &'static str,
    address: u64,
    /// Bytes of code; 0: the file does not say.
    len: u64,
}

/// Why a function cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum NoFunction {
    #[error("not a 64-bit ELF file: {0}")]
    Elf(#[from] object::Error),
    #[error("defines no {0}")]
    Undefined(&'static str),
    #[error("defines {0} more than once")]
    Ambiguous(&'static str),
    #[error("{0} is at {1:#x}, in no executable segment")]
    Unmapped(&'static str, u64),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// What is looked for. All names begin with `prefix`.
pub(super) struct Wanted {
    pub(super) prefix: &'static [u8],
    pub(super) names: &'static [&'static str],
    /// What the names of other symbols may tell by.
    pub(super) mark: Option<&'static [u8]>,
}

impl<'a> Image<'a> {
    /// Looks for functions among what `file` exports and, if none is there, among all its symbols.
    ///
    /// # Errors
    /// It is no such file or cannot be read.
    pub(super) fn parse(
        file: &'a File,
        cache: &'a ReadCache<&'a File>,
        wanted: &Wanted,
    ) -> Result<Self, NoFunction> {
        let elf = Elf::parse(cache)?;
        let (mut found, mut is_marked) = (Vec::new(), false);
        for table in [SHT_DYNSYM, SHT_SYMTAB] {
            if found.is_empty() {
                (found, is_marked) = defined(file, &elf, table, wanted)?;
            }
        }
        Ok(Self { elf, cache, found, is_marked })
    }

    /// Address of the function `name`.
    ///
    /// # Errors
    /// It is not there, or more than once.
    pub(super) fn function(&self, name: &'static str) -> Result<u64, NoFunction> {
        let mut addresses: Vec<u64> = self.named(name).map(|function| function.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        match addresses[..] {
            [] => Err(NoFunction::Undefined(name)),
            [one] => Ok(one),
            _ => Err(NoFunction::Ambiguous(name)),
        }
    }

    /// Bytes of the code of `name`; 0: not known.
    pub(super) fn len_of(&self, name: &str) -> u64 {
        self.named(name).map(|function| function.len).max().unwrap_or(0)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Function> {
        self.found.iter().filter(move |function| function.name == name)
    }

    /// File offset of a probe for the function `name`, which begins at `vaddr`.
    ///
    /// # Errors
    /// It is in no executable segment.
    pub(super) fn place(&self, name: &'static str, vaddr: u64) -> Result<u64, NoFunction> {
        let vaddr = self.behind_landing_pad(vaddr);
        file_offset(&self.elf, self.cache, vaddr).ok_or(NoFunction::Unmapped(name, vaddr))
    }

    /// `len` bytes of code from `vaddr` on.
    pub(super) fn code(&self, vaddr: u64, len: usize) -> Option<&'a [u8]> {
        let offset = file_offset(&self.elf, self.cache, vaddr)?;
        self.cache.read_bytes_at(offset, len as u64).ok()
    }

    /// The address behind an `endbr64` that a cheap instruction follows: the former is single-stepped.
    pub(super) fn behind_landing_pad(&self, vaddr: u64) -> u64 {
        let padded = self.elf.architecture() == Architecture::X86_64
            && self
                .code(vaddr, ENDBR64.len() + 2)
                .is_some_and(|code| code.starts_with(&ENDBR64) && is_push(&code[ENDBR64.len()..]));
        if padded { vaddr + ENDBR64.len() as u64 } else { vaddr }
    }
}

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// `push reg`, which the kernel emulates.
pub(super) fn is_push(code: &[u8]) -> bool {
    matches!(code, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..])
}

/// What is wanted and defined, and whether a name has the mark, in the symbol tables of type `table`. Names are looked for in the
/// table of names, and symbols by where their names stand: a program has more symbols than it is good to read the names of.
fn defined(
    file: &File,
    elf: &Elf<'_>,
    table: u32,
    wanted: &Wanted,
) -> Result<(Vec<Function>, bool), NoFunction> {
    let endian = elf.endian();
    let (mut found, mut is_marked) = (Vec::new(), false);
    let sections = elf.elf_section_table();
    let small = |range: Option<(u64, u64)>| range.filter(|(_, len)| *len <= TABLE_LIMIT);
    for section in sections.iter().filter(|section| section.sh_type(endian) == table) {
        let names = sections.section(SectionIndex(section.sh_link(endian) as usize))?;
        let ranges = (small(names.file_range(endian)), small(section.file_range(endian)));
        let (Some(names), Some(symbols)) = ranges else { continue };
        let mut named: Vec<(u32, &'static str)> = Vec::new();
        let longest = wanted.names.iter().map(|name| name.len() + 1).max().unwrap_or(0);
        let longest = longest.max(wanted.mark.map_or(0, <[u8]>::len));
        pieces(file, names, longest, |at, bytes| {
            let has = |mark| memmem::find(bytes, mark).is_some();
            is_marked = is_marked || wanted.mark.is_some_and(has);
            for start in memmem::find_iter(bytes, wanted.prefix) {
                let rest = &bytes[start..];
                let name = wanted.names.iter().find(|name| {
                    rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0)
                });
                if let (Some(name), Ok(at)) = (name, u32::try_from(at + start as u64)) {
                    named.push((at, *name));
                }
            }
        })?;
        if named.is_empty() {
            continue;
        }
        pieces(file, symbols, SYMBOL - 1, |at, bytes| {
            let skip = (SYMBOL as u64 - at % SYMBOL as u64) % SYMBOL as u64;
            let Some(bytes) = bytes.get(skip as usize..) else { return };
            let whole = &bytes[..bytes.len() / SYMBOL * SYMBOL];
            let Ok(symbols) = object::slice_from_all_bytes::<Sym64<_>>(whole) else { return };
            for symbol in symbols {
                let name = named.iter().find(|(at, _)| *at == symbol.st_name(endian));
                if let Some((_, name)) = name
                    && symbol.st_type() == STT_FUNC
                    && symbol.st_shndx(endian) != SHN_UNDEF
                {
                    let (address, len) = (symbol.st_value(endian), symbol.st_size(endian));
                    found.push(Function { name, address, len });
                }
            }
        })?;
    }
    Ok((found, is_marked))
}
