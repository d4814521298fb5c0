//! Where in a Go program the plaintext of `crypto/tls` passes: from an ELF file to file offsets.
//!
//! - [`functions`]: where functions begin and end, by name, from the table that the runtime unwinds stacks with.
//! - [`code`]: at which of a function's instructions to probe.

mod code;
mod functions;

use std::{fs::File, io, os::unix::fs::FileExt};

use object::{
    Architecture, Endianness, Object as _, ObjectSection as _,
    read::{ReadCache, elf::ElfFile64},
};

use self::functions::{Function, Functions};
use super::{
    plan::{Library, Plan, Via},
    segments::file_offset,
};
use crate::bpf::Probe;

/// The functions that are probed.
const READ: &str = "crypto/tls.(*Conn).Read";
const WRITE: &str = "crypto/tls.(*Conn).Write";

/// Largest table of functions that is read; that of the Kubernetes API server has 40 MB.
const TABLE_LIMIT: u64 = 256 << 20;
/// Longest function that is decoded; `Read` and `Write` have less than 3 KiB.
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
    #[error("no function {0}: the program does not use crypto/tls")]
    NoFunction(&'static str),
    #[error("the code of {0} is not understood")]
    Code(&'static str),
    #[error("functions of {0:?} are not read, only those of x86-64 and AArch64")]
    Architecture(Architecture),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// What to attach to the Go program in `file`.
///
/// # Errors
/// [`NotGo`] says what is missing.
pub fn plan(file: &File) -> Result<Plan, NotGo> {
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<Endianness, _>::parse(&cache).map_err(NotGo::Elf)?;
    let section = |name: &str| elf.section_by_name(name);
    let (address, bytes) = table(file, &elf)?;
    let text = || text_start(file, &elf, address);
    let text = || text().or_else(|| Some(section(".text")?.address()));
    let functions = Functions::parse(&bytes, text)?;
    let [found_read, found_write] = functions.find([READ, WRITE])?;
    let read_function = found_read.ok_or(NotGo::NoFunction(READ))?;
    let write_function = found_write.ok_or(NotGo::NoFunction(WRITE))?;

    let architecture = elf.architecture();
    let look = |function: &Function, name: &'static str| {
        let at = file_offset(&elf, &cache, function.start).ok_or(NotGo::Code(name))?;
        let code = read(file, at, (function.end - function.start).min(CODE_LIMIT))?;
        Ok::<_, NotGo>((at, code))
    };
    let (read_at, read_code) = look(&read_function, READ)?;
    let (write_at, write_code) = look(&write_function, WRITE)?;
    let points = match architecture {
        Architecture::X86_64 => code::x86_64 as fn(&[u8]) -> Option<code::Points>,
        Architecture::Aarch64 => code::aarch64,
        other => return Err(NotGo::Architecture(other)),
    };
    let reads = points(&read_code).ok_or(NotGo::Code(READ))?;
    let writes = points(&write_code).ok_or(NotGo::Code(WRITE))?;
    let returns = reads.returns.iter().map(|at| (Probe::GoTlsReadReturn, read_at + at));
    let mut points: Vec<_> = returns.collect();
    points.push((Probe::GoTlsRead, read_at + reads.entry));
    points.push((Probe::GoTlsWrite, write_at + writes.entry));
    Ok(Plan { library: Library::GoCryptoTls, version: String::new(), via: Via::Internal, points })
}

/// Address and bytes of the table of functions. Other linkers than Go's own put it among other data of a position-independent
/// program.
fn table(file: &File, elf: &Elf<'_>) -> Result<(u64, Vec<u8>), NotGo> {
    let section = |name: &&str| elf.section_by_name(name);
    let own = [".gopclntab", ".data.rel.ro.gopclntab"].iter().find_map(section);
    let among = || {
        elf.section_by_name(".go.buildinfo")?;
        elf.section_by_name(".data.rel.ro")
    };
    let is_own = own.is_some();
    let section = own.or_else(among).ok_or(NotGo::NoTable)?;
    let (offset, len) = section.file_range().ok_or(NotGo::NoTable)?;
    if len > TABLE_LIMIT {
        return Err(NotGo::TableSize { found: len });
    }
    // Not by the cache, which would keep all of it beside this.
    let mut bytes = read(file, offset, len)?;
    let begins = if is_own { 0 } else { functions::begins(&bytes).ok_or(NotGo::NoTable)? };
    Ok((section.address() + begins as u64, bytes.split_off(begins)))
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<&'a File>>;

/// Where the module's functions begin, in words that the linker may have left to be filled when the program is loaded: of the
/// table itself; since Go 1.26, which leaves that one empty, of the runtime's own description of the module. C code may
/// stand before them.
fn text_start(file: &File, elf: &Elf<'_>, table: u64) -> Option<u64> {
    /// The third word of the table's header.
    const IN_TABLE: u64 = 8 + 2 * 8;
    /// `text` in `runtime.moduledata`: a pointer to the table and six slices before it, and three more words.
    const IN_MODULE: usize = (1 + 6 * 3 + 3) * 8;
    let module = elf.section_by_name(".go.module");
    let module_at = module.as_ref().map_or(0, |section| section.address());
    let mut filled = [None; 3];
    let places = [table + IN_TABLE, module_at, module_at + IN_MODULE as u64];
    for (at, relocation) in elf.dynamic_relocations().into_iter().flatten() {
        if let Some(index) = places.iter().position(|place| *place == at) {
            filled[index] = u64::try_from(relocation.addend()).ok();
        }
    }
    let [in_table, of_table, in_module] = filled;
    if let Some(text) = in_table {
        return Some(text);
    }
    let (offset, len) = module?.file_range()?;
    let bytes = read(file, offset, len.min(1024)).ok()?;
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let is_its = of_table.or_else(|| word(0)) == Some(table);
    in_module.or_else(|| word(IN_MODULE)).filter(|_| is_its)
}

fn read(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
