//! How much memory a process has, from `/proc`.

use std::fs;

/// Most memory since [`forget_peak`], bytes; 0 if the process has ended.
#[must_use]
pub fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// Memory now, bytes; 0 if the process has ended.
#[must_use]
pub fn now(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// What was needed until now does not count: loading takes more than running.
pub fn forget_peak(pid: u32) {
    // It may have ended, which whoever waits for it will see.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn status(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}
