//! Where in a Rust program the plaintext of rustls passes: from an ELF file to file offsets.
//!
//! Every record passes an implementation of `MessageEncrypter` or `MessageDecrypter`. They are called by vtable, so that no
//! optimisation takes them away, and found by their symbols. What they are given and give is no stable interface: it is
//! known for the versions that are named here, and [`code`] looks whether the functions are such.

mod code;

use std::{fs::File, io};

use object::{Architecture, Object as _, ObjectSymbol as _, read::ReadCache};

use super::{
    crates,
    plan::{Library, Plan, Via},
    segments::{Elf, file_offset, read},
};
use crate::bpf::Probe;

/// Longest function that is decoded; they have about 1 KiB.
const CODE_LIMIT: u64 = 64 << 10;

/// Why a file is not probed.
#[derive(Debug, thiserror::Error)]
pub enum NotRustls {
    /// It has no rustls in it.
    #[error("no rustls")]
    None,
    #[error("not a 64-bit ELF file: {0}")]
    Elf(object::Error),
    #[error("rustls {0} without symbols of what encrypts its records")]
    NoSymbols(String),
    #[error("rustls {0}, whose records are not known, expected 0.23")]
    Version(String),
    #[error("more than one rustls: {0}")]
    Versions(String),
    #[error("rustls {version}, in which the code of {symbol} is not as it is known")]
    Code { version: String, symbol: String },
    #[error("functions of {0:?} are not read, only those of x86-64")]
    Architecture(Architecture),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// What to attach to the Rust program in `file`.
///
/// # Errors
/// [`NotRustls`] says what is missing.
pub fn plan(file: &File) -> Result<Plan, NotRustls> {
    let cache = ReadCache::new(file);
    let elf = Elf::parse(&cache).map_err(NotRustls::Elf)?;
    let versions = crates::versions(file, &elf, "/rustls-")?;
    let version = match &versions[..] {
        [] => return Err(NotRustls::None),
        [one] => one.clone(),
        more => return Err(NotRustls::Versions(more.join(", "))),
    };
    if !version.starts_with("0.23.") {
        return Err(NotRustls::Version(version));
    }
    if elf.architecture() != Architecture::X86_64 {
        return Err(NotRustls::Architecture(elf.architecture()));
    }
    let mut points = Vec::new();
    for symbol in elf.symbols().filter(|symbol| symbol.is_definition() && symbol.size() > 0) {
        let Some(name) = symbol.name().ok() else { continue };
        let Some(kind) = Kind::of(name) else { continue };
        let wrong = || NotRustls::Code { version: version.clone(), symbol: shown(name).to_owned() };
        let at = file_offset(&elf, &cache, symbol.address()).ok_or_else(wrong)?;
        let code = read(file, at, symbol.size().min(CODE_LIMIT))?;
        if !code::is_known(&code) {
            return Err(wrong());
        }
        let (entry, back) = kind.probes();
        points.extend([(entry, at), (back, at)]);
    }
    // One of each at least, or half of a conversation would be taken for all of it.
    let has = |probe| points.iter().any(|(found, _)| *found == probe);
    if !has(Probe::RustlsEncrypt) || !has(Probe::RustlsDecrypt) {
        return Err(NotRustls::NoSymbols(version));
    }
    points.sort_by_key(|(probe, at)| (probe.name(), *at));
    // Identical functions may have been made one.
    points.dedup();
    Ok(Plan { library: Library::Rustls, version, via: Via::Internal, points })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Encrypts,
    Decrypts,
}

impl Kind {
    /// Of the function with this symbol, in either of rustc's manglings.
    fn of(name: &str) -> Option<Self> {
        let is = |implements: &str, method: &str| {
            let legacy = name.contains(&format!("{implements}$GT${method}17h"));
            legacy || name.ends_with(&format!("{implements}{method}"))
        };
        // What stands in until there are keys; QUIC's are of other traits.
        if !name.contains("rustls") || name.contains("Invalid") {
            return None;
        }
        if is("MessageEncrypter", "7encrypt") {
            Some(Self::Encrypts)
        } else if is("MessageDecrypter", "7decrypt") {
            Some(Self::Decrypts)
        } else {
            None
        }
    }

    const fn probes(self) -> (Probe, Probe) {
        match self {
            Self::Encrypts => (Probe::RustlsEncrypt, Probe::RustlsEncryptReturn),
            Self::Decrypts => (Probe::RustlsDecrypt, Probe::RustlsDecryptReturn),
        }
    }
}

/// The part of a symbol that a reader knows.
fn shown(symbol: &str) -> &str {
    symbol.split("17h").next().unwrap_or(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_by_their_symbols() {
        let of = |implementation: &str, end: &str| {
            Kind::of(&format!(
                "_ZN111_$LT$rustls..crypto..ring..{implementation}$u20$as$u20$rustls..crypto..cipher..{end}"
            ))
        };
        let encrypter = "MessageEncrypter$GT$7encrypt17h86187effdecce4a7E";
        let decrypter = "MessageDecrypter$GT$7decrypt17h3b690d5bb9f814cbE.llvm.707";
        assert_eq!(of("tls13..Tls13MessageEncrypter", encrypter), Some(Kind::Encrypts));
        assert_eq!(of("tls12..GcmMessageDecrypter", decrypter), Some(Kind::Decrypts));
        assert_eq!(of("InvalidMessageEncrypter", encrypter), None);
        let length = "MessageEncrypter$GT$21encrypted_payload_len17h82865649b39f1dcbE";
        assert_eq!(of("tls13..Tls13MessageEncrypter", length), None);
        let v0 = "_RNvXs4_NtNtNtCs1_6rustls6crypto4ring5tls13NtB5_21Tls13MessageDecrypterNtNtB9_6cipher16MessageDecrypter7decrypt";
        assert_eq!(Kind::of(v0), Some(Kind::Decrypts));
    }

    #[test]
    fn a_program_without_rustls_has_none() {
        let shell = File::open("/bin/sh").unwrap();
        assert!(matches!(plan(&shell), Err(NotRustls::None)));
    }
}
