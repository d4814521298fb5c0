//! Which door the kernel lets us in by: tried, not deduced from versions.

use aya::{
    Btf, Ebpf,
    maps::ProgramArray,
    programs::{BtfTracePoint, FExit, ProgramError, ProgramFd, RawTracePoint, TracePoint},
};

/// How finished system calls are seen; see `ebpf/src/doors/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `tp_btf` on `sock_send_length` and `sock_recv_length`.
    Socket,
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
    pub const ALL: [Self; 5] =
        [Self::Socket, Self::Fexit, Self::SysExitBtf, Self::SysExitRaw, Self::Tracepoint];

    /// The name on the command line and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Fexit => "fexit",
            Self::SysExitBtf => "tp-btf",
            Self::SysExitRaw => "raw-tp",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// Which of them may be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doors {
    /// The cheapest that the kernel has.
    #[default]
    Auto,
    Only(Door),
}

impl Doors {
    /// In the order in which they are tried.
    #[must_use]
    pub fn list(self) -> Vec<Door> {
        match self {
            Self::Auto => Door::ALL.to_vec(),
            Self::Only(door) => vec![door],
        }
    }
}

/// One of each kind that `ebpf/src/doors/fexit.rs` keeps apart.
const FILE_CALL: &str = "close";
const SOCKET_CALL: &str = "connect";

/// The system calls that are hooked, as the kernel's entry functions and tracepoints name them.
const CALLS: [&str; 17] = [
    FILE_CALL,
    SOCKET_CALL,
    "read",
    "write",
    "readv",
    "writev",
    "sendfile64",
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
    enter(ebpf, door, btf, &CALLS[..2])
}

fn enter(ebpf: &mut Ebpf, door: Door, btf: &Btf, calls: &[&str]) -> Result<(), ProgramError> {
    match door {
        Door::Socket => {
            let hooks =
                [("socket_sent", "sock_send_length"), ("socket_received", "sock_recv_length")];
            for (name, tracepoint) in hooks {
                let program: &mut BtfTracePoint = program(ebpf, name);
                program.load(tracepoint, btf)?;
            }
            // One goes on for both.
            let more: &mut BtfTracePoint = program(ebpf, "socket_more");
            more.load("sock_send_length", btf)?;
            fill_with(ebpf, "socket_more")?;
            for (name, _) in hooks {
                let program: &mut BtfTracePoint = program(ebpf, name);
                program.attach()?;
            }
        }
        Door::Fexit => {
            let kinds =
                [("FEXIT_FILES", "file", FILE_CALL), ("FEXIT_SOCKETS", "socket", SOCKET_CALL)];
            let mut finished = load_fexit(ebpf, "file_finished", FILE_CALL, btf)?;
            let mut more = load_fexit(ebpf, "file_more", FILE_CALL, btf)?;
            for call in calls {
                load_fexit(ebpf, call, call, btf)?;
            }
            for (map, kind, call) in kinds {
                // Where both kinds of calls are functions of one type, the programs of one are enough.
                if fill(ebpf, map, 0, &finished).is_err() {
                    finished = load_fexit(ebpf, &format!("{kind}_finished"), call, btf)?;
                    more = load_fexit(ebpf, &format!("{kind}_more"), call, btf)?;
                    fill(ebpf, map, 0, &finished)?;
                }
                fill(ebpf, map, 1, &more)?;
            }
            for call in calls {
                let program: &mut FExit = program(ebpf, &format!("fexit_{call}"));
                program.attach()?;
            }
        }
        Door::SysExitBtf => {
            for name in ["sys_exit_btf", "sys_exit_btf_more"] {
                let program: &mut BtfTracePoint = program(ebpf, name);
                program.load("sys_exit", btf)?;
            }
            fill_with(ebpf, "sys_exit_btf_more")?;
            let program: &mut BtfTracePoint = program(ebpf, "sys_exit_btf");
            program.attach()?;
        }
        Door::SysExitRaw => {
            for name in ["sys_exit_raw", "sys_exit_raw_more"] {
                let program: &mut RawTracePoint = program(ebpf, name);
                program.load()?;
            }
            fill_with(ebpf, "sys_exit_raw_more")?;
            let program: &mut RawTracePoint = program(ebpf, "sys_exit_raw");
            program.attach("sys_exit")?;
        }
        Door::Tracepoint => {
            for name in ["sys_enter", "sys_exit", "sys_exit_more"] {
                let program: &mut TracePoint = program(ebpf, name);
                program.load()?;
            }
            fill_with(ebpf, "sys_exit_more")?;
            for name in ["sys_enter", "sys_exit"] {
                let program: &mut TracePoint = program(ebpf, name);
                for call in calls {
                    program.attach("syscalls", &format!("{name}_{call}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Loads `fexit_NAME` for the entry function of `call`.
fn load_fexit(
    ebpf: &mut Ebpf,
    name: &str,
    call: &str,
    btf: &Btf,
) -> Result<ProgramFd, ProgramError> {
    let program: &mut FExit = program(ebpf, &format!("fexit_{name}"));
    program.load(&format!("{ENTRY_PREFIX}{call}"), btf)?;
    Ok(program.fd()?.try_clone()?)
}

/// Puts the loaded program `name` where the door's programs jump to for more of a call.
fn fill_with(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    let more = ebpf.program(name).expect("a program of our object").fd()?.try_clone()?;
    fill(ebpf, "MORE", 0, &more)
}

/// Makes `to` the program that those with the map `name` jump to by `slot`.
fn fill(ebpf: &mut Ebpf, name: &str, slot: u32, to: &ProgramFd) -> Result<(), ProgramError> {
    let slots = ebpf.map_mut(name).expect("a map of our object");
    Ok(ProgramArray::try_from(slots)?.set(slot, to, 0)?)
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
