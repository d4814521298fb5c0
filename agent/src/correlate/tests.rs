//! Scenarios: what is seen, in order, and which parents come of it.

use std::collections::HashMap;

use remora_common::context;

use super::*;
use crate::{export::exportable::Placement, semantics::tests::exchange, trace_context::TraceState};

mod joins;
mod pools;

/// Feeds a correlator and keeps the spans by serial. Time goes by a millisecond per step.
struct Scene {
    correlator: Correlator,
    begun: HashMap<u64, Started>,
    spans: HashMap<u64, Span>,
    now: u64,
}

const TGID: u32 = 100;

impl Scene {
    fn new() -> Self {
        Self::with(Sampler::default(), Limits::default())
    }

    fn with(sampler: Sampler, limits: Limits) -> Self {
        let mut correlator = Correlator::new(sampler, limits);
        correlator.seen_since(TGID, 0, true);
        correlator.ids = IdGenerator::from_seed([1, 2, 3, 4]);
        Self { correlator, begun: HashMap::new(), spans: HashMap::new(), now: 100_000_000 }
    }

    fn begin(&mut self, role: Role, serial: u64, tid: u32, change: impl FnOnce(&mut Started)) {
        self.now += 1_000_000;
        let mut started = Started {
            serial,
            role,
            tgid: TGID,
            at: None,
            netns: 0,
            tid,
            context: 0,
            start_mono_ns: self.now,
            trace_parent: None,
            trace_state: TraceState::default(),
        };
        change(&mut started);
        self.correlator.started(&started);
        self.begun.insert(serial, started);
    }

    fn server(&mut self, serial: u64, tid: u32) {
        self.begin(Role::Server, serial, tid, |_| {});
    }

    fn client(&mut self, serial: u64, tid: u32) {
        self.begin(Role::Client, serial, tid, |_| {});
    }

    fn carrying(&mut self, role: Role, serial: u64, tid: u32, carried: TraceParent) {
        self.begin(role, serial, tid, |started| started.trace_parent = Some(carried));
    }

    fn end(&mut self, serial: u64) {
        self.end_with(serial, |_| {});
    }

    fn end_with(&mut self, serial: u64, change: impl FnOnce(&mut Exchange)) {
        self.now += 1_000_000;
        let started = self.begun.remove(&serial).expect("it was begun");
        let mut exchange = exchange(started.role);
        exchange.serial = serial;
        exchange.tid = started.tid;
        exchange.response_tid = started.tid;
        exchange.answer_tid = started.tid;
        exchange.context = started.context;
        exchange.start_mono_ns = started.start_mono_ns;
        exchange.end_mono_ns = self.now;
        exchange.trace.parent = started.trace_parent;
        exchange.trace.state = started.trace_state;
        change(&mut exchange);
        let span = self.correlator.finished(
            exchange,
            Arc::new(Resource::default()),
            ClockOffset::fixed(0),
        );
        self.spans.insert(serial, span);
    }

    fn run(&mut self, role: Role, serial: u64, tid: u32) {
        self.begin(role, serial, tid, |_| {});
        self.end(serial);
    }

    #[track_caller]
    fn child(&self, serial: u64, of: u64) {
        let (child, parent) = (&self.spans[&serial], &self.spans[&of]);
        assert_eq!(child.parent_span_id, Some(parent.span_id), "{serial} below {of}");
        assert_eq!(child.trace_id, parent.trace_id);
        assert_eq!(child.flags, parent.flags);
        assert_eq!(child.parent_from, ParentFrom::Context);
    }

    #[track_caller]
    fn alone(&self, serial: u64, from: ParentFrom) {
        let span = &self.spans[&serial];
        assert_eq!((span.parent_span_id, span.parent_from), (None, from), "{serial}");
        let traces = self.spans.values().filter(|other| other.trace_id == span.trace_id);
        assert_eq!(traces.count(), 1, "{serial} is in a trace of its own");
    }
}

fn carried(trace: u8, span: u8, flags: u8) -> TraceParent {
    TraceParent {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([span; 8]),
        flags: TraceFlags(flags),
    }
}

#[test]
fn requests_of_a_handling_thread_are_its_children() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.run(Role::Client, 2, 7);
    scene.run(Role::Client, 3, 7);
    scene.run(Role::Client, 4, 8);
    scene.end(1);
    scene.run(Role::Client, 5, 7);
    scene.child(2, 1);
    scene.child(3, 1);
    assert_eq!(scene.spans[&1].parent_from, ParentFrom::Root);
    scene.alone(4, ParentFrom::Root);
    scene.alone(5, ParentFrom::Root);
    assert_eq!(scene.correlator.open_len(), 0);
}

#[test]
fn sixteen_threads_keep_their_own_children() {
    let mut scene = Scene::new();
    for round in 0..50 {
        for thread in 0..16_u32 {
            scene.server(round * 100 + u64::from(thread), thread);
        }
        for thread in (0..16_u32).rev() {
            scene.client(round * 100 + 20 + u64::from(thread), thread);
        }
        for thread in 0..16_u32 {
            scene.end(round * 100 + 20 + u64::from(thread));
            scene.end(round * 100 + u64::from(thread));
            scene.child(round * 100 + 20 + u64::from(thread), round * 100 + u64::from(thread));
        }
    }
}

#[test]
fn parallel_requests_of_one_handler_are_all_its_children() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.client(2, 7);
    scene.client(3, 7);
    scene.end(3);
    scene.end(2);
    scene.end(1);
    scene.child(2, 1);
    scene.child(3, 1);
}

#[test]
fn event_loop_has_no_inferred_parents_from_its_first_overlap_on() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.server(2, 7);
    scene.run(Role::Client, 3, 7);
    scene.end(1);
    scene.run(Role::Client, 4, 7);
    scene.end(2);
    scene.server(5, 7);
    scene.run(Role::Client, 6, 7);
    scene.end(5);
    scene.run(Role::Client, 7, 7);
    for serial in [3, 4, 6] {
        scene.alone(serial, ParentFrom::Ambiguous);
    }
    scene.alone(7, ParentFrom::Root);
}

#[test]
fn overlap_that_shows_up_while_a_request_is_open_takes_its_parent_back() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.client(2, 7);
    scene.server(3, 7); // a blocking thread would wait for 2
    scene.end(2);
    scene.end(1);
    scene.end(3);
    scene.alone(2, ParentFrom::Ambiguous);
}

#[test]
fn process_that_answers_from_other_threads_has_no_inferred_parents() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.client(2, 7);
    scene.end_with(2, |exchange| exchange.response_tid = 8);
    scene.client(3, 7);
    scene.end(3);
    scene.end(1);
    scene.alone(2, ParentFrom::Ambiguous);
    scene.alone(3, ParentFrom::Ambiguous);
    // Goroutines and tasks are still known for what they are.
    scene.begin(Role::Server, 4, 7, |started| started.context = context::context(42, 1));
    scene.begin(Role::Client, 5, 9, |started| started.context = context::context(42, 1));
    scene.end_with(5, |exchange| exchange.response_tid = 10);
    scene.end(4);
    scene.child(5, 4);
}

#[test]
fn incoming_header_decides_on_servers() {
    let mut scene = Scene::new();
    scene.carrying(Role::Server, 1, 7, carried(0xaa, 0xbb, 1));
    scene.run(Role::Client, 2, 7);
    scene.end(1);
    let server = &scene.spans[&1];
    assert_eq!(server.trace_id, TraceId([0xaa; 16]));
    assert_eq!(server.parent_span_id, Some(SpanId([0xbb; 8])));
    assert_eq!(server.parent_from, ParentFrom::Header);
    assert!(server.parent_is_remote());
    scene.child(2, 1);
}

#[test]
fn unsampled_header_is_honoured_down_to_the_children() {
    let mut scene = Scene::new();
    scene.carrying(Role::Server, 1, 7, carried(0xaa, 0xbb, 0b10));
    scene.run(Role::Client, 2, 7);
    scene.end(1);
    scene.child(2, 1);
    assert_eq!(scene.spans[&2].flags, TraceFlags(0b10));
}

#[test]
fn new_traces_say_that_their_ids_are_random_and_others_say_what_they_said() {
    let mut scene = Scene::new();
    scene.run(Role::Server, 1, 7);
    scene.carrying(Role::Server, 2, 8, carried(0xaa, 0xbb, 1));
    scene.end(2);
    assert_eq!(scene.spans[&1].flags, TraceFlags(0b11));
    assert_eq!(scene.spans[&2].flags, TraceFlags(0b01));
}

#[test]
fn children_by_context_keep_the_state_of_their_trace() {
    let state = |text: &str| TraceState(text.into());
    let exported =
        |scene: &Scene, serial: u64| Placement::from(&scene.spans[&serial]).trace_state.to_owned();
    let mut scene = Scene::new();
    scene.begin(Role::Server, 1, 7, |started| {
        started.trace_parent = Some(carried(0xaa, 0xbb, 1));
        started.trace_state = state("vendor=1");
    });
    scene.run(Role::Client, 2, 7);
    scene.begin(Role::Client, 3, 7, |started| {
        started.trace_parent = Some(carried(0xaa, 0xcc, 1));
        started.trace_state = state("vendor=2");
    });
    scene.end(3);
    scene.end(1);
    scene.server(4, 7);
    scene.run(Role::Client, 5, 7);
    scene.end(4);
    let found: Vec<_> = (1..=5).map(|serial| exported(&scene, serial)).collect();
    assert_eq!(found, ["vendor=1", "vendor=1", "vendor=2", "", ""]);
}

#[test]
fn client_that_continues_the_trace_of_its_server_is_its_child() {
    let mut scene = Scene::new();
    scene.carrying(Role::Server, 1, 7, carried(0xaa, 0xbb, 1));
    scene.carrying(Role::Client, 2, 7, carried(0xaa, 0xcc, 1));
    scene.end(2);
    scene.end(1);
    scene.child(2, 1);
}

#[test]
fn client_in_a_trace_of_its_own_stays_in_it() {
    for tid in [7, 8] {
        let mut scene = Scene::new();
        scene.carrying(Role::Server, 1, 7, carried(0xaa, 0xbb, 1));
        scene.carrying(Role::Client, 2, tid, carried(0xdd, 0xcc, 1));
        scene.end(2);
        scene.end(1);
        let client = &scene.spans[&2];
        assert_eq!(client.trace_id, TraceId([0xdd; 16]));
        assert_eq!(client.parent_span_id, Some(SpanId([0xcc; 8])));
        assert_eq!(client.parent_from, ParentFrom::Header);
        assert!(!client.parent_is_remote());
    }
}

#[test]
fn header_still_counts_where_the_thread_does_not() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.server(2, 7);
    scene.carrying(Role::Client, 3, 7, carried(0xaa, 0xbb, 1));
    scene.end(3);
    assert_eq!(scene.spans[&3].parent_from, ParentFrom::Header);
    assert_eq!(scene.spans[&3].trace_id, TraceId([0xaa; 16]));
}

#[test]
fn late_known_end_of_a_response_takes_later_requests_back() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.client(2, 7);
    let after_first = scene.now;
    scene.client(3, 7);
    scene.end_with(1, |exchange| exchange.end_mono_ns = after_first);
    scene.end(2);
    scene.end(3);
    scene.child(2, 1);
    scene.alone(3, ParentFrom::Root);
}

#[test]
fn lost_server_request_leaves_its_thread_in_doubt_for_one_request() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.correlator.lost(1);
    scene.run(Role::Client, 2, 7);
    scene.server(3, 7);
    scene.run(Role::Client, 4, 7);
    scene.end(3);
    scene.server(5, 7);
    scene.run(Role::Client, 6, 7);
    scene.end(5);
    scene.alone(2, ParentFrom::Root);
    scene.alone(4, ParentFrom::Ambiguous);
    scene.child(6, 5);
}

#[test]
fn full_table_still_gives_spans_and_never_a_wrong_parent() {
    let mut scene = Scene::with(Sampler::default(), Limits { open: 1, ..Limits::default() });
    scene.server(1, 7);
    scene.server(2, 7); // not remembered
    scene.end(1);
    scene.run(Role::Client, 3, 7);
    scene.end(2);
    scene.alone(2, ParentFrom::Root);
    scene.alone(3, ParentFrom::Root);
    scene.server(4, 7);
    scene.correlator.limits.open = 8;
    scene.run(Role::Client, 5, 7);
    scene.alone(5, ParentFrom::Ambiguous);
}

#[test]
fn exchanges_that_never_end_are_forgotten() {
    let mut scene = Scene::with(Sampler::default(), Limits { max_age_ns: 10, ..Limits::default() });
    scene.server(1, 7);
    scene.client(2, 8);
    assert_eq!(scene.correlator.expire(scene.now + 5), 1);
    assert_eq!(scene.correlator.expire(scene.now + 10), 1);
    assert_eq!(scene.correlator.open_len(), 0);
    scene.server(3, 7);
    scene.run(Role::Client, 4, 7);
    scene.alone(4, ParentFrom::Ambiguous);
}

#[test]
fn reused_process_id_starts_clean() {
    let mut scene = Scene::new();
    scene.server(1, 7);
    scene.server(2, 7);
    scene.correlator.process_gone(TGID);
    scene.server(3, 7);
    scene.run(Role::Client, 4, 7);
    scene.end(3);
    scene.child(4, 3);
}

#[test]
fn sampled_out_spans_say_so_in_their_flags() {
    let mut scene = Scene::with(Sampler::parse("always_off", None).unwrap(), Limits::default());
    scene.run(Role::Server, 1, 7);
    assert!(!scene.spans[&1].flags.is_sampled());
}

/// Printed, not asserted: a cost is a number with a place.
#[test]
#[ignore = "a measurement: run optimised, with --nocapture"]
fn cost_per_exchange() {
    let mut correlator = Correlator::new(Sampler::default(), Limits::default());
    let resource = Arc::new(Resource::default());
    const ROUNDS: u32 = 200_000;
    let exchanges: Vec<_> = (0..ROUNDS)
        .map(|i| {
            let mut exchange = exchange(if i % 2 == 0 { Role::Server } else { Role::Client });
            exchange.serial = u64::from(i);
            exchange.tid = i / 2 % 64;
            exchange.response_tid = exchange.tid;
            exchange
        })
        .collect();
    let begin = std::time::Instant::now();
    for exchange in exchanges {
        let Exchange { serial, role, tid, start_mono_ns, .. } = exchange;
        let (tgid, context, trace_parent) = (TGID, 0, None);
        let trace_state = TraceState::default();
        let (at, netns) = (None, 0);
        let started = Started {
            serial,
            role,
            tgid,
            at,
            netns,
            tid,
            context,
            start_mono_ns,
            trace_parent,
            trace_state,
        };
        correlator.started(&started);
        let offset = ClockOffset::fixed(0);
        std::hint::black_box(correlator.finished(exchange, Arc::clone(&resource), offset));
    }
    let each = begin.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
    println!("correlate: {each:.0} ns per exchange");
}
