//! Which files with OpenSSL in them a process has mapped as code.

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

/// A file as the kernel tells it in `/proc/PID/maps`: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    pub device: (i32, i32),
    pub inode: u64,
}

/// A mapped file that may have OpenSSL in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: FileKey,
    /// In the process's mount namespace.
    pub path: PathBuf,
    /// Range of the mapping, for `/proc/PID/map_files`.
    range: (u64, u64),
}

/// The candidates among what `tgid` has mapped as code now: libraries named as OpenSSL's are, and the
/// executable.
///
/// # Errors
/// The process is gone, or may not be inspected.
pub fn candidates(tgid: u32) -> io::Result<Vec<Candidate>> {
    let io_error = |error: procfs::ProcError| io::Error::other(error);
    let process = Process::new(tgid as i32).map_err(io_error)?;
    let exe = fs::read_link(format!("/proc/{tgid}/exe"))?;
    let mut found: Vec<Candidate> = Vec::new();
    for map in process.maps().map_err(io_error)? {
        if !map.perms.contains(MMPermissions::EXECUTE) {
            continue;
        }
        if let Some(candidate) = candidate(map, &exe)
            && !found.iter().any(|known| known.key == candidate.key)
        {
            found.push(candidate);
        }
    }
    Ok(found)
}

fn candidate(map: MemoryMap, exe: &Path) -> Option<Candidate> {
    let MMapPath::Path(path) = map.pathname else { return None };
    (path == exe || is_libssl(&path)).then_some(Candidate {
        key: FileKey { device: map.dev, inode: map.inode },
        path,
        range: map.address,
    })
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

/// The OpenSSL libraries that a program in the root of `tgid` would be linked with.
#[must_use]
pub fn installed(tgid: u32) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for folder in FOLDERS {
        for name in ["libssl.so.3", "libssl.so.1.1"] {
            let path = Path::new(folder).join(name);
            let Ok(metadata) = fs::metadata(format!("/proc/{tgid}/root{}", path.display())) else {
                continue;
            };
            let device = metadata.dev();
            let device = (libc::major(device) as i32, libc::minor(device) as i32);
            let key = FileKey { device, inode: metadata.ino() };
            if !found.iter().any(|known| known.key == key) {
                found.push(Candidate { key, path, range: (0, 0) });
            }
        }
    }
    found
}

/// `libssl.so.3`, `libssl.so.1.1`, and those that bundles rename (`libssl-0123abcd.so.3`).
fn is_libssl(path: &Path) -> bool {
    let name = path.file_name().map_or(&b""[..], OsStrExt::as_bytes);
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    (name.starts_with(b"libssl.so") || name.starts_with(b"libssl-"))
        && (name.ends_with(b".so.3") || name.ends_with(b".so.1.1"))
}

impl Candidate {
    /// Opens the file that `tgid` has mapped: by its path in the process's root, or, where another
    /// file is there by now, by the mapping itself (needs more privileges).
    ///
    /// # Errors
    /// The process is gone, the mapping is gone, or it may not be opened.
    pub fn open(&self, tgid: u32) -> io::Result<File> {
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        let by_path = File::open(Path::new(&format!("/proc/{tgid}/root")).join(path));
        if let Ok(file) = by_path
            && file.metadata()?.ino() == self.key.inode
        {
            return Ok(file);
        }
        let (start, end) = self.range;
        File::open(format!("/proc/{tgid}/map_files/{start:x}-{end:x}"))
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
