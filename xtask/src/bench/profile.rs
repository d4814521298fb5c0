//! Where the instructions of a request go: a guest whose clock is its instructions is sampled with perf, which makes
//! each sample stand for as many instructions.
//!
//! A sample belongs to our programs in line if one of them is on its stack, and to the agent if it is the agent's.
//! Samples are taken by an interrupt: what the kernel does with interrupts off is told at the place where it
//! turns them on again, and the sampling itself is in the counts.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Lab,
    agent::Agent,
    guest,
    load::{Ask as _, KeptConnection},
    measure::Spread,
    program::{Nginx, Program},
    results::Row,
    sink::Sink,
};
use crate::shell::Scratch;

/// Instructions between samples.
const PERIOD: u64 = 20_000;
const REQUESTS: u32 = 20_000;
/// The dearest functions of each side that are told apart.
const TOP: usize = 16;

pub(crate) fn line(lab: &Lab) -> Result<Vec<Row>> {
    Ok(guest::ask(&lab.agent, lab.kernel, &["socket"], "profile")?.rows)
}

/// In the guest: prints a line for each number.
pub(crate) fn inside(agent: &Path, door: &str) -> Result<()> {
    let sink = Sink::start()?;
    let nginx = Nginx::start("bench-profile")?;
    let mut client = KeptConnection::http(nginx.port, "/small")?;
    let traces = sink.flags("http/protobuf");
    let agent = Agent::on(agent, nginx.worker, &[&["--door", door], &traces[..]].concat())?;
    let ask = |client: &mut KeptConnection, count| (0..count).try_for_each(|_| client.ask());
    ask(&mut client, REQUESTS / 10)?;
    // Or the kernel would take samples away where they are many.
    fs::write("/proc/sys/kernel/perf_event_max_sample_rate", "1000000")?;
    fs::write("/proc/sys/kernel/perf_cpu_time_max_percent", "0")?;
    let folder = Scratch::new("bench-perf")?;
    let data = folder.path().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-a", "-g", "-e", "cpu-clock", "-c", &PERIOD.to_string(), "-o"]);
    let mut recording = Program::start(perf.arg(&data).stdout(Stdio::null()))?;
    // Until it samples.
    super::program::until("perf's file", || {
        fs::metadata(&data).ok().filter(|file| file.len() > 0)
    })?;
    thread::sleep(Duration::from_secs(1));
    ask(&mut client, REQUESTS)?;
    thread::sleep(Duration::from_secs(2));
    recording.signal("INT")?;
    recording.wait()?;
    let mut script = Command::new("perf");
    script.args(["script", "-F", "pid,ip,sym", "-i"]).arg(&data).stderr(Stdio::null());
    let output = script.output().context("perf script")?;
    let profile = Profile::of(&String::from_utf8_lossy(&output.stdout), agent.pid());
    if profile.in_line.is_empty() || profile.agent.is_empty() {
        bail!("perf saw neither our programs nor the agent: {} bytes", output.stdout.len());
    }
    for (side, functions) in [("in line", &profile.in_line), ("agent", &profile.agent)] {
        let each = |samples: u64| (samples * PERIOD) as f64 / f64::from(REQUESTS);
        let say = |what: &str, samples| {
            let each = Spread::exactly(each(samples));
            guest::say(&format!("{side}: {what}"), each, "instructions/request");
        };
        say("all", functions.values().sum());
        let mut sorted: Vec<_> = functions.iter().collect();
        sorted.sort_by_key(|&(name, samples)| (std::cmp::Reverse(*samples), name));
        sorted.iter().take(TOP).for_each(|(name, samples)| say(name, **samples));
    }
    agent.stop()?;
    Ok(())
}

/// Samples by function.
#[derive(Debug, Default, PartialEq)]
struct Profile {
    in_line: HashMap<String, u64>,
    agent: HashMap<String, u64>,
}

impl Profile {
    /// Of what `perf script -F pid,ip,sym` prints: the process, then its stack, innermost first, then an empty line.
    fn of(script: &str, agent: u32) -> Self {
        let mut profile = Self::default();
        for sample in script.split("\n\n") {
            let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
            let Some(pid) = lines.next().and_then(|line| line.trim().parse::<u32>().ok()) else {
                continue;
            };
            let stack: Vec<&str> = lines.map(function).collect();
            let Some(&inner) = stack.first() else { continue };
            let ours = stack.iter().find_map(|name| program(name));
            let (side, name) = match ours {
                _ if pid == agent => (&mut profile.agent, plain(inner)),
                Some(ours) if program(inner).is_some() => (&mut profile.in_line, ours.to_owned()),
                Some(ours) => (&mut profile.in_line, format!("{inner} for {ours}")),
                None if inner.contains("bpf") => (&mut profile.in_line, inner.to_owned()),
                None => continue,
            };
            *side.entry(name).or_default() += 1;
        }
        profile
    }
}

/// `ffffffffc0 name` without the address.
fn function(line: &str) -> &str {
    line.trim().split_once(' ').map_or("", |(_, name)| name.trim())
}

/// The function's name if it is one of a kernel program: `bpf_prog_TAG_NAME`, or `bpf_prog_TAG_NAME_3C_0_3E_` for
/// `NAME<0>`.
fn program(name: &str) -> Option<&str> {
    let (_, name) = name.strip_prefix("bpf_prog_")?.split_once('_')?;
    name.split("_3C_").next()
}

/// A Rust function's name without its hash and type parameters.
fn plain(name: &str) -> String {
    let mut depth = 0u32;
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    let text = text.trim_start_matches("::");
    match text.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => name.to_owned(),
        _ if text.is_empty() => name.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_for_the_program_on_its_stack() {
        let script = "\
   12 \n\tffffffff81 htab_map_hash\n\tffffffffc0 bpf_prog_0123456789abcdef_moved_on_3C_0_3E_\n\tffffffffc1 bpf_prog_ff_socket_sent\n\n\
   12 \n\tffffffffc0 bpf_prog_0123456789abcdef_moved_on\n\n\
   12 \n\tffffffff81 tcp_sendmsg\n\n\
   77 \n\t55aa remora::assemble::Assembler<S>::data\n\t55ab main\n";
        let profile = Profile::of(script, 77);
        let one = |name: &str| (name.to_owned(), 1);
        assert_eq!(
            profile.in_line,
            [one("htab_map_hash for moved_on"), one("moved_on")].into_iter().collect()
        );
        assert_eq!(profile.agent, [one("remora::assemble::Assembler::data")].into_iter().collect());
    }
}
