//! What a Go program tells of itself, stripped or not.
//!
//! - [`functions`]: where functions begin and end, by name, from the table that the runtime unwinds stacks with.
//! - [`code`]: at which of a function's instructions to probe.
//! - [`contexts`]: what is probed to follow goroutines.

mod code;
pub mod contexts;
mod functions;

use std::{fs::File, io, os::unix::fs::FileExt};

use object::{
    Architecture, Endianness, Object as _, ObjectSection as _,
    elf::{FileHeader64, PF_X, PT_LOAD},
    read::{
        ReadCache,
        elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
    },
};

use self::functions::{Function, Functions};

/// Largest table of functions that is read; that of the Kubernetes API server has 40 MB.
const TABLE_LIMIT: u64 = 256 << 20;
/// Longest function that is decoded.
const CODE_LIMIT: u64 = 64 << 10;

/// Why a file is not probed.
#[derive(Debug, thiserror::Error)]
pub enum NotGo {
    #[error("not a 64-bit ELF file: {0}")]
    Elf(object::Error),
    #[error("no table of Go functions")]
    NoTable,
    #[error("its table of Go functions has {found} bytes, at most {TABLE_LIMIT} are read")]
    TableSize { found: u64 },
    #[error("its table of Go functions is not understood: {0}")]
    Table(#[from] functions::Malformed),
    #[error("no function {0}")]
    NoFunction(&'static str),
    #[error("the code of {0} is not understood")]
    Code(&'static str),
    #[error("built by {0:?}, expected Go 1.19 to 1.26")]
    Version(String),
    #[error("functions of {0:?} are not read, only those of x86-64 and AArch64")]
    Architecture(Architecture),
    #[error(transparent)]
    Read(#[from] io::Error),
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<&'a File>>;

/// A Go program's file.
struct Program<'a> {
    file: &'a File,
    cache: &'a ReadCache<&'a File>,
    elf: Elf<'a>,
}

impl<'a> Program<'a> {
    fn open(file: &'a File, cache: &'a ReadCache<&'a File>) -> Result<Self, NotGo> {
        Ok(Self { file, cache, elf: ElfFile64::parse(cache).map_err(NotGo::Elf)? })
    }

    /// The functions of these names.
    fn find<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Function>; N], NotGo> {
        let Self { file, elf, .. } = self;
        let section = |name: &str| elf.section_by_name(name);
        let table = section(".gopclntab").or_else(|| section(".data.rel.ro.gopclntab"));
        let table = table.ok_or(NotGo::NoTable)?;
        let (offset, len) = table.file_range().ok_or(NotGo::NoTable)?;
        if len > TABLE_LIMIT {
            return Err(NotGo::TableSize { found: len });
        }
        // Not by the cache, which would keep all of it beside this.
        let bytes = read(file, offset, len)?;
        let text = || text_of_module(file, elf, table.address());
        let text = || text().or_else(|| Some(section(".text")?.address()));
        Ok(Functions::parse(&bytes, text)?.find(names)?)
    }

    /// The release that built it, as `go1.26.1`: of the build information that the linker leaves (`debug/buildinfo`, from Go 1.18 on).
    fn version(&self) -> Result<String, NotGo> {
        const MAGIC: &[u8] = b"\xff Go buildinf:";
        const FLAGS: usize = 15;
        const INLINE: u8 = 2;
        const STRINGS: usize = 32;
        let found = self.elf.section_by_name(".go.buildinfo").and_then(|it| it.file_range());
        let (offset, len) = found.ok_or(NotGo::Version(String::new()))?;
        let bytes = read(self.file, offset, len.min(256))?;
        let inline = bytes.starts_with(MAGIC) && bytes.get(FLAGS).is_some_and(|f| f & INLINE != 0);
        // A length of less than 128 is one byte.
        let version = bytes.get(STRINGS).filter(|_| inline).and_then(|&len| {
            bytes.get(STRINGS + 1..STRINGS + 1 + usize::from(len)).filter(|_| len < 128)
        });
        Ok(String::from_utf8_lossy(version.unwrap_or_default()).into_owned())
    }

    /// Offset in the file, and the bytes, of a function's code.
    fn code(&self, function: &Function, name: &'static str) -> Result<(u64, Vec<u8>), NotGo> {
        let at = self.file_offset(function.start).ok_or(NotGo::Code(name))?;
        let len = (function.end - function.start).min(CODE_LIMIT);
        Ok((at, read(self.file, at, len)?))
    }

    /// File offset of an address in an executable segment.
    fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let header: &FileHeader64<Endianness> = self.elf.elf_header();
        let endian = header.endian().ok()?;
        header.program_headers(endian, self.cache).ok()?.iter().find_map(|segment| {
            let start = segment.p_vaddr(endian);
            let inside = vaddr.checked_sub(start).filter(|at| *at < segment.p_filesz(endian));
            (segment.p_type(endian) == PT_LOAD && segment.p_flags(endian) & PF_X != 0)
                .then_some(inside?)
                .map(|at| at + segment.p_offset(endian))
        })
    }
}

/// Where the module's functions begin, as the runtime's own description of the module says: since Go 1.26 the table does not
/// say it, and C code may stand before them.
fn text_of_module(file: &File, elf: &Elf<'_>, table: u64) -> Option<u64> {
    /// `text` in `runtime.moduledata`: a pointer and six slices before it, and three more words.
    const TEXT: usize = 1 + 6 * 3 + 3;
    let (offset, len) = elf.section_by_name(".go.module")?.file_range()?;
    let bytes = read(file, offset, len.min(1024)).ok()?;
    let word = |at: usize| {
        let bytes = bytes.get(at * 8..at * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    (word(0)? == table).then(|| word(TEXT))?
}

fn read(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
