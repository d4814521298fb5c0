//! What the agent itself takes: processor time a span by output, memory, records lost as load rises, the
//! time to start and to let go.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Lab,
    agent::{Agent, Books},
    load::{self, Ask as _, KeptConnection},
    measure::{Spread, cpu_ns, map_bytes, rss, user_seconds},
    program::{Nginx, Program, free_port, until},
    results::Row,
    sink::Sink,
};
use crate::shell::Scratch;

const LOAD: Duration = Duration::from_secs(3);

/// Longer than spans and metrics wait for company.
const SETTLE: Duration = Duration::from_secs(6);

fn connections(nginx: &Nginx, count: usize) -> Result<Vec<KeptConnection>> {
    (0..count).map(|_| KeptConnection::http(nginx.port, "/small")).collect()
}

/// Agent's processor time a span, all threads: in user space, and with the kernel's part.
pub(crate) fn outputs(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-outputs")?;
    let sink = Sink::start()?;
    let grpc = Grpc::start(lab)?;
    let folder = Scratch::new("bench-file")?;
    let file = folder.path().join("spans").display().to_string();
    let prometheus = format!("127.0.0.1:{}", free_port()?);
    let outputs: [(&str, Vec<&str>); 6] = [
        ("Prometheus only (RED, no spans)", vec!["--prometheus", &prometheus]),
        ("OTLP grpc", vec!["--otlp-endpoint", &grpc.endpoint, "--otlp-protocol", "grpc"]),
        ("OTLP http/protobuf", sink.flags("http/protobuf").to_vec()),
        ("OTLP http/json", sink.flags("http/json").to_vec()),
        ("file", vec!["--otlp-file", &file]),
        ("terminal", vec!["--print", "spans"]),
    ];
    let mut connections = connections(&nginx, 16)?;
    let mut rows = Vec::new();
    for (name, flags) in &outputs {
        let mut turns = Vec::new();
        for _ in 0..lab.rounds.min(3) {
            let agent = Agent::on(&lab.agent, nginx.worker, flags)?;
            let pid = agent.pid();
            let (cpu, user) = (cpu_ns(pid)?, user_seconds(pid)?);
            let requests = load::paced(&mut connections, 10_000, LOAD)?;
            thread::sleep(SETTLE);
            let cpu = (cpu_ns(pid)? - cpu) as f64 / 1000.0 / requests as f64;
            let user = (user_seconds(pid)? - user) * 1e6 / requests as f64;
            let (_, books) = agent.stop()?;
            anyhow::ensure!(books.requests() >= requests, "{name}: spans are missing");
            turns.push((cpu, user));
            // The next one begins with an empty file.
            fs::remove_file(&file).ok();
        }
        let user = Spread::of(turns.iter().map(|(_, user)| *user));
        rows.push(Row::new(format!("{name}: user"), user, "us/span"));
        let both = Spread::of(turns.iter().map(|(cpu, _)| *cpu));
        rows.push(Row::new(format!("{name}: user and kernel"), both, "us/span"));
    }
    Ok(rows)
}

/// The collector of the end-to-end tests, which speaks gRPC.
struct Grpc {
    _process: Program,
    endpoint: String,
}

impl Grpc {
    fn start(lab: &Lab) -> Result<Self> {
        let mut command = Command::new(&lab.collector);
        let mut process = Program::start(command.arg("grpc").stdout(std::process::Stdio::piped()))?;
        let endpoint = process.first_line()?;
        Ok(Self { _process: process, endpoint })
    }
}

pub(crate) fn memory(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-memory")?;
    let sink = Sink::start()?;
    let agent = Agent::on(&lab.agent, nginx.worker, &sink.flags("http/protobuf"))?;
    let pid = agent.pid();
    let (idle, maps) = (rss(pid)?, map_bytes(pid)?);
    let mut connections = connections(&nginx, 16)?;
    let mut under_load = Vec::new();
    for _ in 0..10 {
        load::paced(&mut connections, 10_000, Duration::from_secs(1))?;
        under_load.push(rss(pid)? as f64 / 1e6);
    }
    agent.stop()?;
    Ok(vec![
        Row::new("resident, idle", Spread::exactly(idle as f64 / 1e6), "MB"),
        Row::new("resident at 10,000 requests/s", Spread::of(under_load), "MB"),
        Row::new("kernel maps", Spread::exactly(maps as f64 / 1e6), "MB"),
    ])
}

/// Rising load, until records are lost.
pub(crate) fn loss(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-loss")?;
    let sink = Sink::start()?;
    let folder = Scratch::new("bench-lua")?;
    let script = folder.path().join("pipelined.lua");
    let lua = "init = function(args)\n local one = wrk.format('GET', '/small')\n \
               all = string.rep(one, 16)\nend\nrequest = function() return all end\n";
    fs::write(&script, lua)?;
    let url = nginx.url("/small");
    let mut kept = connections(&nginx, 16)?;
    let mut rows = Vec::new();
    let mut step = |name: &str, ask: &mut dyn FnMut() -> Result<f64>| -> Result<()> {
        let mut turns = Vec::new();
        for _ in 0..lab.rounds.min(3) {
            let agent = Agent::on(&lab.agent, nginx.worker, &sink.flags("http/protobuf"))?;
            let rate = ask()?;
            let (_, books) = agent.stop()?;
            turns.push((rate, lost(&books)));
        }
        let rate = Spread::of(turns.iter().map(|(rate, _)| *rate));
        rows.push(Row::new(format!("{name}: load"), rate, "requests/s"));
        let lost = Spread::of(turns.iter().map(|(_, lost)| *lost));
        rows.push(Row::new(format!("{name}: records lost"), lost, "%"));
        Ok(())
    };
    for rate in [5000, 10_000, 20_000] {
        step(&format!("{rate} a second"), &mut || {
            Ok(load::paced(&mut kept, rate, LOAD)? as f64 / LOAD.as_secs_f64())
        })?;
    }
    step("wrk, 64 connections", &mut || Ok(load::wrk(&url, 64, LOAD, None)?.per_second))?;
    step("wrk, 64 connections, 16 pipelined", &mut || {
        Ok(load::wrk(&url, 64, LOAD, Some(&script))?.per_second)
    })?;
    Ok(rows)
}

/// Of all records in percent.
fn lost(books: &Books) -> f64 {
    let (lost, read) = (books.ring_full() as f64, books.count("records", "records") as f64);
    100.0 * lost / (lost + read).max(1.0)
}

/// From the start to the first span, and from SIGINT to the end.
pub(crate) fn life(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-life")?;
    let (mut ready, mut first, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let mut connections = connections(&nginx, 1)?;
    for _ in 0..lab.rounds.max(5) {
        let start = Instant::now();
        let agent = Agent::on(&lab.agent, nginx.worker, &["--print", "spans"])?;
        ready.push(agent.ready_after.as_secs_f64() * 1000.0);
        connections[0].ask()?;
        let stdout = agent.stdout();
        until("the first span", || {
            fs::read_to_string(&stdout).ok().filter(|text| text.contains("GET /small"))
        })
        .context("after the first request")?;
        first.push(start.elapsed().as_secs_f64() * 1000.0);
        let (took, _) = agent.stop()?;
        ended.push(took.as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Row::new("start to ready", Spread::of(ready), "ms"),
        Row::new("start to first span on the terminal", Spread::of(first), "ms"),
        Row::new("SIGINT to the end: detached, flushed, books", Spread::of(ended), "ms"),
    ])
}

/// A recording of full load, replayed.
pub(crate) fn replay(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-replay")?;
    let folder = Scratch::new("bench-recording")?;
    let file = folder.path().join("recording").display().to_string();
    let outputs = ["--record", &file, "--otlp-file", "/dev/null"];
    let agent = Agent::on(&lab.agent, nginx.worker, &outputs)?;
    load::wrk(&nginx.url("/small"), 16, LOAD, None)?;
    agent.stop()?;
    let bytes = fs::metadata(&file)?.len() as f64;
    let (mut rates, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..lab.rounds {
        let mut command = Command::new(&lab.agent);
        command.args(["replay", &file, "--otlp-file", "/dev/null"]);
        let start = Instant::now();
        let output = command.output().context("cannot run the replay")?;
        let took = start.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "the replay failed: {said}");
        let exchanges = Books::new(said).requests() as f64;
        rates.push(exchanges / took);
        sizes.push(bytes / exchanges);
    }
    Ok(vec![
        Row::new("replayed to OTLP/JSON, start and end included", Spread::of(rates), "exchanges/s"),
        Row::new("size of the recording", Spread::of(sizes), "bytes/exchange"),
    ])
}
