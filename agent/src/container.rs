//! The container and the pod that a control group path speaks of. A pure function of the text of
//! `/proc/PID/cgroup`, of either hierarchy version or of both at once.
//!
//! | path ends in | container | runtime | pod |
//! |---|---|---|---|
//! | `/kubepods/burstable/pod<uid>/<id>` | id | (the API says) | uid |
//! | `…/kubepods-burstable-pod<u_i_d>.slice/cri-containerd-<id>.scope` | id | containerd | uid |
//! | `…/containerd.service/kubepods-pod<u_i_d>.slice:cri-containerd:<id>` | id | containerd | uid |
//! | `…/kubepods-pod<u_i_d>.slice/crio-<id>.scope/container` | id | cri-o | uid |
//! | `/docker/<id>`, `/system.slice/docker-<id>.scope` | id | docker | |
//! | `/libpod_parent/libpod-<id>`, `/machine.slice/libpod-<id>.scope` | id | podman | |
//! | `/machine.slice/systemd-nspawn@<name>.service`, `machine-<name>.scope` | name | systemd-nspawn | |
//!
//! The innermost container counts, but a pod's containers are the ones directly below the pod: those
//! are what its API server knows. An agent in a control group namespace of its own reads paths that
//! begin with `/../`; what it needs is in their ends.

/// Hexadecimal digits of an id that a runtime made up.
const ID_LEN: usize = 64;

/// Whose member a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// What the runtime calls it: 64 hexadecimal digits, or the name of a systemd machine.
    pub id: Option<Box<str>>,
    /// `container.runtime.name`, where the path says it.
    pub runtime: Option<&'static str>,
    pub pod: Option<PodMember>,
}

/// Membership in a Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMember {
    /// As the kubelet has it: of a static pod the hash of its manifest.
    pub uid: Box<str>,
    /// The pod's container, even where another container runs inside of it.
    pub container_id: Option<Box<str>>,
    /// The pod's name for it, where the process's mounts say it.
    pub container_name: Option<Box<str>>,
}

impl Container {
    /// What the text of `/proc/PID/cgroup` says.
    #[must_use]
    pub fn of_cgroup(text: &str) -> Self {
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        // On hybrid hosts some hierarchies are not divided by containers; the line that says most counts.
        let mut best = Self::default();
        for path in paths {
            let found = Self::of_path(path);
            if found.said() > best.said() {
                best = found;
            }
        }
        best
    }

    fn said(&self) -> u8 {
        u8::from(self.id.is_some()) + 2 * u8::from(self.pod.is_some())
    }

    fn of_path(path: &str) -> Self {
        let mut found = Self::default();
        let mut above = "";
        let mut components = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(component) = components.next() {
            if let Some(uid) = pod_uid(component) {
                found.pod = Some(PodMember { uid: uid.into(), ..PodMember::default() });
            }
            if let Some((id, runtime)) = id_of_component(component, above) {
                found.id = Some(id.into());
                found.runtime = runtime;
                if let Some(pod) = &mut found.pod {
                    pod.container_id.get_or_insert_with(|| id.into());
                }
            } else if let Some(name) = machine(component)
                && components.peek() != Some(&"supervisor")
            {
                found.id = Some(name.into());
                found.runtime = Some("systemd-nspawn");
            }
            above = component;
        }
        found
    }
}

/// A container's id and runtime in a component, which lies below the component `above`.
fn id_of_component<'a>(component: &'a str, above: &str) -> Option<(&'a str, Option<&'static str>)> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID_LEN)?)?;
    if !id.bytes().all(is_hex) {
        return None;
    }
    // `docker-`, or the systemd driver's `SLICE:docker:` where systemd itself was not asked.
    let word = match prefix.strip_suffix(['-', ':']) {
        Some(rest) => rest.rsplit(':').next().unwrap_or_default(),
        None if prefix.is_empty() => above,
        None => return None,
    };
    let runtime = match word {
        "cri-containerd" | "nerdctl" | "k8s.io" | "default" => Some("containerd"),
        "crio" => Some("cri-o"),
        "docker" => Some("docker"),
        "libpod" | "libpod-payload" | "libpod_parent" => Some("podman"),
        // The monitors of CRI-O and Podman have their container's id, but run on the host.
        _ if word.contains("conmon") => return None,
        _ => None,
    };
    Some((id, runtime))
}

/// A pod's uid in a component: `pod<uid>` of the cgroupfs driver, `…-pod<uid>.slice` of systemd's, which
/// has `_` for `-`; static pods have 32 digits.
fn pod_uid(component: &str) -> Option<String> {
    let slice = component.split(':').next().unwrap_or(component);
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let at = if name.starts_with("pod") { 0 } else { name.rfind("-pod")? + 1 };
    let uid = &name[at + 3..];
    let hash = uid.len() == 32 && uid.bytes().all(is_hex);
    let uuid = uid.len() == 36
        && uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => is_hex(byte),
        });
    (hash || uuid).then(|| uid.replace('_', "-"))
}

/// The name of a container that systemd-machined knows. Virtual machines have such scopes, too.
fn machine(component: &str) -> Option<String> {
    let name = component
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .or_else(|| component.strip_prefix("machine-")?.strip_suffix(".scope"))?;
    let name = unescape(name);
    let virtual_machine = name.starts_with("qemu-") || name.starts_with("lxc-");
    (!name.is_empty() && !virtual_machine).then_some(name)
}

/// Undoes systemd-escape(1): `\x2d` is `-`.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, escaped)) = rest.split_once("\\x") {
        out.push_str(before);
        match escaped.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &escaped[2..];
            }
            _ => {
                out.push_str("\\x");
                rest = escaped;
            }
        }
    }
    out + rest
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The pod's name for the container whose mounts `mountinfo` (`/proc/PID/mountinfo`) lists: the kubelet
/// binds a file of its own below `pods/<uid>/containers/<name>/` over `/dev/termination-log` (or
/// wherever the pod wants it) in every container it starts.
#[must_use]
pub(crate) fn container_name<'a>(mountinfo: &'a str, pod_uid: &str) -> Option<&'a str> {
    mountinfo.lines().find_map(|line| {
        let root = line.split(' ').nth(3)?;
        let (_, below) = root.split_once("pods/")?;
        let name = below.strip_prefix(pod_uid)?.strip_prefix("/containers/")?.split('/').next()?;
        (!name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OUTER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "2f6d8c1e-58f3-4c39-9e4a-0f6f3c0a1b2c";
    const SLICE_UID: &str = "2f6d8c1e_58f3_4c39_9e4a_0f6f3c0a1b2c";
    const STATIC: &str = "7d5c94f9ef2d10cd7a2f45b1e8a4c8a3";

    fn text(row: &str) -> String {
        row.replace("ID", ID)
            .replace("OUTER", OUTER)
            .replace("U-U", UID)
            .replace("U_U", SLICE_UID)
            .replace("HASH", STATIC)
    }

    /// Text of `/proc/PID/cgroup`; runtime; pod.
    type Row = (&'static str, Option<&'static str>, Option<&'static str>);

    #[test]
    fn finds_container_runtime_and_pod_in_the_paths_of_every_runtime() {
        let containerd = Some("containerd");
        let (crio, docker, podman) = (Some("cri-o"), Some("docker"), Some("podman"));
        let pod = Some(UID);
        let rows: [Row; 43] = [
            // Kubelet, cgroupfs driver: v2, v1, hybrid with an undivided unified hierarchy.
            ("0::/kubepods/besteffort/podU-U/ID", None, pod),
            ("0::/kubepods/podU-U/ID", None, pod),
            (
                "12:memory:/kubepods/burstable/podU-U/ID\n1:name=systemd:/kubepods/burstable/podU-U/ID\n0::/kubepods/burstable/podU-U/ID",
                None,
                pod,
            ),
            (
                "11:pids:/kubepods/burstable/podU-U/ID\n0::/system.slice/containerd.service",
                None,
                pod,
            ),
            ("0::/\n3:rdma:/\n2:cpu,cpuacct:/kubepods/burstable/podU-U/ID", None, pod),
            ("0::/kubepods/burstable/podHASH/ID", None, Some(STATIC)),
            ("0::/kubepods/burstable/podU-U/crio-ID", crio, pod),
            ("0::/kubepods/besteffort/podU-U/ID/init.scope", None, pod),
            ("0::/kubepods/besteffort/podU-U/ID/system.slice/nginx.service", None, pod),
            // Kubelet, systemd driver.
            ("0::/kubepods.slice/kubepods-podU_U.slice/cri-containerd-ID.scope", containerd, pod),
            (
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_U.slice/cri-containerd-ID.scope",
                containerd,
                pod,
            ),
            (
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_U.slice/crio-ID.scope",
                crio,
                pod,
            ),
            (
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_U.slice/crio-ID.scope/container",
                crio,
                pod,
            ),
            (
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/cri-containerd-ID.scope",
                containerd,
                Some(STATIC),
            ),
            (
                "4:memory:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_U.slice/docker-ID.scope",
                docker,
                pod,
            ),
            (
                "1:name=systemd:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_U.slice/crio-ID.scope\n0::/",
                crio,
                pod,
            ),
            // containerd that manages slices without systemd.
            (
                "0::/system.slice/containerd.service/kubepods-burstable-podU_U.slice:cri-containerd:ID",
                containerd,
                pod,
            ),
            (
                "0::/system.slice/containerd.service/kubepods-podU_U.slice:cri-containerd:ID",
                containerd,
                pod,
            ),
            ("5:cpuset:/kubepods-besteffort-podU_U.slice:cri-containerd:ID", containerd, pod),
            // Nodes that are containers themselves: kind, k3d, minikube.
            (
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU_U.slice/cri-containerd-ID.scope",
                containerd,
                pod,
            ),
            (
                "0::/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_U.slice/cri-containerd-ID.scope",
                containerd,
                pod,
            ),
            ("0::/docker/OUTER/kubelet/kubepods/besteffort/podU-U/ID", None, pod),
            ("10:devices:/docker/OUTER/kubepods/burstable/podU-U/ID", None, pod),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-OUTER.scope/container/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_U.slice/crio-ID.scope",
                crio,
                pod,
            ),
            // Seen from another control group namespace.
            ("0::/../../podU-U/ID", None, pod),
            ("0::/../../../burstable/podU-U/ID", None, pod),
            ("0::/../../kubepods-burstable-podU_U.slice/cri-containerd-ID.scope", containerd, pod),
            ("0::/../cri-containerd-ID.scope", containerd, None),
            ("0::/../ID", None, None),
            // Docker.
            ("4:pids:/docker/ID", docker, None),
            ("0::/docker/ID", docker, None),
            ("0::/system.slice/docker-ID.scope", docker, None),
            ("0::/system.slice/docker-ID.scope/init", docker, None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
                docker,
                None,
            ),
            ("0::/docker/OUTER/docker/ID", docker, None),
            ("0::/system.slice:docker:ID", docker, None),
            // Podman, with and without root.
            ("0::/libpod_parent/libpod-ID", podman, None),
            ("0::/machine.slice/libpod-ID.scope/container", podman, None),
            ("0::/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope", podman, None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
                podman,
                None,
            ),
            ("0::/system.slice/shop.service/libpod-payload-ID", podman, None),
            // containerd's own tools.
            ("0::/default/ID", containerd, None),
            ("0::/system.slice/nerdctl-ID.scope", containerd, None),
        ];
        for (row, runtime, pod) in rows {
            let found = Container::of_cgroup(&text(row));
            assert_eq!(found.id.as_deref(), Some(ID), "{row}");
            assert_eq!(found.runtime, runtime, "{row}");
            assert_eq!(found.pod.as_ref().map(|pod| &*pod.uid), pod, "{row}");
            if let Some(pod) = found.pod {
                assert_eq!(pod.container_id.as_deref(), Some(ID), "{row}");
            }
        }
    }

    #[test]
    fn a_container_inside_of_a_pods_container_is_still_the_pods() {
        let found = Container::of_cgroup(&text("0::/kubepods/podU-U/OUTER/docker/ID"));
        assert_eq!(found.id.as_deref(), Some(ID));
        assert_eq!(found.runtime, Some("docker"));
        let pod = found.pod.unwrap();
        assert_eq!((&*pod.uid, pod.container_id.as_deref()), (UID, Some(OUTER)));
    }

    #[test]
    fn systemds_machines_are_known_by_name() {
        let rows = [
            ("0::/machine.slice/systemd-nspawn@web.service/payload/system.slice/x.service", "web"),
            ("0::/machine.slice/systemd-nspawn@web\\x2d1.service/payload", "web-1"),
            ("1:name=systemd:/machine.slice/machine-web\\x2d1.scope", "web-1"),
            ("0::/machine.slice/machine-web.scope/payload/init.scope", "web"),
        ];
        for (row, name) in rows {
            let found = Container::of_cgroup(row);
            assert_eq!(found.id.as_deref(), Some(name), "{row}");
            assert_eq!(found.runtime, Some("systemd-nspawn"), "{row}");
        }
        let inner = text("0::/machine.slice/systemd-nspawn@web.service/payload/docker/ID");
        assert_eq!(Container::of_cgroup(&inner).id.as_deref(), Some(ID));
    }

    #[test]
    fn host_processes_have_no_container() {
        let rows = [
            "0::/",
            "0::/user.slice/user-1000.slice/session-1.scope",
            "0::/machine.slice/libpod-conmon-ID.scope",
            "0::/system.slice/crio-conmon-ID.scope",
            "0::/machine.slice/systemd-nspawn@web.service/supervisor",
            "0::/machine.slice/machine-qemu\\x2d1\\x2dguest.scope",
            "0::/system.slice/podman.service",
            "0::/system.slice/pod-cleaner.service",
            "",
        ];
        let id_like = [
            format!("0::/system.slice/{}", &ID[1..]),
            format!("0::/system.slice/{}", ID.to_uppercase()),
            format!("0::/system.slice/ü{}", &ID[1..]),
            format!("0::/system.slice/x{ID}"),
        ];
        for row in rows.into_iter().map(text).chain(id_like) {
            assert_eq!(Container::of_cgroup(&row), Container::default(), "{row}");
        }
    }

    #[test]
    fn a_pods_group_without_a_container_is_still_the_pods() {
        let found = Container::of_cgroup(&text("0::/kubepods/burstable/podU-U"));
        assert_eq!(found.id, None);
        assert_eq!(found.pod.map(|pod| pod.uid), Some(UID.into()));
    }

    #[test]
    fn the_kubelets_mounts_tell_the_containers_name() {
        let mounts = format!(
            "630 600 0:91 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a\n\
             650 630 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
             651 631 8:1 /var/lib/kubelet/pods/{UID}/containers/app/1fc0a9b2 /dev/termination-log rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(container_name(&mounts, UID), Some("app"));
        assert_eq!(container_name(&mounts, STATIC), None);
        let own_disk = mounts.replace("/var/lib/kubelet/pods", "/pods");
        assert_eq!(container_name(&own_disk, UID), Some("app"));
        assert_eq!(container_name("x\n1 2 3\n\n", UID), None);
    }
}
