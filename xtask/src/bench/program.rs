//! Programs that a measurement starts; whatever happens they end with it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{Scratch, line};

/// For anything that takes milliseconds when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends when dropped.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null());
        command.spawn().map(Self).with_context(|| format!("cannot run {}", line(command)))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its first child, when it has one.
    pub(crate) fn worker(&self) -> Result<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        until("a worker", || {
            let list = fs::read_to_string(&path).unwrap_or_default();
            list.split_whitespace().next().and_then(|pid| pid.parse().ok())
        })
    }

    /// The first line that it prints; its standard output must be piped.
    pub(crate) fn first_line(&mut self) -> Result<String> {
        let stdout = self.0.stdout.take().context("its output is not piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        if !status.context("cannot run kill")?.success() {
            bail!("cannot send SIG{name} to {pid}");
        }
        Ok(())
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let child = &mut self.0;
        until("the end of a program", || child.try_wait().ok().flatten()).map(drop)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // nginx takes its worker along only if it is asked; what does not listen is killed.
        if matches!(self.0.try_wait(), Ok(None)) && self.signal("TERM").is_ok() {
            let start = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && start.elapsed().as_secs() < 5 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ask` has an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("waited in vain for {what}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) fn listening(port: u16) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until("a listener", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        .map(drop)
}

/// A web server with one worker that has nothing to do besides.
pub(crate) struct Nginx {
    _master: Program,
    pub(crate) worker: u32,
    pub(crate) port: u16,
    _folder: Scratch,
}

impl Nginx {
    /// `name` tells its folder from others'.
    pub(crate) fn start(name: &str) -> Result<Self> {
        Self::with(name, "")
    }

    /// One that speaks HTTP/2, without TLS.
    pub(crate) fn http2(name: &str) -> Result<Self> {
        Self::with(name, " http2")
    }

    fn with(name: &str, listen: &str) -> Result<Self> {
        let folder = Scratch::new(name)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::write(folder.path().join("file"), vec![b'f'; 20_000])?;
        let (root, port) = (folder.path().display(), free_port()?);
        let config = format!(
            "worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 512; }}
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
               client_body_temp_path {root}/body;
               server {{ listen 127.0.0.1:{port}{listen};
                 location /small {{ return 200 'hello'; }}
                 location /shop.Orders/ {{ default_type application/grpc; add_trailer grpc-status 0; return 200 'hello'; }}
                 location /file {{ root {root}; }} }} }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let nginx = copied("nginx", folder.path())?;
        let mut command = Command::new(nginx);
        command.args(["-p", &root.to_string(), "-c"]).arg(file).stderr(Stdio::null());
        let master = Program::start(&mut command)?;
        listening(port)?;
        let worker = master.worker()?;
        Ok(Self { _master: master, worker, port, _folder: folder })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// A copy of the program in `folder`: in a guest that is memory, and not a file of the machine outside.
pub(crate) fn copied(program: &str, folder: &Path) -> Result<PathBuf> {
    let found = crate::apt::find(program).with_context(|| format!("there is no {program}"))?;
    let copy = folder.join(program);
    fs::copy(&found, &copy).with_context(|| format!("cannot copy {}", found.display()))?;
    Ok(copy)
}

/// A socket on which a program says that it is ready, as to a service manager.
pub(crate) struct Notify {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Notify {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, path })
    }

    pub(crate) fn ready(&self) -> Result<()> {
        let mut message = [0; 256];
        let len = self.socket.recv(&mut message).context("it does not get ready")?;
        if !message[..len].starts_with(b"READY=1") {
            bail!("it says {:?}", String::from_utf8_lossy(&message[..len]));
        }
        Ok(())
    }
}
