//! A report as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Check, ProcessReport, Report, State};

impl Report {
    /// A table, one feature per line, advice below it.
    #[must_use]
    pub fn to_table(&self, colour: bool) -> String {
        let mut out = format!("remora {} on {}\n\n", env!("CARGO_PKG_VERSION"), self.host);
        let states = self.checks.iter().map(|check| check.state.as_str().len()).max();
        let features = self.checks.iter().map(|check| check.feature.len()).max();
        let widths = (states.unwrap_or(0), features.unwrap_or(0));
        for check in &self.checks {
            row(&mut out, check, widths, colour);
        }
        if let Some(process) = &self.process {
            out.push('\n');
            process_table(&mut out, process, colour);
        }
        out
    }

    /// One object: `version`, `host`, `state` (the worst), `checks`, and `process` if one was asked
    /// for.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "host": self.host,
            "state": self.worst(),
            "checks": self.checks,
        });
        if let Some(process) = &self.process {
            let stacks = process.tls.iter().map(|stack| {
                json!({
                    "kind": stack.kind.as_str(),
                    "path": stack.path.to_string_lossy(),
                    "supported": stack.supported,
                    "reason": stack.reason,
                })
            });
            report["process"] = json!({
                "pid": process.pid,
                "exe": process.exe.to_string_lossy(),
                "tls": stacks.collect::<Vec<_>>(),
                "unseen": process.unseen,
            });
        }
        report
    }
}

fn row(out: &mut String, check: &Check, (states, features): (usize, usize), colour: bool) {
    let state = painted(check.state.as_str(), check.state, states, colour);
    let _ = writeln!(out, "{state}  {:features$}  {}", check.feature, check.reason); // to a String
    if let Some(remedy) = &check.remedy {
        let indent = states + features + 4;
        let _ = writeln!(out, "{:indent$}-> {remedy}", "");
    }
}

fn process_table(out: &mut String, process: &ProcessReport, colour: bool) {
    let _ = writeln!(out, "process {} ({})", process.pid, process.exe.display());
    if process.tls.is_empty() {
        out.push_str("no TLS library found: plaintext on its sockets is seen\n");
    }
    for stack in &process.tls {
        let (word, state) =
            if stack.supported { ("seen", State::Ok) } else { ("opaque", State::Degraded) };
        let word = painted(word, state, 6, colour);
        let kind = stack.kind.as_str();
        let _ = writeln!(out, "{word}  {kind:13}  {} ({})", stack.path.display(), stack.reason);
    }
    for unseen in &process.unseen {
        let word = painted("unseen", State::Degraded, 6, colour);
        let _ = writeln!(out, "{word}  {:13}  {}", unseen.what, unseen.reason);
    }
}

/// `text` padded to `width`, in the colour of `state`.
fn painted(text: &str, state: State, width: usize, colour: bool) -> String {
    let padded = format!("{text:width$}");
    let code = match state {
        State::Ok => "32",
        State::Unsupported => "2",
        State::Degraded => "33",
        State::Failed => "31",
    };
    if colour { format!("\x1b[{code}m{padded}\x1b[0m") } else { padded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attach::stacks::{TlsKind, TlsStack},
        doctor::Unseen,
    };

    fn report() -> Report {
        let stack = |kind, path: &str, supported, reason| TlsStack {
            kind,
            path: path.into(),
            supported,
            reason,
        };
        Report {
            host: "Linux 6.1 (x86_64)".into(),
            checks: vec![
                Check::ok("BTF", "present"),
                Check::new("load programs", State::Failed, "CAP_BPF is missing").remedy("use sudo"),
            ],
            process: Some(ProcessReport {
                pid: 7,
                exe: "/srv/shop".into(),
                tls: vec![
                    stack(TlsKind::OpenSsl, "/lib/libssl.so.3", true, "read"),
                    stack(TlsKind::Rustls, "/srv/shop", false, "not read"),
                ],
                unseen: vec![Unseen { what: "io_uring", reason: "not seen" }],
            }),
        }
    }

    #[test]
    fn the_table_aligns_and_puts_the_remedy_below() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "\
remora {version} on Linux 6.1 (x86_64)

ok      BTF            present
failed  load programs  CAP_BPF is missing
                       -> use sudo

process 7 (/srv/shop)
seen    openssl        /lib/libssl.so.3 (read)
opaque  rustls         /srv/shop (not read)
unseen  io_uring       not seen
"
        );
        assert_eq!(report().to_table(false), expected);
        assert!(report().to_table(true).contains("\x1b[31mfailed\x1b[0m"));
    }

    #[test]
    fn json_says_the_same() {
        let json = report().to_json();
        assert_eq!(json["state"], "failed");
        assert_eq!(json["checks"][0]["feature"], "BTF");
        assert_eq!(json["checks"][0].get("remedy"), None);
        assert_eq!(json["checks"][1]["remedy"], "use sudo");
        assert_eq!(json["process"]["tls"][1]["supported"], false);
        assert_eq!(json["process"]["unseen"][0]["what"], "io_uring");
    }

    #[test]
    fn only_failures_change_the_exit_code() {
        let mut report = report();
        assert_eq!(report.exit_code(), 1);
        report.checks[1].state = State::Unsupported;
        assert_eq!(report.exit_code(), 0);
    }
}
