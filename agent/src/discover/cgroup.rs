//! The members of a control group, from the group's own files: an unselected process's
//! `/proc/PID/cgroup` is not read.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where control groups are mounted by every distribution.
const MOUNT: &str = "/sys/fs/cgroup";

/// Groups walked below one named group; a bound, not a limit anybody should reach.
const MAX_GROUPS: usize = 4096;

/// The folder of a control group given as a path from the mount (`/sys/fs/cgroup/…`) or from the
/// root of its hierarchy (as `/proc/PID/cgroup` and `systemctl status` print it); `None` if there is
/// no such group (yet).
pub(super) fn folder(group: &Path) -> Option<PathBuf> {
    find_folder(Path::new(MOUNT), group)
}

fn find_folder(mount: &Path, group: &Path) -> Option<PathBuf> {
    if group.starts_with(mount) {
        return Some(group.to_owned()).filter(|folder| is_group(folder));
    }
    let relative = group.strip_prefix("/").unwrap_or(group);
    // Unified hierarchy; else one of a hybrid or legacy host's, in the order systemd keeps them.
    ["", "unified", "systemd", "pids", "memory", "cpu,cpuacct", "cpu"]
        .into_iter()
        .map(|hierarchy| mount.join(hierarchy).join(relative))
        .find(|folder| is_group(folder))
}

fn is_group(folder: &Path) -> bool {
    folder.join("cgroup.procs").exists()
}

/// Process ids in the group and all groups below it, as this `/proc` numbers them.
pub(super) fn members(folder: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut walked = 0;
    while let Some(folder) = folders.pop() {
        // A group may vanish at any moment, with its members gone elsewhere; a threaded group
        // (cgroup v2) refuses to be read, its processes are listed above it.
        if let Ok(pids) = fs::read_to_string(folder.join("cgroup.procs")) {
            found.extend(pids.lines().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        walked += 1;
        if walked + folders.len() < MAX_GROUPS
            && let Ok(entries) = fs::read_dir(&folder)
        {
            let below = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(mount: &Path, path: &str, pids: &str) {
        fs::create_dir_all(mount.join(path)).unwrap();
        fs::write(mount.join(path).join("cgroup.procs"), pids).unwrap();
    }

    #[test]
    fn finds_a_group_in_any_hierarchy() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        group(mount, "a.slice/b.service", "");
        group(mount, "systemd/old.slice", "");
        let expected = Some(mount.join("a.slice/b.service"));
        assert_eq!(find_folder(mount, Path::new("/a.slice/b.service")), expected);
        assert_eq!(find_folder(mount, &mount.join("a.slice/b.service")), expected);
        let old = find_folder(mount, Path::new("old.slice"));
        assert_eq!(old, Some(mount.join("systemd/old.slice")));
        assert_eq!(find_folder(mount, Path::new("/missing")), None);
    }

    #[test]
    fn members_of_groups_below_count() {
        let mount = tempfile::tempdir().unwrap();
        group(mount.path(), "a", "1\n2\n");
        group(mount.path(), "a/b", "3\n");
        group(mount.path(), "c", "4\n");
        let mut found = members(&mount.path().join("a"));
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
        assert!(members(&mount.path().join("missing")).is_empty());
    }
}
