//! Programs that tests start: ended by pid when dropped.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// Long enough for a loaded machine; nothing waits that long when it works.
#[must_use]
pub fn patience() -> Duration {
    patient(Duration::from_secs(30))
}

/// `native`, times `REMORA_TEST_PATIENCE`: an emulated machine takes longer for everything.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn patient(native: Duration) -> Duration {
    std::env::var("REMORA_TEST_PATIENCE")
        .map_or(native, |times| native * times.parse().expect("a whole number"))
}

/// A program that runs.
pub struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// Its number may be another's by now.
    reaped: bool,
}

impl Running {
    /// Starts `command` with its standard output read by us.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::start_unread(command.stdout(Stdio::piped()))
    }

    /// Starts `command` with its standard output where the caller wants it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_unread(command: &mut Command) -> Self {
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout, reaped: false }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output, without the line's end.
    ///
    /// # Panics
    /// If there is none.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("read once").read_line(&mut line).expect("readable");
        assert!(!line.is_empty(), "the program ended without a word");
        line.trim_end().to_owned()
    }

    /// Writes a line to its standard input, which the caller has piped.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    /// Writes `text` to its standard input, which the caller has piped, and closes that.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn give(&mut self, text: &str) {
        let mut stdin = self.child.stdin.take().expect("piped");
        stdin.write_all(text.as_bytes()).expect("the program reads");
    }

    /// The rest of its standard output, when it has ended well.
    ///
    /// # Panics
    /// If it failed.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        self.stdout.take().expect("read once").read_to_string(&mut text).expect("readable");
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "{status}: {text}");
        text
    }

    /// Sends a signal, if it was not seen to end.
    pub fn signal(&self, signal: i32) {
        if !self.reaped {
            // SAFETY: no memory is involved; the child is not reaped yet, so the pid is its own.
            unsafe { libc::kill(self.child.id() as i32, signal) };
        }
    }

    /// Its children, and itself.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn family(&self) -> Vec<u32> {
        let mut pids = children(self.pid()).expect("it runs");
        pids.push(self.pid());
        pids
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// Never: it is a child of ours.
    pub fn has_ended(&mut self) -> bool {
        self.reaped = self.child.try_wait().expect("a child of ours").is_some();
        self.reaped
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the end of the program", || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        self.reaped = true;
        status.expect("just seen")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, looking often.
///
/// # Panics
/// If it takes longer than [`patience`].
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience(), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long something lasts that takes its time: `short` in a usual run, `long` where the variable
/// `REMORA_TEST_LONG` is set.
#[must_use]
pub fn lasting(short: Duration, long: Duration) -> Duration {
    if std::env::var_os("REMORA_TEST_LONG").is_some() { long } else { short }
}

/// A port that is free now.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Waits until somebody listens on `port`.
pub fn listening(port: u16) {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    until("a listener", || TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok());
}

/// What `command` prints, when it ends well.
///
/// # Panics
/// If it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Children of `pid`, from the kernel's own list.
///
/// # Errors
/// If the process is gone.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// When the process `pid` was started, in clock ticks since boot.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The command stands in parentheses and may have spaces; the third field follows it.
    let (_, behind) = stat.rsplit_once(") ").unwrap();
    behind.split(' ').nth(22 - 3).unwrap().parse().unwrap()
}
