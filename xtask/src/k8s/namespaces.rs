//! What of this machine the cluster has for itself: its network, its mounts, its sysctls.
//!
//! The kubelet writes to `/var/lib`, `/var/log`, `/run` and to sysctls of the whole machine. In a mount namespace
//! of its own all of these are other files, and all that is mounted goes with its last process. Pods with
//! `hostPID` see the machine's processes, as on a real node.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Root, line, output, own_program};

/// Sysctls that the kubelet sets and that belong to no namespace.
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

/// Becomes this program again, inside of namespaces of its own, with other arguments.
///
/// # Errors
/// If it comes back at all.
pub(super) fn enter(root: Root, arguments: &[String]) -> Result<()> {
    let mut command = root.command("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "--"]);
    command.arg(own_program()?).args(arguments);
    // Root may have another home.
    if let Some(cache) = shell::cache()?.parent() {
        command.env("XDG_CACHE_HOME", cache);
    }
    let shown = line(&command);
    Err(command.exec()).with_context(|| format!("cannot run {shown}"))
}

/// The node's address, and the API server's.
pub(super) const NODE_ADDRESS: &str = "10.99.0.2";

/// Makes the namespaces that this process is in a node's.
pub(super) fn furnish(work: &Path) -> Result<()> {
    network()?;
    let own = work.join("own");
    for (at, name) in [("/var/lib", "lib"), ("/var/log", "log"), ("/run", "run")] {
        let folder = own.join(name);
        fs::create_dir_all(&folder)?;
        mount(&["--bind", path(&folder)?, at])?;
        // Mounts in it have to reach the containers.
        mount(&["--make-shared", at])?;
    }
    for folder in ["/run/netns", "/run/containerd", "/var/lib/kubelet", "/var/log/pods"] {
        fs::create_dir_all(folder)?;
    }
    for sysctl in SYSCTLS {
        let real = format!("/proc/sys/{sysctl}");
        let Ok(value) = fs::read(&real) else { continue };
        let stand_in = own.join(sysctl.replace('/', "-"));
        fs::write(&stand_in, value)?;
        mount(&["--bind", path(&stand_in)?, &real])?;
    }
    Ok(())
}

/// An interface for the node, with the address that others reach it at and a way out that leads nowhere.
fn network() -> Result<()> {
    let gateway =
        NODE_ADDRESS.rsplit_once('.').map(|(net, _)| format!("{net}.1")).unwrap_or_default();
    for words in [
        "link set lo up".to_owned(),
        "link add node0 type veth peer name node0-out".to_owned(),
        "link set node0-out up".to_owned(),
        format!("addr add {NODE_ADDRESS}/24 dev node0"),
        "link set node0 up".to_owned(),
        format!("route add default via {gateway}"),
    ] {
        output(Command::new("ip").args(words.split(' ')))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("net.ipv4.ip_forward")
}

fn mount(arguments: &[&str]) -> Result<()> {
    output(Command::new("mount").args(arguments)).map(drop)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Unmounts what was mounted for the cluster, so that its files can be removed.
///
/// # Errors
/// If something stays mounted below `work`; then nothing there may be removed.
pub(super) fn clear_out(work: &Path) -> Result<()> {
    let below = |target: &str| {
        let target = Path::new(target);
        ["/var/lib", "/var/log", "/run"].iter().any(|at| target.starts_with(at))
            || target.starts_with(work)
    };
    for _ in 0..3 {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let targets: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| below(at))
            .collect();
        if targets.is_empty() {
            return Ok(());
        }
        for target in targets.iter().rev() {
            // One that went with another is what is wanted.
            let _ = Command::new("umount").args(["-l", target]).stderr(Stdio::null()).status();
        }
    }
    bail!("something stays mounted below {}", work.display())
}
