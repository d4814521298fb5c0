//! Apache in a folder of its own: one process with threads, an access log, and a proxy of another server.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Running, children, free_port, listening, until};

/// `@KEEP@` is how long an idle connection is kept, `@TO@` where `/echo` is answered.
const CONFIG: &str = r#"
    ServerRoot "@ROOT@"
    DefaultRuntimeDir "@ROOT@"
    PidFile "@ROOT@/pid"
    ErrorLog "@ROOT@/error.log"
    ServerName localhost
    Listen 127.0.0.1:@PORT@
    LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
    LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
    LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
    LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
    User www-data
    Group www-data
    StartServers 1
    ServerLimit 1
    ThreadsPerChild 25
    MaxRequestWorkers 25
    KeepAliveTimeout @KEEP@
    MaxKeepAliveRequests 0
    LogFormat "%m %U%q %>s" oracle
    CustomLog "@ROOT@/access.log" oracle
    DocumentRoot "@ROOT@"
    ProxyPass /echo http://127.0.0.1:@TO@/echo
    <Directory "@ROOT@">
        Require all granted
    </Directory>
"#;

pub struct Apache {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Apache {
    /// `keep` as `KeepAliveTimeout` takes it. `/small` is a file, `/echo` another server's. Returns when it listens and
    /// has its child.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(keep: &str, proxied: u16) -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let root = folder.path().display().to_string();
        let config = CONFIG
            .replace("@ROOT@", &root)
            .replace("@PORT@", &port.to_string())
            .replace("@KEEP@", keep)
            .replace("@TO@", &proxied.to_string());
        let file = folder.path().join("apache.conf");
        fs::write(&file, config).expect("a file");
        fs::write(folder.path().join("small"), "hello").expect("a file");
        // The child reads it as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our folder");
        let mut apache = Command::new("apache2");
        let process = Running::start(apache.arg("-f").arg(file).arg("-DFOREGROUND"));
        listening(port);
        until("the child", || !children(process.pid()).expect("it runs").is_empty());
        Self { process, port, folder }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Parent and child.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.process.family()
    }

    /// The lines of its access log so far: `GET /small 200`.
    ///
    /// # Panics
    /// If there is no log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).expect("a log");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // The parent takes its child along, if it is asked and not killed.
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}
