//! The container a control group path speaks of. Runtimes put the container's id, 64 hexadecimal
//! digits, into a path component, with or without a prefix and `.scope`.

/// Id of the innermost container in the text of `/proc/PID/cgroup` (either hierarchy version).
pub(super) fn container_id(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').find_map(id_of_component)
    })
}

fn id_of_component(component: &str) -> Option<&str> {
    const LEN: usize = 64;
    let name = component.strip_suffix(".scope").unwrap_or(component);
    // Prefixes end in `-` (docker-, cri-containerd-, crio-, libpod-) or `:` (the systemd cgroup
    // driver's kubepods-…:cri-containerd:<id>); conmon's group carries its container's id, too.
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(LEN)?)?;
    let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let known = prefix.is_empty() || prefix.ends_with(['-', ':']);
    (hex && known && !prefix.contains("conmon")).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn finds_the_id_in_the_paths_of_every_runtime() {
        let pod = "pod2f6d8c1e-58f3-4c39-9e4a-0f6f3c0a1b2c";
        let rows = [
            format!("0::/kubepods/besteffort/{pod}/{ID}"),
            format!("12:memory:/kubepods/burstable/{pod}/{ID}\n0::/kubepods/burstable/{pod}/{ID}"),
            format!("0::/kubepods.slice/kubepods-{pod}.slice/cri-containerd-{ID}.scope"),
            format!("0::/kubepods.slice/kubepods-{pod}.slice/crio-{ID}.scope/container"),
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("4:pids:/docker/{ID}"),
            format!("0::/libpod_parent/libpod-{ID}"),
            format!("0::/machine.slice/libpod-{ID}.scope/init"),
            format!("0::/system.slice/containerd.service/kubepods-x.slice:cri-containerd:{ID}"),
        ];
        for row in rows {
            assert_eq!(container_id(&row), Some(ID), "{row}");
        }
    }

    #[test]
    fn host_processes_have_no_container() {
        let rows = [
            "0::/".to_owned(),
            "0::/user.slice/user-1000.slice/session-1.scope".to_owned(),
            format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            format!("0::/system.slice/{}", &ID[1..]),
            format!("0::/system.slice/{}", ID.to_uppercase()),
            format!("0::/system.slice/ü{}", &ID[1..]),
            String::new(),
        ];
        for row in rows {
            assert_eq!(container_id(&row), None, "{row}");
        }
    }
}
