//! nginx in a folder of its own: one worker, an access log with sizes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    process::{Running, children, free_port, listening, until},
    programs::target,
};

const HTTP: &str = "
    log_format oracle '$request_method $uri $status $content_length $body_bytes_sent';
    access_log @ROOT@/access.log oracle;
    keepalive_requests 1000000000; large_client_header_buffers 8 16k;
    server {
        listen 127.0.0.1:@PORT@;
        location /small { return 200 'hello'; }
        location /nothing { return 204; }
        location /first { return 200 'done'; }
        location /second { return 200 'done'; }
        location /quiet { access_log off; return 200 'hello'; }
        location /load {
            access_log @ROOT@/access.log oracle buffer=64k flush=100ms;
            return 200 'hello';
        }
        location /big { root @ROOT@; }
    }";

pub struct Nginx {
    process: Running,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Returns when it listens and has its worker.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        let big = |folder: &Path| fs::write(folder.join("big"), vec![b'b'; 20_000]);
        Self::with(HTTP, |folder| big(folder).expect("a file"))
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
        Self::with(&config.replace("@TLS@", &tls), |folder| {
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

    /// One that hands everything to the server at port `to` and logs `METHOD TARGET STATUS`, 499 where the client has
    /// given up.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn before(to: u16) -> Self {
        let http = format!(
            "log_format oracle '$request_method $request_uri $status';
             access_log @ROOT@/access.log oracle;
             server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://127.0.0.1:{to}; }} }}"
        );
        Self::with(&http, |_| ())
    }

    /// `http` is what stands in its `http` block; `@ROOT@` and `@PORT@` there are its folder, which
    /// `fill` fills, and its port.
    fn with(http: &str, fill: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let root = folder.path().display().to_string();
        fill(folder.path());
        let config = format!(
            "worker_processes 1; daemon off; pid @ROOT@/pid; error_log @ROOT@/error.log;
             events {{ worker_connections 512; }}
             http {{ client_body_temp_path @ROOT@/body; {http} }}"
        );
        let config = config.replace("@ROOT@", &root).replace("@PORT@", &port.to_string());
        let conf = folder.path().join("nginx.conf");
        fs::write(&conf, config).expect("a file");
        // The worker reads it as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our folder");
        let process = Running::start(Command::new("nginx").arg("-c").arg(conf));
        listening(port);
        until("the worker", || !children(process.pid()).expect("it runs").is_empty());
        Self { process, port, folder }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.port)
    }

    /// Master and worker.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.process.family()
    }

    /// The lines of its access log so far. Those of `/load` are written some time later.
    ///
    /// # Panics
    /// If there is no log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).expect("a log");
        text.lines().map(str::to_owned).collect()
    }

    /// Lets it finish what it has begun, ends it, and returns its whole access log. Afterwards all of
    /// its system calls have returned: whatever watches them has seen them.
    #[must_use]
    pub fn quit(mut self) -> Vec<String> {
        self.process.signal(libc::SIGQUIT);
        self.process.wait();
        self.log()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its worker along, if it is asked and not killed.
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}
