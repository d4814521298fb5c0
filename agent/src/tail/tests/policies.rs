//! What policies mean that are not made of others: what they mean in the Collector.

use super::*;

#[test]
fn always_sample_keeps_everything() {
    assert!(keeps(Policy::AlwaysSample, vec![plain(1), plain(1)]));
}

#[test]
fn status_code_asks_for_one_span() {
    let by = |codes: &[StatusCode]| Policy::StatusCode(codes.to_vec());
    let failed = || of(1, (1, 2), 500);
    assert!(keeps(by(&[StatusCode::Error]), vec![plain(1), failed()]));
    assert!(!keeps(by(&[StatusCode::Error]), vec![plain(1), plain(1)]));
    assert!(keeps(by(&[StatusCode::Unset]), vec![plain(1), failed()]));
    assert!(!keeps(by(&[StatusCode::Unset, StatusCode::Ok]), vec![failed()]));
    assert!(!keeps(by(&[StatusCode::Ok]), vec![plain(1), failed()]), "nobody sets it");
}

#[test]
fn latency_is_that_of_the_trace() {
    let over = |threshold_ms| Policy::Latency { threshold_ms, upper_threshold_ms: 0 };
    let parts = || vec![of(1, (1000, 1400), 200), of(1, (1900, 2000), 200)];
    assert!(keeps(over(1000), parts()), "from the first start to the last end, both included");
    assert!(!keeps(over(1001), parts()));
    assert!(keeps(over(0), vec![of(1, (5, 5), 200)]));
    let mut almost = of(1, (0, 1), 200);
    almost.span.end_unix_ns = 1000 * MS - 1;
    assert!(!keeps(over(1000), vec![almost]), "whole milliseconds");
}

#[test]
fn latency_between_thresholds_is_above_the_lower_one_and_not_above_the_upper_one() {
    let between = Policy::Latency { threshold_ms: 100, upper_threshold_ms: 200 };
    for (took_ms, expected) in [(100, false), (101, true), (200, true), (201, false)] {
        assert_eq!(
            keeps(between.clone(), vec![of(1, (10, 10 + took_ms), 200)]),
            expected,
            "{took_ms}"
        );
    }
    // What came up to a span is enough, as in the Collector.
    let (short, long) = (|| of(1, (0, 150), 200), || of(1, (0, 900), 200));
    assert!(keeps(between.clone(), vec![short(), long()]));
    assert!(!keeps(between, vec![long(), short()]));
}

fn text(key: &str, values: &[&str], regex: bool, invert: bool) -> Policy {
    let values = values.iter().map(|value| (*value).into()).collect();
    Policy::StringAttribute { key: key.into(), values, regex, invert }
}

#[test]
fn string_attribute_is_of_a_span_or_its_resource() {
    let named = |name: &str| with_resource(plain(1), &[("service.name", name.into())]);
    assert!(keeps(text("service.name", &["payment", "order"], false, false), vec![named("order")]));
    assert!(!keeps(text("service.name", &["payment"], false, false), vec![named("payments")]));
    assert!(keeps(text("url.path", &["/users/7"], false, false), vec![plain(1)]));
    assert!(!keeps(text("url.path", &["/users"], false, false), vec![plain(1)]), "the whole text");
    assert!(!keeps(text("no.such.key", &["a"], false, false), vec![plain(1)]));
    let later = vec![plain(1), named("order")];
    assert!(keeps(text("service.name", &["order"], false, false), later), "one span is enough");
}

#[test]
fn expressions_match_a_part_of_a_text() {
    assert!(keeps(text("url.path", &["users"], true, false), vec![plain(1)]));
    assert!(!keeps(text("url.path", &["^users"], true, false), vec![plain(1)]));
    assert!(keeps(
        text("url.path", &["x", r"^\/USERS/\d$", "(?i)^/USERS/"], true, false),
        vec![plain(1)]
    ));
}

#[test]
fn values_of_other_types_are_empty_ones() {
    let key = "http.response.status_code";
    assert!(!keeps(text(key, &["200", ""], false, false), vec![plain(1)]));
    assert!(!keeps(text(key, &[".*"], true, false), vec![plain(1)]), "an empty text of a span");
    let number = with_resource(plain(1), &[("a.number", 7.into())]);
    assert!(
        keeps(text("a.number", &["^$"], true, false), vec![number]),
        "an empty text of a resource"
    );
    let number =
        |min, max| Policy::NumericAttribute { key: "url.path".into(), min, max, invert: false };
    assert!(keeps(number(i64::MIN, 5), vec![plain(1)]), "0");
    assert!(!keeps(number(1, 5), vec![plain(1)]));
    let bool = |value| Policy::BooleanAttribute { key: "url.path".into(), value, invert: false };
    assert!(keeps(bool(false), vec![plain(1)]));
    assert!(!keeps(bool(true), vec![plain(1)]));
}

#[test]
fn numbers_are_between_both_bounds_or_on_them() {
    let status = |min, max, invert| Policy::NumericAttribute {
        key: "http.response.status_code".into(),
        min,
        max,
        invert,
    };
    for (code, expected) in [(399, false), (400, true), (499, true), (500, false)] {
        assert_eq!(keeps(status(400, 499, false), vec![of(1, (1, 2), code)]), expected, "{code}");
        assert_eq!(keeps(status(400, 499, true), vec![of(1, (1, 2), code)]), !expected, "{code}");
    }
    assert!(keeps(status(400, i64::MAX, false), vec![plain(1), of(1, (1, 2), 503)]));
}

#[test]
fn truth_values_are_compared() {
    let joined =
        |value, invert| Policy::BooleanAttribute { key: "remora.joined".into(), value, invert };
    let mut marked = plain(1);
    marked.span.exchange.marks.joined = true;
    let mut tail = tail(vec![named("one", joined(true, false))]);
    tail.take(marked);
    tail.take(plain(2));
    while tail.decide_next() {}
    assert_eq!(kept(&mut tail), [1]);
    assert!(!keeps(joined(false, false), vec![plain(1)]), "one that is not there is not false");
    assert!(keeps(joined(true, true), vec![plain(1)]));
}

#[test]
fn inverted_no_span_and_no_resource_may_match() {
    let named = |name: &str| with_resource(plain(1), &[("service.name", name.into())]);
    let not_acme = || text("service.name", &["acme"], false, true);
    assert!(keeps(not_acme(), vec![named("other")]));
    assert!(keeps(not_acme(), vec![plain(1)]), "without the attribute, too");
    assert!(!keeps(not_acme(), vec![named("other"), named("acme")]));
    let other = text("service.name", &["^ac"], true, true);
    assert!(!keeps(other, vec![named("acme")]));
}

#[test]
fn a_rate_is_below_its_limit_in_each_second() {
    let limit = Policy::RateLimiting { spans_per_second: 4 };
    let mut tail = tail(vec![named("rate", limit)]);
    let mut decide = |numbers: &[u64], spans: usize| {
        for number in numbers {
            (0..spans).for_each(|_| tail.take(plain(*number)));
        }
        while tail.decide_next() {}
        let mut numbers = kept(&mut tail);
        numbers.dedup();
        tail.reach(tail.now_ns + SECOND, ClockOffset::fixed(0));
        numbers
    };
    assert_eq!(decide(&[1, 2, 3, 4], 1), [1, 2, 3], "the limit itself is not reached");
    assert_eq!(decide(&[5], 4), [0; 0]);
    assert_eq!(decide(&[6, 7], 2), [6]);
    assert_eq!(decide(&[8], 3), [8]);
}
