//! A machine of its own for a container runtime, made of namespaces of this one: mounts, network, process
//! ids, `/run`, `/var/lib` and `/var/log`. Runtimes of this machine are not met, and what a runtime leaves
//! behind ends with the namespaces: also when a test fails or is killed.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use tempfile::TempDir;

use crate::{
    process::{Running, children, output, until},
    programs::built,
    skip,
};

/// What the first process of the namespaces does. `$1` is a folder of the machine below, `$2` the name of the
/// control group that runtimes are told to stay below. It lives until its standard input ends.
const KEEPER: &str = r#"
set -e
ours="$1" group="$2"
for pair in lib:/var/lib log:/var/log run:/run; do
    mount --bind "$ours/${pair%%:*}" "${pair#*:}"
    mount --make-shared "${pair#*:}"
done
ip link set lo up
mkdir "$ours/probe" "$ours/probe/lower" "$ours/probe/upper" "$ours/probe/work" "$ours/probe/merged"
cd "$ours/probe"
if ! mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged; then
    echo 'no overlay can be mounted'
    exit
fi
umount merged
cd /
echo ready
read -r _ || true
# Each in the namespace but this one, and those below.
kill -KILL -1 2>/dev/null || true
for top in "/sys/fs/cgroup/$group" /sys/fs/cgroup/*/"$group"; do
    tries=0
    while [ -d "$top" ] && [ $tries -lt 100 ]; do
        find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
        tries=$((tries + 1))
    done
done
umount -R -l /run /var/lib /var/log || true
rm -rf --one-file-system "$ours"
"#;

pub struct Node {
    keeper: Running,
    /// The first process of the namespaces.
    pid: u32,
    group: String,
    folder: TempDir,
}

impl Node {
    /// `None` if this machine cannot have containers; the reason is printed.
    ///
    /// # Panics
    /// If it fails otherwise.
    #[must_use]
    pub fn start() -> Option<Self> {
        if skip::without_root() || skip::without(&["unshare", "nsenter", "mount", "ip"]) {
            return None;
        }
        if !["cgroup.procs", "pids"].iter().any(|file| Path::new(CGROUPS).join(file).exists()) {
            println!("skipped: no control groups are mounted in {CGROUPS}");
            return None;
        }
        // An overlay cannot take changes for another.
        let places = [built(), "/dev/shm".into()];
        let node = places.iter().find_map(|place| Self::within(place));
        if node.is_none() {
            println!("skipped: no overlay can be mounted");
        }
        node
    }

    fn within(place: &Path) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = TempDir::new_in(place).expect("a folder");
        for name in ["lib", "log", "run"] {
            fs::create_dir(folder.path().join(name)).expect("a folder of ours");
        }
        let group =
            format!("remora-test-{}-node{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["--propagation", "private", "--", "sh", "-c", KEEPER, "keeper"]);
        unshare.arg(folder.path()).arg(&group).stdin(Stdio::piped());
        let mut keeper = Running::start(&mut unshare);
        if keeper.line() != "ready" {
            keeper.wait();
            return None;
        }
        let pid = children(keeper.pid()).expect("it runs")[0];
        Some(Self { keeper, pid, group, folder })
    }

    /// Where the file at `path` of it is for this test.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// The control group that all of its containers have to lie below.
    #[must_use]
    pub fn group(&self) -> String {
        format!("/{}", self.group)
    }

    /// Runs a program in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--net", "--pid", "--target", &self.pid.to_string(), "--"]);
        nsenter.arg(program);
        nsenter
    }

    /// [`ask`] from its network.
    pub fn ask(&self, url: &str) {
        ask(self.pid, url);
    }

    /// Processes in the control group of this name, wherever it is, as the machine below numbers them. The first
    /// one is the oldest, mostly.
    #[must_use]
    pub fn members(&self, name: &str) -> Vec<u32> {
        let tops = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
        let tops = tops.chain([CGROUPS.into()]).map(|top| top.join(&self.group));
        let group = tops.filter_map(|top| find(&top, name)).next();
        let list = group.and_then(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
        list.unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.give("");
        if !std::thread::panicking() {
            self.keeper.wait();
            let stays = self.folder.path().exists();
            assert!(!stays, "{} stays", self.folder.path().display());
            return;
        }
        let start = std::time::Instant::now();
        while !self.keeper.has_ended() && start.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// The folder whose name ends so.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let below = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let below: Vec<PathBuf> = below.filter(|path| path.is_dir()).collect();
    let ends = |path: &&PathBuf| path.to_str().is_some_and(|path| path.ends_with(name));
    below.iter().find(ends).cloned().or_else(|| below.iter().find_map(|path| find(path, name)))
}

/// Asks for `url` from the network of `pid`, as a client that nobody watches; what comes does not matter.
pub fn ask(pid: u32, url: &str) {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--net", "--target", &pid.to_string(), "--", "curl", "--silent", "--insecure"]);
    nsenter.args(["--output", "/dev/null", "--max-time", "20"]);
    // What was started this moment may not listen yet.
    nsenter.args(["--retry", "200", "--retry-connrefused", "--retry-delay", "0"]);
    output(nsenter.args(["--retry-max-time", "20", url]));
}

/// Waits until somebody listens on `port` in the network namespace of `pid`.
pub fn listening(pid: u32, port: u16) {
    let files = ["tcp", "tcp6"].map(|name| format!("/proc/{pid}/net/{name}"));
    let port = format!(":{port:04X} ");
    let listens =
        |text: String| text.lines().any(|line| line.contains(&port) && line.contains(" 0A "));
    until("the service in the container to listen", || {
        files.iter().any(|file| fs::read_to_string(file).is_ok_and(listens))
    });
}

/// Whether a process has namespaces of these kinds that are not this one's.
///
/// # Panics
/// If it has ended.
#[must_use]
pub fn apart(pid: u32, kinds: &[&str]) -> bool {
    let of = |pid: &str, kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it runs");
    kinds.iter().all(|kind| of(&pid.to_string(), kind) != of("self", kind))
}

/// The library of OpenSSL that a process has mapped, as it sees it.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn library(pid: u32) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.into_iter().find(|path| path.contains("libssl")).expect("OpenSSL").to_owned()
}
