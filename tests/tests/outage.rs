//! A collector that goes away for a while under traffic and comes back.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::Agent,
    client::Connection,
    collector::{Collector, Protocol},
    nginx::Nginx,
    process::{lasting, until},
    skip,
};
use tempfile::TempDir;

/// Requests with the paths `/small/0`, `/small/1` and so on, some hundred in a second.
struct Traffic {
    connection: Connection,
    next: usize,
}

impl Traffic {
    fn new(nginx: &Nginx) -> Self {
        Self { connection: Connection::open(nginx.port()).unwrap(), next: 0 }
    }

    fn one(&mut self) {
        let target = format!("/small/{}", self.next);
        assert_eq!(self.connection.get(&target, "").unwrap().status, 200);
        self.next += 1;
        thread::sleep(Duration::from_millis(3));
    }

    fn while_not(&mut self, done: &AtomicBool) {
        while !done.load(Relaxed) {
            self.one();
        }
    }
}

/// Numbers of the spans that came, by request.
fn numbers(collector: &Collector) -> Vec<Vec<usize>> {
    let number = |path: String| path.strip_prefix("/small/").unwrap().parse().unwrap();
    let requests = collector.paths();
    requests.into_iter().map(|paths| paths.into_iter().map(number).collect()).collect()
}

fn all(collector: &Collector) -> BTreeSet<usize> {
    numbers(collector).into_iter().flatten().collect()
}

/// Traffic until `done`.
fn traffic_until(traffic: &mut Traffic, what: &str, done: impl FnMut() -> bool) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| traffic.while_not(&over));
        // Also if waiting fails: the scope waits for the traffic.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _end = End(&over);
        until(what, done);
    });
}

#[test]
fn outage_of_the_collector_loses_no_span() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let outage = lasting(Duration::from_secs(3), Duration::from_secs(30));
    let nginx = Nginx::start();
    let mut collectors = [Protocol::Grpc, Protocol::HttpProtobuf].map(Collector::start);
    let agents: Vec<Agent> = collectors
        .iter()
        .map(|collector| Agent::on(&nginx.pids(), &collector.flags().each_ref().map(|f| &**f)))
        .collect();
    let mut traffic = Traffic::new(&nginx);
    traffic_until(&mut traffic, "spans at both collectors", || {
        collectors.iter().all(|collector| !all(collector).is_empty())
    });
    collectors.iter_mut().for_each(Collector::stop);
    let before = traffic.next;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| traffic.while_not(&over));
        thread::sleep(outage);
        over.store(true, Relaxed);
    });
    let during = traffic.next - before;
    collectors.iter_mut().for_each(Collector::restart);
    // By itself, in the end: nothing tells the agent.
    let expected: BTreeSet<usize> = (0..traffic.next).collect();
    until("the spans of the outage", || collectors.iter().all(|c| all(c) == expected));
    (0..100).for_each(|_| traffic.one());
    let requests = traffic.next;
    drop((traffic, nginx));
    for (agent, collector) in agents.into_iter().zip(&collectors) {
        let done = agent.stop();
        let sent = requests as u64;
        assert_eq!(done.exported_to("otlp"), [sent, sent, 0], "{}", done.log);
        assert_eq!(all(collector), (0..requests).collect(), "{}", done.log);
        assert!(done.log.contains("export works again"), "{}", done.log);
    }
    println!("{during} of {requests} requests while the collectors were away for {outage:?}");
}

#[test]
fn queue_that_is_too_small_for_an_outage_drops_the_oldest_and_counts_them() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("remora.yaml");
    fs::write(&config, "limits:\n  queue: 128KiB\n").unwrap();
    let nginx = Nginx::start();
    let mut collector = Collector::start(Protocol::Grpc);
    let flags = collector.flags();
    let mut arguments = flags.each_ref().map(|flag| &**flag).to_vec();
    arguments.extend(["--config", config.to_str().unwrap()]);
    let agent = Agent::on(&nginx.pids(), &arguments);
    let mut traffic = Traffic::new(&nginx);
    traffic_until(&mut traffic, "a span at the collector", || !all(&collector).is_empty());
    collector.stop();
    traffic_until(&mut traffic, "a full queue", || agent.log().contains("export queue is full"));
    (0..500).for_each(|_| traffic.one());
    let requests = traffic.next;
    collector.restart();
    let last = requests - 1;
    until("the newest span", || all(&collector).contains(&last));
    drop((traffic, nginx));
    let done = agent.stop();

    let came = all(&collector);
    let [accepted, exported, dropped] = done.exported_to("otlp");
    assert_eq!(accepted, requests as u64, "{}", done.log);
    assert_eq!(exported, came.len() as u64, "{}", done.log);
    let missing: BTreeSet<usize> = (0..requests).filter(|number| !came.contains(number)).collect();
    assert_eq!(dropped, missing.len() as u64, "{}", done.log);
    let line = done.log.lines().find(|line| line.starts_with("remora: traces to otlp")).unwrap();
    assert!(dropped > 0 && line.contains(&format!("queue_full={dropped}")), "{line}");
    // The oldest went. What is being sent when room is needed stays though, and may be older than what
    // went instead of it: one request while nobody listened, one more when the collector was back.
    let (oldest, newest) = (*missing.first().unwrap(), *missing.last().unwrap());
    let survivors =
        numbers(&collector).into_iter().filter(|r| r.iter().any(|n| (oldest..newest).contains(n)));
    assert!(survivors.count() <= 2, "{missing:?}");
    // What is left is about what there was room for, not less: spans of half a kilobyte or so.
    assert!(requests - newest > 50, "{newest} of {requests}");
    println!("{dropped} of {requests} spans dropped, {} of the newest kept", last - newest);
}
