//! What does Remora do on other kernels? Boots them in QEMU and runs tests there, as root, with this
//! machine's file system; nothing that happens in a guest changes anything outside.
//!
//! `kernels` finds and unpacks them, `initramfs` packs what they boot into, `guest` runs them, `run`
//! says what they do. What fails outside of the tests ends the command with status 125.

mod guest;
mod initramfs;
mod kernels;
mod run;

use std::{
    fmt,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use self::{
    guest::{Clock, End, VIRTIOFSD},
    kernels::{Kernel, Version},
};
use crate::{
    apt::{self, Need},
    report::{Report, summarise},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernels to boot, one after the other
    #[arg(long, value_delimiter = ',', default_value = "5.10,6.1,6.12,6.18,7.2")]
    kernel: Vec<Version>,
    /// Only these test programs, of those in tests/tests/
    #[arg(long, value_delimiter = ',')]
    test: Vec<String>,
    /// Run this line of shell instead of tests
    #[arg(long, conflicts_with = "test")]
    shell: Option<String>,
    /// Seconds until a guest is ended
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
    /// One processor whose clock counts instructions, a nanosecond each: costs that repeat
    #[arg(long)]
    icount: bool,
    /// Ask the archives for newer kernels, even if there are some in the cache
    #[arg(long)]
    update: bool,
    /// Handed to the test programs
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Something outside of the tests failed: they said nothing.
#[derive(Debug)]
pub(crate) struct Infrastructure;

impl fmt::Display for Infrastructure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer from a guest")
    }
}

impl std::error::Error for Infrastructure {}

pub(crate) const INFRASTRUCTURE_FAILED: u8 = 125;

/// What a guest takes.
pub(crate) fn install() -> Result<()> {
    apt::ensure(&[
        Need { command: "qemu-system-x86_64", package: "qemu-system-x86" },
        Need { command: "busybox", package: "busybox-static" },
        Need { command: "unshare", package: "util-linux" },
        Need { command: "xz", package: "xz-utils" },
    ])?;
    if !VIRTIOFSD.iter().any(|path| Path::new(path).is_file()) {
        // Apart since Debian 13.
        apt::install(&["qemu-system-common"])?;
        if !VIRTIOFSD.iter().any(|path| Path::new(path).is_file()) {
            apt::install(&["virtiofsd"])?;
        }
    }
    Ok(())
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let prepare = || -> Result<_> {
        install()?;
        let kernels = kernels::find(&options.kernel, options.update)?;
        Ok((kernels, run::build()?))
    };
    let (kernels, built) = prepare().map_err(|error| error.context(Infrastructure))?;
    let job = match &options.shell {
        Some(line) => run::command(&built, line),
        None if options.test.is_empty() => {
            let all: Vec<String> = built.tests.keys().cloned().collect();
            run::tests(&built, &all, &options.arguments)?
        }
        None => run::tests(&built, &options.test, &options.arguments)?,
    };
    let trees = run::trees(&built)?;
    let mut reports = Vec::new();
    let mut lost = Vec::new();
    for kernel in &kernels {
        println!("\n== {} ==", kernel.release);
        let (report, answered) = guest_report(kernel, &job, &trees, options);
        if !answered {
            lost.push(kernel.release.as_str());
        }
        reports.push((kernel.release.clone(), report));
    }
    let result = summarise(&reports);
    if lost.is_empty() {
        return result;
    }
    Err(anyhow::anyhow!("from {}", lost.join(", ")).context(Infrastructure))
}

/// What came of the job in one guest, and whether it came to its end there.
fn guest_report(
    kernel: &Kernel,
    job: &str,
    trees: &[std::path::PathBuf],
    options: &Options,
) -> (Report, bool) {
    let started = Instant::now();
    let mut report = Report::default();
    let limit = Duration::from_secs(options.timeout);
    let mut read = |line: &str| {
        // A closed pipe ends the command anyway.
        let _ = writeln!(std::io::stdout(), "{line}");
        report.read(line);
    };
    let clock = if options.icount { Clock::Instructions } else { Clock::Wall };
    let end = guest::run(kernel, job, trees, clock, limit, &mut read);
    report.took = started.elapsed();
    let (failure, answered) = match end {
        Ok(End::Status(0)) if options.shell.is_none() && report.ran() == 0 => {
            (options.arguments.is_empty().then(|| "nothing ran".to_owned()), true)
        }
        Ok(End::Status(0)) => (None, true),
        Ok(End::Status(status)) => (Some(format!("ended with status {status}")), true),
        Ok(End::TimedOut) => (Some(format!("not done after {} s", limit.as_secs())), false),
        Ok(End::Lost) => (Some("the guest went away".to_owned()), false),
        Err(error) => (Some(format!("{error:#}")), false),
    };
    report.failure = failure;
    (report, answered)
}
