//! What is counted where, and when it ends.

use super::*;

mod bounds;

use crate::{
    exchange::{DbExchange, Detail, Exchange, Failure, Role},
    metrics_data::{Attributes, Summary},
    semantics::tests::{Collected, exchange, http, span},
    span::Peer,
    trace_context::TraceFlags,
};

fn metric<'a>(batches: &'a [MetricBatch], name: &str) -> Option<&'a Metric> {
    batches.iter().flat_map(|batch| &batch.metrics).find(|metric| metric.name == name)
}

fn points(metric: &Metric) -> &[HistogramPoint] {
    match &metric.data {
        Data::Histogram { points, .. } => points,
        other => panic!("{other:?} is no explicit histogram"),
    }
}

/// Measurements of a metric over all of its series.
pub(crate) fn count(batches: &[MetricBatch], name: &str) -> u64 {
    metric(batches, name).map_or(0, |metric| match &metric.data {
        Data::Histogram { points, .. } => points.iter().map(|point| point.summary.count).sum(),
        Data::ExponentialHistogram { points, .. } => {
            points.iter().map(|point| point.summary.count).sum()
        }
        _ => 0,
    })
}

fn collected(attributes: &Attributes) -> Collected {
    let mut collected = Collected::default();
    attributes.visit(&mut collected);
    collected
}

fn shared() -> Arc<Resource> {
    Arc::new(Resource::new([("service.name".into(), "shop".into())]))
}

fn on(resource: &Arc<Resource>, exchange: Exchange) -> Span {
    let mut span = span(exchange);
    span.resource = Arc::clone(resource);
    span
}

fn delta() -> Config {
    Config { temporality: Temporality::Delta, ..Config::default() }
}

#[test]
fn server_series_has_the_conventional_attributes() {
    let mut aggregator = Aggregator::new(Config::default(), 5);
    let mut span = span(exchange(Role::Server));
    span.route = Some("/users/{id}".into());
    aggregator.record(&span);
    let batches = aggregator.collect(50);
    assert_eq!(batches.len(), 1);
    for (name, unit, sum) in [
        ("http.server.request.duration", "s", 0.005),
        ("http.server.request.body.size", "By", 0.0),
        ("http.server.response.body.size", "By", 12.0),
    ] {
        let metric = metric(&batches, name).expect(name);
        assert_eq!(metric.unit, unit);
        let point = &points(metric)[0];
        assert_eq!(point.summary, Summary { count: 1, sum, min: None, max: None }, "{name}");
        assert_eq!((point.point.start_unix_ns, point.point.time_unix_ns), (5, 50));
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), 1);
        assert_eq!(point.bucket_counts.len(), point.bounds.len() + 1);
        let attributes = collected(&point.point.attributes);
        for (key, expected) in [
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("http.response.status_code", "200"),
            ("http.route", "/users/{id}"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("error.type", "-"),
            ("server.address", "-"),
        ] {
            assert_eq!(attributes.text(key), expected, "{key}");
        }
    }
}

#[test]
fn client_series_names_the_server() {
    let mut aggregator = Aggregator::new(Config::default(), 0);
    aggregator.record(&span(exchange(Role::Client)));
    let mut without_host = exchange(Role::Client);
    http(&mut without_host).host = None;
    aggregator.record(&span(without_host));
    let batches = aggregator.collect(50);
    let mut servers: Vec<_> = batches
        .iter()
        .flat_map(|batch| points(&batch.metrics[0]))
        .map(|point| {
            let attributes = collected(&point.point.attributes);
            (attributes.text("server.address"), attributes.text("server.port"))
        })
        .collect();
    servers.sort();
    let pair = |address: &str, port: &str| (address.to_owned(), port.to_owned());
    assert_eq!(servers, [pair("10.0.0.2", "8080"), pair("example.com", "80")]);
}

#[test]
fn client_series_name_peers_but_not_single_pods() {
    let mut aggregator = Aggregator::new(Config::default(), 0);
    let peer = |name: &str, is_pod| {
        let (name, namespace) = (name.into(), "shop".into());
        Some(Arc::new(Peer { name, namespace, is_pod }))
    };
    let resource = shared();
    // Equal names are one series, whoever holds them.
    let peers = [None, peer("web", false), peer("web", false), peer("web-x7k2p", true)];
    for peer in peers {
        let mut span = on(&resource, exchange(Role::Client));
        span.peer = peer;
        aggregator.record(&span);
    }
    let batches = aggregator.collect(50);
    let mut found: Vec<_> = batches
        .iter()
        .flat_map(|batch| points(&batch.metrics[0]))
        .map(|point| {
            let attributes = collected(&point.point.attributes);
            let text = |key| attributes.text(key);
            (text("service.peer.name"), text("service.peer.namespace"), point.summary.count)
        })
        .collect();
    found.sort();
    assert_eq!(found, [("-".into(), "-".into(), 2), ("web".into(), "shop".into(), 2)]);
}

#[test]
fn attributes_tell_series_apart() {
    let resource = shared();
    let mut aggregator = Aggregator::new(Config::default(), 0);
    let changes: [&dyn Fn(&mut Exchange); 8] = [
        &|_| {},
        &|e| http(e).method = "POST".into(),
        &|e| http(e).status = 500,
        &|e| http(e).version = (1, 0),
        &|e| e.failure = Some(Failure::Reset),
        &|e| e.failure = Some(Failure::Closed),
        &|e| http(e).forwarded_proto = Some("https".into()),
        &|e| http(e).target = "/another?path".into(), // no attribute of a metric
    ];
    for change in changes {
        let mut exchange = exchange(Role::Server);
        change(&mut exchange);
        aggregator.record(&on(&resource, exchange));
    }
    assert_eq!(aggregator.series_len(), 7);
    let batches = aggregator.collect(1);
    assert_eq!(count(&batches, "http.server.request.duration"), 8);
}

#[test]
fn request_without_response_has_no_response_size() {
    let mut aggregator = Aggregator::new(Config::default(), 0);
    let mut exchange = exchange(Role::Server);
    http(&mut exchange).status = 0;
    exchange.failure = Some(Failure::Reset);
    aggregator.record(&span(exchange));
    let batches = aggregator.collect(1);
    assert!(metric(&batches, "http.server.response.body.size").is_none());
    let duration = points(metric(&batches, "http.server.request.duration").unwrap());
    let attributes = collected(&duration[0].point.attributes);
    assert_eq!(attributes.text("error.type"), "connection_reset");
    assert_eq!(attributes.text("http.response.status_code"), "-");
}

#[test]
fn what_is_beyond_the_limit_overflows_and_nothing_is_lost() {
    let resource = shared();
    let mut aggregator = Aggregator::new(Config { max_series: 10, ..Config::default() }, 0);
    for status in 100..200 {
        let mut exchange = exchange(Role::Server);
        http(&mut exchange).status = status;
        aggregator.record(&on(&resource, exchange));
    }
    assert_eq!(aggregator.series_len(), 10);
    let batches = aggregator.collect(1);
    let points = points(metric(&batches, "http.server.request.duration").unwrap());
    assert_eq!(points.len(), 10);
    let overflow = points.last().unwrap();
    let attributes = collected(&overflow.point.attributes);
    assert_eq!(attributes.text("otel.metric.overflow"), "true");
    assert_eq!((attributes.0.len(), overflow.summary.count), (1, 91));
    assert_eq!(count(&batches, "http.server.request.duration"), 100);
}

#[test]
fn cumulative_series_keep_counting_from_one_start() {
    let resource = shared();
    let mut aggregator = Aggregator::new(Config::default(), 10);
    for round in 1..=3 {
        aggregator.record(&on(&resource, exchange(Role::Server)));
        let batches = aggregator.collect(10 + round);
        let point = &points(&batches[0].metrics[0])[0];
        assert_eq!((point.summary.count, point.point.start_unix_ns), (round, 10));
    }
    assert_eq!(aggregator.collect(20).len(), 1, "told again without new measurements");
}

#[test]
fn idle_series_ends_and_begins_anew_after_its_end() {
    let resource = shared();
    let config = Config { idle_ns: 100, ..Config::default() };
    let mut aggregator = Aggregator::new(config, 0);
    aggregator.record(&on(&resource, exchange(Role::Server)));
    let mut other = exchange(Role::Server);
    http(&mut other).status = 500;
    aggregator.record(&on(&resource, other.clone()));
    assert_eq!(aggregator.collect(50).len(), 1);
    aggregator.record(&on(&resource, other.clone()));
    assert_eq!(points(&aggregator.collect(149)[0].metrics[0]).len(), 2);
    assert_eq!(points(&aggregator.collect(150)[0].metrics[0]).len(), 1);
    aggregator.record(&on(&resource, other));
    aggregator.record(&on(&resource, exchange(Role::Server)));
    let batches = aggregator.collect(151);
    let starts: Vec<_> = points(&batches[0].metrics[0])
        .iter()
        .map(|point| (point.summary.count, point.point.start_unix_ns))
        .collect();
    assert_eq!(starts, [(3, 0), (1, 150)]);
    assert!(aggregator.collect(1000).is_empty());
    assert!(aggregator.resources.is_empty() && aggregator.places.is_empty());
}

#[test]
fn delta_intervals_follow_each_other_and_hold_nothing() {
    let resource = shared();
    let mut aggregator = Aggregator::new(delta(), 10);
    for (now, start) in [(20, 10), (30, 20)] {
        aggregator.record(&on(&resource, exchange(Role::Server)));
        let batches = aggregator.collect(now);
        let point = &points(&batches[0].metrics[0])[0];
        let Summary { count, min, max, .. } = point.summary;
        assert_eq!((count, min, max), (1, Some(0.005), Some(0.005)));
        assert_eq!((point.point.start_unix_ns, point.point.time_unix_ns), (start, now));
        assert_eq!(aggregator.series_len(), 0);
    }
    assert!(aggregator.collect(40).is_empty());
}

#[test]
fn exemplars_are_kept_for_readers_who_come_when_they_like() {
    let config = Config { keep_exemplars_ns: u64::MAX, ..Config::default() };
    let mut aggregator = Aggregator::new(config, 0);
    aggregator.record(&span(exchange(Role::Server)));
    for _ in 0..2 {
        match &aggregator.collect(1)[0].metrics[0].data {
            Data::Histogram { points, .. } => assert_eq!(points[0].point.exemplars.len(), 1),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn exemplars_follow_the_filter_and_are_told_once() {
    for (filter, sampled, expected) in [
        (ExemplarFilter::AlwaysOn, false, 1),
        (ExemplarFilter::AlwaysOff, true, 0),
        (ExemplarFilter::TraceBased, true, 1),
        (ExemplarFilter::TraceBased, false, 0),
    ] {
        for histogram in [HistogramKind::Explicit, HistogramKind::Exponential] {
            let config = Config { exemplars: filter, histogram, ..Config::default() };
            let mut aggregator = Aggregator::new(config, 0);
            let mut span = span(exchange(Role::Server));
            span.flags = TraceFlags(u8::from(sampled));
            aggregator.record(&span);
            for expected in [expected, 0] {
                let batches = aggregator.collect(1);
                let exemplars = match &batches[0].metrics[0].data {
                    Data::Histogram { points, .. } => &points[0].point.exemplars,
                    Data::ExponentialHistogram { points, .. } => &points[0].point.exemplars,
                    other => panic!("{other:?}"),
                };
                assert_eq!(exemplars.len(), expected, "{filter:?} {sampled}");
                if let Some(exemplar) = exemplars.first() {
                    assert_eq!(exemplar.trace_id, span.trace_id);
                    assert_eq!(exemplar.span_id, span.span_id);
                    assert_eq!(exemplar.time_unix_ns, span.end_unix_ns);
                }
            }
        }
    }
}

#[test]
fn resources_have_batches_of_their_own() {
    let mut aggregator = Aggregator::new(Config::default(), 0);
    let (one, other) = (shared(), shared());
    for resource in [&one, &other, &one] {
        aggregator.record(&on(resource, exchange(Role::Server)));
    }
    let batches = aggregator.collect(1);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].resource, one);
    assert_eq!(count(&batches[..1], "http.server.request.duration"), 2);
}

/// An exchange of a database, by the protocol's variant.
fn database(
    role: Role,
    detail: fn(Box<DbExchange>) -> Detail,
    operation: &'static str,
) -> Exchange {
    let db = DbExchange { operation: operation.into(), ..DbExchange::default() };
    Exchange { detail: detail(Box::new(db)), ..exchange(role) }
}

#[test]
fn each_family_has_its_instruments_and_bounds_and_a_name_stands_once() {
    let resource = shared();
    let mut aggregator = Aggregator::new(Config::default(), 0);
    // In any order: what is told is in that of families, servers first.
    for exchange in [
        database(Role::Client, Detail::Postgres, "SELECT"),
        database(Role::Server, Detail::Redis, "GET"),
        exchange(Role::Client),
        database(Role::Client, Detail::Redis, "GET"),
        exchange(Role::Server),
    ] {
        aggregator.record(&on(&resource, exchange));
    }
    assert_eq!(aggregator.series_len(), 5);
    let batches = aggregator.collect(1);
    let names: Vec<_> = batches[0].metrics.iter().map(|metric| &*metric.name).collect();
    assert_eq!(
        names,
        [
            "http.server.request.duration",
            "http.server.request.body.size",
            "http.server.response.body.size",
            "http.client.request.duration",
            "http.client.request.body.size",
            "http.client.response.body.size",
            "db.server.operation.duration",
            "db.client.operation.duration",
        ]
    );
    let db = metric(&batches, "db.client.operation.duration").unwrap();
    assert_eq!((&*db.unit, points(db).len()), ("s", 2));
    let systems = points(db).iter().map(|p| collected(&p.point.attributes).text("db.system.name"));
    assert_eq!(systems.collect::<Vec<_>>(), ["postgresql", "redis"]);
    for point in points(db) {
        assert_eq!(*point.bounds, [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]);
        assert_eq!(point.bucket_counts, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(point.point.exemplars.len(), 1);
    }
    let http = points(metric(&batches, "http.client.request.duration").unwrap());
    assert_eq!(http[0].bounds.len(), 14);
}

#[test]
fn what_is_beyond_the_limit_overflows_in_each_family_apart() {
    let resource = shared();
    let mut aggregator = Aggregator::new(Config { max_series: 3, ..Config::default() }, 0);
    for operation in ["GET", "SET", "DEL", "INCR", "GET"] {
        aggregator.record(&on(&resource, database(Role::Client, Detail::Redis, operation)));
    }
    aggregator.record(&on(&resource, exchange(Role::Client)));
    let batches = aggregator.collect(1);
    let db = points(metric(&batches, "db.client.operation.duration").unwrap());
    let counts: Vec<_> = db.iter().map(|point| point.summary.count).collect();
    assert_eq!(counts, [2, 1, 2]);
    assert_eq!(collected(&db[2].point.attributes).text("otel.metric.overflow"), "true");
    let http = points(metric(&batches, "http.client.request.duration").unwrap());
    assert_eq!(collected(&http[0].point.attributes).text("otel.metric.overflow"), "-");
}

/// Printed, not asserted: a cost is a number with a place.
#[test]
#[ignore = "a measurement: run with --release --nocapture"]
fn cost_per_exchange() {
    for (what, histogram) in
        [("explicit", HistogramKind::Explicit), ("exponential", HistogramKind::Exponential)]
    {
        for role in [Role::Server, Role::Client] {
            let mut aggregator = Aggregator::new(Config { histogram, ..delta() }, 0);
            let resource = shared();
            let spans: Vec<_> = (0..64)
                .map(|i| {
                    let mut span = on(&resource, exchange(role));
                    span.route = Some(format!("/route/{i}/{{id}}").into());
                    span.end_unix_ns = span.start_unix_ns + 1_000_000 * (i + 1);
                    span
                })
                .collect();
            let begin = std::time::Instant::now();
            const ROUNDS: u32 = 20_000;
            for _ in 0..ROUNDS {
                for span in &spans {
                    aggregator.record(span);
                }
            }
            let each = begin.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS * 64);
            println!("{what} {role:?}: {each:.0} ns per exchange");
        }
    }
    let mut routes = crate::semantics::route::Routes::new(Default::default());
    let paths = [
        "/api/v1/users/12345/orders",
        "/api/v1/items/9f86d081884c7d65",
        "/health",
        "/static/js/app.3f2a1b.js",
        "/o/123e4567-e89b-12d3-a456-426614174000/lines/7",
    ];
    let begin = std::time::Instant::now();
    const ROUNDS: u32 = 200_000;
    for _ in 0..ROUNDS {
        for path in paths {
            std::hint::black_box(routes.route("shop", path, 200));
        }
    }
    let each = begin.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS * 5);
    println!("route: {each:.0} ns per path");
}
