//! What a running agent says of itself at `/status`, and `remora status`, which prints it for people.

mod counts;
mod tail;

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::{counts::Counts, tail::TailSampling};

/// Where `remora status` asks if nothing else is said.
pub const DEFAULT_ADDR: &str = "127.0.0.1:9465";
/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Targets that are listed; all are counted.
pub const MAX_TARGETS: usize = 1000;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not everything is attached.
    Starting,
    /// Attached, and every process that ran already was looked at.
    Ready,
    /// Detaching, sending what is left.
    Stopping,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub phase: Phase,
    pub uptime_seconds: u64,
    pub configuration: Configuration,
    /// Empty while it starts.
    pub features: Vec<Feature>,
    pub targets: Targets,
    pub blind_spots: Vec<BlindSpot>,
    pub accounting: Accounting,
}

/// Which configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub file: Option<String>,
    /// How often another one came into force, and how often one was refused.
    pub reloaded: u64,
    pub refused: u64,
    /// What was wrong with the last one that was read.
    pub mistakes: Option<String>,
    /// Keys that have changed and need a restart.
    pub waiting_for_restart: Vec<String>,
}

/// A feature with its health, as `remora doctor` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    /// ok, unsupported, degraded or failed.
    pub health: String,
    pub reason: String,
}

/// Selected processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    pub count: usize,
    /// The first of them, by process id.
    pub processes: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub pid: u32,
    /// In its own namespace.
    pub ns_pid: u32,
    pub exe: String,
    pub service: String,
}

/// A selected process whose TLS is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindSpot {
    pub pid: u32,
    pub libraries: Vec<String>,
}

/// The books so far: `ended = spans + sampled_out + filtered + waiting + lost`, and each export `accepted = exported + dropped +
/// queued`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    pub records: u64,
    pub records_parsed: u64,
    pub records_ignored: Counts,
    pub kernel_drops: Counts,
    pub bytes_seen: u64,
    pub bytes_missed: u64,
    pub connections: usize,
    pub requests: Requests,
    /// Where there is tail sampling.
    #[serde(default)]
    pub tail_sampling: Option<TailSampling>,
    /// What was forgotten, cut or not measured to keep within bounds.
    pub left_out: Counts,
    pub exports: Vec<Export>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub ended: u64,
    pub spans: u64,
    pub sampled_out: u64,
    /// By filters, of spans.
    #[serde(default)]
    pub filtered: u64,
    /// For tail sampling to decide; none at the end.
    #[serde(default)]
    pub waiting: u64,
    /// By filters, of metrics: of all that were not lost.
    #[serde(default)]
    pub unmeasured: u64,
    pub lost: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    pub signal: String,
    pub destination: String,
    pub accepted: u64,
    pub exported: u64,
    pub dropped: Counts,
    pub queued: u64,
    pub failed_attempts: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) =
            (self.uptime_seconds / 3600, self.uptime_seconds / 60 % 60, self.uptime_seconds % 60);
        let phase = self.phase.as_str();
        writeln!(
            f,
            "remora {}, process {}: {phase} for {hours}:{minutes:02}:{seconds:02}",
            self.version, self.pid
        )?;
        self.configuration.fmt(f)?;
        writeln!(f, "\nfeatures")?;
        for Feature { name, health, reason } in &self.features {
            writeln!(f, "  {health:11}  {name:24}  {reason}")?;
        }
        writeln!(f, "\ntargets: {}", self.targets.count)?;
        for Target { pid, service, exe, .. } in &self.targets.processes {
            writeln!(f, "  {pid:>8}  {service:24}  {exe}")?;
        }
        let unlisted = self.targets.count.saturating_sub(self.targets.processes.len());
        if unlisted > 0 {
            writeln!(f, "  and {unlisted} more")?;
        }
        if !self.blind_spots.is_empty() {
            writeln!(f, "\nblind spots: TLS that is not seen")?;
        }
        for BlindSpot { pid, libraries } in &self.blind_spots {
            writeln!(f, "  {pid:>8}  {}", libraries.join(", "))?;
        }
        writeln!(f, "\naccounting\n  connections open {}", self.accounting.connections)?;
        self.accounting.lines().iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("none");
        writeln!(
            f,
            "configuration file: {file}, reloaded {}, refused {}",
            self.reloaded, self.refused
        )?;
        if let Some(mistakes) = &self.mistakes {
            writeln!(f, "  refused last: {}", mistakes.replace('\n', "\n  "))?;
        }
        if !self.waiting_for_restart.is_empty() {
            writeln!(
                f,
                "  changed, but in force only after a restart: {}",
                self.waiting_for_restart.join(", ")
            )?;
        }
        Ok(())
    }
}

impl Accounting {
    /// A line each for records, bytes, requests and exports; every sum in them comes out.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let bytes = self.bytes_seen + self.bytes_missed;
        let Requests { ended, spans, sampled_out, filtered, waiting, unmeasured, lost } =
            &self.requests;
        let some = |name: &str, count: u64| {
            if count > 0 { format!(" + {name} {count}") } else { String::new() }
        };
        let (by_filters, waiting) = (some("filtered", *filtered), some("waiting", *waiting));
        let mut lines = vec![
            format!(
                "records {} = parsed {}{}; dropped in the kernel{}{}",
                self.records,
                self.records_parsed,
                self.records_ignored,
                if self.kernel_drops.sum() == 0 { " 0" } else { "" },
                self.kernel_drops
            ),
            format!("bytes {bytes} = seen {} + missed {}", self.bytes_seen, self.bytes_missed),
            format!(
                "requests {ended} = spans {spans} + sampled_out {sampled_out}{by_filters}{waiting} + lost {}{lost}",
                lost.sum()
            ),
        ];
        if *unmeasured > 0 {
            let measured = ended - lost.sum() - unmeasured;
            lines.push(format!("metrics: measured {measured}, filtered {unmeasured}"));
        }
        lines.extend(self.tail_sampling.as_ref().map(TailSampling::line));
        if self.left_out.sum() > 0 {
            lines.push(format!("left out{}", self.left_out));
        }
        for export in &self.exports {
            let Export { signal, destination, accepted, exported, dropped, queued, .. } = export;
            let queued = some("queued", *queued);
            lines.push(format!(
                "{signal} to {destination}: accepted {accepted} = exported {exported}{queued} + \
                 dropped {}{dropped}",
                dropped.sum()
            ));
        }
        lines
    }
}

/// Why there is no [`Status`].
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("no agent answers at {addr}: is one running with --listen {addr}?")]
    Unreachable {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("what answers at {addr} is no agent: {what}")]
    NotAnAgent { addr: SocketAddr, what: String },
}

/// Asks the agent at `addr`.
///
/// # Errors
/// Nobody answers there, or somebody else.
pub fn ask(addr: SocketAddr) -> Result<Status, StatusError> {
    let answer = get(addr).map_err(|source| StatusError::Unreachable { addr, source })?;
    let not_an_agent = |what: String| StatusError::NotAnAgent { addr, what };
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| not_an_agent("no HTTP".into()))?;
    let line = head.lines().next().unwrap_or_default();
    if !line.starts_with("HTTP/1.1 200") {
        return Err(not_an_agent(format!("it says `{line}`")));
    }
    serde_json::from_str(body).map_err(|error| not_an_agent(error.to_string()))
}

fn get(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // In one piece: who answers before it has read all of it resets the connection.
    let request = format!("GET /status HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let counts = |name: &str, count| [(name, count), ("none", 0)].into_iter().collect();
        Status {
            version: "1.2.3".into(),
            pid: 7,
            phase: Phase::Ready,
            uptime_seconds: 3723,
            configuration: Configuration {
                file: Some("/etc/remora.yaml".into()),
                reloaded: 2,
                refused: 1,
                mistakes: Some("2 mistakes\n  a".into()),
                waiting_for_restart: vec!["limits.queue".into()],
            },
            features: vec![Feature {
                name: "TLS".into(),
                health: "degraded".into(),
                reason: "slow".into(),
            }],
            targets: Targets {
                count: 3,
                processes: vec![Target {
                    pid: 42,
                    ns_pid: 1,
                    exe: "/srv/shop".into(),
                    service: "shop".into(),
                }],
            },
            blind_spots: vec![BlindSpot { pid: 42, libraries: vec!["Go".into(), "rustls".into()] }],
            accounting: Accounting {
                records: 10,
                records_parsed: 8,
                records_ignored: counts("skipped", 2),
                kernel_drops: counts("ring_full", 4),
                bytes_seen: 100,
                bytes_missed: 5,
                connections: 6,
                requests: Requests {
                    ended: 12,
                    spans: 5,
                    sampled_out: 3,
                    filtered: 2,
                    waiting: 1,
                    unmeasured: 4,
                    lost: counts("gap", 1),
                },
                tail_sampling: Some(TailSampling {
                    sampled: counts("errors", 3),
                    dropped: counts("probes", 1),
                    not_sampled: 2,
                    waiting: 1,
                    early: counts("memory", 1),
                    late_spans: counts("sampled", 2),
                }),
                left_out: counts("heads_cut", 3),
                exports: vec![Export {
                    signal: "traces".into(),
                    destination: "otlp".into(),
                    accepted: 5,
                    exported: 2,
                    dropped: counts("queue_full", 1),
                    queued: 2,
                    failed_attempts: 1,
                }],
            },
        }
    }

    #[test]
    fn people_read_all_of_it() {
        let expected = "\
remora 1.2.3, process 7: ready for 1:02:03
configuration file: /etc/remora.yaml, reloaded 2, refused 1
  refused last: 2 mistakes
    a
  changed, but in force only after a restart: limits.queue

features
  degraded     TLS                       slow

targets: 3
        42  shop                      /srv/shop
  and 2 more

blind spots: TLS that is not seen
        42  Go, rustls

accounting
  connections open 6
  records 10 = parsed 8 skipped=2; dropped in the kernel ring_full=4
  bytes 105 = seen 100 + missed 5
  requests 12 = spans 5 + sampled_out 3 + filtered 2 + waiting 1 + lost 1 gap=1
  metrics: measured 7, filtered 4
  tail sampling: traces 7 = sampled 3 errors=3 + dropped 1 probes=1 + not_sampled 2 + waiting 1; early 1 memory=1; late spans 2 sampled=2
  left out heads_cut=3
  traces to otlp: accepted 5 = exported 2 + queued 2 + dropped 1 queue_full=1
";
        assert_eq!(status().to_string(), expected);
    }

    #[test]
    fn json_says_the_same() {
        let text = serde_json::to_string(&status()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
    }

    #[test]
    fn who_is_no_agent_is_told_from_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
        });
        let error = ask(addr).unwrap_err();
        assert!(matches!(error, StatusError::NotAnAgent { .. }), "{error}");
        server.join().unwrap();
        assert!(matches!(ask(addr).unwrap_err(), StatusError::Unreachable { .. }));
    }
}
