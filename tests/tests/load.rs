//! Full load: what wrk and nginx's access log count is what the agent accounts for.
//!
//! When wrk's time is up it closes its connections. Of a request that it waits for then it counts
//! nothing, while nginx has read it, or has not. So with *r* the requests that nginx has read and
//! logged, and *w* those that wrk counts: `w <= r <= w + connections`; the agent's books say *r*.

use std::time::Duration;

use remora_tests::{
    agent::Agent, config_file::ConfigFile, nginx::Nginx, process::lasting, skip, spans, wrk::Wrk,
};

const CONNECTIONS: usize = 64;

#[test]
fn every_request_of_a_full_load_becomes_a_span() {
    if skip::without_root() || skip::without(&["nginx", "wrk"]) {
        return;
    }
    let time = lasting(Duration::from_secs(5), Duration::from_secs(30));
    let nginx = Nginx::start();
    let room = ConfigFile::roomy();
    let agent = Agent::on(&nginx.pids(), &room.flags());
    let wrk = Wrk::run(&nginx.url("/load"), CONNECTIONS, time.as_secs());
    let logged = nginx.quit().len() as u64;
    let (done, written) = agent.stop_and_count();
    let log = &done.log;
    assert_eq!(done.requests(), [logged, logged, 0, 0], "{log}");
    assert!((wrk.requests..=wrk.requests + CONNECTIONS as u64).contains(&logged), "{}", wrk.text);
    assert_eq!(done.exported_to("file"), [logged, logged, 0], "{log}");
    assert_eq!(written, logged, "{log}");
    println!("{} requests counted by wrk, {logged} by nginx, in {time:?}", wrk.requests);
}

#[test]
fn sampled_out_requests_are_accounted_for_and_measured() {
    if skip::without_root() || skip::without(&["nginx", "wrk"]) {
        return;
    }
    let nginx = Nginx::start();
    let ratio = ["--sampler", "traceidratio", "--sampler-ratio", "0.1"];
    let room = ConfigFile::roomy();
    let agent = Agent::on(&nginx.pids(), &[&room.flags()[..], &ratio].concat());
    let wrk = Wrk::run(&nginx.url("/load"), CONNECTIONS, 2);
    let logged = nginx.quit().len() as u64;
    let (done, written) = agent.stop_and_count();
    let [requests, exported, sampled_out, lost] = done.requests();
    assert_eq!((requests, exported + sampled_out, lost), (logged, logged, 0), "{}", done.log);
    assert_eq!(written, exported);
    assert_eq!(spans::measurements(&done.metrics, "http.server.request.duration"), logged);
    assert!((wrk.requests..=wrk.requests + CONNECTIONS as u64).contains(&logged), "{}", wrk.text);
    // A tenth, by coins that fall as they may: seven standard deviations either way.
    let (mean, deviation) = (logged as f64 / 10.0, (logged as f64 * 0.09).sqrt());
    assert!((exported as f64 - mean).abs() < 7.0 * deviation, "{exported} of {logged}");
    println!("{exported} of {logged} requests sampled, all measured");
}
