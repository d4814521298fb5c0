//! Which TLS implementations are linked into an executable, from bounded reads of its sections.
//!
//! | implementation | evidence |
//! |---|---|
//! | Go `crypto/tls` | its function names in `.gopclntab`, which stripping leaves |
//! | OpenSSL, BoringSSL | a defined `SSL_read`; else their source paths among the constants |
//! | rustls | its source paths (panic locations) among the constants |

use std::{fs::File, os::unix::fs::FileExt};

use memchr::memmem;
use object::{Object, ObjectSection, ObjectSymbol, ReadCache, SectionKind};

use super::TlsKind;

/// Most bytes searched in one executable; larger ones are searched in part. Searching the 47 MB of
/// constants that node 20 has takes 0.2 s of one core here, a service of usual size 5 to 70 ms.
const SEARCH_LIMIT: u64 = 96 << 20;
/// Largest symbol table that is walked.
const SYMBOLS_LIMIT: u64 = 32 << 20;
const CHUNK: usize = 256 << 10;

/// Kinds found in `file`, without repetition.
pub(super) fn tls_in(file: &File) -> Result<Vec<TlsKind>, object::Error> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache)?;
    let mut budget = SEARCH_LIMIT;
    let mut kinds = Vec::new();

    let section = |name: &&str| elf.section_by_name(name);
    let go_table =
        [".gopclntab", ".data.rel.ro.gopclntab"].iter().find_map(section).or_else(|| {
            // Other linkers than Go's own put it among other data.
            elf.section_by_name(".go.buildinfo")?;
            elf.section_by_name(".data.rel.ro")
        });
    if let Some(table) = go_table {
        // A Go program may link C code, too, but hardly a second TLS implementation.
        let [found] = search(file, table.file_range(), &[b"crypto/tls.(*Conn).Write"], &mut budget);
        kinds.extend(found.then_some(TlsKind::GoCryptoTls));
        return Ok(kinds);
    }

    let defines_ssl_read = defines(file, &elf, &mut budget);
    let mut found = [false; 6];
    // Where every constant in it may be merged, the linker marks .rodata as one of strings.
    let constants = |kind| matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyString);
    for section in elf.sections().filter(|section| constants(section.kind())) {
        // The second also finds BoringSSL's ssl_lib.cc.
        // Bazel has signs behind the names of modules.
        const NEEDLES: [&[u8]; 6] = [
            b"boringssl/",
            b"boringssl+/",
            b"boringssl~",
            b"ssl/ssl_lib.c",
            b"/rustls-0.",
            b"/rustls/src/",
        ];
        let here = search(file, section.file_range(), &NEEDLES, &mut budget);
        found.iter_mut().zip(here).for_each(|(found, here)| *found |= here);
    }
    let [plain, module, extension, ssl_lib, rustls, vendored_rustls] = found;
    if defines_ssl_read || ssl_lib {
        let boringssl = plain || module || extension;
        kinds.push(if boringssl { TlsKind::BoringSsl } else { TlsKind::OpenSsl });
    }
    kinds.extend((rustls || vendored_rustls).then_some(TlsKind::Rustls));
    Ok(kinds)
}

/// Whether the executable itself defines `SSL_read`. Names are looked for before symbols are walked:
/// most programs have no such name, and those linked to libssl.so only refer to it.
fn defines<'a>(
    file: &File,
    elf: &object::File<'a, &'a ReadCache<&File>>,
    budget: &mut u64,
) -> bool {
    let named = |table: &str, budget: &mut u64| {
        let range = elf.section_by_name(table).and_then(|section| section.file_range());
        let [found] = search(file, range, &[b"\0SSL_read\0"], budget);
        found
    };
    let small = |table: &str| {
        elf.section_by_name(table).is_some_and(|section| section.size() <= SYMBOLS_LIMIT)
    };
    let is_ssl_read = |symbol: object::Symbol<'_, '_, _>| {
        symbol.is_definition() && symbol.name_bytes() == Ok(b"SSL_read")
    };
    (named(".dynstr", budget) && small(".dynsym") && elf.dynamic_symbols().any(is_ssl_read))
        || (named(".strtab", budget) && small(".symtab") && elf.symbols().any(is_ssl_read))
}

/// Which of `needles` occur in a range of the file, reading at most `budget` bytes of it.
fn search<const N: usize>(
    file: &File,
    range: Option<(u64, u64)>,
    needles: &[&[u8]; N],
    budget: &mut u64,
) -> [bool; N] {
    let mut found = [false; N];
    let Some((start, len)) = range else { return found };
    let end = start.saturating_add(len.min(*budget));
    *budget -= len.min(*budget);
    let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or(0);
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    // Chunks overlap by one byte less than the longest needle, so that none is cut in two unseen.
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let Ok(read) = file.read_at(&mut buffer[..wanted], at) else { break };
        for (found, needle) in found.iter_mut().zip(needles) {
            *found = *found || memmem::find(&buffer[..read], needle).is_some();
        }
        if read < longest || found.iter().all(|found| *found) {
            break;
        }
        at += (read - (longest - 1)) as u64;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::PathBuf, process::Command};

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn finds_needles_across_chunks_and_at_the_ends() {
        let needle: &[u8; 7] = b"needle!";
        for at in [0, 1, CHUNK - 8, CHUNK - 7, CHUNK - 6, CHUNK - 1, CHUNK, 2 * CHUNK - 7] {
            let mut bytes = vec![b'.'; 2 * CHUNK];
            bytes[at..at + 7].copy_from_slice(needle);
            let file = file_of(&bytes);
            let len = bytes.len() as u64;
            let found = search(&file, Some((0, len)), &[needle, b"absent"], &mut { len });
            assert_eq!(found, [true, false], "at {at}");
        }
    }

    #[test]
    fn reads_no_more_than_the_range_and_the_budget() {
        let file = file_of(b"....needle");
        let find = |range, mut budget| {
            let [found] = search(&file, Some(range), &[b"needle"], &mut budget);
            (found, budget)
        };
        assert_eq!(find((0, 10), 100), (true, 90));
        assert_eq!(find((0, 9), 100), (false, 91));
        assert_eq!(find((0, 10), 9), (false, 0));
        assert_eq!(find((5, 5), 100), (false, 95));
        assert_eq!(find((u64::MAX, u64::MAX), 100), (false, 0));
    }

    #[test]
    fn what_is_no_executable_is_an_error_or_empty() {
        assert!(tls_in(&file_of(b"#!/bin/sh\n")).is_err());
        assert!(tls_in(&file_of(b"")).is_err());
        let exe = std::fs::read("/proc/self/exe").unwrap();
        for len in [4, 16, 63, 64, 100, 4096, exe.len() / 2] {
            let _ = tls_in(&file_of(&exe[..len])); // any answer, no panic
        }
    }

    fn program(name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
        if found.is_none() {
            eprintln!("skipped: no {name} here");
        }
        found
    }

    #[test]
    fn the_go_command_has_crypto_tls() {
        let Some(go) = program("go") else { return };
        let root = Command::new(&go).args(["env", "GOROOT"]).output().unwrap();
        let go = PathBuf::from(String::from_utf8(root.stdout).unwrap().trim()).join("bin/go");
        assert_eq!(tls_in(&File::open(go).unwrap()).unwrap(), [TlsKind::GoCryptoTls]);
    }

    #[test]
    fn a_program_that_only_refers_to_libssl_defines_nothing() {
        let Some(openssl) = program("openssl") else { return };
        assert_eq!(tls_in(&File::open(openssl).unwrap()).unwrap(), []);
    }

    #[test]
    fn rustls_is_found_in_constants_that_linkers_merge() {
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("a.s"), folder.path().join("a.o"));
        let constant =
            "\t.section .rodata,\"aMS\",%progbits,1\n\t.asciz \"/rustls-0.23.46/src/a.rs\"\n";
        std::fs::write(&source, constant).unwrap();
        let cc = Command::new("cc").arg("-c").arg(source).arg("-o").arg(&object).status();
        assert!(cc.unwrap().success());
        assert_eq!(tls_in(&File::open(object).unwrap()).unwrap(), [TlsKind::Rustls]);
    }

    #[test]
    fn rustup_has_rustls() {
        let Some(rustup) = program("rustup") else { return };
        let kinds = tls_in(&File::open(rustup).unwrap()).unwrap();
        assert!(kinds.contains(&TlsKind::Rustls), "{kinds:?}");
    }
}
