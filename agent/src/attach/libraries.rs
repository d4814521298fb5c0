//! Which files with a TLS library in them a process has mapped as code.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use memchr::memmem;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

/// One file that may be attached to, wherever it is seen. Every container has an overlay, a device of its
/// own, and containers of one image show the same files of one layer by it: probes are at the layer's file,
/// and two attachments would run twice for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    device: Device,
    pub inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Device {
    /// Of the file system, as stat(2) tells it; where it cannot be asked, as `/proc/PID/maps` does.
    Number(u32, u32),
    /// An overlay, whose layers cannot be asked for. It passes on their inode numbers where they are of
    /// one file system (Documentation/filesystems/overlayfs.rst), sizes and times always.
    Overlay { size: u64, modified_ns: (i64, i64) },
}

impl FileKey {
    /// Of the file at `path`.
    fn of(path: &Path, metadata: &Metadata) -> Self {
        const OVERLAYFS_SUPER_MAGIC: i128 = 0x794c_7630; // include/uapi/linux/magic.h
        let overlay = rustix::fs::statfs(path)
            .is_ok_and(|found| i128::from(found.f_type) == OVERLAYFS_SUPER_MAGIC);
        let device = if overlay {
            let modified_ns = (metadata.mtime(), metadata.mtime_nsec());
            Device::Overlay { size: metadata.size(), modified_ns }
        } else {
            Device::Number(libc::major(metadata.dev()), libc::minor(metadata.dev()))
        };
        Self { device, inode: metadata.ino() }
    }
}

/// A mapped file that may have a TLS library in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: FileKey,
    /// In the process's mount namespace.
    pub path: PathBuf,
    /// Range of the mapping, for `/proc/PID/map_files`.
    range: (u64, u64),
}

/// The candidates among what `tgid` has mapped as code now: libraries whose names tell of TLS, and the executable.
///
/// # Errors
/// The process is gone, or may not be inspected.
pub fn candidates(tgid: u32) -> io::Result<Vec<Candidate>> {
    let io_error = |error: procfs::ProcError| io::Error::other(error);
    let process = Process::new(tgid as i32).map_err(io_error)?;
    let exe = fs::read_link(format!("/proc/{tgid}/exe"))?;
    if is_not_the_command_yet(tgid) {
        return Ok(Vec::new());
    }
    let mut found: Vec<Candidate> = Vec::new();
    for map in process.maps().map_err(io_error)? {
        if !map.perms.contains(MMPermissions::EXECUTE) {
            continue;
        }
        if let Some(candidate) = candidate(tgid, map, &exe)
            && !found.iter().any(|known| known.key == candidate.key)
        {
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Whether `tgid` is another process with the program of this one: the child of `remora exec` until it becomes the command.
fn is_not_the_command_yet(tgid: u32) -> bool {
    let program = |process: &str| {
        let metadata = fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    tgid != std::process::id()
        && program("self").is_some_and(|own| program(&tgid.to_string()) == Some(own))
}

fn candidate(tgid: u32, map: MemoryMap, exe: &Path) -> Option<Candidate> {
    let MMapPath::Path(path) = map.pathname else { return None };
    if path != exe && !is_tls_library(&path) {
        return None;
    }
    // Deleted or replaced since, it is found by its mapping, and is the same file as before.
    let mut places = places(tgid, &path).into_iter().chain([mapped(tgid, map.address)]);
    let there = places.find_map(|place| {
        let metadata = fs::metadata(&place).ok().filter(|found| found.ino() == map.inode)?;
        Some(FileKey::of(&place, &metadata))
    });
    let gone = Device::Number(map.dev.0 as u32, map.dev.1 as u32);
    let key = there.unwrap_or(FileKey { device: gone, inode: map.inode });
    Some(Candidate { key, path, range: map.address })
}

/// The paths by which the agent may find what `tgid` has mapped from `path`: below the root of its mount
/// namespace, and, of a process that was confined by chroot(2) alone, the path itself.
fn places(tgid: u32, path: &Path) -> [PathBuf; 2] {
    [in_root(tgid, path), path.to_owned()]
}

/// Where the agent finds what `tgid` has mapped at `range`, wherever it was (CAP_CHECKPOINT_RESTORE).
fn mapped(tgid: u32, (start, end): (u64, u64)) -> PathBuf {
    format!("/proc/{tgid}/map_files/{start:x}-{end:x}").into()
}

fn in_root(tgid: u32, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{tgid}/root")).join(path.strip_prefix("/").unwrap_or(path))
}

/// Where distributions put libraries.
const FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// The TLS libraries that a program in the root of `tgid` would be linked with.
#[must_use]
pub fn installed(tgid: u32) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for folder in FOLDERS {
        for name in ["libssl.so.3", "libssl.so.1.1", "libgnutls.so.30"] {
            if let Some(candidate) = at(tgid, &Path::new(folder).join(name))
                && !found.iter().any(|known| known.key == candidate.key)
            {
                found.push(candidate);
            }
        }
    }
    found
}

/// The file at `path` in the root of `tgid`, which may come to map it.
#[must_use]
pub fn at(tgid: u32, path: &Path) -> Option<Candidate> {
    let here = in_root(tgid, path);
    let metadata = fs::metadata(&here).ok()?;
    Some(Candidate { key: FileKey::of(&here, &metadata), path: path.to_owned(), range: (0, 0) })
}

fn is_tls_library(path: &Path) -> bool {
    is_libssl(path) || is_gnutls(path) || is_boringssl(path)
}

/// `libssl.so.3`, `libssl.so.1.1`, and those that bundles rename (`libssl-0123abcd.so.3`).
fn is_libssl(path: &Path) -> bool {
    let name = name(path);
    is_named(name, b"libssl") && (name.ends_with(b".so.3") || name.ends_with(b".so.1.1"))
}

/// `libgnutls.so.30`, renamed or with all of its version, too.
#[must_use]
pub fn is_gnutls(path: &Path) -> bool {
    let name = name(path);
    is_named(name, b"libgnutls") && memmem::find(name, b".so.30").is_some()
}

/// Libraries with BoringSSL in them: those of Java's netty (`libnetty_tcnative_linux_x86_64.so`, with a number behind it and a prefix
/// before it where others bundle it) and Conscrypt, and `libssl.so` as Android and others have it.
#[must_use]
pub fn is_boringssl(path: &Path) -> bool {
    let name = name(path);
    memmem::find(name, b"netty_tcnative").is_some()
        || name.starts_with(b"libconscrypt")
        || name == b"libssl.so"
}

/// Name of a mapped file, which may have been deleted.
fn name(path: &Path) -> &[u8] {
    let name = path.file_name().map_or(&b""[..], OsStrExt::as_bytes);
    name.strip_suffix(b" (deleted)").unwrap_or(name)
}

fn is_named(name: &[u8], library: &[u8]) -> bool {
    let rest = name.strip_prefix(library);
    rest.is_some_and(|rest| rest.starts_with(b".so") || rest.starts_with(b"-"))
}

impl Candidate {
    /// Opens the file that `tgid` has mapped: by its path, or, where another file is there by now, by the
    /// mapping itself.
    ///
    /// # Errors
    /// The process is gone, the mapping is gone, or it may not be opened.
    pub fn open(&self, tgid: u32) -> io::Result<File> {
        for place in places(tgid, &self.path) {
            if let Ok(file) = File::open(place)
                && file.metadata()?.ino() == self.key.inode
            {
                return Ok(file);
            }
        }
        File::open(mapped(tgid, self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_openssl_by_name() {
        for (name, expected) in [
            ("/usr/lib/x86_64-linux-gnu/libssl.so.3", true),
            ("/opt/venv/cryptography.libs/libssl-0123abcd.so.3", true),
            ("/usr/lib/libssl.so.1.1", true),
            ("/usr/lib/libssl.so.3 (deleted)", true),
            ("/usr/lib/libssl.so.48", false),
            ("/usr/lib/libssl.so.1.0.0", false),
            ("/usr/lib/libssl3.so", false),
            ("/usr/lib/libssl.so", false),
            ("/usr/lib/libcrypto.so.3", false),
        ] {
            assert_eq!(is_libssl(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn knows_other_libraries_by_name() {
        for (name, gnutls, boringssl) in [
            ("/usr/lib/x86_64-linux-gnu/libgnutls.so.30.34.3", true, false),
            ("/opt/wheel.libs/libgnutls-0123abcd.so.30", true, false),
            ("/usr/lib/libgnutls-openssl.so.27", false, false),
            ("/usr/lib/libgnutlsxx.so.30", false, false),
            ("/tmp/libnetty_tcnative_linux_x86_641234.so (deleted)", false, true),
            ("/tmp/libio_grpc_netty_shaded_netty_tcnative_linux_x86_64.so", false, true),
            ("/usr/lib/libssl.so", false, true),
            ("/usr/lib/libcrypto.so", false, false),
        ] {
            let path = Path::new(name);
            assert_eq!((is_gnutls(path), is_boringssl(path)), (gnutls, boringssl), "{name}");
            assert_eq!(is_tls_library(path), gnutls || boringssl, "{name}");
        }
    }

    #[test]
    fn finds_and_opens_the_own_executable() {
        let own = std::process::id();
        let found = candidates(own).unwrap();
        let exe = found.iter().find(|c| c.path == std::env::current_exe().unwrap()).unwrap();
        let file = exe.open(own).unwrap();
        assert_eq!(file.metadata().unwrap().ino(), exe.key.inode);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(candidates(u32::MAX >> 1).is_err());
    }
}
