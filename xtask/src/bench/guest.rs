//! Costs that repeat: instructions a request, counted in a guest whose clock is its instructions.
//!
//! [`line`] boots the guest; there this program runs [`inside`], and what that prints comes back. A process's
//! time in `schedstat` is then its instructions, those of the kernel on its behalf among them. HTTP is counted at
//! every door; other protocols differ from it in what is copied and read, and are counted at the first.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    Lab, accepted,
    agent::{Agent, DOORS, open_doors},
    load::{Ask, KeptConnection},
    measure::{Spread, cpu_ns},
    program::Nginx,
    protocols::{self, GUEST_CLUSTER, Protocol},
    results::Row,
    sink::Sink,
};
use crate::{shell, vm};

/// Requests of a round; the first round warms up.
const REQUESTS: u32 = 1000;
const ROUNDS: usize = 3;

/// Longer than spans and metrics wait for company. An idle guest's time passes at once.
const SETTLE: Duration = Duration::from_secs(6);

/// The part of this program that counts, by its name on the command line.
const GUEST: &str = "guest";

/// What begins a line of the guest's output that is a number.
const MARK: &str = "bench:";

pub(crate) fn line(lab: &Lab) -> Result<Vec<Row>> {
    Ok(measure(&lab.agent, lab.kernel, &DOORS)?.rows)
}

pub(crate) struct Counted {
    /// Of the guest's kernel.
    pub(crate) release: String,
    pub(crate) rows: Vec<Row>,
}

/// Boots a guest and counts there what `agent` costs at those of `doors` that open.
pub(crate) fn measure(agent: &Path, kernel: vm::Version, doors: &[&str]) -> Result<Counted> {
    ask(agent, kernel, doors, GUEST)
}

/// Boots a guest in which this program is what `part` says, and reads what it prints.
pub(crate) fn ask(
    agent: &Path,
    kernel: vm::Version,
    doors: &[&str],
    part: &str,
) -> Result<Counted> {
    let own = shell::own_program()?;
    let mut files = vec![agent, &*own];
    // Off the machine's file system: what is read from there is not counted alike every time.
    let mut script =
        format!("cp '{}' /tmp/xtask && cp '{}' /tmp/remora", own.display(), agent.display());
    let cluster = protocols::cluster()?;
    if part == GUEST {
        script += &format!(" && cp -a '{}' {GUEST_CLUSTER}", cluster.display());
        files.push(&cluster);
    }
    script += &format!(
        " && PATH=/usr/sbin:$PATH /tmp/xtask bench --as {part} --agent /tmp/remora --door {}",
        doors.join(",")
    );
    let (release, lines) = vm::count(kernel, &script, &files)?;
    let rows = lines.iter().filter_map(|line| line.strip_prefix(MARK)).map(parse);
    let rows = rows.collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        bail!("the guest has counted nothing:\n{}", lines.join("\n"));
    }
    Ok(Counted { release, rows })
}

fn parse(line: &str) -> Result<Row> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [what, median, low, high, unit] = fields[..] else { bail!("{line:?} is no number") };
    let number = |text: &str| text.parse().with_context(|| line.to_owned());
    let value = Spread { median: number(median)?, low: number(low)?, high: number(high)? };
    Ok(Row::new(what, value, unit))
}

/// Instructions a request: of server and client together, and of the agent.
struct Costs {
    in_line: Spread,
    agent: Spread,
}

/// A client on one connection, and the process that serves it.
struct Bench {
    serving: u32,
    client: Box<dyn Ask>,
}

impl Bench {
    fn costs(&mut self, agent: Option<&Agent>) -> Result<Costs> {
        let (mut in_line, mut own) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let agent_before = agent.map_or(Ok(0), |agent| cpu_ns(agent.pid()))?;
            let before = cpu_ns(self.serving)? + this_thread()?;
            (0..REQUESTS).try_for_each(|_| self.client.ask())?;
            let after = cpu_ns(self.serving)? + this_thread()?;
            thread::sleep(SETTLE);
            let agent_after = agent.map_or(Ok(0), |agent| cpu_ns(agent.pid()))?;
            if round > 0 {
                in_line.push((after - before) as f64 / f64::from(REQUESTS));
                own.push((agent_after - agent_before) as f64 / f64::from(REQUESTS));
            }
        }
        Ok(Costs { in_line: Spread::of(in_line), agent: Spread::of(own) })
    }
}

fn this_thread() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ran = text.split(' ').next().and_then(|ns| ns.parse().ok());
    ran.context("no schedstat")
}

/// In the guest: a number for [`ask`].
pub(crate) fn say(what: &str, Spread { median, low, high }: Spread, unit: &str) {
    println!("{MARK}{what}\t{median:.1}\t{low:.1}\t{high:.1}\t{unit}");
}

/// In the guest: prints a line for each number.
pub(crate) fn inside(agent: &Path, wanted: &[String]) -> Result<()> {
    let per_request = |what: &str, value| say(what, value, "instructions/request");
    let sink = Sink::start()?;
    let traces = sink.flags("http/protobuf");
    let nginx = Nginx::start("bench-guest")?;
    let other = Nginx::start("bench-other")?;
    let client = Box::new(KeptConnection::http(nginx.port, "/small")?);
    let worker = nginx.worker;
    let mut bench = Bench { serving: worker, client };
    let base = bench.costs(None)?.in_line;
    per_request(accepted::WITHOUT, base);
    let mut doors = open_doors(agent)?;
    doors.retain(|door| wanted.iter().any(|wanted| wanted == door));
    for (number, door) in doors.iter().enumerate() {
        let on =
            |pid, outputs: &[&str]| Agent::on(agent, pid, &[&["--door", door], outputs].concat());
        let watching = on(worker, &traces)?;
        let to_ready = cpu_ns(watching.pid())? as f64;
        let selected = bench.costs(Some(&watching))?;
        watching.stop()?;
        let watching = on(other.worker, &traces)?;
        let unselected = bench.costs(Some(&watching))?.in_line;
        if number == 0 {
            thread::sleep(SETTLE);
            let before = cpu_ns(watching.pid())?;
            thread::sleep(Duration::from_secs(10));
            let idle = (cpu_ns(watching.pid())? - before) as f64 / 10.0;
            say("agent, idle", Spread::exactly(idle), "instructions/s");
        }
        watching.stop()?;
        per_request(&format!("{door}: selected, added in line"), more(selected.in_line, base));
        per_request(&format!("{door}: not selected, added in line"), more(unselected, base));
        per_request(&format!("{door}: agent, traces and RED"), selected.agent);
        say(&format!("{door}: agent, to ready"), Spread::exactly(to_ready), "instructions");
        if number == 0 {
            let red = on(worker, &["--prometheus", "127.0.0.1:9464"])?;
            per_request(&format!("{door}: agent, RED only"), bench.costs(Some(&red))?.agent);
            red.stop()?;
        }
    }
    match doors.first() {
        Some(door) => {
            Protocol::ALL.into_iter().try_for_each(|it| protocol(it, agent, door, &traces))
        }
        None => Ok(()),
    }
}

/// What `with` is more than `without`.
fn more(with: Spread, without: Spread) -> Spread {
    Spread {
        median: with.median - without.median,
        low: with.low - without.median,
        high: with.high - without.median,
    }
}

/// A request of a protocol, without an agent and with one that watches the server.
fn protocol(protocol: Protocol, agent: &Path, door: &str, traces: &[&str]) -> Result<()> {
    let per_request = |what: &str, value| {
        say(&format!("{}: {what}", protocol.name()), value, "instructions/request");
    };
    let server = protocol.start()?;
    let (client, serving) = server.connect()?;
    let base = Bench { serving, client }.costs(None)?.in_line;
    per_request(accepted::WITHOUT, base);
    let watching = Agent::on(agent, server.pid(), &[&["--door", door], traces].concat())?;
    // One that the agent has seen from its beginning.
    let (client, serving) = server.connect()?;
    let selected = Bench { serving, client }.costs(Some(&watching))?;
    let (_, books) = watching.stop()?;
    let asked = u64::from(REQUESTS) * (ROUNDS as u64 + 1);
    if books.requests() < asked {
        bail!("{}: of {asked} requests the agent has seen {}", protocol.name(), books.requests());
    }
    per_request(&format!("{door}: selected, added in line"), more(selected.in_line, base));
    per_request(&format!("{door}: agent, traces and RED"), selected.agent);
    Ok(())
}
