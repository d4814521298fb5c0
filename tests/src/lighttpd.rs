//! lighttpd in a folder of its own, with TLS by GnuTLS and an access log.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::process::{Running, free_port, listening};

/// `@ROOT@`, `@PORT@` and `@CERTIFICATE@` are its folder, its port and the folder of its certificate.
const CONFIGURATION: &str = r#"
server.modules = ("mod_gnutls", "mod_accesslog")
server.document-root = "@ROOT@/files"
server.bind = "127.0.0.1"
server.port = @PORT@
ssl.engine = "enable"
ssl.privkey = "@CERTIFICATE@/key.pem"
ssl.pemfile = "@CERTIFICATE@/cert.pem"
accesslog.filename = "@ROOT@/access.log"
accesslog.format = "%m %U %s"
server.errorlog = "@ROOT@/error.log"
"#;

pub struct Lighttpd {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Lighttpd {
    /// Returns when it listens; it has a file `/small` of 5 bytes and one `/big` of 3,000,000.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(certificate: &Path) -> Self {
        let folder = TempDir::new().expect("a folder");
        let files = folder.path().join("files");
        fs::create_dir(&files).expect("a folder");
        for (name, size) in [("small", 5), ("big", 3_000_000)] {
            fs::write(files.join(name), vec![b'x'; size]).expect("a file");
        }
        let port = free_port();
        let configuration = CONFIGURATION
            .replace("@ROOT@", &folder.path().display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@CERTIFICATE@", &certificate.display().to_string());
        let file = folder.path().join("lighttpd.conf");
        fs::write(&file, configuration).expect("a file");
        let process = Running::start(Command::new("lighttpd").arg("-D").arg("-f").arg(file));
        listening(port);
        Self { process, port, folder }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn url(&self, target: &str) -> String {
        format!("https://127.0.0.1:{}{target}", self.port)
    }

    /// Ends it when it has answered all; its log, `METHOD PATH STATUS` of each request.
    ///
    /// # Panics
    /// If there is no log.
    #[must_use]
    pub fn quit(mut self) -> Vec<String> {
        self.process.signal(libc::SIGINT);
        self.process.wait();
        let log = fs::read_to_string(self.folder.path().join("access.log")).expect("a log");
        // The connection itself, of which HTTP/2 begins with a line like that of a request.
        log.lines().filter(|line| !line.starts_with("PRI ")).map(str::to_owned).collect()
    }
}
