//! Which TLS libraries a selected process uses, and which of them stay opaque: the blind spots that
//! are named in the log, in a metric and by `remora doctor --pid`.
//!
//! Libraries are told by the names of mapped files, what is linked into the executable by what its
//! sections hold ([`elf`]). Finding a library does not prove that it is used; not finding one (a
//! stripped, statically linked rarity) does not prove that there is none.

mod elf;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use procfs::{
    ProcResult,
    process::{MMapPath, Process},
};

use super::{go, libraries, openssl, rustls};
use crate::discover::pid;

/// For `fuzzing`: what an executable of any bytes has.
///
/// # Errors
/// It is none.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_tls_in(file: &File) -> Result<Vec<TlsKind>, object::Error> {
    elf::tls_in(file)
}

/// An implementation of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsKind {
    OpenSsl,
    BoringSsl,
    LibreSsl,
    GoCryptoTls,
    Rustls,
    Jvm,
    GnuTls,
    Nss,
    MbedTls,
    WolfSsl,
}

impl TlsKind {
    /// Name in reports and in the `kind` attribute of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::LibreSsl => "libressl",
            Self::GoCryptoTls => "go crypto/tls",
            Self::Rustls => "rustls",
            Self::Jvm => "jvm",
            Self::GnuTls => "gnutls",
            Self::Nss => "nss",
            Self::MbedTls => "mbedtls",
            Self::WolfSsl => "wolfssl",
        }
    }
}

/// One TLS implementation found in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsStack {
    pub kind: TlsKind,
    /// Executable or library, in the process's mount namespace.
    pub path: PathBuf,
    /// Whether plaintext is seen.
    pub supported: bool,
    /// Why, or why not.
    pub reason: &'static str,
}

const SUPPORTED: &str = "read through its SSL_read and SSL_write";
const SYMBOLS: &str = "with symbols of its SSL_read and SSL_write, by which it is read";
const NO_SYMBOLS: &str = "without symbols of its SSL_read and SSL_write";
const GNUTLS: &str = "read through its gnutls_record_recv and gnutls_record_send";
const GO: &str = "read through its Conn.Read and Conn.Write";
const OTHER_GO: &str = "of a Go before 1.18, or with code that is not understood";
const RUSTLS: &str = "read through what encrypts and decrypts its records";
const OTHER_RUSTLS: &str = "without symbols, of a version that is not known, or beside OpenSSL";
const NOT_READ: &str = "this library is not read";

/// Looks into processes; remembers what it found out about each file.
#[derive(Debug, Default)]
pub struct TlsScanner {
    /// Kinds, and whether their plaintext is seen.
    files: HashMap<FileId, Vec<(TlsKind, bool)>>,
}

/// A file as long as it is not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    modified_ns: i64,
    len: u64,
}

/// Files remembered; beyond, all are forgotten and looked at again when they come up.
const MAX_FILES: usize = 4096;

impl TlsScanner {
    /// Every TLS implementation found in the *selected* process `tgid`, each kind and file once.
    ///
    /// # Errors
    /// The process is gone, or it may not be inspected (`CAP_SYS_PTRACE`).
    pub fn stacks(&mut self, tgid: u32) -> ProcResult<Vec<TlsStack>> {
        let process = Process::new(pid(tgid))?;
        let exe = process.exe()?;
        let mut found: BTreeMap<(TlsKind, PathBuf), TlsStack> = BTreeMap::new();
        for (kind, supported) in self.in_executable(tgid) {
            let reason = match kind {
                TlsKind::GoCryptoTls if supported => GO,
                TlsKind::GoCryptoTls => OTHER_GO,
                TlsKind::Rustls if supported => RUSTLS,
                TlsKind::Rustls => OTHER_RUSTLS,
                _ if supported => SYMBOLS,
                _ => NO_SYMBOLS,
            };
            let stack = TlsStack { kind, path: exe.clone(), supported, reason };
            found.insert((kind, exe.clone()), stack);
        }
        for map in process.maps()? {
            let MMapPath::Path(path) = map.pathname else { continue };
            if let Some(mut stack) = library(&path)
                && !found.contains_key(&(stack.kind, path.clone()))
            {
                if stack.kind == TlsKind::BoringSsl && self.boringssl_is_seen(tgid, &path) {
                    (stack.supported, stack.reason) = (true, SYMBOLS);
                }
                found.insert((stack.kind, path), stack);
            }
        }
        Ok(found.into_values().collect())
    }

    /// Those of [`Self::stacks`] whose plaintext is not seen.
    ///
    /// # Errors
    /// As [`Self::stacks`].
    pub fn blind_spots(&mut self, tgid: u32) -> ProcResult<Vec<TlsStack>> {
        let mut stacks = self.stacks(tgid)?;
        stacks.retain(|stack| !stack.supported);
        Ok(stacks)
    }

    fn in_executable(&mut self, tgid: u32) -> Vec<(TlsKind, bool)> {
        let Ok(file) = File::open(format!("/proc/{tgid}/exe")) else { return Vec::new() };
        self.in_file(&file, || {
            let kinds = elf::tls_in(&file).unwrap_or_else(|error| {
                tracing::debug!(pid = tgid, %error, "executable not understood");
                Vec::new()
            });
            let seen = |kind| match kind {
                TlsKind::OpenSsl | TlsKind::BoringSsl => openssl::plan(&file).is_ok(),
                TlsKind::GoCryptoTls => go::plan(&file).is_ok(),
                // Of a file that has both, OpenSSL is attached to.
                TlsKind::Rustls => openssl::plan(&file).is_err() && rustls::plan(&file).is_ok(),
                _ => false,
            };
            kinds.into_iter().map(|kind| (kind, seen(kind))).collect()
        })
    }

    /// Whether the functions of the library are found that `tgid` has mapped from `path`.
    fn boringssl_is_seen(&mut self, tgid: u32, path: &Path) -> bool {
        let candidates = libraries::candidates(tgid).unwrap_or_default();
        let mapped = candidates.into_iter().find(|candidate| candidate.path == path);
        let Some(file) = mapped.and_then(|candidate| candidate.open(tgid).ok()) else {
            return false;
        };
        let kinds =
            self.in_file(&file, || vec![(TlsKind::BoringSsl, openssl::plan(&file).is_ok())]);
        kinds.contains(&(TlsKind::BoringSsl, true))
    }

    /// What `look` finds in `file`, or has found before.
    fn in_file(
        &mut self,
        file: &File,
        look: impl FnOnce() -> Vec<(TlsKind, bool)>,
    ) -> Vec<(TlsKind, bool)> {
        let Ok(metadata) = file.metadata() else { return Vec::new() };
        let id = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            len: metadata.len(),
        };
        if let Some(known) = self.files.get(&id) {
            return known.clone();
        }
        let kinds = look();
        if self.files.len() >= MAX_FILES {
            self.files.clear();
        }
        self.files.insert(id, kinds.clone());
        kinds
    }
}

/// What a mapped library is, by its file name.
fn library(path: &Path) -> Option<TlsStack> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let (kind, supported, reason) = if let Some(version) = libssl_version(name) {
        match version {
            "3" | "1.1" => (TlsKind::OpenSsl, true, SUPPORTED),
            "" => (TlsKind::BoringSsl, false, NO_SYMBOLS),
            _ if version.starts_with("1.0") || version == "10" => {
                (TlsKind::OpenSsl, false, "OpenSSL before 1.1 is not read")
            }
            _ => (TlsKind::LibreSsl, false, NOT_READ),
        }
    } else if libraries::is_gnutls(path) {
        (TlsKind::GnuTls, true, GNUTLS)
    } else if libraries::is_boringssl(path) {
        (TlsKind::BoringSsl, false, NO_SYMBOLS)
    } else {
        let starts = |prefix: &str| name.starts_with(prefix);
        let kind = if starts("libgnutls.so.") {
            TlsKind::GnuTls
        } else if name == "libssl3.so" {
            TlsKind::Nss
        } else if starts("libmbedtls.so") {
            TlsKind::MbedTls
        } else if starts("libwolfssl.so") {
            TlsKind::WolfSsl
        } else if name == "libjvm.so" {
            TlsKind::Jvm
        } else {
            return None;
        };
        (kind, false, NOT_READ)
    };
    Some(TlsStack { kind, path: path.to_owned(), supported, reason })
}

/// `3` of `libssl.so.3` and of `libssl-0123abcd.so.3` (as Python wheels bundle it); empty for
/// `libssl.so`.
fn libssl_version(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("libssl")?;
    let rest = match rest.strip_prefix('-') {
        Some(bundled) => &bundled[bundled.find(".so")?..],
        None => rest,
    };
    let version = rest.strip_prefix(".so")?;
    Some(version.strip_prefix('.').unwrap_or(version))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
    };

    use super::*;

    #[test]
    fn libraries_are_told_by_their_names() {
        use TlsKind::{BoringSsl, GnuTls, Jvm, LibreSsl, MbedTls, Nss, OpenSsl};
        let rows = [
            ("/usr/lib/libssl.so.3", Some((OpenSsl, true))),
            ("/usr/lib/libssl.so.1.1", Some((OpenSsl, true))),
            ("/usr/lib/libssl.so.1.1 (deleted)", Some((OpenSsl, true))),
            ("/venv/psycopg2.libs/libssl-3e69114b.so.3", Some((OpenSsl, true))),
            ("/venv/psycopg2.libs/libssl-3e69114b.so.1.1", Some((OpenSsl, true))),
            ("/usr/lib/libssl.so.1.0.2k", Some((OpenSsl, false))),
            ("/usr/lib/libssl.so.10", Some((OpenSsl, false))),
            ("/usr/lib/libssl.so.55", Some((LibreSsl, false))),
            ("/usr/lib/libssl.so", Some((BoringSsl, false))),
            ("/usr/lib/libssl3.so", Some((Nss, false))),
            ("/usr/lib/libgnutls.so.30", Some((GnuTls, true))),
            ("/usr/lib/libgnutls.so.26", Some((GnuTls, false))),
            ("/usr/lib/libmbedtls.so.14", Some((MbedTls, false))),
            ("/opt/jdk/lib/server/libjvm.so", Some((Jvm, false))),
            ("/tmp/libnetty_tcnative_linux_x86_64.so", Some((BoringSsl, false))),
            ("/usr/lib/libcrypto.so.3", None),
            ("/usr/lib/libsslcommon.so", None),
            ("/usr/lib/libnss3.so", None),
        ];
        for (path, expected) in rows {
            let found = library(Path::new(path)).map(|stack| (stack.kind, stack.supported));
            assert_eq!(found, expected, "{path}");
        }
    }

    /// A program that printed a line and now waits.
    struct Ready(Child);

    impl Ready {
        fn start(program: &str, arguments: &[&str]) -> Option<Self> {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .inspect_err(|error| eprintln!("skipped: {program}: {error}"))
                .ok()?;
            let mut line = String::new();
            BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
            Some(Self(child))
        }
    }

    impl Drop for Ready {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn python_is_seen_through() {
        let program = "import ssl, sys; print(ssl.OPENSSL_VERSION, flush=True); sys.stdin.read()";
        let Some(python) = Ready::start("python3", &["-c", program]) else { return };
        let mut scanner = TlsScanner::default();
        let stacks = scanner.stacks(python.0.id()).unwrap();
        let found: Vec<_> = stacks.iter().map(|stack| (stack.kind, stack.supported)).collect();
        assert_eq!(found, [(TlsKind::OpenSsl, true)], "{stacks:?}");
        assert_eq!(scanner.blind_spots(python.0.id()).unwrap(), []);
    }

    #[test]
    fn node_is_seen_through() {
        let program = "console.log('ready'); process.stdin.resume()";
        let Some(node) = Ready::start("node", &["-e", program]) else { return };
        let mut scanner = TlsScanner::default();
        let stacks = scanner.stacks(node.0.id()).unwrap();
        let exe = File::open(format!("/proc/{}/exe", node.0.id())).unwrap();
        let own = openssl::plan(&exe).is_ok();
        let found: Vec<_> = stacks.iter().map(|stack| (stack.kind, stack.reason)).collect();
        // Distributions build node with the system's libssl.so.
        let expected = if own { SYMBOLS } else { SUPPORTED };
        assert_eq!(found, [(TlsKind::OpenSsl, expected)], "{stacks:?}");
        assert_eq!(scanner.blind_spots(node.0.id()).unwrap(), []);
        assert_eq!(scanner.stacks(node.0.id()).unwrap(), stacks, "from memory");
    }

    #[test]
    fn a_program_without_tls_has_no_blind_spot() {
        let Some(cat) = Ready::start("sh", &["-c", "echo ready; read line"]) else { return };
        assert_eq!(TlsScanner::default().stacks(cat.0.id()).unwrap(), []);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(TlsScanner::default().stacks(u32::MAX).is_err());
    }
}
