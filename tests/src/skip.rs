//! A test that cannot run here says why. The runner counts these lines; a ring in which nothing else
//! ran has failed.

/// Whether this process may load programs; prints the reason to skip otherwise.
#[must_use]
pub fn without_root() -> bool {
    // SAFETY: no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: loading kernel programs needs root");
    }
    !root
}

/// Whether one of `programs` is missing; prints the reason to skip if so.
#[must_use]
pub fn without(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if let Some(program) = missing {
        println!("skipped: there is no {program}");
    }
    missing.is_some()
}

/// Whether this is a machine that also runs other people's programs; prints the reason to skip if so.
#[must_use]
pub fn outside_a_guest() -> bool {
    if !emulated() {
        println!(
            "skipped: watching every process is for guests (cargo xtask vm): \
             this machine also runs what no test has started"
        );
    }
    !emulated()
}

/// Whether this machine is emulated (`cargo xtask vm` says so): its processors stand still at times.
#[must_use]
pub fn emulated() -> bool {
    std::env::var_os("REMORA_TEST_GUEST").is_some()
}

/// Whether the variable `REMORA_TEST_LONG` is not set; prints `why` it takes that if so.
#[must_use]
pub fn unless_long(why: &str) -> bool {
    let short = std::env::var_os("REMORA_TEST_LONG").is_none();
    if short {
        println!("skipped: {why}: REMORA_TEST_LONG=1");
    }
    short
}
