//! redis-server with a folder of its own, and what it counts itself.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    database_clients::SECRET,
    process::{Running, free_port, output, patience, until},
    spans::Span,
};

/// How often each command was carried out.
pub type Calls = BTreeMap<String, u64>;

/// What a server counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Commands that were carried out, those inside of scripts among them, of `CONFIG GET` and the like the
    /// first word. What the server does not know it does not count.
    pub calls: Calls,
    /// Errors that were answered, by their first word.
    pub errors: Calls,
}

pub struct Redis {
    process: Running,
    port: u16,
    has_password: bool,
    folder: TempDir,
}

impl Redis {
    /// Returns when it listens, on a port and on a Unix socket; its password is [`SECRET`].
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(true)
    }

    /// One without a password, for programs that can only be told it on their command line.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn open_to_all() -> Self {
        Self::with(false)
    }

    fn with(has_password: bool) -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let root = folder.path().display();
        let config = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {root}/socket\ndir {root}\nsave \"\"\n\
             appendonly no\ndaemonize no\nrequirepass \"{}\"\nlogfile {root}/log\n",
            if has_password { SECRET } else { "" }
        );
        // A password on the command line would be an attribute of the process.
        let file = folder.path().join("redis.conf");
        fs::write(&file, config).expect("a file");
        let mut command = Command::new("redis-server");
        let process = Running::start(command.arg(file).stdin(Stdio::null()));
        let server = Self { process, port, has_password, folder };
        until("redis-server", || UnixStream::connect(server.socket()).is_ok());
        server
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// redis-cli over the port.
    #[must_use]
    pub fn cli(&self) -> Command {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]);
        cli.envs(self.has_password.then_some(("REDISCLI_AUTH", SECRET)));
        cli
    }

    /// Asks it something on a connection of its own over the Unix socket.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.arg("-s").arg(self.socket()).args(words);
        cli.envs(self.has_password.then_some(("REDISCLI_AUTH", SECRET)));
        output(&mut cli)
    }

    /// From here on it counts anew: while no agent watches, so that nothing but what follows is in either count.
    pub fn forget(&self) {
        assert_eq!(self.ask(&["CONFIG", "RESETSTAT"]).trim(), "OK");
    }

    /// What it counted since [`Self::forget`].
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        let text = self.ask(&["INFO", "commandstats", "errorstats"]);
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
            if let Some(name) = name.strip_prefix("errorstat_") {
                counted.errors.insert(name.to_owned(), field(value, "count"));
            } else if let Some(name) = name.strip_prefix("cmdstat_") {
                // Whoever asks has to say the password, and forgetting is counted afterwards.
                let own = match name {
                    "auth" => self.has_password,
                    name => name == "config|resetstat",
                };
                let own = u64::from(own);
                let count = field(value, "calls") - own;
                if count > 0 {
                    let name = name.split('|').next().expect("a word").to_ascii_uppercase();
                    *counted.calls.entry(name).or_default() += count;
                }
            }
        }
        counted
    }

    /// A connection of this process, over the port, for bytes that no library sends.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn wire(&self) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(patience())).expect("a time-out");
        let mut wire = Wire(stream);
        assert_eq!(wire.ask(&["AUTH", SECRET]), "+OK\r\n");
        wire
    }

    /// Ends it in order; afterwards all of its system calls have returned.
    pub fn quit(mut self) {
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}

fn field(value: &str, name: &str) -> u64 {
    let fields = value.split(',').filter_map(|field| field.split_once('='));
    let mut found = fields.filter(|(known, _)| *known == name).map(|(_, number)| number);
    found.next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Bytes to a server, and what it answers.
pub struct Wire(TcpStream);

impl Wire {
    /// # Panics
    /// If the server has gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it reads");
    }

    /// Reads until `done` holds of everything that was read since the call.
    ///
    /// # Panics
    /// If the server goes, or says nothing more.
    pub fn read_until(&mut self, mut done: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while !done(&all) {
            let read = self.0.read(&mut buffer).expect("an answer");
            assert!(read > 0, "it went: {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&buffer[..read]);
        }
        all
    }

    /// Sends a command and reads its answer, of one line.
    pub fn ask(&mut self, words: &[&str]) -> String {
        self.send(&command(words));
        let line = self.read_until(|all| all.ends_with(b"\r\n"));
        String::from_utf8(line).expect("text")
    }

    /// Ends the connection; afterwards the server has, too.
    ///
    /// # Errors
    /// The server ended it first.
    pub fn close(mut self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)?;
        self.0.read_to_end(&mut Vec::new()).map(drop)
    }
}

/// A command as libraries send it.
#[must_use]
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Commands of long batches whose names are not told.
pub const UNTOLD: &str = "(UNTOLD)";

/// How often spans of `kind` say that each command was carried out: a batch counts for what is in it.
///
/// # Panics
/// If a batch has not as many commands as it says.
#[must_use]
pub fn calls(spans: &[Span], kind: u64) -> Calls {
    let mut calls = Calls::new();
    let mut add = |name: &str, count: i64| {
        let first = name.split(' ').next().expect("a word").to_ascii_uppercase();
        if count > 0 {
            *calls.entry(first).or_default() += count as u64;
        }
    };
    for span in spans.iter().filter(|span| span.kind == kind) {
        let operation = span.text("db.operation.name");
        let size = span.int("db.operation.batch.size").unwrap_or(1);
        let (batch, common) = match operation.split_once(' ') {
            Some((batch @ ("PIPELINE" | "MULTI"), common)) => (batch, Some(common)),
            _ if matches!(operation, "PIPELINE" | "MULTI") => (operation, None),
            _ => ("", Some(operation)),
        };
        match common {
            Some(name) => add(name, size),
            None => {
                let all: Vec<&str> = span.text("db.query.text").split("; ").collect();
                all.iter().for_each(|command| add(command, 1));
                let untold = size - all.len() as i64;
                let cut = span.attributes.contains_key("remora.db.query.text.cut");
                assert!(untold == 0 || untold > 0 && cut, "{span:?}");
                add(UNTOLD, untold);
            }
        }
        if batch == "MULTI" {
            add("MULTI", 1);
            add("EXEC", 1);
        }
    }
    calls
}
