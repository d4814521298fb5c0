//! The functions of rustls in a program without symbols, by their code.
//!
//! Where functions begin, the table says by which the stack is unwound (`.eh_frame_hdr`), which stripping leaves. Their code has to take and give
//! all that [`code`] knows of them. What the kernel side tells is proved by ciphertext besides: a function that were taken for another one would
//! yield nothing.

use std::{fs::File, io};

use object::{Object as _, ObjectSection as _};

use super::{Form, Kind, accesses::Accesses, code};
use crate::attach::segments::{Elf, read};

/// They have 600 to 1,500 bytes.
const SHORTEST: u64 = 256;
const LONGEST: u64 = 4 << 10;
/// Most bytes of code that are decoded.
const CODE_LIMIT: u64 = 96 << 20;
/// So much is read at once.
const PIECE: u64 = 1 << 20;

/// Each function of `form` and its place in the file.
pub fn functions(file: &File, elf: &Elf<'_>, form: Form) -> io::Result<Vec<(Kind, u64)>> {
    let Some(text) = elf.section_by_name(".text") else { return Ok(Vec::new()) };
    let Some((offset, len)) = text.file_range() else { return Ok(Vec::new()) };
    let end = len.min(CODE_LIMIT);
    let begins = begins(file, elf)?.into_iter();
    let mut begins: Vec<_> = begins
        .filter_map(|address| address.checked_sub(text.address()))
        .filter(|at| *at < end)
        .collect();
    begins.push(end);
    let mut found = Vec::new();
    let (mut piece, mut piece_at) = (Vec::new(), 0);
    for pair in begins.windows(2) {
        let (at, len) = (pair[0], pair[1] - pair[0]);
        if !(SHORTEST..=LONGEST).contains(&len) {
            continue;
        }
        if at + len > piece_at + piece.len() as u64 {
            piece = read(file, offset.saturating_add(at), PIECE.min(end - at))?;
            piece_at = at;
        }
        let within = (at - piece_at) as usize;
        if let Some(kind) = kind(&piece[within..within + len as usize], form) {
            found.push((kind, offset.saturating_add(at)));
        }
    }
    Ok(found)
}

fn kind(function: &[u8], form: Form) -> Option<Kind> {
    let accesses = Accesses::of(function);
    let is = |kind: &Kind| match form {
        Form::Owned => code::is_known_0_22(&accesses, *kind == Kind::Encrypts),
        Form::Borrowed => code::is_surely_0_23(&accesses, *kind == Kind::Encrypts),
    };
    let mut kinds = [Kind::Encrypts, Kind::Decrypts].into_iter().filter(is);
    // One that could be both is neither.
    let kind = kinds.next()?;
    kinds.next().is_none().then_some(kind)
}

/// Addresses where functions begin, in order: the table of `.eh_frame_hdr` (Linux Standard Base, 10.6.2), as linkers write it.
fn begins(file: &File, elf: &Elf<'_>) -> io::Result<Vec<u64>> {
    /// Version 1; places of 32 bits: one from here, a count, and pairs from the table's own beginning.
    const HEAD: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    let Some(section) = elf.section_by_name(".eh_frame_hdr") else { return Ok(Vec::new()) };
    let Some((offset, len)) = section.file_range() else { return Ok(Vec::new()) };
    let table = read(file, offset, len.min(CODE_LIMIT))?;
    if !table.starts_with(&HEAD) || table.len() < 12 {
        return Ok(Vec::new());
    }
    let pairs = table[12..].chunks_exact(8);
    let from = |pair: &[u8]| i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
    let mut begins: Vec<_> =
        pairs.map(|pair| section.address().wrapping_add_signed(from(pair).into())).collect();
    begins.sort_unstable();
    begins.dedup();
    Ok(begins)
}

#[cfg(test)]
mod tests {
    use object::{ObjectSymbol as _, SymbolKind, read::ReadCache};

    use super::*;

    #[test]
    fn every_function_of_this_program_begins_where_the_table_says() {
        let file = File::open("/proc/self/exe").unwrap();
        let cache = ReadCache::new(&file);
        let elf = Elf::parse(&cache).unwrap();
        let begins = begins(&file, &elf).unwrap();
        let own = |name: &str| name.contains("remora") && !name.contains("cold");
        let functions = elf.symbols().filter(|symbol| {
            symbol.is_definition()
                && symbol.kind() == SymbolKind::Text
                && symbol.name().is_ok_and(own)
        });
        let mut count = 0;
        for function in functions {
            assert!(begins.binary_search(&function.address()).is_ok(), "{:?}", function.name());
            count += 1;
        }
        assert!(count > 1000, "{count}");
    }

    #[test]
    fn a_program_without_rustls_has_no_such_functions() {
        let file = File::open("/bin/sh").unwrap();
        let cache = ReadCache::new(&file);
        let elf = Elf::parse(&cache).unwrap();
        assert!(begins(&file, &elf).unwrap().len() > 10);
        for form in [Form::Owned, Form::Borrowed] {
            assert_eq!(functions(&file, &elf, form).unwrap(), []);
        }
    }
}
