//! Starts the command of `remora exec` so that nothing of it is missed: the child is this program
//! again, which waits at a gate until it is selected and then becomes the command. No `fork` hooks,
//! no signals: the wait is a read from a socket that closes if the agent dies.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
};

use crate::cli::GATE;

/// A child that waits to be let through.
pub(super) struct Gated {
    pub(super) child: Child,
    gate: Option<UnixStream>,
}

impl Gated {
    /// Starts the child; returns when it waits.
    pub(super) fn spawn(command: &[OsString]) -> io::Result<Self> {
        let name = format!("remora-gate-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let child = Command::new("/proc/self/exe")
            .arg(GATE)
            .arg(&name)
            .arg("--")
            .args(command)
            // They are the agent's.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .spawn()?;
        let (gate, _) = listener.accept()?;
        Ok(Self { child, gate: Some(gate) })
    }

    /// Lets the child go on.
    pub(super) fn open(&mut self) -> io::Result<()> {
        use std::io::Write;
        match self.gate.take() {
            Some(mut gate) => gate.write_all(b"!"),
            None => Ok(()),
        }
    }
}

/// Waits at the gate called `name`, then becomes `command`. Returns only if that fails: 127 if there
/// is no such command, 126 if it cannot be run, 2 if the gate closed without a word.
pub fn pass(name: &str, command: &[OsString]) -> ExitCode {
    let word = SocketAddr::from_abstract_name(name)
        .and_then(|address| UnixStream::connect_addr(&address))
        .and_then(|mut gate| gate.read_exact(&mut [0]));
    if word.is_err() {
        eprintln!("remora: the agent ended before the command began");
        return ExitCode::from(2);
    }
    let (program, arguments) = command.split_first().expect("clap demands a command");
    let error = Command::new(program).args(arguments).exec();
    eprintln!("remora: cannot run {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// The executable that `command` will run, that of a script being its interpreter (execve(2)); `None` if there is none, which
/// running it will tell.
pub(super) fn executable(command: &OsStr) -> Option<PathBuf> {
    let program = find(command)?;
    let mut head = Vec::new();
    File::open(&program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let Some(line) = head.strip_prefix(b"#!") else { return Some(program) };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let interpreter = Path::new(OsStr::from_bytes(words.next()?));
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return find(interpreter.as_os_str());
    }
    // It has options of its own (`-S`), and sets variables.
    let mut words = words.filter(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    find(OsStr::from_bytes(words.next()?))
}

/// As execvp(3) does.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Path::new(program).canonicalize().ok();
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| {
            rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
        })
        .and_then(|path| path.canonicalize().ok())
}

/// Asks the command to end.
pub(super) fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        tracing::debug!(%error, "cannot pass SIGTERM on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_a_script_is_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let sh = Path::new("/bin/sh").canonicalize().unwrap();
        let rows = [
            ("#!/bin/sh\nexit\n", Some(sh.clone())),
            ("#! /bin/sh -e\nexit\n", Some(sh.clone())),
            ("#!/usr/bin/env sh\n", Some(sh.clone())),
            ("#!/usr/bin/env -S A=1 sh -e\n", Some(sh.clone())),
            ("#!\n", None),
            ("#!/no/such/interpreter\n", None),
        ];
        for (text, expected) in rows {
            let script = folder.path().join("script");
            std::fs::write(&script, text).unwrap();
            assert_eq!(executable(script.as_os_str()), expected, "{text}");
        }
        assert_eq!(executable(OsStr::new("sh")), Some(sh));
        assert_eq!(executable(OsStr::new("no such command")), None);
    }
}
