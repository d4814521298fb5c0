//! Where in an OpenSSL library the plaintext passes: from an ELF file to file offsets.
//!
//! `SSL_read` and `SSL_read_ex` are small wrappers of one internal function, and so are `SSL_write` and
//! `SSL_write_ex`. The exports of OpenSSL 3 begin with `sub rsp`, which the kernel must single-step (9 us
//! a call here), the internal functions with `push`, which it emulates (0.7 us). So the internal ones
//! are probed where they are recognised beyond doubt, the exports where not.

use object::{
    Architecture, Endianness, Object as _, ObjectSymbol as _,
    read::{ReadRef, elf::ElfFile64},
};

use super::{
    plan::{Library, Plan, Via},
    segments::file_offset,
};
use crate::bpf::Probe;

/// Why a file is not probed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpenSsl {
    #[error("not a 64-bit ELF file: {0}")]
    Elf(String),
    #[error("exports no {0}")]
    NoExport(&'static str),
    #[error("symbol versions {0}, expected OPENSSL_3 or OPENSSL_1_1")]
    Version(String),
    #[error("{0} is at {1:#x}, in no executable segment")]
    Unmapped(&'static str, u64),
}

/// What to attach to the ELF file in `data`.
///
/// # Errors
/// [`NotOpenSsl`] says what is missing.
pub fn plan<'a, R: ReadRef<'a>>(data: R) -> Result<Plan, NotOpenSsl> {
    let image = Image::parse(data)?;
    let read = image.export("SSL_read")?;
    let write = image.export("SSL_write")?;
    let handshake = image.export("SSL_do_handshake")?;
    let version = version(&image.file)?;
    let mut points = vec![(Probe::SslDoHandshake, handshake)];

    let internal_read = image.internal(read, image.export("SSL_read_ex").ok());
    let twin = image.export("SSL_write_ex2").or_else(|_| image.export("SSL_write_ex")).ok();
    let internal_write = image.internal(write, twin);
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
            points.push((Probe::SslRead, read));
            points.push((Probe::SslWrite, write));
            let optional = [
                ("SSL_read_ex", Probe::SslReadEx),
                ("SSL_write_ex", Probe::SslWriteEx),
                ("SSL_write_ex2", Probe::SslWriteEx2),
            ];
            for (name, probe) in optional {
                points.extend(image.export(name).ok().map(|address| (probe, address)));
            }
            Via::Exports
        }
    };
    for (probe, address) in &mut points {
        let vaddr = image.behind_landing_pad(*address);
        *address = image.offset(vaddr).ok_or(NotOpenSsl::Unmapped(probe.name(), vaddr))?;
    }
    let returns: Vec<_> = points.iter().map(|(_, at)| (Probe::SslReturn, *at)).collect();
    points.extend(returns);
    Ok(Plan { library: Library::OpenSsl, version, via, points })
}

/// Which argument of an internal function says where the count of bytes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// `(ssl, buf, num, *done)`.
    Fourth,
    /// `(ssl, buf, num, flags, *done)`: writing, since OpenSSL 3.3.
    Fifth,
}

/// The exports that are looked for.
const EXPORTS: [&str; 6] =
    ["SSL_read", "SSL_write", "SSL_do_handshake", "SSL_read_ex", "SSL_write_ex", "SSL_write_ex2"];

struct Image<'a, R: ReadRef<'a>> {
    file: ElfFile64<'a, Endianness, R>,
    data: R,
    /// Addresses of [`EXPORTS`].
    exports: [Option<u64>; EXPORTS.len()],
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    fn parse(data: R) -> Result<Self, NotOpenSsl> {
        let file = ElfFile64::parse(data).map_err(|error| NotOpenSsl::Elf(error.to_string()))?;
        let mut exports = [None; EXPORTS.len()];
        // One pass: an executable may export a hundred thousand symbols.
        for symbol in file.dynamic_symbols() {
            if let Ok(name) = symbol.name_bytes()
                && name.starts_with(b"SSL_")
                && let Some(at) = EXPORTS.iter().position(|export| export.as_bytes() == name)
                && symbol.is_definition()
            {
                exports[at] = Some(symbol.address());
            }
        }
        Ok(Self { file, data, exports })
    }

    /// Address of an exported function.
    fn export(&self, name: &'static str) -> Result<u64, NotOpenSsl> {
        let at = EXPORTS.iter().position(|export| *export == name);
        at.and_then(|at| self.exports[at]).ok_or(NotOpenSsl::NoExport(name))
    }

    /// File offset of an address in an executable segment.
    fn offset(&self, vaddr: u64) -> Option<u64> {
        file_offset(&self.file, self.data, vaddr)
    }

    /// `len` bytes of code from `vaddr` on.
    fn code(&self, vaddr: u64, len: usize) -> Option<&'a [u8]> {
        self.data.read_bytes_at(self.offset(vaddr)?, len as u64).ok()
    }

    /// The address behind an `endbr64` that a cheap instruction follows: the former is single-stepped.
    fn behind_landing_pad(&self, vaddr: u64) -> u64 {
        let padded = self.file.architecture() == Architecture::X86_64
            && self
                .code(vaddr, ENDBR64.len() + 2)
                .is_some_and(|code| code.starts_with(&ENDBR64) && is_push(&code[ENDBR64.len()..]));
        if padded { vaddr + ENDBR64.len() as u64 } else { vaddr }
    }

    /// The internal function that `export` and its twin both call first: they agree on it, it begins
    /// with a `push`, and `export` passes the address of a local as its fourth or fifth argument.
    fn internal(&self, export: u64, twin: Option<u64>) -> Option<(u64, Done)> {
        if self.file.architecture() != Architecture::X86_64 {
            return None;
        }
        let twin = self.calls(twin?);
        self.calls(export).into_iter().find_map(|(at, target)| {
            twin.iter().find(|(_, other)| *other == target)?;
            let entry = self.code(self.behind_landing_pad(target), 2)?;
            let done = local_passed(self.code(export, at)?)?;
            is_push(entry).then_some((target, done))
        })
    }

    /// Every place in the first bytes at `vaddr` that could be a near call, with where it leads. Not
    /// disassembled: bytes of other instructions are told apart by where they lead.
    fn calls(&self, vaddr: u64) -> Vec<(usize, u64)> {
        const WRAPPER: usize = 80;
        let code = self.code(vaddr, WRAPPER).unwrap_or_default();
        let call = |at: usize| {
            let distance = code.get(at + 1..at + 5)?.try_into().ok()?;
            let next = vaddr + at as u64 + 5;
            Some((at, next.wrapping_add_signed(i32::from_le_bytes(distance).into())))
        };
        (0..code.len()).filter(|at| code[*at] == 0xe8).filter_map(call).collect()
    }
}

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// `push reg`, which the kernel emulates.
fn is_push(code: &[u8]) -> bool {
    matches!(code, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..])
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
fn version<'a, R: ReadRef<'a>>(file: &ElfFile64<'a, Endianness, R>) -> Result<String, NotOpenSsl> {
    let endian = file.endian();
    let mut newest = String::new();
    let mut other = String::new();
    let sections = file.elf_section_table();
    if let Ok(Some((mut definitions, link))) = sections.gnu_verdef(endian, file.data())
        && let Ok(strings) = sections.strings(endian, file.data(), link)
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
    use super::*;

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
    fn only_a_push_is_a_cheap_entry() {
        assert!(is_push(&[0x53, 0x48]) && is_push(&[0x41, 0x55]));
        assert!(!is_push(&[0x48, 0x83]) && !is_push(&[0x41, 0x89]) && !is_push(&[]));
    }

    #[test]
    fn refuses_what_is_not_elf() {
        assert!(matches!(plan(&b"#!/bin/sh\n"[..]), Err(NotOpenSsl::Elf(_))));
    }

    #[test]
    fn refuses_a_library_without_the_exports() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(plan(&own[..]), Err(NotOpenSsl::NoExport("SSL_read")));
    }

    #[test]
    fn finds_the_internal_functions_of_the_systems_library() {
        let Ok(data) = std::fs::read(SYSTEM) else {
            println!("skipped: no {SYSTEM}");
            return;
        };
        let plan = plan(&data[..]).unwrap();
        assert_eq!(plan.via, Via::Internal, "{plan:?}");
        assert!(plan.version.starts_with("3."), "{plan:?}");
        assert_eq!(plan.points.len(), 6);
        for (probe, offset) in &plan.points {
            let code = &data[*offset as usize..][..2];
            assert!(is_push(code), "{probe:?} at {offset:#x}: {code:02x?}");
        }
    }

    #[test]
    fn every_cut_of_the_file_is_refused_without_panic() {
        let Ok(data) = std::fs::read(SYSTEM) else {
            println!("skipped: no {SYSTEM}");
            return;
        };
        for len in (0..data.len()).step_by(4099) {
            let _ = plan(&data[..len]);
        }
    }
}
