//! Shares of traces: by the Collector's hash, and consistently.

use super::*;
use crate::{
    span::ParentFrom,
    trace_context::{TraceContext, TraceState},
};

fn share(mode: Mode, percentage: f64) -> Policy {
    Policy::Probabilistic { mode, hash_salt: "".into(), percentage }
}

/// A span whose request carried this `tracestate`.
fn with_state(mut held: Held, state: &str) -> Held {
    let state = TraceState(state.into());
    held.span.exchange.trace = TraceContext { state, ..TraceContext::default() };
    held.span.parent_from = ParentFrom::Header;
    held
}

/// Like ids that somebody drew.
fn random(number: u64) -> TraceId {
    let word = |salt: u64| {
        let mut word = (number + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        word ^ word >> 32
    };
    TraceId(((u128::from(word(1 << 40)) << 64) | u128::from(word(0))).to_be_bytes())
}

fn kept_ids(mode: Mode, percentage: f64) -> Vec<TraceId> {
    let mut tail = tail(vec![named("share", share(mode, percentage))]);
    for number in 0..1000 {
        let mut held = plain(number);
        held.span.trace_id = random(number);
        tail.take(held);
    }
    while tail.decide_next() {}
    tail.take_kept().into_iter().map(|held| held.span.trace_id).collect()
}

#[test]
fn both_modes_keep_their_share_and_all_of_a_smaller_one() {
    for mode in [Mode::HashSeed, Mode::Consistent] {
        let (ten, thirty) = (kept_ids(mode, 10.0), kept_ids(mode, 30.0));
        assert!((60..140).contains(&ten.len()), "{mode:?}: {}", ten.len());
        assert!((240..360).contains(&thirty.len()), "{mode:?}: {}", thirty.len());
        assert!(ten.iter().all(|id| thirty.contains(id)), "{mode:?}");
        assert_eq!((kept_ids(mode, 0.0).len(), kept_ids(mode, 100.0).len()), (0, 1000));
    }
    assert_ne!(kept_ids(Mode::HashSeed, 30.0), kept_ids(Mode::Consistent, 30.0));
}

/// States of what was kept.
fn states(policies: Vec<Definition>, spans: Vec<Held>) -> Vec<String> {
    let mut tail = tail(policies);
    spans.into_iter().for_each(|held| tail.take(held));
    while tail.decide_next() {}
    tail.take_kept().iter().map(|held| held.span.trace_state().to_owned()).collect()
}

#[test]
fn the_randomness_of_a_trace_decides_where_there_is_one() {
    let half = || vec![named("half", share(Mode::HashSeed, 50.0))];
    let kept = |state: &str| states(half(), vec![with_state(plain(1), state)]);
    assert_eq!(kept("ot=rv:80000000000000"), ["ot=th:8;rv:80000000000000"]);
    assert_eq!(kept("ot=rv:7fffffffffffff"), [""; 0]);
    assert_eq!(
        kept("a=b,ot=th:c;rv:d0000000000000"),
        ["ot=th:c;rv:d0000000000000,a=b"],
        "of both the higher one"
    );
}

#[test]
fn one_span_tells_the_randomness_of_the_trace_and_all_have_the_threshold() {
    let spans = vec![plain(1), with_state(plain(1), "x=y,ot=rv:ffffffffffffff"), plain(1)];
    let kept = states(vec![named("half", share(Mode::HashSeed, 50.0))], spans);
    assert_eq!(kept, ["ot=th:8", "ot=th:8;rv:ffffffffffffff,x=y", "ot=th:8"]);
}

#[test]
fn a_threshold_is_written_only_where_nothing_else_kept_the_trace() {
    let certain = "ot=rv:ffffffffffffff";
    let spans = || vec![with_state(of(1, (1, 2), 500), certain)];
    let half = || named("half", share(Mode::Consistent, 50.0));
    assert_eq!(
        states(vec![half(), errors()], spans()),
        [certain],
        "it would have been kept in any case"
    );
    assert_eq!(states(vec![errors(), half()], spans()), [certain]);
    let quarter = share(Mode::Consistent, 25.0);
    let both = Policy::And(vec![share(Mode::Consistent, 50.0), quarter.clone()]);
    assert_eq!(states(vec![named("both", both)], spans()), ["ot=th:c;rv:ffffffffffffff"]);
    assert_eq!(
        states(vec![half(), named("quarter", quarter)], spans()),
        ["ot=th:8;rv:ffffffffffffff"]
    );
    let hashed = vec![named("all", share(Mode::HashSeed, 99.99))];
    assert_eq!(
        states(hashed, vec![with_state(plain(1), "a=b")]),
        ["a=b"],
        "a hash says nothing of randomness"
    );
}

#[test]
fn late_spans_have_the_threshold_of_their_trace() {
    let mut tail = tail(vec![named("half", share(Mode::Consistent, 50.0))]);
    tail.take(with_state(plain(1), "ot=rv:ffffffffffffff"));
    while tail.decide_next() {}
    tail.take(plain(1));
    let kept: Vec<_> =
        tail.take_kept().iter().map(|held| held.span.trace_state().to_owned()).collect();
    assert_eq!(kept, ["ot=th:8;rv:ffffffffffffff", "ot=th:8"]);
}
