//! Containers without a runtime: what one is to the kernel. A root of its own in an overlay over this machine's
//! files, which every image shares as its layer, and namespaces as asked for.

use std::{ffi::OsStr, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{
    process::{Running, children, output, until},
    programs, skip,
};

/// A root that can be changed without changing what is below.
pub struct Root {
    folder: TempDir,
}

impl Root {
    /// An overlay over `/`, with this machine's `/dev` and `/tmp` in it.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn new() -> Self {
        // On the file system of the layer, as runtimes have it; an overlay cannot take changes for another.
        Self::over(TempDir::new_in(programs::built()).expect("a folder"))
            .or_else(|| Self::over(TempDir::new_in("/dev/shm").expect("a folder")))
            .expect("an overlay over /")
    }

    fn over(folder: TempDir) -> Option<Self> {
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let part = |name| folder.path().join(name).display().to_string();
        let options = format!("lowerdir=/,upperdir={},workdir={}", part("upper"), part("work"));
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o"]).arg(options).arg(part("root"));
        if !mount.output().expect("mount runs").status.success() {
            return None;
        }
        let root = Self { folder };
        for shared in ["/dev", "/tmp"] {
            output(Command::new("mount").args(["--bind", shared]).arg(root.inside(shared)));
        }
        Some(root)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where the file at `path` in the container is for this test.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    /// Starts a container on it.
    #[must_use]
    pub fn run<S: AsRef<OsStr>>(&self, namespaces: &[&str], command: &[S]) -> Container {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--fork", "--kill-child"]).args(namespaces);
        // As runtimes do: what was the root goes, and the overlay is the root of the namespace.
        const ENTER: &str = "mount --rbind \"$1\" \"$1\" && cd \"$1\" && shift && \
                             mount -t proc proc proc && pivot_root . . && umount -l . && \
                             ip link set lo up && exec \"$@\"";
        unshare.args(["sh", "-c", ENTER, "sh"]).arg(self.path()).args(command);
        let runtime = Running::start(&mut unshare);
        let mut pid = 0;
        until("the container to run", || {
            pid = children(runtime.pid()).ok().and_then(|all| all.first().copied()).unwrap_or(0);
            let name = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            pid != 0 && !name.starts_with(b"sh\0") && !name.starts_with(b"unshare\0")
        });
        Container { runtime, pid }
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for path in [self.inside("/dev"), self.inside("/tmp"), self.path()] {
            // Left mounted at worst, which the message of `umount` says.
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// A running one; dropping it ends it.
pub struct Container {
    runtime: Running,
    pid: u32,
}

impl Container {
    /// Its first process, as the host numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs a command in it, as `exec` of a container runtime does; returns what it prints.
    pub fn exec<S: AsRef<OsStr>>(&self, command: &[S]) -> String {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--all", "--wd=/", "--target", &self.pid.to_string(), "--"]);
        output(nsenter.args(command))
    }

    /// Waits until something listens on `port` in its network namespace.
    pub fn listening(&self, port: u16) {
        let file = format!("/proc/{}/net/tcp", self.pid);
        let listens = format!(":{port:04X} 00000000:0000 0A");
        until("the service in the container to listen", || {
            std::fs::read_to_string(&file).is_ok_and(|sockets| sockets.contains(&listens))
        });
    }

    /// Waits until it ends by itself.
    pub fn finish(mut self) {
        until("the end of the container", || self.runtime.has_ended());
    }
}

/// Whether there can be containers here; prints the reason to skip if not.
#[must_use]
pub fn impossible() -> bool {
    skip::without_root() || skip::without(&["unshare", "nsenter", "mount", "ip"])
}
