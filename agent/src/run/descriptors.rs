//! Whether the agent may open as many files as it needs. Without them it would start, see no process, and
//! call that nothing selected.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::RunError;

/// Maps, programs and links are some 65; more for each TLS library and each destination.
pub(super) const LEAST: u64 = 128;

/// Raises the soft limit where it is too low; a command that is started inherits it only then.
pub(super) fn enough() -> Result<(), RunError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current.filter(|&current| current < LEAST) else { return Ok(()) };
    let wanted = maximum.map_or(4 * LEAST, |most| most.min(4 * LEAST));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    let most = if raised { wanted } else { now };
    if most < LEAST { Err(RunError::Descriptors { most }) } else { Ok(()) }
}
