//! Control groups of our own, of either version; gone when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::process::until;

pub struct Cgroup {
    folder: PathBuf,
    /// Version 1: `freezer.state`, `memory.limit_in_bytes`.
    old: bool,
}

impl Cgroup {
    /// A new one below the root of `controller`, a name of version 1; `None` if this machine has none.
    #[must_use]
    pub fn new(controller: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("remora-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let root = Path::new("/sys/fs/cgroup");
        let old = root.join(controller).is_dir();
        let parent = if old { root.join(controller) } else { root.to_owned() };
        if !old {
            if !root.join("cgroup.controllers").is_file() {
                return None;
            }
            // Freezing needs no controller; what is switched on already stays so.
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let folder = parent.join(name);
        fs::create_dir(&folder).ok()?;
        Some(Self { folder, old })
    }

    /// A file into which a process writes its id to get in.
    #[must_use]
    pub fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// # Panics
    /// If the process is gone.
    pub fn add(&self, pid: u32) {
        fs::write(self.members(), pid.to_string()).expect("a process that runs");
    }

    /// Stops its members, or lets them go on.
    ///
    /// # Panics
    /// If it does not happen.
    pub fn freeze(&self, freeze: bool) {
        let (file, yes, no) = match self.old {
            true => ("freezer.state", "FROZEN", "THAWED"),
            false => ("cgroup.freeze", "1", "0"),
        };
        let word = if freeze { yes } else { no };
        fs::write(self.folder.join(file), word).expect("a group of ours");
        if freeze {
            let read = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            until("the group to freeze", || match self.old {
                true => read(file).trim() == yes,
                false => read("cgroup.events").contains("frozen 1"),
            });
        }
    }

    /// Bounds the memory of its members, the kernel's for them included. False if that cannot be done.
    #[must_use]
    pub fn limit_memory(&self, bytes: u64) -> bool {
        let file = if self.old { "memory.limit_in_bytes" } else { "memory.max" };
        fs::write(self.folder.join(file), bytes.to_string()).is_ok()
    }

    /// Memory that it has, where the kernel tells.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.number(if self.old { "memory.usage_in_bytes" } else { "memory.current" })
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// Most memory that it had, where the kernel tells.
    #[must_use]
    pub fn memory_peak(&self) -> Option<u64> {
        self.number(if self.old { "memory.max_usage_in_bytes" } else { "memory.peak" })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Members leave as they end.
        for _ in 0..200 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
