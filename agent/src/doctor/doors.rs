//! What the doors into the kernel say, as checks.

use super::{Check, State};
use crate::bpf::{Door, LoadError, Tried};

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
        let feature = match door {
            Door::Socket => "door socket",
            Door::Fexit => "door fexit",
            Door::SysExitBtf => "door tp-btf",
            Door::SysExitRaw => "door raw-tp",
            Door::Tracepoint => "door tracepoint",
        };
        checks.push(match result {
            Ok(()) => Check::ok(feature, "opens"),
            Err(error) => {
                let reason = format!("{:#}", anyhow::Error::from(error));
                let first = reason.lines().next().unwrap_or_default().to_owned();
                Check::new(feature, State::Unsupported, first).remedy(remedy(door))
            }
        });
    }
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
