//! What is held has a bound, also where nobody collects, and one service instance has one set of series.

use super::*;

/// A process's resource.
fn process(pid: i64, program: &str) -> Arc<Resource> {
    Arc::new(Resource::new([
        ("service.name".into(), "curl".into()),
        ("service.instance.id".into(), format!("instance of {pid}").into()),
        ("process.pid".into(), pid.into()),
        ("process.executable.name".into(), program.into()),
    ]))
}

fn small() -> Config {
    Config { max_resources: 10, ..Config::default() }
}

#[test]
fn processes_that_have_ended_give_their_place_where_nobody_collects() {
    let mut aggregator = Aggregator::new(small(), 0);
    let daemon = process(0, "daemon");
    for pid in 1..=1000 {
        aggregator.record(&on(&daemon, exchange(Role::Server)));
        aggregator.record(&on(&process(pid, "curl"), exchange(Role::Client)));
        assert!(aggregator.resources.len() <= 10 && aggregator.places.len() <= 10);
        assert!(aggregator.instances.len() <= 10);
    }
    let left_out = aggregator.left_out();
    let kept = aggregator.series_len() as u64;
    assert_eq!((left_out.forgotten + kept, left_out.unmeasured), (1001, 0));
    let batches = aggregator.collect(1);
    assert_eq!(count(&batches, "http.server.request.duration"), 1000, "it lives");
    let mut pids: Vec<_> = batches.iter().map(|batch| batch.resource.find("process.pid")).collect();
    assert!(pids.remove(0) == Some(&0.into()) && pids.last() == Some(&Some(&1000.into())));
}

#[test]
fn readers_do_not_keep_each_others_processes() {
    let mut readers = [Aggregator::new(small(), 0), Aggregator::new(small(), 0)];
    for pid in 0..100 {
        let visit = on(&process(pid, "curl"), exchange(Role::Client));
        readers.iter_mut().for_each(|reader| reader.record(&visit));
    }
    for reader in &readers {
        assert_eq!(reader.left_out().unmeasured, 0);
        assert!(reader.left_out().forgotten >= 90);
    }
}

#[test]
fn a_resource_beyond_the_bound_is_not_measured_and_counted_while_all_others_live() {
    let mut aggregator = Aggregator::new(small(), 0);
    let living: Vec<_> = (0..12).map(|pid| process(pid, "server")).collect();
    for _ in 0..2 {
        living.iter().for_each(|one| aggregator.record(&on(one, exchange(Role::Server))));
    }
    assert_eq!(aggregator.left_out(), LeftOut { unmeasured: 4, ..LeftOut::default() });
    assert_eq!(aggregator.collect(1).len(), 10);
    drop(living);
    aggregator.record(&on(&process(12, "server"), exchange(Role::Server)));
    assert_eq!(aggregator.left_out().unmeasured, 4);
}

#[test]
fn a_process_that_became_another_program_goes_on_with_its_series() {
    let mut aggregator = Aggregator::new(Config::default(), 0);
    for program in ["wrapper", "server", "server"] {
        aggregator.record(&on(&process(1, program), exchange(Role::Server)));
    }
    aggregator.record(&on(&process(2, "server"), exchange(Role::Server)));
    let batches = aggregator.collect(1);
    let told: Vec<_> = batches
        .iter()
        .map(|batch| {
            let program = batch.resource.find("process.executable.name");
            (program, count(std::slice::from_ref(batch), "http.server.request.duration"))
        })
        .collect();
    let server = &"server".into();
    assert_eq!(told, [(Some(server), 3), (Some(server), 1)]);
    assert_eq!(aggregator.places.len(), 2, "only what lives is held besides the last");
}

#[test]
fn what_overflows_and_sizes_that_are_not_exact_are_counted() {
    let mut aggregator = Aggregator::new(Config { max_series: 2, ..Config::default() }, 0);
    let resource = shared();
    for status in [200, 201, 202] {
        let mut exchange = exchange(Role::Server);
        http(&mut exchange).status = status;
        exchange.marks.response_size_estimated = status == 202;
        aggregator.record(&on(&resource, exchange));
    }
    let expected = LeftOut { overflowed: 2, inexact: 1, ..LeftOut::default() };
    assert_eq!(aggregator.left_out(), expected);
    let batches = aggregator.collect(1);
    assert_eq!(count(&batches, "http.server.request.duration"), 3);
    assert_eq!(count(&batches, "http.server.response.body.size"), 2);
}

#[test]
fn exemplars_survive_collections_that_follow_each_other_quickly() {
    const SECOND: u64 = 1_000_000_000;
    for histogram in [HistogramKind::Explicit, HistogramKind::Exponential] {
        let config = Config { histogram, keep_exemplars_ns: 60 * SECOND, ..Config::default() };
        let mut aggregator = Aggregator::new(config, 0);
        let measured = span(exchange(Role::Server));
        aggregator.record(&measured);
        let mut told = |now_unix_ns| match &aggregator.collect(now_unix_ns)[0].metrics[0].data {
            Data::Histogram { points, .. } => points[0].point.exemplars.len(),
            Data::ExponentialHistogram { points, .. } => points[0].point.exemplars.len(),
            other => panic!("{other:?}"),
        };
        // Every 200 ms for a minute, and then once more.
        for tick in 1..=300 {
            assert_eq!(told(measured.end_unix_ns + tick * SECOND / 5), 1, "{tick}");
        }
        assert_eq!(told(measured.end_unix_ns + 61 * SECOND), 1, "for the last time");
        assert_eq!(told(measured.end_unix_ns + 62 * SECOND), 0);
    }
}
