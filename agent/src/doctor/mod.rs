//! `remora doctor`: what this host allows, feature by feature, with the reason and the remedy. A
//! [`Report`] is a list of [`Check`]s, wherever they come from: those of this module need nothing but
//! files to read, the kernel side adds what it finds out by trying.

mod doors;
mod host;
mod render;
mod unseen;

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::attach::stacks::{TlsScanner, TlsStack};

pub use doors::{door_checks, probe_check, shortfalls};
pub use host::{CgroupVersion, HostFacts, Lockdown, checks as host_checks, load_programs};
pub use unseen::Unseen;

/// How a feature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Not on this kernel or in this binary: the feature is off, the agent is healthy.
    Unsupported,
    /// It works in part.
    Degraded,
    /// It should work and does not.
    Failed,
}

impl State {
    /// As printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unsupported => "unsupported",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A few words: `load programs`.
    pub feature: &'static str,
    pub state: State,
    /// What was found; one clause.
    pub reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    #[must_use]
    pub fn new(feature: &'static str, state: State, reason: impl Into<String>) -> Self {
        Self { feature, state, reason: reason.into(), remedy: None }
    }

    #[must_use]
    pub fn ok(feature: &'static str, reason: impl Into<String>) -> Self {
        Self::new(feature, State::Ok, reason)
    }

    /// With advice.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// `door fexit unsupported (refused)`: for a line of several.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.feature, self.state.as_str(), self.reason)
    }
}

/// One process's TLS libraries, and what else of it is not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    pub pid: u32,
    pub exe: PathBuf,
    pub tls: Vec<TlsStack>,
    pub unseen: Vec<Unseen>,
}

/// Why there is no [`ProcessReport`].
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("no process {0}")]
    NoProcess(u32),
    #[error("process {0} may not be inspected: CAP_SYS_PTRACE is missing, run as root")]
    NotPermitted(u32),
    #[error("process {pid} cannot be inspected")]
    Other { pid: u32, source: procfs::ProcError },
}

impl ProcessReport {
    /// Looks into the process `pid`.
    ///
    /// # Errors
    /// There is no such process, or it may not be inspected.
    pub fn inspect(pid: u32) -> Result<Self, InspectError> {
        let error = |source| match source {
            procfs::ProcError::NotFound(_) => InspectError::NoProcess(pid),
            procfs::ProcError::PermissionDenied(_) => InspectError::NotPermitted(pid),
            source => InspectError::Other { pid, source },
        };
        let number = i32::try_from(pid).map_err(|_| InspectError::NoProcess(pid))?;
        let process = procfs::process::Process::new(number).map_err(error)?;
        let exe = process.exe().map_err(error)?;
        let tls = TlsScanner::default().stacks(pid).map_err(error)?;
        Ok(Self { pid, exe, tls, unseen: unseen::of(&process) })
    }
}

/// Everything `remora doctor` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Kernel release and machine, for the heading.
    pub host: String,
    pub checks: Vec<Check>,
    /// With `--pid`.
    pub process: Option<ProcessReport>,
}

impl Report {
    /// A report of what can be found out without loading a program.
    #[must_use]
    pub fn new(facts: &HostFacts) -> Self {
        let host = format!("Linux {} ({})", facts.release, std::env::consts::ARCH);
        Self { host, checks: host_checks(facts), process: None }
    }

    /// The worst state of any feature.
    #[must_use]
    pub fn worst(&self) -> State {
        self.checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
    }

    /// 1 if something that should work does not, otherwise 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.worst() == State::Failed)
    }
}
