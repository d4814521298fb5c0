//! The agent that is measured: the release build, or the one that is named.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::program::{Notify, Program};
use crate::shell::Scratch;

/// The ways to see system calls, by their names on the command line.
pub(crate) const DOORS: [&str; 5] = ["socket", "fexit", "tp-btf", "raw-tp", "tracepoint"];

pub(crate) struct Agent {
    process: Program,
    folder: Scratch,
    /// From its start until it said so.
    pub(crate) ready_after: Duration,
}

impl Agent {
    /// Returns when it is attached.
    pub(crate) fn start(binary: &std::path::Path, arguments: &[String]) -> Result<Self> {
        let folder = Scratch::new("bench-agent")?;
        let notify = Notify::new(folder.path())?;
        let file = |name: &str| fs::File::create(folder.path().join(name));
        let mut command = Command::new(binary);
        for (name, _) in env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("OTEL_") || known.starts_with("REMORA_") || known == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command.args(arguments).env("NOTIFY_SOCKET", &notify.path);
        command.stdout(file("stdout")?).stderr(Stdio::from(file("log")?));
        let start = Instant::now();
        let process = Program::start(&mut command)?;
        let log = folder.path().join("log");
        notify.ready().with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self { process, folder, ready_after: start.elapsed() })
    }

    /// `remora run` on one process.
    pub(crate) fn on(binary: &std::path::Path, pid: u32, arguments: &[&str]) -> Result<Self> {
        let mut all = vec!["run".to_owned(), "--pid".to_owned(), pid.to_string()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self::start(binary, &all)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }

    /// Ends it as Ctrl-C does; returns how long that took, and its books.
    pub(crate) fn stop(mut self) -> Result<(Duration, Books)> {
        let start = Instant::now();
        self.process.signal("INT")?;
        self.process.wait()?;
        let took = start.elapsed();
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        Ok((took, Books(log)))
    }
}

/// What it says at its end.
pub(crate) struct Books(String);

impl Books {
    /// Of what an agent has written to standard error.
    pub(crate) fn new(log: String) -> Self {
        Self(log)
    }

    /// The number behind the first `word` of the line that begins with `line`; 0 where it does not occur.
    pub(crate) fn count(&self, line: &str, word: &str) -> u64 {
        let start = format!("remora: {line}");
        let line = self.0.lines().find(|found| found.starts_with(&start)).unwrap_or_default();
        let mut words = line.split([' ', '=', ':']).skip_while(|&found| found != word).skip(1);
        words.find_map(|word| word.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.count("requests", "requests")
    }

    /// Records that found no room.
    pub(crate) fn ring_full(&self) -> u64 {
        self.count("records", "ring_full")
    }
}

/// Which doors open on this kernel.
pub(crate) fn open_doors(binary: &std::path::Path) -> Result<Vec<&'static str>> {
    let output = Command::new(binary).args(["doctor", "--json"]).output();
    let output = output.with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // An object a check: the feature, then (in the order of its fields) the state.
    let opens = |door: &&str| {
        let feature = format!("\"door {door}\"");
        text.split('{').any(|check| check.contains(&feature) && check.contains("\"ok\""))
    };
    Ok(DOORS.into_iter().filter(opens).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_books() {
        let books = Books(
            "remora: records 12 = parsed 12; dropped in the kernel ring_full=3\n\
             remora: requests 6 = spans 5 + sampled_out 0 + lost 1 gap=1\n"
                .to_owned(),
        );
        assert_eq!((books.requests(), books.ring_full()), (6, 3));
        assert_eq!(books.count("requests", "spans"), 5);
        assert_eq!(books.count("requests", "nothing"), 0);
    }
}
