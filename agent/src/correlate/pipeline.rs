//! The stages behind reassembly, joined: it takes what [`Sink`] is told and yields spans, metrics and
//! the books. Everything runs on the one thread that runs reassembly; nothing here blocks.

use std::sync::Arc;

use super::Correlator;
use crate::{
    accounting::Lost,
    aggregate::Aggregator,
    clock::Clock,
    exchange::{Detail, Exchange, Role, Sink, Started},
    resource::Resource,
    semantics::{Target, route::Routes},
    span::Span,
};

/// Knows whose exchange it is.
pub trait Resources {
    /// The resource of a process; some resource also for one that is gone already.
    fn resource(&mut self, tgid: u32) -> Arc<Resource>;
}

/// Takes what is to leave the agent.
pub trait Output {
    /// A sampled span.
    fn span(&mut self, span: Span);
    /// As [`Sink::capture`].
    fn capture(&mut self, conn_id: u64, mode: u8);
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
    pub routes: Routes,
    /// Several, where readers want different temporalities or histograms.
    pub aggregators: Vec<Aggregator>,
    pub clock: Clock,
    pub resources: R,
    pub output: O,
    counts: Counts,
}

impl<R: Resources, O: Output> Pipeline<R, O> {
    pub fn new(
        correlator: Correlator,
        routes: Routes,
        aggregators: Vec<Aggregator>,
        clock: Clock,
        resources: R,
        output: O,
    ) -> Self {
        let counts = Counts::default();
        Self { correlator, routes, aggregators, clock, resources, output, counts }
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

impl<R: Resources, O: Output> Sink for Pipeline<R, O> {
    fn started(&mut self, started: &Started) {
        self.correlator.started(started);
    }

    fn finished(&mut self, exchange: Exchange) {
        let resource = self.resources.resource(exchange.connection.tgid);
        let Detail::Http(http) = &exchange.detail;
        let route = match exchange.role {
            Role::Server => {
                let target = Target::parse(&http.method, &http.target);
                self.routes.route(resource.service_name(), target.path, http.status)
            }
            Role::Client => None,
        };
        let offset = self.clock.offset_at(exchange.end_mono_ns);
        let span = self.correlator.finished(exchange, resource, route, offset);
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

    fn lost(&mut self, serial: u64, reason: Lost) {
        self.correlator.lost(serial);
        self.counts.lost[reason as usize] += 1;
    }

    fn capture(&mut self, conn_id: u64, mode: u8) {
        self.output.capture(conn_id, mode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate,
        clock::ClockOffset,
        correlate::{Limits, sampler::Sampler},
        semantics::{
            route,
            tests::{exchange, http},
        },
    };

    struct OneService(Arc<Resource>);

    impl Resources for OneService {
        fn resource(&mut self, _: u32) -> Arc<Resource> {
            Arc::clone(&self.0)
        }
    }

    impl Output for Vec<Span> {
        fn span(&mut self, span: Span) {
            self.push(span);
        }
        fn capture(&mut self, _: u64, _: u8) {}
    }

    fn pipeline(sampler: &str) -> Pipeline<OneService, Vec<Span>> {
        let service = Resource::new([("service.name".into(), "shop".into())]);
        Pipeline::new(
            Correlator::new(Sampler::parse(sampler, Some("0.5")).unwrap(), Limits::default()),
            Routes::new(route::Config::default()),
            vec![Aggregator::new(aggregate::Config::default(), 0)],
            Clock::fixed(ClockOffset::fixed(1_000)),
            OneService(Arc::new(service)),
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
    fn books_balance_and_metrics_count_what_was_sampled_out() {
        let mut pipeline = pipeline("traceidratio");
        for serial in 1..=100 {
            let mut exchange = exchange(Role::Client);
            exchange.serial = serial;
            http(&mut exchange).trace_parent = None;
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
    fn reasons_stand_in_the_order_of_the_list() {
        for (at, reason) in Lost::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
