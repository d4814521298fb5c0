//! The stages behind reassembly, joined: it takes what [`Sink`] is told and yields spans, metrics and
//! the books. Everything runs on the one thread that runs reassembly; nothing here blocks.

use std::{collections::VecDeque, mem, net::IpAddr, sync::Arc};

use super::{Correlator, policy::Policies};
use crate::{
    accounting::Lost,
    aggregate::Aggregator,
    clock::Clock,
    exchange::{Endpoint, Exchange, Role, Sink, Started},
    resource::Whose,
    semantics,
    span::{Peer, Span},
};

/// Knows whose exchange it is.
pub trait Resources {
    /// Whose the exchanges of a process are; somebody's also if it is gone already.
    fn whose(&mut self, tgid: u32) -> Whose;

    /// Position of the selector that took the process, where that is known.
    fn selector(&self, tgid: u32) -> Option<usize>;

    /// What the other end of a client's exchange is called, that began at `start_mono_ns`.
    fn peer(&self, _address: IpAddr, _start_mono_ns: u64) -> Option<Arc<Peer>> {
        None
    }
}

/// Spans that wait at once for more to be known of their processes; beyond it the oldest go as they are.
const MAX_WAITING: usize = 4096;

/// Takes what is to leave the agent.
pub trait Output {
    /// A sampled span.
    fn span(&mut self, span: Span);
    /// As [`Sink::capture`].
    fn capture(&mut self, conn_id: u64, policy: u8);
}

/// What became of all requests: `ended = spans + sampled_out + sum(lost)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    pub spans: u64,
    pub sampled_out: u64,
    /// By [`Lost`], in the order of [`Lost::ALL`].
    pub lost: [u64; Lost::ALL.len()],
}

impl Counts {
    /// Losses of one kind.
    #[must_use]
    pub const fn lost(&self, reason: Lost) -> u64 {
        self.lost[reason as usize]
    }

    /// All requests that ended in one way or another.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.spans + self.sampled_out + self.lost.iter().sum::<u64>()
    }
}

/// From exchanges to spans and metrics.
#[derive(Debug)]
pub struct Pipeline<R, O> {
    pub correlator: Correlator,
    pub policies: Policies,
    /// Several, where readers want different temporalities or histograms.
    pub aggregators: Vec<Aggregator>,
    pub clock: Clock,
    pub resources: R,
    pub output: O,
    counts: Counts,
    /// Spans of processes of which more will be known soon, oldest first.
    waiting: VecDeque<Span>,
}

impl<R: Resources, O: Output> Pipeline<R, O> {
    pub fn new(
        correlator: Correlator,
        policies: Policies,
        aggregators: Vec<Aggregator>,
        clock: Clock,
        resources: R,
        output: O,
    ) -> Self {
        let counts = Counts::default();
        let waiting = VecDeque::new();
        Self { correlator, policies, aggregators, clock, resources, output, counts, waiting }
    }

    fn peer(&self, exchange: &Exchange) -> Option<Arc<Peer>> {
        match (exchange.role, &exchange.connection.remote) {
            (Role::Client, Endpoint::Inet { addr, .. }) => {
                self.resources.peer(*addr, exchange.start_mono_ns)
            }
            _ => None,
        }
    }

    /// The selector whose policy counts.
    fn selector(&self, tgid: u32) -> Option<usize> {
        if self.policies.is_uniform() { None } else { self.resources.selector(tgid) }
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Lets go of spans that have waited: for what they waited for, or long enough.
    pub fn release_settled(&mut self) {
        for mut span in mem::take(&mut self.waiting) {
            match self.resources.whose(span.exchange.connection.tgid) {
                Whose::Known(resource) => {
                    span.resource = resource;
                    self.pass(span);
                }
                Whose::Provisional(_) => self.waiting.push_back(span),
                Whose::OptedOut => self.counts.lost[Lost::OptedOut as usize] += 1,
            }
        }
    }

    /// Lets go of all spans that wait, as they are: nothing more is going to be known.
    pub fn release_waiting(&mut self) {
        self.release_settled();
        for span in mem::take(&mut self.waiting) {
            self.pass(span);
        }
    }

    fn pass(&mut self, mut span: Span) {
        if let Some((path, status)) = semantics::path_to_route(&span.exchange) {
            let selector = self.selector(span.exchange.connection.tgid);
            let service = span.resource.service_name();
            span.route = self.policies.route(selector, service, path, status);
        }
        for aggregator in &mut self.aggregators {
            aggregator.record(&span);
        }
        if span.flags.is_sampled() {
            self.counts.spans += 1;
            self.output.span(span);
        } else {
            self.counts.sampled_out += 1;
        }
    }
}

impl<R: Resources, O: Output> Sink for Pipeline<R, O> {
    fn started(&mut self, started: &Started) {
        let selector = self.selector(started.tgid);
        self.correlator.decide_by(self.policies.sampler(selector));
        self.correlator.started(started);
    }

    fn answered(&mut self, serial: u64) {
        self.correlator.answered(serial);
    }

    fn finished(&mut self, mut exchange: Exchange) {
        let (resource, settled) = match self.resources.whose(exchange.connection.tgid) {
            Whose::Known(resource) => (resource, true),
            Whose::Provisional(resource) => (resource, false),
            Whose::OptedOut => return self.lost(exchange.serial, Lost::OptedOut),
        };
        let selector = self.selector(exchange.connection.tgid);
        self.correlator.decide_by(self.policies.sampler(selector));
        self.policies.headers(selector, &mut exchange.detail);
        let offset = self.clock.offset_at(exchange.end_mono_ns);
        // Its place is decided now: who comes after it must not wait for it.
        let mut span = self.correlator.finished(exchange, resource, offset);
        span.peer = self.peer(&span.exchange);
        if settled {
            return self.pass(span);
        }
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.pass(oldest);
        }
        self.waiting.push_back(span);
    }

    fn lost(&mut self, serial: u64, reason: Lost) {
        self.correlator.lost(serial);
        self.counts.lost[reason as usize] += 1;
    }

    fn capture(&mut self, conn_id: u64, policy: u8) {
        self.output.capture(conn_id, policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate,
        clock::ClockOffset,
        correlate::{
            Limits,
            policy::{HeaderKeys, Policy},
            sampler::Sampler,
        },
        exchange::{Connection, HeaderValues},
        resource::Resource,
        semantics::{
            route,
            tests::{exchange, http},
        },
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
        pipeline.release_settled();
        assert_eq!((pipeline.output.len(), pipeline.counts().ended()), (0, 0));
        pipeline.resources.0 = Whose::Known(service("other"));
        pipeline.finished(exchange(Role::Server));
        assert_eq!(pipeline.output.len(), 1);
        pipeline.resources.0 = Whose::Known(service("shop"));
        pipeline.release_settled();
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
        let quiet = Policy { sampler: off, routes: Some(routes), headers: keys };
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
    fn reasons_stand_in_the_order_of_the_list() {
        for (at, reason) in Lost::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
