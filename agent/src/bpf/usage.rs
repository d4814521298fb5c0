//! What the programs and maps cost and how full they are, for the agent's own metrics.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya_obj::generated::{bpf_attr, bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, bpf_prog_info};

/// What the kernel side uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelUsage {
    pub maps: Vec<MapUsage>,
    pub programs: Vec<ProgramUsage>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUsage {
    pub name: String,
    /// Memory that the kernel holds for it, bytes.
    pub bytes: u64,
    /// Entries and how many there can be, where entries come and go.
    pub fill: Option<(u64, u64)>,
}

/// One loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramUsage {
    pub name: String,
    /// Runs, and the time they took. Zero unless somebody has the kernel measure it
    /// (`kernel.bpf_stats_enabled`, or [`RunTime`]).
    pub runs: u64,
    pub run_time: Duration,
    /// Runs that the kernel left out because the program ran on that CPU already: what they would have
    /// seen was not seen. Since Linux 5.12.
    pub missed: u64,
}

/// While it lives the kernel measures the run time of every BPF program of the host, at two looks at
/// the clock for each run.
#[derive(Debug)]
pub struct RunTime {
    _stats: OwnedFd,
}

impl KernelUsage {
    /// Runs of all programs that the kernel left out.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.programs.iter().map(|program| program.missed).sum()
    }
}

impl RunTime {
    /// # Errors
    /// If the kernel refuses: `CAP_SYS_ADMIN` is needed, and Linux 5.8.
    pub fn measure() -> Result<Self, aya::sys::SyscallError> {
        aya::sys::enable_stats(aya::sys::Stats::RunTime).map(|stats| Self { _stats: stats })
    }
}

/// Memory of the map behind `fd`.
pub(super) fn map_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::other("no memlock in the map's fdinfo"))
}

/// Runs of the program behind `fd`.
pub(super) fn program(name: &str, fd: BorrowedFd<'_>) -> io::Result<ProgramUsage> {
    // SAFETY: plain integers, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.info.bpf_fd = fd.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: `attr` is a whole union, and the kernel writes at most `info_len` bytes to `info`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD as u32,
            &raw mut attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let run_time = Duration::from_nanos(info.run_time_ns);
    let missed = info.recursion_misses;
    Ok(ProgramUsage { name: name.to_owned(), runs: info.run_cnt, run_time, missed })
}
