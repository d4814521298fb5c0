//! What the guest boots into: busybox, the modules it needs, and the two scripts that lead from there
//! to this machine's own file system and the job.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::kernels::Kernel;

/// Statically linked: it runs on its own, before there is a root file system.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// What the guest cannot do without, as a module or built in.
const NEEDED: [&str; 5] = ["virtio_pci", "virtio_console", "fuse", "virtiofs", "overlay"];

/// What tests use, for there is no modprobe in the guest; older kernels lack some.
const WANTED: [&str; 8] =
    ["veth", "tls", "sch_ingress", "cls_bpf", "inet_diag", "tcp_diag", "unix_diag", "virtio_rng"];

/// From the initramfs to the shared root: a writable overlay over it, then the second script.
const INIT: &str = include_str!("init.sh");

/// The new root's first process: runs the job and says how it ended.
const SUPERVISE: &str = include_str!("supervise.sh");

/// The archive for `kernel` with `job`, a shell script, in it.
pub(crate) fn build(kernel: &Kernel, job: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "job", "modules"] {
        archive.folder(folder);
    }
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    // The name of the dynamic linker stands near the beginning.
    let start = &busybox[..busybox.len().min(4096)];
    if start.windows(9).any(|bytes| bytes == b"/ld-linux") {
        bail!("{BUSYBOX} is dynamically linked, expected that of the package busybox-static");
    }
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("job/supervise.sh", 0o755, SUPERVISE.as_bytes());
    archive.file("job/job.sh", 0o755, job.as_bytes());
    let modules = Modules::read(&kernel.modules)?.in_order()?;
    for (at, content) in modules.iter().enumerate() {
        archive.file(&format!("modules/{at:02}.ko"), 0o644, content);
    }
    Ok(archive.finish())
}

/// The modules of a kernel.
struct Modules {
    /// Files by name, `_` for `-`.
    files: HashMap<String, PathBuf>,
    /// Names of what is built in.
    built_in: Vec<String>,
}

impl Modules {
    fn read(folder: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        let mut folders = vec![folder.join("kernel")];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder);
            for entry in entries.with_context(|| format!("in {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let list = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let built_in = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// The contents of the modules, each behind those it depends on.
    fn in_order(&self) -> Result<Vec<Vec<u8>>> {
        let mut done = Vec::new();
        let mut contents = Vec::new();
        for name in NEEDED {
            if !self.add(name, &mut done, &mut contents)? {
                bail!("the kernel has no {name}, neither built in nor as a module");
            }
        }
        for name in WANTED {
            self.add(name, &mut done, &mut contents)?;
        }
        Ok(contents)
    }

    /// Adds `name` with its dependencies, if there is such a module and it is not there yet.
    fn add(&self, name: &str, done: &mut Vec<String>, contents: &mut Vec<Vec<u8>>) -> Result<bool> {
        if done.iter().chain(&self.built_in).any(|known| known == name) {
            return Ok(true);
        }
        let Some(path) = self.files.get(name) else { return Ok(false) };
        let content = decompressed(path)?;
        for dependency in dependencies(&content) {
            if !self.add(&dependency, done, contents)? {
                bail!("module {name} needs {dependency}, which is not there");
            }
        }
        done.push(name.to_owned());
        contents.push(content);
        Ok(true)
    }
}

/// `virtio_rng` of `.../virtio-rng.ko.xz`; `None` for other files.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&rest).then(|| name.replace('-', "_"))
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = Command::new(program).arg("-dc").arg(path).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} cannot read {}", path.display());
    }
    Ok(output.stdout)
}

/// The names in a module's `depends=` (section `.modinfo`, strings ended by zeros).
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let at = module.windows(KEY.len() + 1).position(|window| window[0] == 0 && &window[1..] == KEY);
    let Some(at) = at else { return Vec::new() };
    let list = module[at + 1 + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// A cpio archive in the form the kernel reads ("newc", Documentation/driver-api/early-userspace).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | permissions, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let name_len = name.len() as u32 + 1;
        // inode, mode, uid, gid, links, mtime, size, device and special device (major, minor), name's
        // length, checksum
        let fields =
            [self.entries, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name_len, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_module_depends_on() {
        let module = b"\0license=GPL\0depends=virtio-ring,virtio\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["virtio_ring", "virtio"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"no module").is_empty());
    }

    #[test]
    fn knows_modules_by_name() {
        assert_eq!(module_name(Path::new("a/virtio-rng.ko.xz")).as_deref(), Some("virtio_rng"));
        assert_eq!(module_name(Path::new("kernel/fs/fuse/fuse.ko")).as_deref(), Some("fuse"));
        assert_eq!(module_name(Path::new("modules.order")), None);
    }

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("abc", 0o644, b"12345");
        archive.folder("d");
        let bytes = archive.finish();
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|start| start % 4 == 0), "{starts:?}");
    }
}
