//! Says when a file has other content, however that came about: written to, replaced by renaming another
//! over it (as editors do), or reached through a symbolic link that leads elsewhere now (as in volumes
//! that Kubernetes makes of ConfigMaps).

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Who writes a file in pieces does so within this.
const QUIET: Duration = Duration::from_millis(200);
/// Looked at this often whatever is told: not every file system tells.
const ANYWAY: Duration = Duration::from_secs(30);
/// Symbolic links that are followed, as the kernel does.
const MAX_LINKS: usize = 40;

/// See the module.
pub(super) struct FileWatch {
    path: PathBuf,
    content: Option<Vec<u8>>,
    /// `None` where the kernel gives none: then only [`ANYWAY`] counts.
    notices: Option<Notices>,
}

/// Waiting for the kernel's notices blocks a thread, which ends with the first one that nobody wants.
struct Notices {
    inotify: Arc<OwnedFd>,
    told: Arc<Notify>,
}

impl Notices {
    fn new() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let told = Arc::new(Notify::new());
        let (fd, listener) = (Arc::clone(&inotify), Arc::downgrade(&told));
        thread::Builder::new().name("remora-config".into()).spawn(move || {
            // What it was does not matter: the content of the file decides.
            let mut buffer = [0_u8; 4096];
            while rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut buffer)).is_ok() {
                let Some(told) = listener.upgrade() else { return };
                told.notify_one();
            }
        })?;
        Ok(Self { inotify, told })
    }
}

impl FileWatch {
    /// Of a file in which `content` was read.
    pub(super) fn new(path: PathBuf, content: Vec<u8>) -> Self {
        let notices = Notices::new()
            .inspect_err(|error| tracing::warn!(%error, "the configuration file is not watched"));
        Self { path, content: Some(content), notices: notices.ok() }
    }

    /// Takes the file as it is now for known.
    pub(super) fn look(&mut self) {
        self.watch_folders();
        self.content = fs::read(&self.path).ok();
    }

    /// Returns when the file has other content than at the last look. While it is away nothing is said: it
    /// may be on its way.
    pub(super) async fn changed(&mut self) {
        loop {
            self.watch_folders();
            let content = fs::read(&self.path).ok();
            if content.is_some() && content != self.content {
                self.content = content;
                return;
            }
            // Whether or not anything was told.
            let _ = timeout(ANYWAY, self.told()).await;
            sleep(QUIET).await;
        }
    }

    /// Returns when something happened in one of the folders.
    async fn told(&self) {
        match &self.notices {
            Some(notices) => notices.told.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Watches every folder in which a name stands that leads to the file. A folder that is watched
    /// already stays so.
    fn watch_folders(&self) {
        let Some(notices) = &self.notices else { return };
        let events = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB;
        for folder in folders(&self.path) {
            if let Err(error) = inotify::add_watch(&notices.inotify, &folder, events) {
                tracing::debug!(%error, folder = %folder.display(), "folder not watched");
            }
        }
    }
}

/// The folders of `path`, and of whatever symbolic links on the way lead to.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut at = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MAX_LINKS {
        // The first link on the way, be it a folder: what stands behind it is reached through it.
        let mut prefixes: Vec<&Path> = at.ancestors().collect();
        prefixes.reverse();
        let link = prefixes.iter().find_map(|prefix| Some((*prefix, fs::read_link(prefix).ok()?)));
        let Some((link, target)) = link else { break };
        let folder = link.parent().unwrap_or(Path::new("/")).to_owned();
        let rest = at.strip_prefix(link).unwrap_or(Path::new("")).to_owned();
        let target = folder.join(target);
        folders.insert(folder);
        at = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
    }
    folders.extend(at.parent().map(Path::to_owned));
    folders
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn notices(watch: &mut FileWatch) {
        timeout(PATIENCE, watch.changed()).await.expect("a change that is noticed");
    }

    #[tokio::test]
    async fn writing_and_renaming_are_noticed_and_touching_is_not() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("remora.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = FileWatch::new(path.clone(), b"a".to_vec());
        fs::write(&path, "b").unwrap();
        notices(&mut watch).await;
        let other = folder.path().join(".remora.yaml.swp");
        fs::write(&other, "c").unwrap();
        fs::rename(&other, &path).unwrap();
        notices(&mut watch).await;
        fs::write(&path, "c").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(timeout(5 * QUIET, watch.changed()).await.is_err(), "the content is the same");
        fs::write(&path, "d").unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_config_map_that_is_swapped_is_noticed_twice() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |name: &str, content: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("remora.yaml"), content).unwrap();
        };
        version("..1", "a");
        symlink("..1", at("..data")).unwrap();
        symlink("..data/remora.yaml", at("remora.yaml")).unwrap();
        let mut watch = FileWatch::new(at("remora.yaml"), b"a".to_vec());
        for (old, new) in [("..1", "..2"), ("..2", "..3")] {
            version(new, new);
            symlink(new, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(old)).unwrap();
            notices(&mut watch).await;
        }
    }

    #[test]
    fn every_folder_on_the_way_counts() {
        let folder = TempDir::new().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir(base.join("real")).unwrap();
        fs::write(base.join("real/file"), "").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("link/file", base.join("file")).unwrap();
        let expected = BTreeSet::from([base.clone(), base.join("real")]);
        assert_eq!(folders(&base.join("file")), expected);
    }
}
