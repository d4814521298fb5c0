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
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

pub(crate) use self::kernels::Version;
use self::{
    guest::{Clock, End, Machine, VIRTIOFSD},
    kernels::Kernel,
};
use crate::{
    apt,
    report::{Report, summarise},
    shell::Root,
};

/// As many guests at once as the smallest machines have processors.
const JOBS: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernels to boot
    #[arg(long, value_delimiter = ',', default_value = "5.10,6.1,6.12,6.18,7.2")]
    kernel: Vec<Version>,
    /// These test programs, of those in tests/tests/, instead of those that a kernel can make a difference to
    #[arg(long, value_delimiter = ',')]
    test: Vec<String>,
    /// Run this line of shell instead of tests
    #[arg(long, conflicts_with = "test")]
    shell: Option<String>,
    /// Guests at once; each emulates on one thread
    #[arg(long, default_value_t = JOBS)]
    jobs: usize,
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
    apt::ensure(&["qemu-system-x86_64", "busybox", "unshare", "xz"])?;
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
            run::tests(&built, &TESTS.map(str::to_owned), &options.arguments)?
        }
        None => run::tests(&built, &options.test, &options.arguments)?,
    };
    let job = Job {
        script: job,
        trees: run::trees(&built)?,
        clock: if options.icount { Clock::Instructions } else { Clock::Wall },
        limit: Duration::from_secs(options.timeout),
        may_be_empty: options.shell.is_some() || !options.arguments.is_empty(),
    };
    let answers = in_guests(&kernels, options.jobs, &job);
    let lost: Vec<&str> =
        answers.iter().filter(|(_, _, came)| !came).map(|(kernel, ..)| &**kernel).collect();
    let lost = lost.join(", ");
    let reports: Vec<_> = answers.into_iter().map(|(kernel, report, _)| (kernel, report)).collect();
    let result = summarise(&reports);
    if lost.is_empty() {
        return result;
    }
    Err(anyhow!("from {lost}").context(Infrastructure))
}

/// Where a kernel can make a difference. Not those that compare times with a stopwatch of the target: a guest that is
/// emulated is ten times as slow at anything, and at some things more.
const TESTS: [&str; 8] =
    ["kernel", "tls_kernel", "all", "doctor", "http", "tls", "capabilities", "containers"];

/// What the default run does in guests: the oldest and the newest kernel.
const RING_KERNELS: [Version; 2] = [Version(5, 10), Version(7, 2)];

/// And there: the programs by themselves, the whole machine, every door, TLS.
const RING_TESTS: [&str; 6] = ["kernel", "tls_kernel", "all", "doctor", "http", "tls"];

/// What [`ring`] takes, if this machine has it.
///
/// # Errors
/// What is missing.
pub(crate) fn ready() -> Result<()> {
    install()?;
    Root::find("sharing the file system with a guest")?;
    kernels::find(&RING_KERNELS, false).map(drop)
}

/// Runs the tests of the default run whose name contains `filter` in guests, after [`ready`].
pub(crate) fn ring(filter: Option<&str>) -> Result<Vec<(String, Report)>> {
    let kernels = kernels::find(&RING_KERNELS, false)?;
    let built = run::build()?;
    let arguments: Vec<String> = filter.map(str::to_owned).into_iter().collect();
    let job = Job {
        script: run::tests(&built, &RING_TESTS.map(str::to_owned), &arguments)?,
        trees: run::trees(&built)?,
        clock: Clock::Wall,
        limit: Duration::from_secs(900),
        may_be_empty: filter.is_some(),
    };
    let mut reports = Vec::new();
    for ((release, mut report, _), kernel) in
        in_guests(&kernels, JOBS, &job).into_iter().zip(&kernels)
    {
        if filter.is_none()
            && let Some(names) = report.again()
        {
            let arguments: Vec<String> =
                ["--exact".to_owned()].into_iter().chain(names.iter().cloned()).collect();
            let script = run::tests(&built, &RING_TESTS.map(str::to_owned), &arguments)?;
            let again = Job { script, may_be_empty: true, trees: job.trees.clone(), ..job };
            let (second, _) = guest_report(kernel, &again, &format!("{:<4} | ", kernel.version()));
            report.ran_again(&second);
        }
        reports.push((format!("vm {release}"), report));
    }
    Ok(reports)
}

/// Runs a line of shell on `kernel`, on one processor whose clock is its instructions; returns the kernel's
/// release and what the line printed. The folders of `files` are there.
pub(crate) fn count(kernel: Version, line: &str, files: &[&Path]) -> Result<(String, Vec<String>)> {
    let kernels = kernels::find(&[kernel], false)?;
    let kernel = kernels.first().context("no kernel")?;
    let built = run::Built { agent: files[0].to_owned(), ..run::Built::default() };
    let mut trees = run::trees(&built)?;
    trees.extend(files.iter().filter_map(|file| file.parent()).map(Path::to_owned));
    trees.sort();
    trees.dedup();
    let mut lines = Vec::new();
    let mut read = |line: &str| {
        eprintln!("{line}");
        lines.push(line.to_owned());
    };
    let limit = Duration::from_secs(1200);
    let script = run::command(&built, line);
    let machine = Machine { trees: &trees, clock: Clock::Instructions, system: None };
    match guest::run(kernel, &script, machine, limit, &mut read)? {
        End::Status(0) => Ok((kernel.release.clone(), lines)),
        end => Err(anyhow!("in the guest: {end:?}").context(Infrastructure)),
    }
}

/// Runs a script as a service of `system`, a folder with a Debian system, whose changes are gone with the
/// guest. The folder `files` is there. Returns the script's status.
pub(crate) fn in_system(
    kernel: Version,
    system: &Path,
    script: &str,
    files: &Path,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> Result<i32> {
    let kernels = kernels::find(&[kernel], false)?;
    let kernel = kernels.first().context("no kernel")?;
    let trees = [files.to_owned()];
    let machine = Machine { trees: &trees, clock: Clock::Wall, system: Some(system) };
    match guest::run(kernel, script, machine, limit, line)? {
        End::Status(status) => Ok(status),
        end => Err(anyhow!("in the guest: {end:?}").context(Infrastructure)),
    }
}

/// What each guest does.
struct Job {
    script: String,
    trees: Vec<PathBuf>,
    clock: Clock,
    limit: Duration,
    /// Whether it is well if no test ran.
    may_be_empty: bool,
}

/// By release: what came of the job there, and whether it came to its end.
fn in_guests(kernels: &[Kernel], jobs: usize, job: &Job) -> Vec<(String, Report, bool)> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    let several = jobs > 1 && kernels.len() > 1;
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, kernels.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(kernel) = kernels.get(at) else { return };
                    let prefix = if several {
                        format!("{:<4} | ", kernel.version())
                    } else {
                        println!("\n== {} ==", kernel.release);
                        String::new()
                    };
                    let (report, came) = guest_report(kernel, job, &prefix);
                    let answer = (at, kernel.release.clone(), report, came);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, ..)| *at);
    answers.into_iter().map(|(_, kernel, report, came)| (kernel, report, came)).collect()
}

fn guest_report(kernel: &Kernel, job: &Job, prefix: &str) -> (Report, bool) {
    let started = Instant::now();
    let mut report = Report::default();
    let mut read = |line: &str| {
        // A closed pipe ends the command anyway.
        let _ = writeln!(std::io::stdout(), "{prefix}{line}");
        report.read(line);
    };
    let machine = Machine { trees: &job.trees, clock: job.clock, system: None };
    let end = guest::run(kernel, &job.script, machine, job.limit, &mut read);
    report.took = started.elapsed();
    let (failure, answered) = match end {
        Ok(End::Status(0)) if report.ran() == 0 && !job.may_be_empty => {
            (Some("nothing ran".to_owned()), true)
        }
        Ok(End::Status(0)) => (None, true),
        Ok(End::Status(status)) => (Some(format!("ended with status {status}")), true),
        Ok(End::TimedOut) => (Some(format!("not done after {} s", job.limit.as_secs())), false),
        Ok(End::Lost) => (Some("the guest went away".to_owned()), false),
        Err(error) => (Some(format!("{error:#}")), false),
    };
    report.failure = failure;
    (report, answered)
}
