//! nginx in a folder of its own: one worker, and whatever configuration a test wants.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    process::{Running, children, free_port, listening, until},
    programs::target,
};

/// A running nginx; master and worker end together.
pub struct Nginx {
    process: Running,
    pub port: u16,
    folder: TempDir,
}

impl Nginx {
    /// `http` is what stands in its `http` block; `@ROOT@` and `@PORT@` there are its folder and port.
    /// `prepare` fills the folder.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(http: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let root = folder.path().display().to_string();
        prepare(folder.path());
        let config = format!(
            "worker_processes 1; daemon off; pid @ROOT@/pid; error_log @ROOT@/error.log;
             events {{ worker_connections 512; }}
             http {{ client_body_temp_path @ROOT@/body; {http} }}"
        );
        let config = config.replace("@ROOT@", &root).replace("@PORT@", &port.to_string());
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a file");
        // What the worker reads as another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).expect("our folder");
        let process = Running::start(Command::new("nginx").arg("-c").arg(file));
        listening(port);
        let has_worker = || children(process.pid()).is_ok_and(|children| !children.is_empty());
        until("the worker", has_worker);
        Self { process, port, folder }
    }

    /// One that answers as the plan wants it; over TLS if `certificate` is the folder of one.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn of_the_plan(certificate: Option<&Path>) -> Self {
        let config = fs::read_to_string(target("ecosystems/nginx.conf")).expect("our file");
        let tls = certificate.map_or_else(String::new, |folder| {
            let folder = folder.display();
            format!(" ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem")
        });
        Self::start(&config.replace("@TLS@", &tls), |folder| {
            let file = |name: &str, size: usize| {
                let path = folder.join("files").join(name);
                fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
                fs::write(path, vec![b'x'; size]).expect("a file");
            };
            for size in [20_000, 200_000] {
                file(&format!("bytes/{size}"), size);
                file(&format!("chunked/{size}"), size);
            }
            file("empty", 0);
            ["small", "close", "echo"].into_iter().for_each(|name| file(name, 5));
        })
    }

    /// Worker and master.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = children(self.process.pid()).expect("nginx runs");
        pids.push(self.process.pid());
        pids
    }

    /// Where `access_log @ROOT@/access.log` is written to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its worker along, if it is asked and not killed.
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}
