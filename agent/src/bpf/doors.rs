//! Which door the kernel lets us in by: tried, not deduced from versions.

use aya::{
    Btf, Ebpf,
    maps::ProgramArray,
    programs::{BtfTracePoint, FExit, ProgramError, RawTracePoint, TracePoint},
};

/// How finished system calls are seen; see `ebpf/src/doors/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `fexit` on the entry functions.
    Fexit,
    /// `tp_btf` on `sys_exit`.
    SysExitBtf,
    /// Raw tracepoint `sys_exit`.
    SysExitRaw,
    /// Per-call tracepoints.
    Tracepoint,
}

impl Door {
    /// In the order in which they are tried: the cheapest for others first.
    pub const ALL: [Self; 4] = [Self::Fexit, Self::SysExitBtf, Self::SysExitRaw, Self::Tracepoint];

    /// The name on the command line and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::SysExitBtf => "tp-btf",
            Self::SysExitRaw => "raw-tp",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// The system calls that are hooked, as the kernel's entry functions and tracepoints name them.
const CALLS: [&str; 17] = [
    "close",
    "read",
    "write",
    "readv",
    "writev",
    "sendfile64",
    "connect",
    "accept",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "shutdown",
    "splice",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

#[cfg(target_arch = "x86_64")]
const ENTRY_PREFIX: &str = "__x64_sys_";
#[cfg(target_arch = "aarch64")]
const ENTRY_PREFIX: &str = "__arm64_sys_";

/// Loads and attaches the programs of `door`. On an error what was attached stays in `ebpf`; the
/// caller loads a fresh object for the next door.
pub(super) fn open(ebpf: &mut Ebpf, door: Door, btf: &Btf) -> Result<(), ProgramError> {
    enter(ebpf, door, btf, &CALLS)
}

/// Loads and attaches as little as tells whether the door opens.
pub(super) fn knock(ebpf: &mut Ebpf, door: Door, btf: &Btf) -> Result<(), ProgramError> {
    enter(ebpf, door, btf, &CALLS[..1])
}

fn enter(ebpf: &mut Ebpf, door: Door, btf: &Btf, calls: &[&str]) -> Result<(), ProgramError> {
    match door {
        Door::Fexit => {
            // All of them jump to one, which is loaded for any of their functions: the types are the same.
            let finished: &mut FExit = program(ebpf, "fexit_finished");
            finished.load(&format!("{ENTRY_PREFIX}{}", calls[0]), btf)?;
            let finished = finished.fd()?.try_clone()?;
            let slots = ebpf.map_mut("FEXIT_FINISHED").expect("a map of our object");
            ProgramArray::try_from(slots)?.set(0, &finished, 0)?;
            for call in calls {
                let program: &mut FExit = program(ebpf, &format!("fexit_{call}"));
                program.load(&format!("{ENTRY_PREFIX}{call}"), btf)?;
                program.attach()?;
            }
        }
        Door::SysExitBtf => {
            let program: &mut BtfTracePoint = program(ebpf, "sys_exit_btf");
            program.load("sys_exit", btf)?;
            program.attach()?;
        }
        Door::SysExitRaw => {
            let program: &mut RawTracePoint = program(ebpf, "sys_exit_raw");
            program.load()?;
            program.attach("sys_exit")?;
        }
        Door::Tracepoint => {
            for name in ["sys_enter", "sys_exit"] {
                let program: &mut TracePoint = program(ebpf, name);
                program.load()?;
                for call in calls {
                    program.attach("syscalls", &format!("{name}_{call}"))?;
                }
            }
        }
    }
    Ok(())
}

/// A program of our own object, which has it under this name and type.
fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut T
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program =
        ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name} in the object"));
    program.try_into().unwrap_or_else(|error| panic!("program {name}: {error}"))
}
