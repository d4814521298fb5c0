//! Takes what only debuggers read out of an object: nine tenths of it.
//!
//! BTF stays, which the kernel shows beside a program's instructions.

use anyhow::{Context as _, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf as format,
};

/// The ELF object in `data` without DWARF sections.
///
/// # Errors
/// If it cannot be parsed.
pub fn strip(data: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(data).context("the linked object is no ELF file")?;
    for section in &mut elf.sections {
        let name = &section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    let gone: Vec<_> = elf.sections.iter().filter(|s| s.delete).map(|s| s.id()).collect();
    for symbol in &mut elf.symbols {
        symbol.delete |= symbol.section.is_some_and(|id| gone.contains(&id));
    }
    elf.delete_orphans();
    // The linker keeps the names of sections and of symbols together, this writer apart.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = format::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut out = Vec::new();
    elf.write(&mut out).context("the stripped object cannot be written")?;
    Ok(out)
}
