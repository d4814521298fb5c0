//! The wall clock jumps while requests are made. Only in a guest, whose clock is nobody's:
//! `cargo xtask vm --test faults_clock`.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use remora_tests::{
    agent::Agent,
    client::Connection,
    nginx::Nginx,
    process::{output, patient, until},
    skip,
    spans::{self, Span},
};

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
    since.as_nanos() as u64
}

#[test]
fn spans_tell_the_time_and_the_duration_whichever_way_the_clock_is_set() {
    if skip::without_root() || skip::without(&["nginx", "date"]) {
        return;
    }
    if !skip::emulated() {
        println!("skipped: the clock of this machine is not ours to set");
        return;
    }
    let nginx = Nginx::start();
    let agent = Agent::on(&nginx.pids(), &[]);
    let mut connection = Connection::open(nginx.port()).unwrap();
    let mut expected = Vec::new();
    for (number, step) in [0, 3600, -7200, 86_400, -1, 2].into_iter().enumerate() {
        if step != 0 {
            let seconds = (unix_ns() / 1_000_000_000).saturating_add_signed(step);
            output(Command::new("date").args(["-s", &format!("@{seconds}")]));
        }
        for request in 0..5 {
            let target = format!("/small/{number}/{request}");
            let before = unix_ns();
            assert_eq!(connection.get(&target, "").unwrap().status, 200);
            expected.push((target.clone(), before, unix_ns()));
            // In the file: no longer in the hands of whoever looks at the clock.
            until("the span", || spans::with_path(&agent.spans(), &target) == 1);
        }
    }
    drop((connection, nginx));
    let done = agent.stop();
    let books = done.books();
    assert_eq!(done.requests(), [expected.len() as u64, books.spans, 0, 0], "{}", done.log);
    // Clocks are compared a hundred times a second. What ends before that has the time until then.
    let tolerance = patient(Duration::from_millis(1)).as_nanos() as u64;
    let mut late = 0;
    for (target, before, after) in &expected {
        let of = |span: &&Span| span.text("url.path") == target;
        let span = done.spans.iter().find(of).unwrap();
        assert!(span.duration_ns() <= after - before + tolerance, "{span:?}");
        let right = span.start_ns + tolerance >= *before && span.end_ns <= after + tolerance;
        let first = target.ends_with("/0");
        assert!(right || first, "{span:?} is not within {before} and {after}");
        late += u32::from(!right);
    }
    println!("{} spans, {late} of the first after a step with the time before it", expected.len());
}
