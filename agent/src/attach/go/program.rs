//! A Go program's file: where its functions are, and which release built it.

use std::fs::File;

use object::{Architecture, Object as _, ObjectSection as _, read::ReadCache};

use super::{
    NotGo,
    functions::{self, Function, Functions},
};
use crate::attach::segments::{Elf, file_offset, read};

/// Largest table of functions that is read; that of the Kubernetes API server has 40 MB.
pub(super) const TABLE_LIMIT: u64 = 256 << 20;
/// Longest function that is decoded; those that are probed have less than 3 KiB.
const CODE_LIMIT: u64 = 64 << 10;

/// A Go program's file, whose ELF structures `cache` keeps.
pub(super) struct Program<'a> {
    file: &'a File,
    cache: &'a ReadCache<&'a File>,
    elf: Elf<'a>,
}

impl<'a> Program<'a> {
    pub(super) fn open(file: &'a File, cache: &'a ReadCache<&'a File>) -> Result<Self, NotGo> {
        Ok(Self { file, cache, elf: Elf::parse(cache).map_err(NotGo::Elf)? })
    }

    /// Whether Go's linker made it, or left in it what it leaves.
    pub(super) fn is_go(&self) -> bool {
        const SECTIONS: [&str; 3] = [".go.buildinfo", ".gopclntab", ".note.go.buildid"];
        SECTIONS.iter().any(|name| self.elf.section_by_name(name).is_some())
    }

    pub(super) fn architecture(&self) -> Architecture {
        self.elf.architecture()
    }

    /// The functions of these names.
    pub(super) fn find<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<Function>; N], NotGo> {
        let (address, bytes) = table(self.file, &self.elf)?;
        let text = || text_start(self.file, &self.elf, address);
        let text = || text().or_else(|| Some(self.elf.section_by_name(".text")?.address()));
        Ok(Functions::parse(&bytes, text)?.find(names)?)
    }

    /// The release that built it, as `go1.26.1`: of the build information that the linker leaves (`debug/buildinfo`, from Go 1.18 on).
    /// Empty if it cannot be read.
    pub(super) fn version(&self) -> Result<String, NotGo> {
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
    pub(super) fn code(
        &self,
        function: &Function,
        name: &'static str,
    ) -> Result<(u64, Vec<u8>), NotGo> {
        let at = file_offset(&self.elf, self.cache, function.start).ok_or(NotGo::Code(name))?;
        let len = (function.end - function.start).min(CODE_LIMIT);
        Ok((at, read(self.file, at, len)?))
    }
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
