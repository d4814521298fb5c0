use super::*;
use crate::{
    aggregate,
    clock::ClockOffset,
    correlate::{
        Limits,
        policy::{HeaderKeys, Policy},
        sampler::Sampler,
    },
    exchange::{At, Connection, HeaderValues},
    resource::Resource,
    semantics::{
        filter::{Filter, Glob, Instrumented, Rule, Signal},
        route,
        tests::{exchange, http},
    },
    span::ParentFrom,
    trace_context::{TraceContext, TraceState},
};

struct OneService(Whose);

fn service(name: &str) -> Arc<Resource> {
    Arc::new(Resource::new([("service.name".into(), name.into())]))
}

impl Resources for OneService {
    fn whose(&mut self, _: u32) -> Whose {
        self.0.clone()
    }

    fn selector(&self, tgid: u32) -> Option<usize> {
        (tgid == 1).then_some(0)
    }

    fn seen_since_ns(&self, _: u32) -> u64 {
        0
    }

    fn peer(&self, address: IpAddr, start_mono_ns: u64) -> Option<Arc<Peer>> {
        let name = format!("{address} at {start_mono_ns}").into();
        Some(Arc::new(Peer { name, namespace: "".into(), is_pod: false }))
    }
}

impl Output for Vec<Span> {
    fn span(&mut self, span: Span) {
        self.push(span);
    }
    fn capture(&mut self, _: u64, _: u8) {}
}

fn pipeline(sampler: &str) -> Pipeline<OneService, Vec<Span>> {
    pipeline_with(sampler, Vec::new())
}

/// Process 1 is of the first selector.
fn pipeline_with(sampler: &str, of_selectors: Vec<Policy>) -> Pipeline<OneService, Vec<Span>> {
    let sampler = Sampler::parse(sampler, Some("0.5")).unwrap();
    Pipeline::new(
        Correlator::new(sampler, Limits::default()),
        Policies::new(
            Policy { sampler, routes: Some(route::Config::default()), ..Policy::default() },
            of_selectors,
        ),
        vec![Aggregator::new(aggregate::Config::default(), 0)],
        Clock::fixed(ClockOffset::fixed(1_000)),
        OneService(Whose::Known(service("shop"))),
        Vec::new(),
    )
}

#[test]
fn span_has_its_route_times_and_resource() {
    let mut pipeline = pipeline("always_on");
    pipeline.finished(exchange(Role::Server));
    let span = &pipeline.output[0];
    assert_eq!(span.route.as_deref(), Some("/users/{id}"));
    assert_eq!((span.start_unix_ns, span.end_unix_ns), (1_001_000, 6_001_000));
    assert_eq!(span.resource.service_name(), "shop");
}

#[test]
fn clients_have_peers_by_the_other_end_and_the_beginning_servers_have_none() {
    let mut pipeline = pipeline("always_on");
    pipeline.finished(exchange(Role::Client));
    pipeline.finished(exchange(Role::Server));
    let [client, server] = &*pipeline.output else { panic!("{:?}", pipeline.output) };
    let name = client.peer.as_ref().map(|peer| peer.name.to_string());
    let start = client.exchange.start_mono_ns;
    assert_eq!(name, Some(format!("10.0.0.2 at {start}")));
    assert_eq!(server.peer, None);
}

#[test]
fn books_balance_and_metrics_count_what_was_sampled_out() {
    let mut pipeline = pipeline("traceidratio");
    for serial in 1..=100 {
        let mut exchange = exchange(Role::Client);
        exchange.serial = serial;
        exchange.trace.parent = None;
        pipeline.finished(exchange);
    }
    pipeline.lost(0, Lost::Gap);
    pipeline.lost(7, Lost::Malformed);
    let counts = pipeline.counts();
    assert_eq!(counts.ended(), 102);
    assert_eq!((counts.lost(Lost::Gap), counts.lost(Lost::HeadCut)), (1, 0));
    assert!(counts.spans > 0 && counts.sampled_out > 0);
    assert_eq!(counts.spans, pipeline.output.len() as u64);
    let batches = pipeline.aggregators[0].collect(10_000_000);
    assert_eq!(aggregate::tests::count(&batches, "http.client.request.duration"), 100);
}

#[test]
fn spans_of_a_process_that_becomes_known_wait_and_hold_up_nobody() {
    let mut pipeline = pipeline("always_on");
    pipeline.resources.0 = Whose::Provisional(service("provisional"));
    pipeline.finished(exchange(Role::Server));
    pipeline.release_settled(0);
    assert_eq!((pipeline.output.len(), pipeline.counts().ended()), (0, 0));
    pipeline.resources.0 = Whose::Known(service("other"));
    pipeline.finished(exchange(Role::Server));
    assert_eq!(pipeline.output.len(), 1);
    pipeline.resources.0 = Whose::Known(service("shop"));
    pipeline.release_settled(0);
    let span = &pipeline.output[1];
    assert_eq!(span.resource.service_name(), "shop");
    assert_eq!(span.route.as_deref(), Some("/users/{id}"));
    let batches = pipeline.aggregators[0].collect(10_000_000);
    let services: Vec<_> = batches.iter().map(|batch| batch.resource.service_name()).collect();
    assert_eq!(services, ["other", "shop"]);
}

#[test]
fn what_waits_goes_at_the_end_and_beyond_the_bound() {
    let mut pipeline = pipeline("always_on");
    pipeline.resources.0 = Whose::Provisional(service("provisional"));
    for _ in 0..=MAX_WAITING {
        pipeline.finished(exchange(Role::Server));
    }
    assert_eq!(pipeline.output.len(), 1);
    pipeline.release_waiting();
    assert_eq!(pipeline.counts().spans, MAX_WAITING as u64 + 1);
}

#[test]
fn whoever_has_opted_out_has_no_spans_not_even_those_that_waited() {
    let mut pipeline = pipeline("always_on");
    pipeline.resources.0 = Whose::Provisional(service("provisional"));
    pipeline.finished(exchange(Role::Server));
    pipeline.resources.0 = Whose::OptedOut;
    pipeline.finished(exchange(Role::Server));
    pipeline.release_waiting();
    assert!(pipeline.output.is_empty());
    assert_eq!(pipeline.counts().lost(Lost::OptedOut), 2);
    assert!(pipeline.aggregators[0].collect(10_000_000).is_empty());
}

#[test]
fn what_holds_for_a_selector_holds_for_its_processes_alone() {
    let off = Sampler::parse("always_off", None).unwrap();
    let routes = route::Config { mode: route::Mode::Off, ..route::Config::default() };
    let tenant = "http.request.header.x-tenant";
    let keys = HeaderKeys { request: vec![tenant.into()], response: vec![] };
    let quiet = Policy { sampler: off, routes: Some(routes), headers: keys, ..Policy::default() };
    let loud = Sampler::parse("always_on", None).unwrap();
    let mut pipeline = pipeline_with("always_on", vec![quiet.clone()]);
    let mut finish = |tgid: u32| {
        let mut exchange = exchange(Role::Server);
        let connection = Connection { tgid, ..(*exchange.connection).clone() };
        exchange.connection = Arc::new(connection);
        exchange.trace.parent = None;
        let message = http(&mut exchange);
        let header = |key: &str| HeaderValues { key: key.into(), values: vec!["a".into()] };
        message.request_headers = vec![header(tenant), header("http.request.header.x-other")];
        pipeline.finished(exchange);
    };
    finish(1);
    finish(2);
    let [span] = &*pipeline.output else { panic!("{:?}", pipeline.output) };
    assert_eq!((span.exchange.connection.tgid, span.route.is_some()), (2, true));
    let found = span.exchange.detail.http().unwrap();
    assert!(found.request_headers.is_empty(), "nobody asked for them");
    let quiet = Policy { sampler: loud, ..quiet };
    pipeline.policies.replace(Policies::new(Policy::default(), vec![quiet]));
    let mut exchange = exchange(Role::Server);
    exchange.connection = Arc::new(Connection { tgid: 1, ..(*exchange.connection).clone() });
    let value = HeaderValues { key: tenant.into(), values: vec!["a".into()] };
    http(&mut exchange).request_headers = vec![value];
    exchange.trace.parent = None;
    pipeline.finished(exchange);
    let span = pipeline.output.last().unwrap();
    assert_eq!(span.route, None);
    let found = span.exchange.detail.http().unwrap();
    assert_eq!(&*found.request_headers[0].key, tenant);
}

#[test]
fn what_filters_leave_out_is_counted_for_each_signal_and_by_selector() {
    let rule = |path: &str, signal| {
        let pattern = path.parse().unwrap();
        Rule { paths: vec![Glob { pattern, negated: false }], signal, ..Rule::default() }
    };
    let filter = |signal| Filter { exclude: vec![rule("/users/*", signal)], ..Filter::default() };
    let of_first = Policy { filter: filter(Signal::Metrics), ..Policy::default() };
    let mut pipeline = pipeline_with("always_on", vec![of_first]);
    let mut finish = |tgid: u32| {
        let mut exchange = exchange(Role::Server);
        exchange.connection = Arc::new(Connection { tgid, ..(*exchange.connection).clone() });
        pipeline.finished(exchange);
        pipeline.counts()
    };
    let counts = finish(1);
    assert_eq!((counts.spans, counts.filtered, counts.unmeasured), (1, 0, 1));
    let counts = finish(2);
    assert_eq!((counts.spans, counts.filtered, counts.unmeasured), (2, 0, 1));
    let of_all = Policy { filter: filter(Signal::Traces), ..Policy::default() };
    pipeline.policies.replace(Policies::new(of_all, Vec::new()));
    pipeline.finished(exchange(Role::Server));
    let counts = pipeline.counts();
    assert_eq!((counts.spans, counts.filtered, counts.unmeasured), (2, 1, 1));
    assert_eq!((counts.ended(), pipeline.output.len()), (3, 2));
    let batches = pipeline.aggregators[0].collect(10_000_000);
    assert_eq!(aggregate::tests::count(&batches, "http.server.request.duration"), 2);
}

#[test]
fn exports_of_agents_are_left_out_on_both_sides() {
    let mut pipeline = pipeline("always_on");
    for role in [Role::Server, Role::Client] {
        let mut exchange = exchange(role);
        http(&mut exchange).user_agent = Some("OTel-OTLP-Exporter-Remora/9.9.9".into());
        pipeline.finished(exchange);
    }
    let counts = pipeline.counts();
    assert_eq!((counts.spans, counts.filtered, counts.unmeasured), (0, 2, 2));
    assert!(pipeline.aggregators[0].collect(10_000_000).is_empty());
}

#[test]
fn reasons_stand_in_the_order_of_the_list() {
    for (at, reason) in Lost::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, at);
    }
}

#[test]
fn signals_that_a_process_exports_itself_are_left_out_from_then_on() {
    let export = |target: &str| {
        let mut exchange = exchange(Role::Client);
        let http = http(&mut exchange);
        (http.target, http.status) = (target.into(), 200);
        http.user_agent = Some("OTel-OTLP-Exporter-Python/1.38.0".into());
        exchange
    };
    let mut pipeline = pipeline("always_on");
    pipeline.finished(exchange(Role::Server));
    pipeline.finished(export("/v1/traces"));
    pipeline.finished(exchange(Role::Server));
    let counts = pipeline.counts();
    assert_eq!((counts.spans, counts.filtered, counts.unmeasured), (1, 2, 1), "measured still");
    pipeline.finished(export("/v1/metrics"));
    pipeline.finished(exchange(Role::Server));
    assert_eq!((pipeline.counts().spans, pipeline.counts().unmeasured), (1, 3));
    // Another program of this number.
    pipeline.began(exchange(Role::Server).connection.tgid);
    pipeline.finished(exchange(Role::Server));
    assert_eq!(pipeline.counts().spans, 2);
    assert_eq!(pipeline.counts().ended(), 6);
}

#[test]
fn requests_of_a_process_that_exports_itself_are_parents_only_while_both_are_kept() {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    // One process asks another one, on a connection from this port; from what the other's span has its parent.
    let asks = |pipeline: &mut Pipeline<OneService, Vec<Span>>, port: u16| {
        let at = Some(At { client: address(port), server: address(80), netns: 1, request: 0 });
        let ends = [Role::Client, Role::Server].map(|role| Exchange {
            serial: u64::from(port) * 2 + role as u64,
            trace: TraceContext::default(),
            ..exchange(role)
        });
        pipeline.opened(address(port), address(80));
        for Exchange { role, serial, start_mono_ns, connection, tid, .. } in &ends {
            pipeline.started(&Started {
                serial: *serial,
                role: *role,
                // The SERVER is another process.
                tgid: connection.tgid + u32::from(*role == Role::Server),
                at,
                netns: 1,
                tid: *tid,
                context: 0,
                start_mono_ns: *start_mono_ns,
                trace_parent: None,
                trace_state: TraceState::default(),
            });
        }
        let [client, server] = ends;
        let mut place = |exchange| {
            let (resource, offset) = (service("shop"), ClockOffset::fixed(0));
            pipeline.correlator.finished(exchange, resource, offset).parent_from
        };
        place(client);
        place(server)
    };
    let mut export = exchange(Role::Client);
    (http(&mut export).target, http(&mut export).status) = ("/v1/traces".into(), 200);
    http(&mut export).user_agent = Some("OTel-OTLP-Exporter-Python/1.38.0".into());
    let mut pipeline = pipeline("always_on");
    assert_eq!(asks(&mut pipeline, 1000), ParentFrom::Connection);
    pipeline.finished(export);
    assert_eq!(asks(&mut pipeline, 1001), ParentFrom::Root);
    // The configuration is read again.
    let filter = Filter { instrumented: Instrumented::Both, ..Filter::default() };
    pipeline.policies.replace(Policies::new(Policy { filter, ..Policy::default() }, Vec::new()));
    assert_eq!(asks(&mut pipeline, 1002), ParentFrom::Connection);
}

/// Keeps errors; traces wait for a second.
fn errors() -> tail::Settings {
    tail::Settings {
        wait_ns: 1_000_000_000,
        wait_after_root_ns: 0,
        max_traces: 100,
        max_bytes: 1 << 20,
        remembered: tail::Remembered { sampled: 10, not_sampled: 10 },
        sample_on_first_match: false,
        policies: vec![tail::Definition {
            name: "errors".into(),
            policy: tail::Policy::StatusCode(vec![tail::StatusCode::Error]),
        }],
    }
}

/// Ends a request that this status answers, in a trace of its own.
fn answered(pipeline: &mut Pipeline<OneService, Vec<Span>>, serial: u64, status: u16) {
    let mut exchange = exchange(Role::Server);
    (exchange.serial, exchange.trace.parent) = (serial, None);
    http(&mut exchange).status = status;
    pipeline.finished(exchange);
}

/// Traces of all exemplars.
fn exemplars(pipeline: &mut Pipeline<OneService, Vec<Span>>) -> Vec<TraceId> {
    let mut traces = Vec::new();
    for batch in pipeline.aggregators[0].collect(10_000_000) {
        for metric in batch.metrics {
            if let crate::metrics_data::Data::Histogram { points, .. } = metric.data {
                let exemplars = points.into_iter().flat_map(|point| point.point.exemplars);
                traces.extend(exemplars.map(|exemplar| exemplar.trace_id));
            }
        }
    }
    traces.sort_unstable();
    traces.dedup();
    traces
}

#[test]
fn tail_sampling_keeps_books_and_metrics_and_exemplars_are_of_traces_that_were_kept() {
    let mut pipeline = pipeline("always_on");
    pipeline.sample_tails(Some(errors()));
    for serial in 1..=20 {
        answered(&mut pipeline, serial, if serial % 10 == 0 { 500 } else { 200 });
    }
    let counts = pipeline.counts();
    assert_eq!((counts.waiting, counts.spans, counts.ended()), (20, 0, 20));
    assert!(exemplars(&mut pipeline).is_empty(), "nobody knows yet");
    pipeline.reach(2_000_000_000);
    let counts = pipeline.counts();
    assert_eq!((counts.waiting, counts.spans, counts.sampled_out, counts.ended()), (0, 2, 18, 20));
    // The last one of each bucket.
    assert_eq!(exemplars(&mut pipeline), [pipeline.output[1].trace_id]);
    let batches = pipeline.aggregators[0].collect(10_000_000);
    assert_eq!(aggregate::tests::count(&batches, "http.server.request.duration"), 20);
}

#[test]
fn head_sampling_comes_first() {
    let mut pipeline = pipeline("always_off");
    pipeline.sample_tails(Some(errors()));
    answered(&mut pipeline, 1, 500);
    let counts = pipeline.counts();
    assert_eq!((counts.waiting, counts.sampled_out), (0, 1));
    assert_eq!(pipeline.tail_counts().unwrap().waiting.spans, 0);
}

#[test]
fn without_tail_sampling_any_more_what_waits_is_decided() {
    let mut pipeline = pipeline("always_on");
    assert!(pipeline.tail_counts().is_none() && !pipeline.decide_next());
    pipeline.sample_tails(Some(errors()));
    answered(&mut pipeline, 1, 500);
    answered(&mut pipeline, 2, 200);
    pipeline.sample_tails(None);
    answered(&mut pipeline, 3, 200);
    let counts = pipeline.counts();
    assert_eq!((counts.waiting, counts.spans, counts.sampled_out), (0, 2, 1));
}
