//! The agent under test: the real binary, spans in a file.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    process::{PATIENCE, Running},
    spans::{self, Span},
};

/// The binary: named by `REMORA_BIN`, or beside the test program.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("REMORA_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a path");
            test.ancestors().nth(2).expect("target/debug/deps/TEST").join("remora")
        },
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is not there: cargo build -p remora", path.display());
    path
}

/// A running agent.
pub struct Agent {
    process: Running,
    folder: TempDir,
}

/// What an agent has left.
pub struct Done {
    pub spans: Vec<Span>,
    /// What it said on standard error, the books at the end.
    pub log: String,
}

impl Done {
    /// The line of the books about requests: `(all, spans, sampled out, lost)`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn requests(&self) -> [u64; 4] {
        let line = self.log.lines().find(|line| line.starts_with("remora: requests ")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word).unwrap();
            words[at + 1].parse().unwrap()
        };
        [after("requests"), after("spans"), after("sampled_out"), after("lost")]
    }
}

impl Agent {
    /// `remora run` on these processes; returns when it is attached.
    #[must_use]
    pub fn on(pids: &[u32], arguments: &[&str]) -> Self {
        let mut all = Vec::new();
        for pid in pids {
            all.extend(["--pid".to_owned(), pid.to_string()]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self::start("run", &all)
    }

    /// Any command with outputs added; returns when it is attached.
    ///
    /// # Panics
    /// If it does not get that far.
    #[must_use]
    pub fn start(command: &str, arguments: &[String]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut remora = Command::new(binary());
        remora.arg(command).arg("--otlp-file").arg(folder.path().join("spans"));
        remora.args(["--print", "none"]).args(arguments);
        remora.env("NOTIFY_SOCKET", folder.path().join("notify")).stderr(Stdio::from(log));
        for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "RUST_LOG"] {
            remora.env_remove(variable);
        }
        let process = Running::start(&mut remora);
        let mut message = [0; 1024];
        match socket.recv(&mut message) {
            Ok(len) if message[..len].starts_with(b"READY=1") => {}
            other => panic!(
                "not ready: {other:?}\n{}",
                fs::read_to_string(folder.path().join("log")).unwrap_or_default()
            ),
        }
        Self { process, folder }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has said so far.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Ends it as Ctrl-C does.
    #[must_use]
    pub fn stop(self) -> Done {
        // What the traced threads did last is in the ring by now: programs run in their calls.
        std::thread::sleep(Duration::from_millis(50));
        self.process.signal(libc::SIGINT);
        self.ended()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn ended(mut self) -> Done {
        let status = self.process.wait();
        let log = fs::read_to_string(self.folder.path().join("log")).expect("a log");
        assert!(status.success(), "{status}\n{log}");
        let spans = spans::read(&self.folder.path().join("spans"));
        Done { spans, log }
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait();
    }
}
