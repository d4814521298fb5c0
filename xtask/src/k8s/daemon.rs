//! Programs that run beside this one, in a control group by which all that they start can be found and ended.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// What a group of ours is called, with the id of the process that made it behind.
const NAME: &str = "remora-k8s-";
/// Where the kubelet puts pods.
const PODS: &str = "kubepods";
/// Where containerd puts what has no place of its own.
const CONTAINERS: &str = "k8s.io";
const ROOT: &str = "/sys/fs/cgroup";

/// Where daemons run, and what they find there.
pub(super) struct Daemons {
    group: PathBuf,
    log: PathBuf,
    path: OsString,
}

pub(super) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemons {
    /// # Errors
    /// If another cluster of ours, or somebody else's, runs on this machine.
    pub(super) fn new(log: PathBuf, path: OsString) -> Result<Self> {
        clear_leftovers()?;
        fs::create_dir_all(&log)?;
        let group = hierarchies()
            .into_iter()
            // Of version 2 where there is one; of version 1 any.
            .max_by_key(|root| root.join("cgroup.controllers").is_file())
            .context("no control groups are mounted in /sys/fs/cgroup")?
            .join(format!("{NAME}{}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("cannot create {}", group.display()))?;
        Ok(Self { group, log, path })
    }

    /// Starts a program whose output goes to a file of its name. Ctrl-C in this terminal does not reach it.
    pub(super) fn start(&self, name: &str, arguments: &[String]) -> Result<Daemon> {
        let log = self.log.join(format!("{name}.log"));
        let output = File::options().append(true).create(true).open(&log)?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$1\" && shift && exec \"$@\"", "sh"]);
        command.arg(self.group.join("cgroup.procs")).args(arguments);
        command.env("PATH", &self.path).process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Daemon { name: name.to_owned(), child, log })
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        if let Err(error) = end(&self.group) {
            eprintln!("warning: {error:#}");
        }
    }
}

impl Daemon {
    /// # Errors
    /// If it has ended, with the last it said.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            bail!("{} ended with {status}; {}: {}", self.name, self.log.display(), last.join("\n"));
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits for the end.
    pub(super) fn end(&mut self, signal: &str) -> Result<()> {
        crate::shell::output(Command::new("kill").args([signal, &self.id().to_string()]))?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("{} does not end", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Ends every process below, and of the pods; then their groups go.
fn end(group: &Path) -> Result<()> {
    let mut folders = vec![group.to_owned()];
    for root in hierarchies() {
        folders.extend([PODS, CONTAINERS].map(|name| root.join(name)));
    }
    let begin = Instant::now();
    loop {
        let mut left = 0;
        for folder in &folders {
            left += kill_below(folder);
        }
        if left == 0 {
            break;
        }
        if begin.elapsed() > Duration::from_secs(30) {
            bail!("{left} processes of the cluster do not end");
        }
        thread::sleep(Duration::from_millis(50));
    }
    // The last to leave may be on its way.
    for attempt in 0.. {
        let stays: Vec<_> = folders.iter().filter(|folder| !remove(folder)).collect();
        if stays.is_empty() {
            return Ok(());
        }
        if attempt > 100 {
            bail!("control groups stay: {stays:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sends SIGKILL to all; returns how many there were.
fn kill_below(folder: &Path) -> usize {
    let mut count = 0;
    for below in children(folder) {
        count += kill_below(&below);
    }
    let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let members: Vec<&str> = members.lines().filter(|pid| *pid != "0").collect();
    if !members.is_empty() {
        // One that ends meanwhile is what is wanted.
        let _ = Command::new("kill").arg("-KILL").args(&members).stderr(Stdio::null()).status();
    }
    count + members.len()
}

/// Whether it is gone, with all below.
fn remove(folder: &Path) -> bool {
    for below in children(folder) {
        remove(&below);
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Roots of all hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    match root.join("cgroup.procs").is_file() {
        true => vec![root.to_owned()],
        false => children(root),
    }
}

/// An earlier run that was killed could not take its cluster down.
fn clear_leftovers() -> Result<()> {
    let mut ours = Vec::new();
    for group in hierarchies().iter().flat_map(|root| children(root)) {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(NAME) else { continue };
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("k8s") {
            bail!("process {pid} runs a cluster on this machine");
        }
        ours.push(group);
    }
    let theirs: Vec<_> =
        hierarchies().iter().map(|root| root.join(PODS)).filter(|pods| pods.is_dir()).collect();
    match &*ours {
        [] if theirs.is_empty() => Ok(()),
        [] => bail!("{} is here: a kubelet runs on this machine", theirs[0].display()),
        _ => {
            println!("k8s: taking down what an earlier run left");
            ours.iter().try_for_each(|group| end(group))
        }
    }
}
