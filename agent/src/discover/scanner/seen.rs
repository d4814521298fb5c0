//! What is read of one process, and no more than that.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use procfs::process::Process;

use super::{Facts, Needs, Target};
use crate::{
    container::Container,
    discover::{listening::Listening, profile::read_container, sockets::pid},
    kubernetes::Pod,
};

/// What [`Scanner`] has read of one process.
pub(super) struct Seen {
    pub(super) process: Process,
    pub(super) tgid: u32,
    pub(super) exe: PathBuf,
    pub(super) comm: String,
    pub(super) ports: Vec<u16>,
    /// Of a process that is not selected only if a selector asks for it.
    pub(super) container: Option<Container>,
}

impl Seen {
    /// Reads what selection needs and no more; `None` for kernel threads, zombies (both without an
    /// executable), processes that ended meanwhile and those that may not be read.
    pub(super) fn look(process: Process, needs: Needs, listening: &mut Listening) -> Option<Self> {
        let tgid = u32::try_from(process.pid()).ok()?;
        let exe = without_deleted(process.exe().ok()?);
        let comm = if needs.comm { read_comm(&process)? } else { String::new() };
        let ports = if needs.ports { listening.ports(&process) } else { Vec::new() };
        let container = needs.containers.then(|| read_container(&process));
        Some(Self { process, tgid, exe, comm, ports, container })
    }

    pub(super) fn facts<'a>(&'a self, cgroups: &'a [&'a Path], pod: Option<&'a Pod>) -> Facts<'a> {
        Facts {
            tgid: self.tgid,
            exe: &self.exe,
            comm: &self.comm,
            ports: &self.ports,
            cgroups,
            container: self.container.as_ref(),
            pod,
        }
    }

    pub(super) fn start_time(&self) -> Option<u64> {
        self.process.stat().ok().map(|stat| stat.starttime)
    }
}

pub(super) fn is_another_program(process: &Process, known: &Target) -> bool {
    process.exe().is_ok_and(|exe| without_deleted(exe) != *known.exe)
}

fn read_comm(process: &Process) -> Option<String> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut process.open_relative("comm").ok()?, &mut bytes).ok()?;
    Some(String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned())
}

/// The kernel marks executables that were replaced while they run.
pub(super) fn without_deleted(exe: PathBuf) -> PathBuf {
    match exe.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => Path::new(OsStr::from_bytes(path)).to_owned(),
        None => exe,
    }
}

pub(super) fn start_time(tgid: u32) -> Option<u64> {
    Some(Process::new(pid(tgid)).ok()?.stat().ok()?.starttime)
}

pub(super) fn ns_pid(tgid: u32) -> u32 {
    Process::new(pid(tgid)).ok().and_then(|process| innermost_pid(&process)).unwrap_or(tgid)
}

/// Last of `NSpid` in `/proc/PID/status` (since Linux 4.1).
pub(super) fn innermost_pid(process: &Process) -> Option<u32> {
    process.status().ok()?.nspid?.last().and_then(|&pid| u32::try_from(pid).ok())
}
