//! Which processes the kernel side captures: what the agent tells it, and what it found out by itself.
//!
//! The byte of a number is a filter; who was meant stands beside it (`remora_common::target` says why), so that nothing
//! depends on whether a process ends while it is selected.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use remora_common::{
    context::Tokio,
    target::{Descendant, MAX_PROCESSES, Process, RUNTIME, SELECTED, TICK_NS, with_runtime},
};

use super::shared::TargetBytes;

/// As aya takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Meant(Process);

// SAFETY: `Process` is `#[repr(C)]` with only `u64` members: no padding, any bytes are a value.
unsafe impl Pod for Meant {}

/// Likewise.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Heir(Descendant);

// SAFETY: `Descendant` is `#[repr(C)]` with only `u64` members: no padding, any bytes are a value.
unsafe impl Pod for Heir {}

/// Why a process cannot be selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("process id {0} is beyond kernel.pid_max")]
    BeyondTable(u32),
    #[error(
        "the kernel side has no room for process {tgid} ({MAX_PROCESSES} are captured at most)"
    )]
    Full {
        tgid: u32,
        #[source]
        error: MapError,
    },
}

/// See the module.
pub struct Targets {
    bytes: TargetBytes,
    processes: HashMap<MapData, u32, Meant>,
    descendants: HashMap<MapData, u32, Heir>,
    /// Ticks that `/proc` adds to the time since boot for this process's time namespace.
    offset_ticks: u64,
}

impl Targets {
    pub(super) fn new(bytes: TargetBytes, ebpf: &Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            bytes,
            processes: HashMap::try_from(Map::HashMap(own(ebpf, "PROCESSES")?))?,
            descendants: HashMap::try_from(Map::LruHashMap(own(ebpf, "DESCENDANTS")?))?,
            offset_ticks: time_namespace_ns() / TICK_NS,
        })
    }

    /// Captures the process `tgid` that was started at `start_ticks`, as `/proc/PID/stat` has it, with `flags` of
    /// [`remora_common::target`]. Of one that has ended, and of another that has its number, nothing will be captured.
    ///
    /// # Errors
    /// If the kernel side has no room for it; then it is not captured.
    pub fn select(&mut self, tgid: u32, start_ticks: u64, flags: u8) -> Result<(), SelectError> {
        let start_ticks = start_ticks.saturating_sub(self.offset_ticks);
        let meant = Meant(Process { start_ticks });
        let known = self.processes.get(&tgid, 0).is_ok_and(|Meant(known)| known == meant.0);
        self.processes.insert(tgid, meant, 0).map_err(|error| SelectError::Full { tgid, error })?;
        if tgid >= self.bytes.len() {
            return Err(SelectError::BeyondTable(tgid));
        }
        // Of a process that is selected anew the runtime is known.
        self.bytes.change(tgid, |old| Some(flags | if known { old & RUNTIME } else { 0 }));
        Ok(())
    }

    /// Captures the process `tgid` no longer.
    pub fn deselect(&mut self, tgid: u32) {
        self.bytes.set(tgid, 0);
        self.forget(tgid);
    }

    /// The selected process `tgid` has ended. Its number may be that of a selected process's child by now, of which the
    /// agent has not heard: the kernel side cared for the byte, unless it was not run.
    pub fn ended(&mut self, tgid: u32) {
        self.forget(tgid);
        if self.descendant(tgid).is_none() {
            self.bytes.set(tgid, 0);
        }
    }

    fn forget(&mut self, tgid: u32) {
        // Of one that could not be selected there is none.
        let _ = self.processes.remove(&tgid);
    }

    /// The flags of `tgid`.
    #[must_use]
    pub fn get(&self, tgid: u32) -> u8 {
        self.bytes.get(tgid)
    }

    /// Whether the kernel side selected the process `tgid` that was started at `start_ticks` because its parent was.
    #[must_use]
    pub fn has_inherited(&self, tgid: u32, start_ticks: u64) -> bool {
        let start_ticks = start_ticks.saturating_sub(self.offset_ticks);
        self.descendant(tgid).is_some_and(|start_ns| start_ns / TICK_NS == start_ticks)
    }

    /// When the process that has inherited its selection under this number was started.
    fn descendant(&self, tgid: u32) -> Option<u64> {
        let Heir(descendant) = self.descendants.get(&tgid, 0).ok()?;
        (descendant.start_ns != 0).then_some(descendant.start_ns)
    }

    /// Whether a record's `start_ns`, where it is known, is that of a process that `/proc` says was started at `start_ticks`.
    #[must_use]
    pub fn is_same(&self, start_ns: u64, start_ticks: u64) -> bool {
        start_ns == 0 || start_ns / TICK_NS == start_ticks.saturating_sub(self.offset_ticks)
    }

    /// Deselects everything.
    pub fn clear(&mut self) {
        for tgid in
            (0..self.bytes.len()).filter(|&tgid| self.bytes.get(tgid) != 0).collect::<Vec<_>>()
        {
            self.deselect(tgid);
        }
    }
}

/// As aya takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Places(Tokio);

// SAFETY: `Tokio` is `#[repr(C)]` with only `u64` members: no padding, any bytes are a value.
unsafe impl Pod for Places {}

/// Says of processes which runtime's contexts are followed in them.
pub struct Marks {
    bytes: TargetBytes,
    tokio: HashMap<MapData, u32, Places>,
}

impl Marks {
    pub(super) fn new(bytes: TargetBytes, ebpf: &Ebpf) -> Result<Self, MapError> {
        Ok(Self { bytes, tokio: HashMap::try_from(Map::HashMap(own(ebpf, "TOKIO")?))? })
    }

    /// The process `tgid`, if it is selected, has the runtime of this number from now on; with `tokio`, if the runtime is that
    /// and the kernel side has room for another process of it.
    pub fn mark(&mut self, tgid: u32, runtime: u8, tokio: Option<Tokio>) {
        let room = match tokio {
            Some(places) => self.tokio.insert(tgid, Places(places), 0).is_ok(),
            None => {
                self.forget(tgid);
                true
            }
        };
        let runtime = if room { runtime } else { 0 };
        self.bytes.change(tgid, |old| (old & SELECTED != 0).then_some(with_runtime(old, runtime)));
    }

    /// The process `tgid` has ended, or is not selected any more.
    pub fn forget(&mut self, tgid: u32) {
        // Of most there is none.
        let _ = self.tokio.remove(&tgid);
    }
}

/// A handle of our own of a hash map.
fn own(ebpf: &Ebpf, name: &str) -> Result<MapData, MapError> {
    let (Some(Map::HashMap(data)) | Some(Map::LruHashMap(data))) = ebpf.map(name) else {
        panic!("map {name} of the object is no hash map");
    };
    let fd: OwnedFd = data.fd().as_fd().try_clone_to_owned()?;
    MapData::from_fd(fd)
}

/// What the boot-time clock of this process's time namespace is ahead of the kernel's own; usually nothing.
fn time_namespace_ns() -> u64 {
    let namespace = |name| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    // The file tells of the namespace of children to come.
    if namespace("time") != namespace("time_for_children") {
        return 0;
    }
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let boot = offsets.lines().filter_map(|line| line.strip_prefix("boottime"));
    let mut numbers = boot.flat_map(|line| line.split_whitespace()).map(str::parse::<i64>);
    let (Some(Ok(seconds)), Some(Ok(nanoseconds))) = (numbers.next(), numbers.next()) else {
        return 0;
    };
    u64::try_from(seconds * 1_000_000_000 + nanoseconds).unwrap_or(0)
}
