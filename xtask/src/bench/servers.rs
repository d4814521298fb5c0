//! What a server pays, and what that does to its throughput: nginx, Redis, Go's net/http, Rust's hyper,
//! by turns without an agent and with one at each door.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Lab,
    agent::Agent,
    load::{self, Counted, KeptConnection},
    measure::{Spread, cpu_ns},
    program::{Nginx, Program, free_port, listening},
    results::Row,
    sink::Sink,
};
use crate::shell::{self, cargo, target_dir, workspace};

/// How long one measurement lasts.
const TURN: Duration = Duration::from_secs(2);

/// One measurement.
#[derive(Clone, Copy)]
struct Turn {
    cpu_us: f64,
    per_second: f64,
}

/// `load` on the process `pid`.
fn turn(pid: u32, load: &mut dyn FnMut() -> Result<Counted>) -> Result<Turn> {
    let before = cpu_ns(pid)?;
    let Counted { requests, per_second } = load()?;
    let cpu_us = (cpu_ns(pid)? - before) as f64 / requests as f64 / 1000.0;
    Ok(Turn { cpu_us, per_second })
}

/// Alternates without and with: what the agent adds to `pid`, and the share of the throughput that it
/// leaves, if the load is whatever the server takes.
fn compare(
    lab: &Lab,
    name: &str,
    pid: u32,
    saturated: bool,
    load: &mut dyn FnMut() -> Result<Counted>,
) -> Result<Vec<Row>> {
    let sink = Sink::start()?;
    let mut base = Vec::new();
    let mut with: Vec<Vec<(Turn, Turn)>> = vec![Vec::new(); lab.doors.len()];
    for round in 0..=lab.rounds {
        for (door, turns) in lab.doors.iter().zip(&mut with) {
            let without = turn(pid, load)?;
            let flags = [&sink.flags("http/protobuf")[..], &["--door", door]].concat();
            let agent = Agent::on(&lab.agent, pid, &flags)?;
            let watched = turn(pid, load)?;
            agent.stop()?;
            // The first round warms up whatever there is.
            if round > 0 {
                base.push(without);
                turns.push((without, watched));
            }
        }
    }
    let mut rows = vec![Row::new(
        format!("{name}: without an agent"),
        Spread::of(base.iter().map(|turn| turn.cpu_us)),
        "us/request",
    )];
    if saturated {
        let rate = Spread::of(base.iter().map(|turn| turn.per_second));
        rows.push(Row::new(format!("{name}: without an agent"), rate, "requests/s"));
    }
    for (door, turns) in lab.doors.iter().zip(&with) {
        let added = turns.iter().map(|(without, with)| with.cpu_us - without.cpu_us);
        rows.push(Row::new(format!("{name}: added, {door}"), Spread::of(added), "us/request"));
        if saturated {
            let ratio = turns.iter().map(|(without, with)| with.per_second / without.per_second);
            let ratio = Spread::of(ratio);
            rows.push(Row::new(format!("{name}: throughput, {door}"), ratio, "of without"));
        }
    }
    Ok(rows)
}

pub(crate) fn nginx(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-nginx")?;
    let mut rows = Vec::new();
    for (name, path) in [("5 bytes", "/small"), ("20 KB file", "/file")] {
        let url = nginx.url(path);
        let mut load = || load::wrk(&url, 16, TURN, None);
        rows.extend(compare(lab, name, nginx.worker, true, &mut load)?);
    }
    Ok(rows)
}

/// A protocol of small requests: at a rate that is easy, and as fast as both can.
pub(crate) fn redis(lab: &Lab) -> Result<Vec<Row>> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
    let redis = Program::start(command.stdout(Stdio::null()))?;
    listening(port)?;
    let pid = redis.pid();
    let mut connections =
        (0..50).map(|_| KeptConnection::redis(port)).collect::<Result<Vec<_>>>()?;
    let mut steady = || {
        let requests = load::paced(&mut connections, 10_000, TURN)?;
        Ok(Counted { requests, per_second: requests as f64 / TURN.as_secs_f64() })
    };
    let mut rows = compare(lab, "10,000 GET a second", pid, false, &mut steady)?;
    drop(connections);
    let mut flat_out = || load::redis_benchmark(port, 100_000);
    rows.extend(compare(lab, "GET, saturated", pid, true, &mut flat_out)?);
    Ok(rows)
}

pub(crate) fn echo(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, program) in [("Go net/http", go_echo()?), ("Rust hyper", hyper_echo()?)] {
        let mut echo = Program::start(Command::new(program).stdout(Stdio::piped()))?;
        let port: u16 = echo.first_line()?.parse().context("it says no port")?;
        let url = format!("http://127.0.0.1:{port}/echo");
        let mut load = || load::wrk(&url, 16, TURN, None);
        rows.extend(compare(lab, name, echo.pid(), true, &mut load)?);
    }
    Ok(rows)
}

fn go_echo() -> Result<std::path::PathBuf> {
    let binary = target_dir().join("bench/go-echo");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&binary).arg(".");
    go.current_dir(workspace().join("tests/targets/bench/go"));
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0");
    shell::run(&mut go)?;
    Ok(binary)
}

fn hyper_echo() -> Result<std::path::PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "-p", "remora-tests", "--bin", "hyper_echo"]);
    shell::run(&mut cargo)?;
    Ok(Path::new(&target_dir()).join("release/hyper_echo"))
}
