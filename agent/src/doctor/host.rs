//! Facts about kernel, privileges and namespaces that need no program to be loaded, and what follows
//! from them. [`HostFacts::probe`] reads, [`checks`] decides.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use procfs::process::{LimitValue, Process};
use remora_common::layout::PidNamespace;

use super::{Check, State};

/// Bits of `CapEff` (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 8] = [
    ("CAP_BPF", CAP_BPF),
    ("CAP_PERFMON", CAP_PERFMON),
    ("CAP_SYS_PTRACE", CAP_SYS_PTRACE),
    ("CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH),
    ("CAP_CHECKPOINT_RESTORE", CAP_CHECKPOINT_RESTORE),
    ("CAP_SYS_NICE", CAP_SYS_NICE),
    ("CAP_NET_ADMIN", CAP_NET_ADMIN),
    ("CAP_SYS_ADMIN", CAP_SYS_ADMIN),
];
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// Inode number of the initial user namespace (include/linux/proc_ns.h, fixed since 3.8).
const INITIAL_USER_NS: u64 = 0xefff_fffd;

/// `/sys/kernel/security/lockdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    None,
    Integrity,
    Confidentiality,
    /// The kernel has none, or securityfs is not mounted.
    Unknown,
}

/// Which control group hierarchy is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    Unified,
    /// Version 1 controllers with a version 2 tree beside them.
    Hybrid,
    Legacy,
    Absent,
}

/// What is true here. `None` is "cannot tell".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// As `uname -r`.
    pub release: String,
    /// Major and minor of `release`.
    pub version: Option<(u32, u32)>,
    /// `/sys/kernel/btf/vmlinux` can be read.
    pub btf: bool,
    /// Effective capabilities, as bits.
    pub capabilities: Option<u64>,
    pub lockdown: Lockdown,
    /// tracefs is mounted and can be read.
    pub tracefs: bool,
    /// Bytes that may be locked; `u64::MAX` without limit.
    pub memlock: Option<u64>,
    pub cgroup: CgroupVersion,
    pub initial_pid_namespace: Option<bool>,
    pub initial_user_namespace: Option<bool>,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<bool>,
}

impl HostFacts {
    /// Reads the facts; never fails.
    #[must_use]
    pub fn probe() -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let release = line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        let own = Process::myself().ok();
        let limits = own.as_ref().and_then(|own| own.limits().ok());
        let namespace = |name: &str, initial: u64| {
            fs::metadata(format!("/proc/self/ns/{name}")).ok().map(|found| found.ino() == initial)
        };
        Self {
            version: version(&release),
            release,
            btf: fs::File::open("/sys/kernel/btf/vmlinux").is_ok(),
            capabilities: own.and_then(|own| own.status().ok()).map(|status| status.capeff),
            lockdown: lockdown(line("/sys/kernel/security/lockdown").as_deref()),
            tracefs: ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
                .into_iter()
                .any(|mount| fs::read_dir(Path::new(mount).join("events")).is_ok()),
            memlock: limits.map(|limits| match limits.max_locked_memory.soft_limit {
                LimitValue::Unlimited => u64::MAX,
                LimitValue::Value(bytes) => bytes,
            }),
            cgroup: cgroup_version(Path::new("/sys/fs/cgroup")),
            initial_pid_namespace: namespace("pid", PidNamespace::INITIAL.inode),
            initial_user_namespace: namespace("user", INITIAL_USER_NS),
            jit: line("/proc/sys/net/core/bpf_jit_enable").map(|value| value != "0"),
        }
    }

    fn holds(&self, capability: u32) -> bool {
        self.capabilities.is_some_and(|bits| bits & (1 << capability) != 0)
    }

    /// Of these capabilities the names that are missing.
    fn missing(&self, wanted: &[u32]) -> Vec<&'static str> {
        let wanted = CAPABILITIES.iter().filter(|(_, bit)| wanted.contains(bit));
        wanted.filter(|(_, bit)| !self.holds(*bit)).map(|(name, _)| *name).collect()
    }

    /// Whether the kernel is at least this; an unknown version is taken for a new one, for what is
    /// tried later finds out anyway.
    fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.is_none_or(|version| version >= (major, minor))
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `none [integrity] confidentiality`: the one in brackets is in force.
fn lockdown(text: Option<&str>) -> Lockdown {
    let chosen = text.and_then(|text| text.split_once('[')?.1.split_once(']'));
    match chosen.map(|(word, _)| word) {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

fn cgroup_version(mount: &Path) -> CgroupVersion {
    let is_v2 = |path: &Path| path.join("cgroup.controllers").exists();
    if is_v2(mount) {
        CgroupVersion::Unified
    } else if is_v2(&mount.join("unified")) {
        CgroupVersion::Hybrid
    } else if fs::read_dir(mount).is_ok_and(|mut entries| entries.next().is_some()) {
        CgroupVersion::Legacy
    } else {
        CgroupVersion::Absent
    }
}

/// What follows from the facts, in the order of the way data takes.
#[must_use]
pub fn checks(facts: &HostFacts) -> Vec<Check> {
    let mut checks = vec![
        kernel(facts),
        btf(facts),
        load_programs(facts),
        lockdown_state(facts),
        tracefs(facts),
        tls_probes(facts),
        inspect_processes(facts),
        priority(facts),
        process_ids(facts),
        control_groups(facts),
    ];
    checks.extend(missed_runs(facts));
    checks.extend(memlock(facts));
    checks.extend(jit(facts));
    checks
}

fn kernel(facts: &HostFacts) -> Check {
    let release = &facts.release;
    if facts.at_least(5, 8) {
        return Check::ok("kernel", release.as_str());
    }
    let reason = format!("{release}, but the BPF ring buffer came with 5.8");
    Check::new("kernel", State::Failed, reason).remedy("use Linux 5.10 or later")
}

fn btf(facts: &HostFacts) -> Check {
    if facts.btf {
        return Check::ok("BTF", "/sys/kernel/btf/vmlinux");
    }
    Check::new("BTF", State::Failed, "/sys/kernel/btf/vmlinux cannot be read")
        .remedy("use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs")
}

/// Whether this process may load programs.
#[must_use]
pub fn load_programs(facts: &HostFacts) -> Check {
    const FEATURE: &str = "load programs";
    let held = CAPABILITIES.iter().filter(|(_, bit)| facts.holds(*bit));
    let held: Vec<_> = held.map(|(name, _)| *name).collect();
    if facts.initial_user_namespace == Some(false) {
        let reason = "the agent runs in a user namespace, whose capabilities do not count for BPF";
        return Check::new(FEATURE, State::Failed, reason)
            .remedy("run it as root of the host, in no rootless container");
    }
    let missing = facts.missing(&[CAP_BPF, CAP_PERFMON]);
    // Both were split from CAP_SYS_ADMIN by 5.8, which still implies them.
    if facts.holds(CAP_SYS_ADMIN) || missing.is_empty() {
        return Check::ok(FEATURE, format!("{} held", held.join(", ")));
    }
    let verb = if missing.len() == 1 { "is" } else { "are" };
    Check::new(FEATURE, State::Failed, format!("{} {verb} missing", missing.join(" and "))).remedy(
        "run as root (sudo), or grant cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,\
         cap_checkpoint_restore,cap_sys_nice",
    )
}

fn lockdown_state(facts: &HostFacts) -> Check {
    match facts.lockdown {
        Lockdown::None => Check::ok("lockdown", "none"),
        Lockdown::Integrity => Check::ok("lockdown", "integrity, which leaves reading allowed"),
        Lockdown::Unknown => Check::ok("lockdown", "none, or securityfs is not mounted"),
        Lockdown::Confidentiality => {
            let reason = "confidentiality: BPF programs may not read kernel memory";
            Check::new("lockdown", State::Failed, reason)
                .remedy("boot with lockdown=integrity or lockdown=none")
        }
    }
}

fn tracefs(facts: &HostFacts) -> Check {
    let found = if facts.tracefs { "mounted" } else { "not mounted or not readable" };
    Check::ok("tracefs", format!("{found}; only the last door, tracepoint, needs it"))
}

fn tls_probes(facts: &HostFacts) -> Check {
    const FEATURE: &str = "TLS probes";
    if !facts.holds(CAP_SYS_ADMIN) && !facts.at_least(6, 6) {
        let reason = "CAP_SYS_ADMIN is missing, which uprobes need before Linux 6.6 (uprobe_multi)";
        return Check::new(FEATURE, State::Unsupported, reason).remedy("grant cap_sys_admin");
    }
    if !facts.missing(&[CAP_DAC_READ_SEARCH]).is_empty() {
        let reason = "CAP_DAC_READ_SEARCH is missing: libraries in other users' private folders \
                      stay opaque";
        return Check::new(FEATURE, State::Degraded, reason).remedy("grant cap_dac_read_search");
    }
    if !facts.holds(CAP_SYS_ADMIN) && !facts.holds(CAP_CHECKPOINT_RESTORE) {
        let reason = "CAP_CHECKPOINT_RESTORE is missing: libraries that were deleted or replaced \
                      since a process mapped them stay opaque";
        return Check::new(FEATURE, State::Degraded, reason).remedy("grant cap_checkpoint_restore");
    }
    Check::ok(FEATURE, "libssl.so.3 and libssl.so.1.1 can be opened")
}

fn inspect_processes(facts: &HostFacts) -> Check {
    if facts.holds(CAP_SYS_PTRACE) {
        return Check::ok("inspect processes", "of all users");
    }
    let reason = "CAP_SYS_PTRACE is missing: processes of other users cannot be recognised";
    Check::new("inspect processes", State::Degraded, reason).remedy("grant cap_sys_ptrace")
}

fn priority(facts: &HostFacts) -> Check {
    if facts.holds(CAP_SYS_NICE) {
        return Check::ok("priority", "above what it watches");
    }
    let reason = "CAP_SYS_NICE is missing: where processors are short, records are lost sooner";
    Check::new("priority", State::Degraded, reason).remedy("grant cap_sys_nice")
}

fn process_ids(facts: &HostFacts) -> Check {
    match facts.initial_pid_namespace {
        Some(false) => {
            let reason = "the agent runs in a pid namespace of its own: it sees the processes that \
                          are in just this one";
            Check::new("process ids", State::Degraded, reason)
                .remedy("to see the host's: hostPID: true in Kubernetes, --pid=host elsewhere")
        }
        Some(true) => Check::ok("process ids", "the host's"),
        None => Check::new("process ids", State::Degraded, "/proc/self/ns/pid cannot be read")
            .remedy("mount /proc"),
    }
}

fn control_groups(facts: &HostFacts) -> Check {
    match facts.cgroup {
        CgroupVersion::Unified => Check::ok("control groups", "version 2"),
        CgroupVersion::Hybrid => Check::ok("control groups", "versions 1 and 2"),
        CgroupVersion::Legacy => Check::ok("control groups", "version 1"),
        CgroupVersion::Absent => {
            let reason = "/sys/fs/cgroup is empty: --cgroup selects nothing";
            Check::new("control groups", State::Degraded, reason)
                .remedy("mount the host's /sys/fs/cgroup")
        }
    }
}

/// `recursion_misses` of a program came with 5.12.
fn missed_runs(facts: &HostFacts) -> Option<Check> {
    (facts.at_least(5, 8) && !facts.at_least(5, 12)).then(|| {
        let reason = "before Linux 5.12 the kernel does not count the runs that it leaves out: \
                      what they would have seen is missing from the books";
        Check::new("missed runs", State::Unsupported, reason).remedy("use Linux 5.12 or later")
    })
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK; later against the memory control group.
fn memlock(facts: &HostFacts) -> Option<Check> {
    const NEEDED: u64 = 64 << 20;
    let limit = facts.memlock?;
    if facts.at_least(5, 11) {
        return None;
    }
    if limit >= NEEDED || facts.holds(CAP_SYS_RESOURCE) {
        return Some(Check::ok("locked memory", "enough"));
    }
    let reason = format!("{limit} bytes may be locked, {NEEDED} are needed before Linux 5.11");
    Some(Check::new("locked memory", State::Failed, reason).remedy("ulimit -l unlimited"))
}

fn jit(facts: &HostFacts) -> Option<Check> {
    let off = facts.jit == Some(false);
    off.then(|| {
        Check::new("JIT", State::Degraded, "off: programs are interpreted and cost far more")
            .remedy("sysctl net.core.bpf_jit_enable=1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(capabilities: &[u32]) -> Option<u64> {
        Some(capabilities.iter().map(|bit| 1_u64 << bit).sum())
    }

    fn good() -> HostFacts {
        HostFacts {
            release: "6.12.1-amd64".into(),
            version: Some((6, 12)),
            btf: true,
            capabilities: Some(u64::MAX),
            lockdown: Lockdown::None,
            tracefs: true,
            memlock: Some(8 << 20),
            cgroup: CgroupVersion::Unified,
            initial_pid_namespace: Some(true),
            initial_user_namespace: Some(true),
            jit: Some(true),
        }
    }

    fn not_ok(facts: &HostFacts) -> Vec<(&'static str, State, String)> {
        checks(facts)
            .into_iter()
            .filter(|check| check.state != State::Ok)
            .inspect(|check| assert!(check.remedy.is_some(), "no remedy: {check:?}"))
            .map(|check| (check.feature, check.state, check.reason))
            .collect()
    }

    #[test]
    fn a_good_host_has_nothing_to_complain_about() {
        assert_eq!(not_ok(&good()), []);
    }

    #[test]
    fn each_fact_that_is_wrong_has_its_own_line() {
        let old = HostFacts { version: Some((5, 4)), memlock: Some(u64::MAX), ..good() };
        let rows: [(HostFacts, &str, State); 11] = [
            (old, "kernel", State::Failed),
            (HostFacts { btf: false, ..good() }, "BTF", State::Failed),
            (
                HostFacts { lockdown: Lockdown::Confidentiality, ..good() },
                "lockdown",
                State::Failed,
            ),
            (
                HostFacts { initial_pid_namespace: Some(false), ..good() },
                "process ids",
                State::Degraded,
            ),
            (
                HostFacts { initial_user_namespace: Some(false), ..good() },
                "load programs",
                State::Failed,
            ),
            (
                HostFacts { cgroup: CgroupVersion::Absent, ..good() },
                "control groups",
                State::Degraded,
            ),
            (HostFacts { jit: Some(false), ..good() }, "JIT", State::Degraded),
            (
                HostFacts { capabilities: Some(!(1 << CAP_SYS_PTRACE)), ..good() },
                "inspect processes",
                State::Degraded,
            ),
            (
                HostFacts { capabilities: Some(!(1 << CAP_DAC_READ_SEARCH)), ..good() },
                "TLS probes",
                State::Degraded,
            ),
            (
                HostFacts {
                    capabilities: Some(!(1 << CAP_CHECKPOINT_RESTORE | 1 << CAP_SYS_ADMIN)),
                    ..good()
                },
                "TLS probes",
                State::Degraded,
            ),
            (
                HostFacts { capabilities: Some(!(1 << CAP_SYS_NICE)), ..good() },
                "priority",
                State::Degraded,
            ),
        ];
        for (facts, feature, state) in rows {
            let found = not_ok(&facts);
            let [(found_feature, found_state, _)] = &*found else { panic!("{feature}: {found:?}") };
            assert_eq!((*found_feature, *found_state), (feature, state));
        }
    }

    #[test]
    fn missing_capabilities_are_named_in_one_sentence() {
        let reason = |capabilities| {
            let found = not_ok(&HostFacts { capabilities, ..good() });
            found.into_iter().find(|(feature, ..)| *feature == "load programs").map(|row| row.2)
        };
        let both = "CAP_BPF and CAP_PERFMON are missing";
        assert_eq!(reason(bits(&[])).as_deref(), Some(both));
        assert_eq!(reason(None).as_deref(), Some(both));
        assert_eq!(reason(bits(&[CAP_BPF])).as_deref(), Some("CAP_PERFMON is missing"));
        assert_eq!(reason(bits(&[CAP_BPF, CAP_PERFMON])), None);
        assert_eq!(reason(bits(&[CAP_SYS_ADMIN])), None);
    }

    #[test]
    fn uprobes_without_sys_admin_need_linux_6_6() {
        let capabilities = bits(&[
            CAP_BPF,
            CAP_PERFMON,
            CAP_SYS_PTRACE,
            CAP_DAC_READ_SEARCH,
            CAP_CHECKPOINT_RESTORE,
            CAP_SYS_NICE,
        ]);
        let new = HostFacts { capabilities, ..good() };
        assert_eq!(not_ok(&new), []);
        let old = HostFacts { version: Some((6, 1)), ..new };
        let [(feature, state, _)] = &*not_ok(&old) else { panic!("{:?}", not_ok(&old)) };
        assert_eq!((*feature, *state), ("TLS probes", State::Unsupported));
    }

    #[test]
    fn locked_memory_matters_before_5_11_only() {
        let limited = HostFacts { capabilities: bits(&[CAP_SYS_ADMIN]), ..good() };
        let has_line = |version| {
            let facts = HostFacts { version: Some(version), ..limited.clone() };
            not_ok(&facts).iter().any(|(feature, ..)| *feature == "locked memory")
        };
        assert!(has_line((5, 10)));
        assert!(!has_line((5, 11)));
    }

    #[test]
    fn reads_releases_and_lockdown_states() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert_eq!(lockdown(Some("none [integrity] confidentiality")), Lockdown::Integrity);
        assert_eq!(lockdown(Some("[none] integrity confidentiality")), Lockdown::None);
        assert_eq!(lockdown(None), Lockdown::Unknown);
    }

    #[test]
    fn this_host_can_be_probed() {
        let facts = HostFacts::probe();
        assert!(facts.version.is_some() && facts.capabilities.is_some(), "{facts:?}");
        assert!(!checks(&facts).is_empty());
    }
}
