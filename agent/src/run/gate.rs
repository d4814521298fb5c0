//! Starts the command of `remora exec` so that nothing of it is missed: the child is this program
//! again, which waits at a gate until it is selected and then becomes the command. No `fork` hooks,
//! no signals: the wait is a read from a socket that closes if the agent dies.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr, UnixListener, UnixStream},
            process::CommandExt,
        },
    },
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

/// Asks the command to end.
pub(super) fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        tracing::debug!(%error, "cannot pass SIGTERM on");
    }
}
