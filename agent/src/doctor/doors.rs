//! What the doors into the kernel say, as checks, and what is reduced while the agent runs.

use std::error::Error;

use aya::programs::ProgramError;

use super::{Check, HostFacts, State, host_checks};
use crate::{
    attach::TlsSources,
    bpf::{Door, LinkKind, LoadError, Refusal, Tried, UprobeError},
};

/// One check per door, and one for all of them: a host needs a single one that opens.
#[must_use]
pub fn door_checks(tried: Result<Vec<Tried>, LoadError>) -> Vec<Check> {
    let tried = match tried {
        Ok(tried) => tried,
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::from(error));
            return vec![
                Check::new("kernel programs", State::Failed, reason)
                    .remedy("run as root, or with CAP_BPF and CAP_PERFMON"),
            ];
        }
    };
    let mut checks = vec![match tried.iter().find(|(_, result)| result.is_ok()) {
        Some((door, _)) => {
            Check::ok("kernel programs", format!("load and attach by {}", door.as_str()))
        }
        None => Check::new("kernel programs", State::Failed, "the kernel refused every door"),
    }];
    for (door, result) in tried {
        checks.push(match result {
            Ok(()) => Check::ok(feature(door), "opens"),
            Err(error) => refused(door, &error),
        });
    }
    checks
}

const fn feature(door: Door) -> &'static str {
    match door {
        Door::Socket => "door socket",
        Door::Fexit => "door fexit",
        Door::SysExitBtf => "door tp-btf",
        Door::SysExitRaw => "door raw-tp",
        Door::Tracepoint => "door tracepoint",
    }
}

fn refused(door: Door, error: &ProgramError) -> Check {
    let reason = match error {
        // Without the verifier's words, which are for those who write programs.
        ProgramError::LoadError { io_error, .. } => format!("the program is refused: {io_error}"),
        error => first_line(error),
    };
    Check::new(feature(door), State::Unsupported, reason).remedy(remedy(door))
}

/// An error with its causes; the kernel's verifier appends its log.
fn first_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// How the functions of TLS libraries are probed.
#[must_use]
pub fn probe_check(tried: Result<LinkKind, &UprobeError>) -> Check {
    const FEATURE: &str = "TLS links";
    match tried {
        Ok(LinkKind::Multi) => Check::ok(FEATURE, "one for all points of a library"),
        Ok(LinkKind::Perf) => {
            let reason = "a perf event for each point, because uprobe_multi came with Linux 6.6: \
                          attaching and detaching take a tenth of a second each";
            Check::new(FEATURE, State::Degraded, reason).remedy("none needed: only time is lost")
        }
        Err(error @ UprobeError::Unsupported(_)) => {
            Check::new(FEATURE, State::Unsupported, first_line(error))
                .remedy("a kernel with CONFIG_UPROBE_EVENTS=y")
        }
        Err(error) => Check::new(FEATURE, State::Failed, first_line(error))
            .remedy("report it: this should work"),
    }
}

/// What a running agent lacks on this host.
#[must_use]
pub fn shortfalls(
    facts: &HostFacts,
    refusals: &[Refusal],
    tls: &Result<TlsSources, UprobeError>,
) -> Vec<Check> {
    let mut checks = host_checks(facts);
    checks.extend(refusals.iter().map(|refusal| refused(refusal.door, &refusal.error)));
    checks.push(probe_check(tls.as_ref().map(TlsSources::link_kind)));
    checks.retain(|check| check.state != State::Ok);
    checks
}

const fn remedy(door: Door) -> &'static str {
    match door {
        Door::Socket => {
            "a kernel of 6.3 or later; it costs nothing but sends and receives anything"
        }
        Door::Fexit => "none needed if another door opens; it costs other system calls nothing",
        Door::SysExitBtf | Door::SysExitRaw => "a kernel of 5.8 or later",
        Door::Tracepoint => "mount -t tracefs tracefs /sys/kernel/tracing",
    }
}
