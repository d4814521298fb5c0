//! Where in a Rust program the plaintext of rustls passes: from an ELF file to file offsets.
//!
//! Every record passes an implementation of `MessageEncrypter` or `MessageDecrypter`. They are called by vtable, so that no
//! optimisation takes them away, and found by their symbols, or, where there are none, by their code ([`stripped`]). What they are given and give is no stable interface: it is
//! known for the versions that are named here, and [`code`] looks whether the functions are such. A program may have two versions; the
//! code tells whose a function is.

mod accesses;
mod code;
mod stripped;

use std::{fs::File, io};

use object::{Architecture, Object as _, ObjectSymbol as _, read::ReadCache};

use accesses::Accesses;

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
    #[error("rustls {0} without symbols or code that is known of what encrypts its records")]
    NoFunctions(String),
    #[error("rustls {0}, whose records are not known, expected 0.21, 0.22 or 0.23")]
    Version(String),
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
    if versions.is_empty() {
        return Err(NotRustls::None);
    }
    let mut known = Vec::new();
    for version in &versions {
        known.push(Version::of(version).ok_or_else(|| NotRustls::Version(version.clone()))?);
    }
    let version = versions.join(", ");
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
        let form = Form::of_function(name, &Accesses::of(&code), kind, &known);
        let (entry, back) = kind.probes(form.ok_or_else(wrong)?);
        points.extend([(entry, at), (back, at)]);
    }
    if points.is_empty() {
        for form in [Form::Owned, Form::Borrowed] {
            if known.iter().any(|version| version.form() == form) {
                points.extend(without_symbols(file, &elf, form)?);
            }
        }
    }
    // One of each at least, or half of a conversation would be taken for all of it.
    let has = |probe| points.iter().any(|(found, _)| *found == probe);
    let is_whole =
        |form: Form| has(Kind::Encrypts.probes(form).0) && has(Kind::Decrypts.probes(form).0);
    if !known.iter().map(|version| version.form()).all(is_whole) {
        return Err(NotRustls::NoFunctions(version));
    }
    points.sort_by_key(|(probe, at)| (probe.name(), *at));
    // Identical functions may have been made one.
    points.dedup();
    Ok(Plan { library: Library::Rustls, version, via: Via::Internal, points })
}

/// The points of a program that is stripped; none, unless there are as many functions of each kind, as rustls has them.
fn without_symbols(file: &File, elf: &Elf<'_>, form: Form) -> io::Result<Vec<(Probe, u64)>> {
    let functions = stripped::functions(file, elf, form)?;
    let of = |kind| functions.iter().filter(|(of, _)| *of == kind).count();
    if of(Kind::Encrypts) != of(Kind::Decrypts) {
        return Ok(Vec::new());
    }
    let points = functions.into_iter().flat_map(|(kind, at)| {
        let (entry, back) = kind.probes(form);
        [(entry, at), (back, at)]
    });
    Ok(points.collect())
}

/// Looks for functions as if the file had rustls and no symbols.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_functions(file: &File) {
    let cache = ReadCache::new(file);
    let Ok(elf) = Elf::parse(&cache) else { return };
    for form in [Form::Owned, Form::Borrowed] {
        let _ = without_symbols(file, &elf, form);
    }
}

/// A version that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V0_21,
    V0_22,
    V0_23,
}

impl Version {
    fn of(version: &str) -> Option<Self> {
        match version.rsplit_once('.') {
            // What comes before a version, as 0.22.0-alpha.1, may be otherwise.
            _ if version.contains('-') => None,
            Some(("0.21", _)) => Some(Self::V0_21),
            Some(("0.22", _)) => Some(Self::V0_22),
            Some(("0.23", _)) => Some(Self::V0_23),
            _ => None,
        }
    }

    const fn form(self) -> Form {
        match self {
            Self::V0_21 | Self::V0_22 => Form::Owned,
            Self::V0_23 => Form::Borrowed,
        }
    }

    /// Whether a function with this symbol may be of it: 0.22 has moved the traits. The newer mangling abbreviates their path.
    fn may_have(self, name: &str) -> bool {
        if name.contains("crypto..cipher..") {
            self != Self::V0_21
        } else {
            self == Self::V0_21 || !name.contains("rustls..cipher..")
        }
    }
}

/// What functions take and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// 0.21 and 0.22.
    Owned,
    /// 0.23.
    Borrowed,
}

impl Form {
    /// That of a function of one of `versions`.
    fn of_function(name: &str, code: &Accesses, kind: Kind, versions: &[Version]) -> Option<Self> {
        let versions = versions.iter().filter(|version| version.may_have(name));
        let [owned, borrowed] = [Self::Owned, Self::Borrowed]
            .map(|form| versions.clone().any(|version| version.form() == form));
        if owned && code::is_known_0_22(code, kind == Kind::Encrypts) {
            return Some(Self::Owned);
        }
        (borrowed && code::is_known_0_23(code, owned)).then_some(Self::Borrowed)
    }
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

    const fn probes(self, form: Form) -> (Probe, Probe) {
        match (self, form) {
            (Self::Encrypts, Form::Owned) => (Probe::Rustls22Encrypt, Probe::Rustls22EncryptReturn),
            (Self::Decrypts, Form::Owned) => (Probe::Rustls22Decrypt, Probe::Rustls22DecryptReturn),
            (Self::Encrypts, Form::Borrowed) => (Probe::RustlsEncrypt, Probe::RustlsEncryptReturn),
            (Self::Decrypts, Form::Borrowed) => (Probe::RustlsDecrypt, Probe::RustlsDecryptReturn),
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
    fn other_versions_are_not_known() {
        let versions = ["0.20.9", "0.21.12", "0.22.4", "0.22.0-alpha.6", "0.23.46", "0.24.0-dev.0"];
        let known = [Version::V0_21, Version::V0_22, Version::V0_23].map(Some);
        assert_eq!(versions.map(Version::of), [None, known[0], known[1], None, known[2], None]);
    }

    #[test]
    fn functions_of_two_versions_are_told_by_their_path() {
        let name = |path| {
            format!(
                "_ZN_$LT$rustls..tls13..T$u20$as$u20$rustls..{path}..MessageDecrypter$GT$7decrypt17h0E"
            )
        };
        let of = |name: &str| {
            [Version::V0_21, Version::V0_22, Version::V0_23].map(|version| version.may_have(name))
        };
        assert_eq!(of(&name("cipher")), [true, false, false]);
        assert_eq!(of(&name("crypto..cipher")), [false, true, true]);
        assert_eq!(of("_RNvXs4_NtNtB9_6cipher16MessageDecrypter7decrypt"), [true; 3]);
        // Code that says nothing may be 0.23's alone, and not 0.22's.
        let code = Accesses::of(&[0xc3]);
        let form = |name: &str, versions: &[Version]| {
            Form::of_function(name, &code, Kind::Decrypts, versions)
        };
        assert_eq!(
            form(&name("crypto..cipher"), &[Version::V0_21, Version::V0_23]),
            Some(Form::Borrowed)
        );
        assert_eq!(form(&name("cipher"), &[Version::V0_21, Version::V0_23]), None);
        assert_eq!(form(&name("crypto..cipher"), &[Version::V0_22, Version::V0_23]), None);
    }

    #[test]
    fn a_program_without_rustls_has_none() {
        let shell = File::open("/bin/sh").unwrap();
        assert!(matches!(plan(&shell), Err(NotRustls::None)));
    }
}
