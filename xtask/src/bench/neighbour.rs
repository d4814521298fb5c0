//! What a process pays that nobody selected: nanoseconds a system call of this process, while an agent
//! watches another.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Instant,
};

use anyhow::Result;

use super::{Lab, agent::Agent, measure::Spread, program::Nginx, results::Row};

/// Calls of one measurement, and measurements of one turn.
const CALLS: u32 = 2000;
const BATCHES: usize = 100;

/// Nanoseconds of one `call` where nothing else disturbs: the tenth percentile of many short batches.
fn undisturbed(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        (0..CALLS).try_for_each(|_| call())?;
        batches.push(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    batches.sort_by(f64::total_cmp);
    Ok(batches[BATCHES / 10])
}

/// A write of 256 bytes to a socket and the read of them, halved; and a call that is not hooked.
fn turn() -> Result<[f64; 2]> {
    let (mut near, mut far) = UnixStream::pair()?;
    let mut buffer = [0; 256];
    let hooked = undisturbed(|| {
        near.write_all(&buffer)?;
        Ok(far.read_exact(&mut buffer)?)
    })?;
    let other = undisturbed(|| {
        std::hint::black_box(std::os::unix::process::parent_id());
        Ok(())
    })?;
    Ok([hooked / 2.0, other])
}

pub(crate) fn line(lab: &Lab) -> Result<Vec<Row>> {
    let nginx = Nginx::start("bench-neighbour")?;
    let names = ["socket call", "call that is not hooked"];
    let mut base = Vec::new();
    let mut added: Vec<Vec<[f64; 2]>> = vec![Vec::new(); lab.doors.len()];
    for round in 0..=lab.rounds {
        for (door, added) in lab.doors.iter().zip(&mut added) {
            let without = turn()?;
            let agent = Agent::on(
                &lab.agent,
                nginx.worker,
                &["--door", door, "--print", "none", "--otlp-file", "/dev/null"],
            )?;
            let with = turn()?;
            agent.stop()?;
            if round > 0 {
                base.push(without);
                added.push([with[0] - without[0], with[1] - without[1]]);
            }
        }
    }
    let mut rows = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let without = Spread::of(base.iter().map(|turn| turn[at]));
        rows.push(Row::new(format!("{name}: without an agent"), without, "ns"));
        for (door, added) in lab.doors.iter().zip(&added) {
            let added = Spread::of(added.iter().map(|turn| turn[at]));
            rows.push(Row::new(format!("{name}: added, {door}"), added, "ns"));
        }
    }
    Ok(rows)
}
