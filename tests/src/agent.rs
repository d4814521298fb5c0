//! The agent under test: the real binary, spans in a file.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    books::Books,
    process::{Running, patience, until},
    recording, resident, skip,
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
    /// From its start until it said that it is ready.
    pub ready_after: Duration,
    /// See [`recording::wanted`].
    recording: Option<PathBuf>,
}

/// What an agent has left.
pub struct Done {
    pub status: ExitStatus,
    /// In the order in which they ended.
    pub spans: Vec<Span>,
    /// Lines of metrics, as the file holds them.
    pub metrics: Vec<Value>,
    /// The file itself; empty where only its spans were counted.
    pub file: String,
    pub stdout: String,
    /// What it said on standard error, the books at the end.
    pub log: String,
    /// Most memory that it had at once since it was ready, bytes.
    pub peak: u64,
}

impl Done {
    /// The books, which close.
    #[must_use]
    pub fn books(&self) -> Books {
        Books::read(&self.log)
    }

    /// How many runs of programs the kernel left out. One that preempts itself does so while another thread is put
    /// off in the same program; emulated, where programs take long and the clock does not wait, that happens in
    /// each test.
    ///
    /// # Panics
    /// If it did so on a machine that is not emulated.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        let left_out = self.books().drops.get("missed").copied().unwrap_or(0);
        assert!(left_out == 0 || skip::emulated(), "{}", self.log);
        left_out
    }

    /// The line of the books about requests: `(all, spans, sampled out, lost)`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn requests(&self) -> [u64; 4] {
        books(&self.log, "requests ", ["requests", "spans", "sampled_out", "lost"])
    }

    /// How many requests were lost for this reason.
    ///
    /// # Panics
    /// If there are no books.
    #[must_use]
    pub fn lost(&self, reason: &str) -> u64 {
        let line = self.log.lines().find(|line| line.starts_with("remora: requests ")).unwrap();
        let count = line.split([' ', '=']).skip_while(|&word| word != reason).nth(1);
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    /// The value of a gauge of the agent's own in its last collection, that of `label` if it has several.
    #[must_use]
    pub fn gauge(&self, name: &str, label: &str) -> Option<u64> {
        let points = self.gauges(name);
        let point = points.iter().find(|(labels, _)| labels.contains(label))?;
        Some(point.1)
    }

    /// All values of a gauge of the agent's own in its last collection, with what they are labelled.
    #[must_use]
    pub fn gauges(&self, name: &str) -> Vec<(String, u64)> {
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        for request in self.metrics.iter().rev() {
            let groups = list(request, "resourceMetrics");
            let scopes = groups.iter().flat_map(|group| list(group, "scopeMetrics"));
            let metrics = scopes.flat_map(|scope| list(&scope, "metrics"));
            if let Some(metric) = metrics.into_iter().find(|metric| metric["name"] == name) {
                let points = list(&metric["gauge"], "dataPoints").into_iter();
                let value = |point: Value| {
                    Some((point["attributes"].to_string(), point["asInt"].as_str()?.parse().ok()?))
                };
                return points.filter_map(value).collect();
            }
        }
        Vec::new()
    }

    /// The line of the books about spans that went to `otlp` or `file`: `(accepted, exported, dropped)`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn exported_to(&self, destination: &str) -> [u64; 3] {
        let start = format!("traces to {destination}: ");
        books(&self.log, &start, ["accepted", "exported", "dropped"])
    }
}

/// The numbers behind `words` in the line of the books that starts so.
fn books<const N: usize>(log: &str, start: &str, words: [&str; N]) -> [u64; N] {
    let start = format!("remora: {start}");
    let line = log.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{log}"));
    let said: Vec<&str> = line.split_whitespace().collect();
    words.map(|word| {
        let at = said.iter().position(|&said| said == word).expect("a word of the books");
        said[at + 1].parse().expect("a number")
    })
}

const DETECT_CLOUD: &str = "REMORA_DETECT_CLOUD";

/// The binary with its variables as a test wants them: none of the caller's.
#[must_use]
pub fn command() -> Command {
    let mut remora = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("OTEL_") || name.starts_with("REMORA_") || name == "RUST_LOG" {
            remora.env_remove(name);
        }
    }
    // This may be a rented machine, whose provider is none of a test's business.
    remora.env(DETECT_CLOUD, "off");
    remora
}

/// The binary with `arguments`, started by `wrapper`.
#[must_use]
pub fn under(wrapper: &[&str], arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let plain = command();
    let mut wrapped = Command::new(wrapper[0]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped.args(&wrapper[1..]).arg(plain.get_program()).args(arguments);
    wrapped
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

    /// [`Self::on`] with a configuration file; only one with a section `detection` asks for a cloud.
    ///
    /// # Panics
    /// If it does not get attached.
    #[must_use]
    pub fn configured(pids: &[u32], config: &Value, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("config");
        fs::write(&file, config.to_string()).expect("a file");
        let mut remora = command();
        remora.args(["run", "--otlp-file"]).arg(folder.path().join("spans"));
        remora.arg("--config").arg(file).args(arguments);
        if config.get("detection").is_some() {
            remora.env_remove(DETECT_CLOUD);
        }
        for pid in pids {
            remora.args(["--pid", &pid.to_string()]);
        }
        Self::launch(&mut remora, folder)
    }

    /// Any command, with spans in a file; returns when it is attached.
    ///
    /// # Panics
    /// If it does not get that far.
    #[must_use]
    pub fn start(name: &str, arguments: &[String]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut remora = command();
        remora.arg(name).arg("--otlp-file").arg(folder.path().join("spans"));
        let recorded = arguments.iter().any(|argument| argument == "--record");
        let recording = recording::wanted().filter(|_| !recorded);
        if let Some(recording) = &recording {
            remora.arg("--record").arg(recording);
        }
        remora.args(arguments);
        Self { recording, ..Self::launch(&mut remora, folder) }
    }

    /// [`Self::on`] as what `wrapper` makes of its caller: with fewer privileges.
    ///
    /// # Panics
    /// If it does not get attached.
    #[must_use]
    pub fn under(wrapper: &[&str], pids: &[u32]) -> Self {
        let pids = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
        Self::start_under(wrapper, "run", &pids.collect::<Vec<_>>())
    }

    /// [`Self::start`] as what `wrapper` makes of its caller.
    ///
    /// # Panics
    /// If it does not get that far.
    #[must_use]
    pub fn start_under(wrapper: &[&str], name: &str, arguments: &[String]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("spans").to_str().expect("a name").to_owned();
        let own = [name.to_owned(), "--otlp-file".to_owned(), file];
        Self::launch(&mut under(wrapper, &[&own, arguments].concat()), folder)
    }

    /// A command with just these arguments, as what `wrapper` makes of its caller.
    ///
    /// # Panics
    /// If it does not get attached.
    #[must_use]
    pub fn bare_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self::launch(&mut under(wrapper, arguments), folder)
    }

    /// A command with just these arguments; returns when it is attached.
    ///
    /// # Panics
    /// If it does not get that far.
    #[must_use]
    pub fn bare(arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self::launch(command().args(arguments), folder)
    }

    fn launch(remora: &mut Command, folder: TempDir) -> Self {
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let file = |name| Stdio::from(fs::File::create(folder.path().join(name)).expect("a file"));
        remora.env("NOTIFY_SOCKET", folder.path().join("notify"));
        let start = Instant::now();
        let process = Running::start_unread(remora.stdout(file("stdout")).stderr(file("log")));
        let ready_after = Duration::ZERO;
        let mut agent = Self { process, folder, ready_after, recording: None };
        let mut message = [0; 1024];
        loop {
            match socket.recv(&mut message) {
                Ok(len) if message[..len].starts_with(b"READY=1") => break,
                Err(_) if start.elapsed() < patience() && !agent.process.has_ended() => {}
                other => panic!("not ready: {other:?}\n{}", agent.log()),
            }
        }
        agent.ready_after = start.elapsed();
        resident::forget_peak(agent.pid());
        agent
    }

    /// Most memory that it had at once since it was ready, bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        resident::peak(self.pid())
    }

    /// The file with its spans, as it is now.
    #[must_use]
    pub fn spans(&self) -> PathBuf {
        self.folder.path().join("spans")
    }

    /// Waits for its end; returns how it ended and the most memory that it had.
    fn wait(&mut self) -> (ExitStatus, u64) {
        let mut peak = 0;
        until("the end of the agent", || {
            peak = peak.max(self.peak());
            self.process.has_ended()
        });
        (self.process.wait(), peak)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How many descriptors it has, and how many of them are objects of the kernel's: programs, maps and links.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn holds(&self) -> (usize, usize) {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let names: Vec<_> = descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        (names.len(), names.iter().filter(|name| name.contains("bpf")).count())
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.read("log")
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Ends it as Ctrl-C does. What its targets did last is seen for certain only if they have ended:
    /// a peer may have a thread's bytes before the thread's call returns, which is when it is seen.
    #[must_use]
    pub fn stop(self) -> Done {
        // Long enough for a thread whose answer is there to return from its call, nearly always.
        std::thread::sleep(Duration::from_millis(50));
        self.process.signal(libc::SIGINT);
        self.ended()
    }

    /// As [`Agent::stop`], without reading the spans: `spans` of the result is empty, the number of
    /// spans in the file comes with it. For files of hundreds of megabytes.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn stop_and_count(mut self) -> (Done, u64) {
        self.process.signal(libc::SIGINT);
        let (status, peak) = self.wait();
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        let file = self.folder.path().join("spans");
        let (count, metrics) = spans::count(&file);
        let (spans, file) = (Vec::new(), String::new());
        (Done { status, spans, metrics, file, stdout: self.stdout(), log, peak }, count)
    }

    /// Waits until it ends by itself, well.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn ended(self) -> Done {
        let done = self.ended_anyhow();
        assert!(done.status.success(), "{}\n{}", done.status, done.log);
        done
    }

    /// Waits until it ends by itself.
    #[must_use]
    pub fn ended_anyhow(mut self) -> Done {
        let (status, peak) = self.wait();
        if let Some(raw) = &self.recording {
            recording::keep(raw).expect("a recording");
        }
        let file = self.folder.path().join("spans");
        let (mut spans, metrics) = (spans::read(&file), spans::metrics(&file));
        // Some wait for others that belong to their trace.
        spans.sort_by_key(|span| span.end_ns);
        let text = fs::read_to_string(&file).unwrap_or_default();
        let (stdout, log) = (self.stdout(), self.log());
        Done { status, spans, metrics, file: text, stdout, log, peak }
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait();
    }
}
