//! Where in OpenSSL and BoringSSL the plaintext passes: from an ELF file to file offsets. A library has them among its exports, a
//! program that they are linked into among its symbols.
//!
//! `SSL_read` and `SSL_read_ex` are small wrappers of one internal function, and so are `SSL_write` and
//! `SSL_write_ex`. The exports of OpenSSL 3 begin with `sub rsp`, which the kernel must single-step (9 us
//! a call here), the internal functions with `push`, which it emulates (0.7 us). So the internal ones
//! are probed where they are recognised beyond doubt, the exports where not.

use std::fs::File;

use object::{Architecture, Object as _, read::ReadCache};

use super::{
    image::{Image, NoFunction, Wanted, is_push},
    plan::{Library, Plan, Via},
    segments::Elf,
};
use crate::bpf::Probe;

/// Why a file is not probed.
#[derive(Debug, thiserror::Error)]
pub enum NotOpenSsl {
    #[error(transparent)]
    Function(#[from] NoFunction),
    #[error("symbol versions {0}, expected OPENSSL_3 or OPENSSL_1_1")]
    Version(String),
}

/// BoringSSL has its own functions in a namespace of C++.
const WANTED: Wanted = Wanted {
    prefix: b"SSL_",
    names: &[
        "SSL_read",
        "SSL_write",
        "SSL_do_handshake",
        "SSL_read_ex",
        "SSL_write_ex",
        "SSL_write_ex2",
    ],
    mark: Some(b"_ZN4bssl"),
};

/// What to attach to `file`.
///
/// # Errors
/// [`NotOpenSsl`] says what is missing.
pub fn plan(file: &File) -> Result<Plan, NotOpenSsl> {
    let cache = ReadCache::new(file);
    let image = Image::parse(file, &cache, &WANTED)?;
    let handshake = image.function("SSL_do_handshake")?;
    let version = version(&image.elf)?;
    let mut points = vec![(Probe::SslDoHandshake, handshake)];

    let internal = |name, twins: &[&'static str]| {
        let twin = twins.iter().find_map(|twin| image.function(twin).ok());
        internal(&image, image.function(name).ok()?, twin)
    };
    let internal_read = internal("SSL_read", &["SSL_read_ex"]);
    let internal_write = internal("SSL_write", &["SSL_write_ex2", "SSL_write_ex"]);
    let via = match (internal_read, internal_write) {
        (Some((read, Done::Fourth)), Some((write, done))) => {
            points.push((Probe::SslReadEx, read));
            points.push(match done {
                Done::Fourth => (Probe::SslWriteEx, write),
                Done::Fifth => (Probe::SslWriteEx2, write),
            });
            Via::Internal
        }
        _ => {
            // A program has those alone that it calls, if its linker leaves out the others.
            let all = |names: &[(&'static str, Probe)]| {
                let found = names.iter().map(|(name, probe)| (image.function(name), *probe));
                let found: Vec<_> =
                    found.filter_map(|(at, probe)| at.ok().map(|at| (probe, at))).collect();
                if found.is_empty() { Err(NoFunction::Undefined(names[0].0)) } else { Ok(found) }
            };
            points.extend(all(&[("SSL_read", Probe::SslRead), ("SSL_read_ex", Probe::SslReadEx)])?);
            points.extend(all(&[
                ("SSL_write", Probe::SslWrite),
                ("SSL_write_ex", Probe::SslWriteEx),
                ("SSL_write_ex2", Probe::SslWriteEx2),
            ])?);
            Via::Exports
        }
    };
    for (probe, address) in &mut points {
        *address = image.place(probe.name(), *address)?;
    }
    let returns: Vec<_> = points.iter().map(|(_, at)| (Probe::SslReturn, *at)).collect();
    points.extend(returns);
    let library = if image.is_marked { Library::BoringSsl } else { Library::OpenSsl };
    Ok(Plan { library, version, via, points })
}

/// Which argument of an internal function says where the count of bytes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// `(ssl, buf, num, *done)`.
    Fourth,
    /// `(ssl, buf, num, flags, *done)`: writing, since OpenSSL 3.3.
    Fifth,
}

/// The internal function that `export` and its twin both call first: they agree on it, it begins
/// with a `push`, and `export` passes the address of a local as its fourth or fifth argument.
fn internal(image: &Image<'_>, export: u64, twin: Option<u64>) -> Option<(u64, Done)> {
    if image.elf.architecture() != Architecture::X86_64 {
        return None;
    }
    let twin = calls(image, twin?);
    calls(image, export).into_iter().find_map(|(at, target)| {
        twin.iter().find(|(_, other)| *other == target)?;
        let entry = image.code(image.behind_landing_pad(target), 2)?;
        let done = local_passed(image.code(export, at)?)?;
        is_push(entry).then_some((target, done))
    })
}

/// Every place in the first bytes at `vaddr` that could be a near call, with where it leads. Not
/// disassembled: bytes of other instructions are told apart by where they lead.
fn calls(image: &Image<'_>, vaddr: u64) -> Vec<(usize, u64)> {
    const WRAPPER: usize = 80;
    let code = image.code(vaddr, WRAPPER).unwrap_or_default();
    let call = |at: usize| {
        let distance = code.get(at + 1..at + 5)?.try_into().ok()?;
        let next = vaddr + at as u64 + 5;
        Some((at, next.wrapping_add_signed(i32::from_le_bytes(distance).into())))
    };
    (0..code.len()).filter(|at| code[*at] == 0xe8).filter_map(call).collect()
}

/// Which argument register `code` loads with the address of a local: `mov reg, rsp` or
/// `lea reg, [rsp/rbp + d8]`.
fn local_passed(code: &[u8]) -> Option<Done> {
    let has = |sequence: &[u8]| code.windows(sequence.len()).any(|window| window == sequence);
    let fourth =
        has(&[0x48, 0x89, 0xe1]) || has(&[0x48, 0x8d, 0x4c, 0x24]) || has(&[0x48, 0x8d, 0x4d]);
    let fifth =
        has(&[0x49, 0x89, 0xe0]) || has(&[0x4c, 0x8d, 0x44, 0x24]) || has(&[0x4c, 0x8d, 0x45]);
    match (fourth, fifth) {
        (true, false) => Some(Done::Fourth),
        (false, true) => Some(Done::Fifth),
        _ => None,
    }
}

/// The newest `OPENSSL_x_y_z` that the file defines.
fn version(elf: &Elf<'_>) -> Result<String, NotOpenSsl> {
    let endian = elf.endian();
    let mut newest = String::new();
    let mut other = String::new();
    let sections = elf.elf_section_table();
    if let Ok(Some((mut definitions, link))) = sections.gnu_verdef(endian, elf.data())
        && let Ok(strings) = sections.strings(endian, elf.data(), link)
    {
        while let Ok(Some((_, mut names))) = definitions.next() {
            if let Ok(Some(name)) = names.next()
                && let Ok(name) = name.name(endian, strings)
            {
                let name = String::from_utf8_lossy(name);
                match name.strip_prefix("OPENSSL_") {
                    Some(version) => newest = newest.max(version.replace('_', ".")),
                    None => other = name.into_owned(),
                }
            }
        }
    }
    match newest.as_str() {
        "" if other.starts_with("LIBRESSL") => Err(NotOpenSsl::Version(other)),
        version
            if version.is_empty() || version.starts_with("3.") || version.starts_with("1.1.") =>
        {
            Ok(newest)
        }
        _ => Err(NotOpenSsl::Version(newest)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{super::segments::read, *};

    const SYSTEM: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

    #[test]
    fn tells_which_argument_is_the_address_of_a_local() {
        // SSL_read of 3.0: mov rcx, rsp; movslq rdx, edx.
        assert_eq!(local_passed(&[0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2]), Some(Done::Fourth));
        // lea r8, [rsp + 8].
        assert_eq!(local_passed(&[0x31, 0xc9, 0x4c, 0x8d, 0x44, 0x24, 0x08]), Some(Done::Fifth));
        assert_eq!(local_passed(&[0x48, 0x83, 0xec, 0x18]), None);
    }

    #[test]
    fn refuses_what_is_not_elf() {
        let file = file_of(b"#!/bin/sh\n");
        assert!(matches!(plan(&file), Err(NotOpenSsl::Function(NoFunction::Elf(_)))));
    }

    #[test]
    fn refuses_a_program_without_the_functions() {
        let own = File::open("/proc/self/exe").unwrap();
        let refused = plan(&own);
        let none = NoFunction::Undefined("SSL_do_handshake");
        assert_eq!(refused.unwrap_err().to_string(), none.to_string());
    }

    #[test]
    fn finds_the_internal_functions_of_the_systems_library() {
        let Ok(file) = File::open(SYSTEM) else {
            println!("skipped: no {SYSTEM}");
            return;
        };
        let plan = plan(&file).unwrap();
        assert_eq!((plan.library, plan.via), (Library::OpenSsl, Via::Internal), "{plan:?}");
        assert!(plan.version.starts_with("3."), "{plan:?}");
        assert_eq!(plan.points.len(), 6);
        for (probe, offset) in &plan.points {
            let code = read(&file, *offset, 2).unwrap();
            assert!(is_push(&code), "{probe:?} at {offset:#x}: {code:02x?}");
        }
    }

    #[test]
    fn every_cut_of_the_file_is_refused_without_panic() {
        let Ok(data) = std::fs::read(SYSTEM) else {
            println!("skipped: no {SYSTEM}");
            return;
        };
        for len in (0..data.len()).step_by(16_411) {
            let _ = plan(&file_of(&data[..len]));
        }
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }
}
