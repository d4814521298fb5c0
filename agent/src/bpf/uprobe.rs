//! Loads the programs for functions of user space and attaches them by file and offset.
//!
//! Many offsets of a file share one link (`uprobe_multi`, Linux 6.6): attaching and detaching take one
//! grace period instead of one for each point, and `CAP_SYS_ADMIN` is not needed. aya has no such links,
//! so the programs are loaded and linked here; before 6.6 each point is a perf event.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use aya_obj::{
    Object,
    generated::{
        BPF_ALU64, BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV,
        bpf_attach_type::BPF_TRACE_UPROBE_MULTI,
        bpf_attr,
        bpf_cmd::{self, BPF_LINK_CREATE, BPF_MAP_UPDATE_ELEM, BPF_PROG_LOAD},
        bpf_insn,
        bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};

use super::probe::Probe;

/// How points are attached on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One link for all points of a program in a file.
    Multi,
    /// One perf event for each point.
    Perf,
}

/// Why functions of user space are not traced.
#[derive(Debug, thiserror::Error)]
pub enum UprobeError {
    /// Not on this kernel, or not with these privileges: the feature is off.
    #[error("the kernel offers no uprobes here")]
    Unsupported(#[source] io::Error),
    /// Should have worked.
    #[error("the kernel refused uprobe program {program}: {log}")]
    Program {
        program: &'static str,
        log: String,
        #[source]
        error: io::Error,
    },
    #[error("the kernel refused to attach {program} to {path}")]
    Attach {
        program: &'static str,
        path: String,
        #[source]
        error: io::Error,
    },
    #[error("the kernel object is unusable: {0}")]
    Object(String),
}

/// What is attached to one file; dropping it detaches it, within [`LinkKind::Multi`] in some tens of
/// milliseconds, with [`LinkKind::Perf`] in a tenth of a second for each point.
#[derive(Debug)]
pub struct Links(Vec<OwnedFd>);

impl Links {
    /// Each link by itself: they may be closed at the same time.
    pub fn into_each(self) -> impl Iterator<Item = OwnedFd> {
        self.0.into_iter()
    }
}

/// The map by which programs jump to [`Probe::TlsMore`].
const MORE: &str = "MORE_TLS";

/// Programs that are loaded, by name: shared with those who tell what they cost.
pub(super) type Loaded = Arc<Mutex<Vec<(&'static str, OwnedFd)>>>;

/// A program that is not loaded.
struct Code {
    instructions: Vec<bpf_insn>,
    license: CString,
}

/// The programs, some of which are loaded when they are attached for the first time.
pub struct Uprobes {
    /// What is not loaded yet. The whole object that it is from would take some 9 MB for as long as the agent runs.
    waiting: HashMap<Probe, Code>,
    programs: HashMap<Probe, OwnedFd>,
    loaded: Loaded,
    kind: LinkKind,
    perf_type: u32,
}

impl Uprobes {
    /// Loads the programs of `object` onto `maps`, which were made for the same object.
    pub(super) fn load(
        object: &[u8],
        maps: &[(String, OwnedFd)],
        loaded: Loaded,
    ) -> Result<Self, UprobeError> {
        let waiting = codes(object, maps)?;
        let slots = maps.iter().find(|(name, _)| name == MORE).map(|(_, fd)| fd.as_raw_fd());
        let slots = slots.ok_or_else(|| UprobeError::Object(format!("no map {MORE}")))?;
        // Asked first: a map of programs takes only those of one attach type (enforced since 2025, in stable
        // kernels too), so that loading them for the other one would be refused.
        let (kind, perf_type) = match supports_multi() {
            Ok(()) => (LinkKind::Multi, 0),
            Err(error) => {
                tracing::debug!(%error, "no uprobe_multi links");
                let perf_type = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")
                    .map_err(UprobeError::Unsupported)?;
                let perf_type = perf_type.trim().parse().map_err(|_| {
                    UprobeError::Unsupported(io::Error::other(format!(
                        "type {perf_type:?} of the uprobe event source, expected a number"
                    )))
                })?;
                (LinkKind::Perf, perf_type)
            }
        };
        let mut uprobes = Self { waiting, programs: HashMap::new(), loaded, kind, perf_type };
        for probe in Probe::ALL.into_iter().filter(|probe| probe.is_loaded_at_start()) {
            uprobes.program(probe)?;
        }
        fill(slots, &uprobes.programs)?;
        Ok(uprobes)
    }

    /// The program of `probe`, loaded now if it is not yet.
    fn program(&mut self, probe: Probe) -> Result<RawFd, UprobeError> {
        if let Some(program) = self.programs.get(&probe) {
            return Ok(program.as_raw_fd());
        }
        let name = probe.name();
        let attach_type = match self.kind {
            LinkKind::Multi => BPF_TRACE_UPROBE_MULTI as u32,
            LinkKind::Perf => 0,
        };
        let code = self
            .waiting
            .get(&probe)
            .ok_or_else(|| UprobeError::Object(format!("no program {name}")))?;
        let fd = load(name, &code.instructions, &code.license, attach_type)?;
        self.waiting.remove(&probe);
        let copy = fd.try_clone().map_err(UprobeError::Unsupported)?;
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).push((name, copy));
        let raw = fd.as_raw_fd();
        self.programs.insert(probe, fd);
        Ok(raw)
    }

    /// How points are attached.
    #[must_use]
    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    /// Attaches `points` (program and file offset) to the file at `path`, in every process.
    ///
    /// # Errors
    /// If the kernel refuses one; then none is attached.
    pub fn attach(&mut self, path: &Path, points: &[(Probe, u64)]) -> Result<Links, UprobeError> {
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|error| UprobeError::Object(error.to_string()))?;
        let mut links = Vec::new();
        for probe in Probe::ALL {
            let offsets: Vec<u64> =
                points.iter().filter(|(p, _)| *p == probe).map(|(_, offset)| *offset).collect();
            if offsets.is_empty() {
                continue;
            }
            let program = self.program(probe)?;
            let failed = |error| UprobeError::Attach {
                program: probe.name(),
                path: path.display().to_string(),
                error,
            };
            match self.kind {
                LinkKind::Multi => {
                    let link = multi_link(program, &c_path, &offsets, probe.at_return());
                    links.push(link.map_err(failed)?);
                }
                LinkKind::Perf => {
                    for offset in offsets {
                        let link =
                            perf_link(program, self.perf_type, &c_path, offset, probe.at_return());
                        links.push(link.map_err(failed)?);
                    }
                }
            }
        }
        Ok(Links(links))
    }
}

/// The programs of the object, which is not needed afterwards.
fn codes(object: &[u8], maps: &[(String, OwnedFd)]) -> Result<HashMap<Probe, Code>, UprobeError> {
    let mut object = relocated(object, maps)?;
    let code = |probe: Probe| {
        let program = object.programs.get(probe.name())?;
        let function = object.functions.get_mut(&program.function_key())?;
        let mut instructions = std::mem::take(&mut function.instructions);
        instructions.shrink_to_fit();
        Some((probe, Code { instructions, license: program.license.clone() }))
    };
    Ok(Probe::ALL.into_iter().filter_map(code).collect())
}

/// Parses the object anew and points its programs at `maps`.
fn relocated(object: &[u8], maps: &[(String, OwnedFd)]) -> Result<Object, UprobeError> {
    let unusable = |error: &dyn std::fmt::Display| UprobeError::Object(error.to_string());
    let mut object = Object::parse(object).map_err(|error| unusable(&error))?;
    object.programs.retain(|name, _| Probe::ALL.iter().any(|probe| probe.name() == name));
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let own = std::mem::take(&mut object.maps);
    let pairs = maps
        .iter()
        .filter_map(|(name, fd)| own.get(name).map(|map| (name.as_str(), fd.as_raw_fd(), map)));
    object.relocate_maps(pairs, &text).map_err(|error| unusable(&error))?;
    object.relocate_calls(&text).map_err(|error| unusable(&error))?;
    object.sanitize_functions(aya::features());
    Ok(object)
}

/// Puts the program that is jumped to into its slot.
fn fill(slots: RawFd, programs: &HashMap<Probe, OwnedFd>) -> Result<(), UprobeError> {
    let probe = Probe::TlsMore;
    let (slot, program) = (0u32, programs[&probe].as_raw_fd());
    // SAFETY: a union of plain integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: all members of this variant are integers; every address outlives the call.
    let update = unsafe { &mut attr.__bindgen_anon_2 };
    update.map_fd = slots as u32;
    update.key = (&raw const slot) as u64;
    update.__bindgen_anon_1.value = (&raw const program) as u64;
    ask(BPF_MAP_UPDATE_ELEM, &attr).map(drop).map_err(|error| UprobeError::Program {
        program: probe.name(),
        log: "it cannot be jumped to".to_owned(),
        error,
    })
}

fn load(
    name: &'static str,
    code: &[bpf_insn],
    license: &std::ffi::CStr,
    attach_type: u32,
) -> Result<OwnedFd, UprobeError> {
    let attempt = |log: &mut [u8]| {
        // SAFETY: a union of plain integers, for which zero is a value.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: all members of this variant are integers; every address outlives the call.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = BPF_PROG_TYPE_KPROBE as u32;
        load.expected_attach_type = attach_type;
        load.insns = code.as_ptr() as u64;
        load.insn_cnt = code.len() as u32;
        load.license = license.as_ptr() as u64;
        for (to, from) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from as _;
        }
        if !log.is_empty() {
            load.log_level = 1;
            load.log_buf = log.as_mut_ptr() as u64;
            load.log_size = log.len() as u32;
        }
        bpf(BPF_PROG_LOAD, &attr)
    };
    attempt(&mut []).or_else(|first| {
        // Once more, for the verifier's words; its last lines are the ones that matter.
        let mut log = vec![0; 1 << 20];
        attempt(&mut log).map_err(|_| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let text = String::from_utf8_lossy(&log[end.saturating_sub(1024)..end]).into_owned();
            UprobeError::Program { program: name, log: text, error: first }
        })
    })
}

/// Links a program that does nothing to this process's own executable: a kernel before 6.6 takes the program, not the
/// link.
fn supports_multi() -> Result<(), UprobeError> {
    // `r0 = 0; exit`
    let code = [BPF_ALU64 | BPF_MOV | BPF_K, BPF_JMP | BPF_EXIT].map(|code| {
        // SAFETY: plain integers, for which zero is a value.
        let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
        instruction.code = code as u8;
        instruction
    });
    let program = load("nothing", &code, c"GPL", BPF_TRACE_UPROBE_MULTI as u32)?;
    // No instruction is there, so nothing is patched: the file's first byte is its magic number.
    multi_link(program.as_raw_fd(), c"/proc/self/exe", &[0], false)
        .map(drop)
        .map_err(UprobeError::Unsupported)
}

const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

fn multi_link(
    program: RawFd,
    path: &std::ffi::CStr,
    offsets: &[u64],
    at_return: bool,
) -> io::Result<OwnedFd> {
    // SAFETY: a union of plain integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program as u32;
    attr.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: all members of this variant are integers; every address outlives the call.
    let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = offsets.as_ptr() as u64;
    multi.cnt = offsets.len() as u32;
    multi.flags = if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
    bpf(BPF_LINK_CREATE, &attr)
}

/// `struct perf_event_attr` up to its first published size (PERF_ATTR_SIZE_VER1: `config2`).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    /// Address of the file's path.
    config1: u64,
    /// Offset in the file.
    config2: u64,
}

fn perf_link(
    program: RawFd,
    kind: u32,
    path: &std::ffi::CStr,
    offset: u64,
    at_return: bool,
) -> io::Result<OwnedFd> {
    const IOC_ENABLE: libc::c_ulong = 0x2400;
    const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    let attr = PerfEventAttr {
        kind,
        size: size_of::<PerfEventAttr>() as u32,
        // Bit 0 of `format/retprobe` of the event source.
        config: u64::from(at_return),
        config1: path.as_ptr() as u64,
        config2: offset,
        ..PerfEventAttr::default()
    };
    let every_process: libc::pid_t = -1;
    let first_cpu = 0;
    // SAFETY: `attr` and the path in it live through the call; a non-negative result is ours. The
    // ioctls take plain numbers.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            first_cpu,
            -1,
            8u64, // PERF_FLAG_FD_CLOEXEC
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let event = OwnedFd::from_raw_fd(fd as RawFd);
        if libc::ioctl(event.as_raw_fd(), IOC_SET_BPF, program) < 0
            || libc::ioctl(event.as_raw_fd(), IOC_ENABLE, 0) < 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(event)
    }
}

/// A `bpf` call whose result is a descriptor.
fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: a non-negative result is, by the callers' word, a descriptor that is ours.
    ask(command, attr).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ask(command: bpf_cmd, attr: &bpf_attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is a whole union and lives through the call, as do the addresses in it by the
    // callers' word.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_ref(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
