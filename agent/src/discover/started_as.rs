//! What a program was started as, where that is a link to its executable: `/usr/bin/redis-server` is one to
//! `redis-check-rdb`, `/bin/httpd` one to `busybox`. The kernel tells the executable, the command name tells
//! the link.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// Where links are looked for besides the folder of the executable.
const FOLDERS: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Longest command name that the kernel keeps whole.
const WHOLE_COMM: usize = 14;
/// Links in a row.
const MAX_LINKS: usize = 8;

/// The path that was started, seen from the process. `root` is its root directory and `file` its executable,
/// as the agent reaches them: `/proc/PID/root`, `/proc/PID/exe`.
pub(super) fn started_as(
    exe: &Path,
    comm: &str,
    first_argument: &str,
    root: &Path,
    file: &Path,
) -> Option<PathBuf> {
    let known = exe.file_name()?.to_str()?;
    // A title may stand behind the program's name; the command name is cut where the kernel has no more room.
    let argument = Path::new(first_argument.split([' ', ':']).next().unwrap_or_default());
    let argument_name = argument.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if comm.len() <= WHOLE_COMM { comm } else { argument_name };
    if name.is_empty() || name == known || !name.starts_with(comm) || name.contains('/') {
        return None;
    }
    let of_file = fs::metadata(file).ok()?;
    let is_it = |path: &PathBuf| {
        let found = resolve(root, path).and_then(|found| fs::symlink_metadata(found).ok());
        found.is_some_and(|found| (found.dev(), found.ino()) == (of_file.dev(), of_file.ino()))
    };
    let named = argument.is_absolute().then(|| argument.with_file_name(name));
    let beside = exe.parent().map(|folder| folder.join(name));
    let elsewhere = FOLDERS.into_iter().map(|folder| Path::new(folder).join(name));
    named.into_iter().chain(beside).chain(elsewhere).find(is_it)
}

/// Follows the links that `path` ends in, below `root`; `None` where they leave it.
fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let below = path.strip_prefix("/").ok()?;
        if below.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let here = root.join(below);
        match fs::read_link(&here) {
            Ok(target) => path = path.parent()?.join(target),
            Err(_) => return Some(here),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_to_the_executable_is_what_was_started() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        let real = bin.join("redis-check-rdb");
        fs::write(&real, "").unwrap();
        fs::write(bin.join("other"), "").unwrap();
        symlink("redis-check-rdb", bin.join("redis-server")).unwrap();
        symlink("/usr/bin/redis-server", root.path().join("bin/twice")).unwrap();
        symlink("../../usr/bin/redis-check-rdb", bin.join("outside")).unwrap();
        fs::hard_link(&real, bin.join("a-name-that-is-long")).unwrap();
        let exe = Path::new("/usr/bin/redis-check-rdb");
        for (comm, argument, expected) in [
            ("redis-server", "/usr/bin/redis-server *:6379", Some("/usr/bin/redis-server")),
            ("redis-server", "", Some("/usr/bin/redis-server")),
            ("twice", "twice", Some("/bin/twice")),
            ("a-name-that-is-", "a-name-that-is-long: x", Some("/usr/bin/a-name-that-is-long")),
            ("a-name-that-is-", "something else", None),
            ("redis-check-rdb", "/usr/bin/redis-server", None),
            ("other", "other", None),
            ("worker", "/usr/bin/redis-server", None),
            ("outside", "outside", None),
        ] {
            let found = started_as(exe, comm, argument, root.path(), &real);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{comm} {argument}");
        }
    }
}
