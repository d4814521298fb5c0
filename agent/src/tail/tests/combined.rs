//! What policies mean that are made of others, and what comes of several at the top.

use super::*;

fn never() -> Policy {
    Policy::StatusCode(vec![StatusCode::Ok])
}

fn is_error() -> Policy {
    Policy::StatusCode(vec![StatusCode::Error])
}

fn slow() -> Policy {
    Policy::Latency { threshold_ms: 1000, upper_threshold_ms: 0 }
}

#[test]
fn and_or_not_and_drop() {
    let failed = || vec![of(1, (0, 10), 500)];
    let slow_failed = || vec![of(1, (0, 10), 500), of(1, (0, 2000), 200)];
    assert!(!keeps(Policy::And(vec![is_error(), slow()]), failed()));
    assert!(keeps(Policy::And(vec![is_error(), slow()]), slow_failed()));
    assert!(keeps(Policy::Not(Box::new(slow())), failed()));
    assert!(!keeps(Policy::Not(Box::new(slow())), slow_failed()));
    assert!(
        !keeps(Policy::Drop(vec![never()]), failed()),
        "what is not dropped is not sampled either"
    );
}

#[test]
fn drop_wins_wherever_it_stands_and_needs_all_of_its_parts() {
    let policies = vec![
        named("all", Policy::AlwaysSample),
        named("slow errors", Policy::Drop(vec![is_error(), slow()])),
    ];
    let mut tail = tail(policies);
    tail.take(of(1, (0, 2000), 500));
    tail.take(of(2, (0, 10), 500));
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [2]);
    let counts = tail.counts();
    assert_eq!(counts.sampled(), Tally { traces: 1, spans: 1 });
    assert_eq!(counts.dropped(), Tally { traces: 1, spans: 1 });
    let of = |name: &str| counts.policies.iter().find(|one| *one.name == *name).unwrap().clone();
    assert_eq!((of("all").dropped.traces, of("slow errors").dropped.traces), (0, 1));
}

#[test]
fn an_inverted_match_that_fails_forbids_nothing() {
    // In older Collectors it did. `drop` is for that.
    let not_web = Policy::StringAttribute {
        key: "url.path".into(),
        values: vec!["/users/7".into()],
        regex: false,
        invert: true,
    };
    let mut tail = tail(vec![named("not web", not_web), errors()]);
    tail.take(of(1, (1, 2), 500));
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [1]);
    assert_eq!(tail.counts().policies[1].sampled.traces, 1);
}

#[test]
fn the_first_policy_that_samples_is_counted_and_all_are_asked() {
    let rate = || named("rate", Policy::RateLimiting { spans_per_second: 3 });
    let mut tail = tail(vec![errors(), rate()]);
    for number in 1..=4 {
        tail.take(of(number, (1, 2), if number < 3 { 500 } else { 200 }));
    }
    while tail.decide_next() {}
    // The errors have used up the rate.
    assert_eq!(kept(&mut tail), [1, 2]);
    let counts = tail.counts();
    let sampled: Vec<_> = counts.policies.iter().map(|one| one.sampled.traces).collect();
    assert_eq!((sampled, counts.not_sampled.traces), (vec![2, 0], 2));

    let mut tail =
        Tail::new(Settings { sample_on_first_match: true, ..settings(vec![errors(), rate()]) });
    for number in 1..=4 {
        tail.take(of(number, (1, 2), if number < 3 { 500 } else { 200 }));
    }
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [1, 2, 3, 4], "the rate was not asked about errors");
}

#[test]
fn composite_shares_a_rate_in_the_order_of_its_parts() {
    let parts = vec![(is_error(), 2), (Policy::AlwaysSample, 3)];
    let composite = Policy::Composite { max_spans_per_second: 5, parts };
    let mut tail = tail(vec![named("shares", composite)]);
    for number in 1..=4 {
        tail.take(of(number, (1, 2), 500));
    }
    for number in 5..=8 {
        tail.take(plain(number));
    }
    while tail.decide_next() {}
    // Errors beyond their share do not get that of others; shares are used up to the end.
    assert_eq!(kept(&mut tail), [1, 2, 5, 6, 7]);
    tail.reach(3 * SECOND, ClockOffset::fixed(0));
    (0..3).for_each(|_| tail.take(of(9, (1, 2), 500)));
    tail.take(of(10, (1, 2), 500));
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [10], "a trace with too many spans leaves the room to others");
}

#[test]
fn a_part_of_a_composite_without_a_share_samples_nothing() {
    let parts = vec![(Policy::AlwaysSample, 0)];
    assert!(!keeps(Policy::Composite { max_spans_per_second: 100, parts }, vec![plain(1)]));
}
