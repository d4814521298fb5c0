//! From the embedded object to attached programs.

use std::{
    collections::HashSet,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, PoisonError},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Pod,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{ProgramError, RawTracePoint},
};
use remora_common::{
    control::TARGETS_PER_CHUNK,
    counter::Counter,
    layout::{KernelLayout, PidNamespace},
    record::Close,
};

use super::{
    btf::{self, BtfError},
    counters::Counters,
    doors::{self, Door},
    orphans::Orphans,
    process,
    ring::Reader,
    shared::{ControlWords, TargetBytes, Verdicts},
    targets::{Marks, Targets},
    uprobe::{LinkKind, Loaded, UprobeError, Uprobes},
    usage::{self, KernelUsage, MapUsage, ProgramUsage},
};

/// The kernel object, built from `ebpf/` by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/remora.bpf.o"));

/// Programs that every door needs: name and raw tracepoint.
const LIFECYCLE: [(&str, &str); 5] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("socket_state", "inet_sock_set_state"),
    ("socket_destroyed", "tcp_destroy_sock"),
];

/// What is asked of the kernel.
#[derive(Clone, Debug)]
pub struct Options {
    /// The doors to try, in this order.
    pub doors: Vec<Door>,
    /// Size of the ring, bytes; rounded up to a power of two of pages.
    pub ring_bytes: u32,
    /// Connections captured at once.
    pub max_connections: u32,
    /// Whether programs may jump, if the kernel allows it. Without, of a call no more than the first bytes is copied.
    pub jumps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { doors: Door::ALL.to_vec(), ring_bytes: 4 << 20, max_connections: 16384, jumps: true }
    }
}

/// A door that the kernel refused.
#[derive(Debug)]
pub struct Refusal {
    pub door: Door,
    pub error: ProgramError,
}

/// Why nothing could be attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("the kernel's type information is unusable")]
    AyaBtf(#[from] aya::BtfError),
    #[error("the kernel refused the maps or the object")]
    Object(#[from] EbpfError),
    #[error("the kernel refused program {name}")]
    Program {
        name: &'static str,
        #[source]
        error: ProgramError,
    },
    #[error("the kernel refused every door: {}", refusals(.0))]
    NoDoor(Vec<Refusal>),
    #[error("map {name} is unusable")]
    Map {
        name: &'static str,
        #[source]
        error: MapError,
    },
    #[error("map {name} cannot be mapped into memory")]
    Mapping {
        name: &'static str,
        #[source]
        error: io::Error,
    },
}

fn refusals(refusals: &[Refusal]) -> String {
    let one = |refusal: &Refusal| format!("{}: {}", refusal.door.as_str(), refusal.error);
    refusals.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The layout as the loader takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct LayoutGlobal(KernelLayout);

// SAFETY: `KernelLayout` is `#[repr(C)]` with only `u32` members: no padding, any bytes are a value.
unsafe impl Pod for LayoutGlobal {}

/// The agent's, likewise.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PidNamespaceGlobal(PidNamespace);

// SAFETY: `PidNamespace` is `#[repr(C)]` with only `u64` members: no padding, any bytes are a value.
unsafe impl Pod for PidNamespaceGlobal {}

/// Attached programs. Dropping it detaches everything.
pub struct Programs {
    ebpf: Ebpf,
    door: Door,
    refusals: Vec<Refusal>,
    counters: Counters,
    /// All maps by name, for programs that are loaded later.
    maps: Vec<(String, OwnedFd)>,
    /// Programs that were loaded later, by name.
    probes: Loaded,
    max_connections: u32,
    orphans: Orphans,
    /// Connections that were forgotten by [`Self::forget_orphans`].
    orphaned: u64,
}

impl Programs {
    /// Loads and attaches everything by the best door. No process is selected yet.
    ///
    /// # Errors
    /// If the kernel refuses what cannot be done without; says which and why.
    pub fn attach(options: &Options) -> Result<Self, LoadError> {
        let layout = LayoutGlobal(btf::kernel_layout()?);
        let btf = Btf::from_sys_fs()?;
        let mut refused = Vec::new();
        for &door in &options.doors {
            let mut ebpf = match open(options, &layout, door, |ebpf| doors::open(ebpf, door, &btf))?
            {
                Ok(ebpf) => ebpf,
                Err(error) => {
                    tracing::debug!(door = door.as_str(), %error, "door refused");
                    refused.push(Refusal { door, error });
                    continue;
                }
            };
            for (name, tracepoint) in LIFECYCLE {
                raw_tracepoint(&mut ebpf, name, tracepoint)
                    .map_err(|error| LoadError::Program { name, error })?;
            }
            let maps =
                map_fds(&ebpf).map_err(|error| LoadError::Mapping { name: "(all)", error })?;
            let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS"))
                .map_err(|error| LoadError::Map { name: "COUNTERS", error })?;
            let [connections, unix, endless] =
                ["CONNECTIONS", "UNIX_FDS", "ENDLESS"].map(|name| take(&mut ebpf, name));
            let orphans = Orphans::new(connections, unix, endless)
                .map_err(|error| LoadError::Map { name: "CONNECTIONS", error })?;
            return Ok(Self {
                ebpf,
                door,
                refusals: refused,
                counters: Counters(counters),
                maps,
                probes: Loaded::default(),
                max_connections: options.max_connections,
                orphans,
                orphaned: 0,
            });
        }
        Err(LoadError::NoDoor(refused))
    }

    /// The door in use.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door
    }

    /// Better doors that the kernel refused, and why.
    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// The memory shared with the programs.
    ///
    /// # Errors
    /// If a map cannot be mapped.
    pub fn shared(&self) -> Result<(Targets, ControlWords, Verdicts), LoadError> {
        let fd = |name| array(&self.ebpf, name);
        let mapping = |name| move |error| LoadError::Mapping { name, error };
        Ok((
            self.targets()?,
            ControlWords::new(fd("CONTROL").fd().as_fd()).map_err(mapping("CONTROL"))?,
            Verdicts::new(fd("VERDICTS").fd().as_fd()).map_err(mapping("VERDICTS"))?,
        ))
    }

    fn targets(&self) -> Result<Targets, LoadError> {
        let bytes = TargetBytes::new(array(&self.ebpf, "TARGETS").fd().as_fd(), tgids())
            .map_err(|error| LoadError::Mapping { name: "TARGETS", error })?;
        Targets::new(bytes, &self.ebpf).map_err(|error| LoadError::Map { name: "PROCESSES", error })
    }

    /// Where processes are marked whose contexts beyond threads are followed.
    ///
    /// # Errors
    /// If a map cannot be mapped or opened again.
    pub fn marks(&self) -> io::Result<Marks> {
        let bytes = TargetBytes::new(array(&self.ebpf, "TARGETS").fd().as_fd(), tgids())?;
        Marks::new(bytes, &self.ebpf).map_err(io::Error::other)
    }

    /// The reader of the ring; there can be only one.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    ///
    /// # Panics
    /// If called twice.
    pub fn reader(&mut self) -> Result<Reader, LoadError> {
        let ring = RingBuf::try_from(take(&mut self.ebpf, "RECORDS"))
            .map_err(|error| LoadError::Map { name: "RECORDS", error })?;
        Reader::new(ring).map_err(|error| LoadError::Mapping { name: "RECORDS", error })
    }

    /// Loads the programs for functions of user space; nothing is attached yet.
    ///
    /// # Errors
    /// [`UprobeError::Unsupported`] if the kernel has no such probes, else what it refused.
    pub fn uprobes(&mut self) -> Result<Uprobes, UprobeError> {
        Uprobes::load(OBJECT, &self.maps, Arc::clone(&self.probes))
    }

    /// What the kernel side counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts what may have told of processes and did not reach the reader: records for which the ring had no
    /// room, and runs that the kernel left out.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn notices_lost(&self) -> io::Result<u64> {
        let mut lost = self.counters.count(Counter::RingFull).map_err(io::Error::other)?;
        for name in ["process_fork", "process_exec", "process_exit"] {
            let program = self.ebpf.program(name).and_then(|program| program.fd().ok());
            if let Some(fd) = program {
                lost += usage::program(name, fd.as_fd())?.missed;
            }
        }
        Ok(lost)
    }

    /// [`Orphans::forget`]
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub fn forget_orphans(
        &mut self,
        ended: &HashSet<u32>,
        mono_ns: u64,
    ) -> Result<Vec<Close>, MapError> {
        let closed = self.orphans.forget(ended, mono_ns)?;
        self.orphaned += closed.len() as u64;
        Ok(closed)
    }

    /// Detaches everything. What was counted until then can still be read.
    #[must_use]
    pub fn detach(self) -> Counters {
        self.counters
    }

    /// What maps and programs use.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn usage(&self) -> io::Result<KernelUsage> {
        let held = || {
            let added = self.counters.count(Counter::ConnectionsAdded)?;
            let removed = self.counters.count(Counter::ConnectionsRemoved)?;
            Ok::<_, MapError>(added.saturating_sub(removed + self.orphaned))
        };
        let map = |(name, fd): &(String, OwnedFd)| {
            let fill = match name.as_str() {
                "CONNECTIONS" => {
                    Some((held().map_err(io::Error::other)?, u64::from(self.max_connections)))
                }
                _ => None,
            };
            Ok(MapUsage { name: name.clone(), bytes: usage::map_bytes(fd.as_fd())?, fill })
        };
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let probes = probes.iter().map(|(name, fd)| usage::program(name, fd.as_fd()));
        let loaded = self.ebpf.programs().filter_map(|(name, program)| {
            let fd = program.fd().ok()?; // only the chosen door's programs are loaded
            Some(usage::program(name, fd.as_fd()))
        });
        let mut programs: Vec<ProgramUsage> = loaded.chain(probes).collect::<io::Result<_>>()?;
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        let maps = self.maps.iter().map(map).collect::<io::Result<_>>()?;
        Ok(KernelUsage { maps, programs })
    }
}

/// A door, and the kernel's answer.
pub type Tried = (Door, Result<(), ProgramError>);

/// What each door says on this kernel, one after the other; nothing stays attached. For reports.
///
/// # Errors
/// If not even the object can be loaded, whatever the door.
pub fn try_doors() -> Result<Vec<Tried>, LoadError> {
    let layout = LayoutGlobal(btf::kernel_layout()?);
    let btf = Btf::from_sys_fs()?;
    let one = |door| {
        let opened = open(&small(), &layout, door, |ebpf| doors::knock(ebpf, door, &btf))?;
        Ok((door, opened.map(drop)))
    };
    Door::ALL.into_iter().map(one).collect()
}

/// How functions of user space can be probed on this kernel; nothing stays loaded. For reports.
///
/// # Errors
/// If not even the object can be loaded.
pub fn try_uprobes() -> Result<Result<LinkKind, UprobeError>, LoadError> {
    let ebpf = load(&small(), &LayoutGlobal(btf::kernel_layout()?), Door::Socket)?;
    let maps = map_fds(&ebpf).map_err(|error| LoadError::Mapping { name: "(all)", error })?;
    Ok(Uprobes::load(OBJECT, &maps, Loaded::default()).map(|uprobes| uprobes.kind()))
}

/// As little memory as a trial takes.
fn small() -> Options {
    Options { ring_bytes: 64 << 10, max_connections: 16, ..Options::default() }
}

/// The object with a door opened by `enter`; without jumps where the kernel lets no program jump that has functions
/// of its own: before Linux 6.0 on arm64, and where programs are interpreted.
fn open(
    options: &Options,
    layout: &LayoutGlobal,
    door: Door,
    enter: impl Fn(&mut Ebpf) -> Result<(), ProgramError>,
) -> Result<Result<Ebpf, ProgramError>, EbpfError> {
    const REFUSAL: &str = "tail_calls are not allowed";
    let mut ebpf = load(options, layout, door)?;
    Ok(match enter(&mut ebpf) {
        Ok(()) => Ok(ebpf),
        Err(error) if options.jumps && error.to_string().contains(REFUSAL) => {
            let options = Options { jumps: false, ..options.clone() };
            let mut ebpf = load(&options, layout, door)?;
            enter(&mut ebpf).map(|()| ebpf)
        }
        Err(error) => Err(error),
    })
}

fn load(options: &Options, layout: &LayoutGlobal, door: Door) -> Result<Ebpf, EbpfError> {
    // What only one door or all but one use is not there for the others.
    let calls = if door == Door::Tracepoint { 8192 } else { 1 };
    let unix_descriptors = if door == Door::Socket { 1 } else { 4096 };
    let chunks = (tgids() as u32).div_ceil(TARGETS_PER_CHUNK);
    EbpfLoader::new()
        .btf(None)
        .override_global("LAYOUT", layout, true)
        .override_global("PID_NAMESPACE", &PidNamespaceGlobal(process::pid_namespace()), true)
        .override_global("JUMPS", &u32::from(options.jumps), true)
        .map_max_entries("TARGETS", chunks)
        .map_max_entries("ENTRIES", calls)
        .map_max_entries("UNIX_FDS", unix_descriptors)
        .map_max_entries("RECORDS", options.ring_bytes.next_power_of_two().max(64 << 10))
        .map_max_entries("CONNECTIONS", options.max_connections)
        .load(OBJECT)
}

fn raw_tracepoint(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint =
        ebpf.program_mut(name).expect("a program of our object").try_into()?;
    program.load()?;
    program.attach(tracepoint)?;
    Ok(())
}

/// Descriptors of all maps of the object.
fn map_fds(ebpf: &Ebpf) -> io::Result<Vec<(String, OwnedFd)>> {
    let fd = |(name, map): (&str, &Map)| match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => {
            Some(data.fd().as_fd().try_clone_to_owned().map(|fd| (name.to_owned(), fd)))
        }
        _ => None,
    };
    ebpf.maps().filter_map(fd).collect()
}

fn take(ebpf: &mut Ebpf, name: &str) -> Map {
    ebpf.take_map(name).unwrap_or_else(|| panic!("no map {name} in the object"))
}

fn array<'a>(ebpf: &'a Ebpf, name: &str) -> &'a MapData {
    match ebpf.map(name) {
        Some(Map::Array(data)) => data,
        other => panic!("map {name} of the object is {other:?}, expected an array"),
    }
}

/// One more than the largest tgid, a whole number of chunks.
fn tgids() -> usize {
    let max =
        fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|max| max.trim().parse().ok());
    // The kernel's own upper limit where the file cannot be read (PID_MAX_LIMIT, 64-bit).
    let max: usize = max.unwrap_or(4 << 20);
    (max + 1).next_multiple_of(TARGETS_PER_CHUNK as usize)
}
