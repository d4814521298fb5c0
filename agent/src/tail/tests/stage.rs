//! When traces are decided, and what becomes of spans that come before and after.

use super::*;

fn at(tail: &mut Tail, ms: u64) {
    tail.reach(SECOND + ms * MS, ClockOffset::fixed(0));
}

#[test]
fn a_trace_is_decided_as_a_whole_when_it_has_waited() {
    let mut tail = tail(vec![errors()]);
    tail.take(plain(1));
    at(&mut tail, 500);
    tail.take(of(1, (1, 2), 500));
    tail.take(plain(2));
    at(&mut tail, 999);
    assert_eq!((kept(&mut tail), tail.counts().waiting), (vec![], Tally { traces: 2, spans: 3 }));
    at(&mut tail, 1000);
    assert_eq!(kept(&mut tail), [1, 1]);
    at(&mut tail, 1500);
    assert_eq!((kept(&mut tail), tail.take_left_out()), (vec![], 1));
    let counts = tail.counts();
    assert_eq!((counts.waiting, counts.waiting_bytes), (Tally::default(), 0));
    assert_eq!(counts.early_traces + counts.early_memory, 0);
}

#[test]
fn late_spans_follow_the_decision_on_their_trace() {
    let mut tail = tail(vec![errors()]);
    tail.take(of(1, (1, 2), 500));
    tail.take(plain(2));
    at(&mut tail, 1000);
    assert_eq!(kept(&mut tail), [1]);
    tail.take(plain(1));
    // This error comes too late.
    tail.take(of(2, (1, 2), 500));
    assert_eq!((kept(&mut tail), tail.take_left_out()), (vec![1], 2));
    let counts = tail.counts();
    assert_eq!((counts.late_sampled, counts.late_left_out), (1, 1));
    assert_eq!(counts.sampled(), Tally { traces: 1, spans: 2 });
    assert_eq!(counts.not_sampled, Tally { traces: 1, spans: 2 });
}

#[test]
fn what_is_forgotten_waits_again() {
    let remembered = Remembered { sampled: 2, not_sampled: 1 };
    let mut tail = Tail::new(Settings { remembered, ..settings(vec![errors()]) });
    for number in 1..=3 {
        tail.take(of(number, (1, 2), 500));
        tail.take(plain(number + 10));
    }
    while tail.decide_next() {}
    assert_eq!((kept(&mut tail), tail.decided.len()), (vec![1, 2, 3], 3));
    for number in [1, 2, 3, 11, 12, 13] {
        tail.take(plain(number));
    }
    assert_eq!(kept(&mut tail), [2, 3]);
    assert_eq!(tail.counts().waiting.traces, 3);
}

#[test]
fn a_root_can_end_the_waiting() {
    let mut tail =
        Tail::new(Settings { wait_after_root_ns: SECOND / 10, ..settings(vec![errors()]) });
    at(&mut tail, 0);
    tail.take(with_parent(of(1, (1, 2), 500)));
    tail.take(of(2, (1, 2), 500));
    at(&mut tail, 100);
    assert_eq!(kept(&mut tail), [2]);
    at(&mut tail, 950);
    tail.take(of(1, (1, 2), 500));
    at(&mut tail, 1000);
    assert_eq!(kept(&mut tail), [1, 1], "never later than without");
    at(&mut tail, 2000);
    assert!(tail.by_first.is_empty() && tail.by_root.is_empty());
}

#[test]
fn beyond_the_number_of_traces_the_oldest_is_decided_early() {
    let mut tail = Tail::new(Settings { max_traces: 2, ..settings(vec![errors()]) });
    for number in [1, 2, 1, 3] {
        tail.take(of(number, (1, 2), 500));
    }
    assert_eq!((kept(&mut tail), tail.counts().early_traces), (vec![1, 1], 1));
    tail.take(of(2, (1, 2), 500));
    assert_eq!((kept(&mut tail), tail.counts().waiting.spans), (vec![], 3));
}

#[test]
fn beyond_the_memory_the_oldest_is_decided_early() {
    let mut tail = Tail::new(Settings { max_bytes: 20_000, ..settings(vec![errors()]) });
    for number in 1..=100 {
        tail.take(of(number, (1, 2), 500));
        assert!(tail.bytes() <= 20_000);
    }
    let counts = tail.counts();
    assert!(counts.early_memory > 50 && counts.early_memory < 100, "{counts:?}");
    assert_eq!(kept(&mut tail).len() as u64, counts.early_memory);
    // A trace that is larger than all the memory is decided by what of it there was.
    (0..100).for_each(|_| tail.take(of(200, (1, 2), 500)));
    while tail.decide_next() {}
    assert_eq!((tail.take_kept().len() as u64 + counts.early_memory, tail.bytes()), (200, 0));
}

#[test]
fn content_counts_as_memory() {
    let bytes = |change: &dyn Fn(&mut Held)| {
        let mut tail = tail(vec![errors()]);
        let mut held = plain(1);
        change(&mut held);
        tail.take(held);
        tail.bytes()
    };
    let small = bytes(&|_| ());
    let target = |held: &mut Held| http(&mut held.span.exchange).target = "/".repeat(5000).into();
    assert!(bytes(&target) >= small + 4900);
    let state = |held: &mut Held| held.span.exchange.trace.state.0 = "s".repeat(300).into();
    assert!(bytes(&state) >= small + 300);
    let resource = |held: &mut Held| {
        let value = Value::from("r".repeat(700));
        held.span.resource = Arc::new(Resource::new([("a".into(), value)]));
    };
    assert!(bytes(&resource) >= small + 700);
}

#[test]
fn a_resource_counts_once() {
    let mut tail = tail(vec![errors()]);
    let first = with_resource(plain(1), &[("service.name", "r".repeat(10_000).into())]);
    let resource = Arc::clone(&first.span.resource);
    tail.take(first);
    let one = tail.bytes();
    for number in 2..=5 {
        let mut held = plain(number);
        held.span.resource = Arc::clone(&resource);
        tail.take(held);
    }
    assert!(tail.bytes() < one + 10_000);
    while tail.decide_next() {}
    assert_eq!(tail.bytes(), 0);
}

#[test]
fn other_settings_decide_on_what_waits_and_counts_go_on() {
    let mut tail = tail(vec![errors()]);
    tail.take(of(1, (1, 2), 500));
    while tail.decide_next() {}
    tail.take(plain(2));
    let all = named("all", Policy::AlwaysSample);
    tail.change(Settings { max_traces: 1, ..settings(vec![all, errors()]) });
    tail.take(plain(3));
    assert_eq!((kept(&mut tail), tail.counts().early_traces), (vec![1, 2], 1));
    let counts = tail.counts();
    let of = |name: &str| {
        counts.policies.iter().find(|one| *one.name == *name).map(|one| one.sampled.traces)
    };
    assert_eq!((of("errors"), of("all"), counts.policies.len()), (Some(1), Some(1), 2));
}

#[test]
fn the_same_settings_keep_what_rates_have_counted() {
    let rate = || vec![named("rate", Policy::RateLimiting { spans_per_second: 2 })];
    let mut tail = tail(rate());
    tail.take(plain(1));
    while tail.decide_next() {}
    tail.change(settings(rate()));
    tail.take(plain(2));
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [1]);
}
