//! The ways in which the agent sees system calls, by their names on the command line.

use remora::bpf::{Door, try_doors};

/// `true` if the door does not open on this machine; prints the kernel's reason to skip then.
///
/// # Panics
/// If the kernel takes none of the agent's programs.
#[must_use]
pub fn closed(door: Door) -> bool {
    let tried = try_doors().expect("maps and types that the kernel takes");
    let (_, result) = tried.into_iter().find(|(tried, _)| *tried == door).expect("all are tried");
    let Err(error) = result else { return false };
    let error = error.to_string();
    let reason = error.lines().next().unwrap_or_default();
    println!("skipped: door {} does not open: {reason}", door.as_str());
    true
}

/// The doors that open here.
///
/// # Panics
/// If the kernel takes none of the agent's programs.
#[must_use]
pub fn open() -> Vec<Door> {
    let tried = try_doors().expect("maps and types that the kernel takes");
    tried.into_iter().filter(|(_, result)| result.is_ok()).map(|(door, _)| door).collect()
}
