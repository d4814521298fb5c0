//! Tail sampling as Collectors have it.

use super::*;
use crate::tail::{Definition, Mode, Policy, Remembered, Settings, StatusCode};

/// With every policy that there is, in the notations of the processor's own documentation.
pub(super) const TAIL: &str = r#"
tail_sampling:
  decision_wait: 1m30s
  num_traces: 100
  expected_new_traces_per_sec: 10
  decision_cache:
    sampled_cache_size: 100_000
  policies:
    [
      {name: all, type: always_sample},
      {name: slow, type: latency, latency: {threshold_ms: 5000, upper_threshold_ms: 10000}},
      {name: number, type: numeric_attribute, numeric_attribute: {key: key1, min_value: -50, max_value: 100}},
      {name: share, type: probabilistic, probabilistic: {sampling_percentage: 0.1, hash_salt: pepper}},
      {name: status, type: status_code, status_code: {status_codes: [ERROR, UNSET]}},
      {name: text, type: string_attribute, string_attribute: {key: key2, values: [value1, 2]}},
      {name: regex, type: string_attribute,
       string_attribute: {key: url.path, values: [\/health, val*], enabled_regex_matching: true, cache_max_size: 10}},
      {name: rate, type: rate_limiting, rate_limiting: {spans_per_second: 35}},
      {name: truth, type: boolean_attribute, boolean_attribute: {key: key4, value: true, invert_match: true}},
      {name: and, type: and, and: {and_sub_policy: [
        {name: a, type: numeric_attribute, numeric_attribute: {key: key1, min_value: 50}},
        {name: b, type: always_sample}]}},
      {name: not, type: not, not: {not_sub_policy: {name: a, type: latency, latency: {threshold_ms: 1000}}}},
      {name: drop, type: drop, drop: {drop_sub_policy: [
        {name: a, type: probabilistic, probabilistic: {sampling_percentage: 50, mode: consistent}}]}},
      {name: shares, type: composite, composite: {
        max_total_spans_per_second: 1000,
        policy_order: [a, b, c],
        composite_sub_policy: [
          {name: a, type: status_code, status_code: {status_codes: [ERROR]}},
          {name: b, type: and, and: {and_sub_policy: [{name: x, type: always_sample}]}},
          {name: c, type: always_sample}],
        rate_allocation: [{policy: a, percent: 50}, {policy: b, percent: 0}, {policy: c, percent: 25}]}},
    ]
"#;

#[test]
fn the_block_of_a_collector_is_read_as_it_is() {
    let loaded = load(TAIL).unwrap();
    assert_eq!(loaded.warnings, []);
    let settings = loaded.config.tail_sampling.settings(Size::mib(1)).unwrap();
    let one = |name: &str, policy| Definition { name: name.into(), policy };
    let text = |key: &str, values: [&str; 2], regex| Policy::StringAttribute {
        key: key.into(),
        values: values.map(Into::into).into(),
        regex,
        invert: false,
    };
    let number =
        |min, max| Policy::NumericAttribute { key: "key1".into(), min, max, invert: false };
    let share = |mode, hash_salt: &str, percentage| Policy::Probabilistic {
        mode,
        hash_salt: hash_salt.into(),
        percentage,
    };
    let errors = Policy::StatusCode(vec![StatusCode::Error]);
    let expected = [
        one("all", Policy::AlwaysSample),
        one("slow", Policy::Latency { threshold_ms: 5000, upper_threshold_ms: 10_000 }),
        one("number", number(-50, 100)),
        one("share", share(Mode::HashSeed, "pepper", 0.1)),
        one("status", Policy::StatusCode(vec![StatusCode::Error, StatusCode::Unset])),
        one("text", text("key2", ["value1", "2"], false)),
        one("regex", text("url.path", [r"\/health", "val*"], true)),
        one("rate", Policy::RateLimiting { spans_per_second: 35 }),
        one("truth", Policy::BooleanAttribute { key: "key4".into(), value: true, invert: true }),
        one("and", Policy::And(vec![number(50, i64::MAX), Policy::AlwaysSample])),
        one(
            "not",
            Policy::Not(Box::new(Policy::Latency { threshold_ms: 1000, upper_threshold_ms: 0 })),
        ),
        one("drop", Policy::Drop(vec![share(Mode::Consistent, "", 50.0)])),
        one(
            "shares",
            Policy::Composite {
                max_spans_per_second: 1000,
                parts: vec![
                    (errors, 500),
                    (Policy::And(vec![Policy::AlwaysSample]), 333),
                    (Policy::AlwaysSample, 250),
                ],
            },
        ),
    ];
    assert_eq!(settings.policies, expected);
    let Settings { wait_ns, max_traces, max_bytes, remembered, .. } = settings;
    assert_eq!((wait_ns, max_traces, max_bytes), (90_000_000_000, 100, 1 << 20));
    assert_eq!(remembered, Remembered { sampled: 100_000, not_sampled: 100 });
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let page = include_str!("../../../../docs/sampling.md");
    let (_, behind) = page.split_once("```yaml\n").unwrap();
    let loaded = load(behind.split_once("```").unwrap().0).unwrap();
    assert_eq!((loaded.warnings.len(), loaded.config.tail_sampling.policies.len()), (0, 4));
}

#[test]
fn without_policies_nothing_waits() {
    let config = config("tail_sampling: {decision_wait: 5s}\n");
    assert_eq!(config.tail_sampling.settings(Size::mib(1)), None);
    assert_eq!(Config::default().tail_sampling.settings(Size::mib(1)), None);
}

#[test]
fn what_the_collector_reads_in_vain_is_a_warning() {
    let text = "
tail_sampling:
  policies:
    - name: shares
      type: composite
      composite:
        max_total_spans_per_second: 10
        policy_order: [b, a]
        composite_sub_policy: [{name: a, type: always_sample}, {name: b, type: always_sample}]
        rate_allocation: [{policy: a, percent: 50}]
";
    let warnings = load(text).unwrap().warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let [order, share] = &*warnings else { panic!("{warnings:?}") };
    assert!(order.contains(":8:23: tail_sampling.policies[0].composite.policy_order: "), "{order}");
    assert!(order.ends_with("as in the Collector: a, b"), "{order}");
    assert!(share.contains(":10:26: ") && share.contains("no share of `b`"), "{share}");
}

/// A policy, and all that is wrong with it.
const WRONG: &[(&str, &[&str])] = &[
    ("{}", &["[0]: found no name, expected one", "[0]: found no type, expected one"]),
    (
        "{name: a, type: latencies}",
        &["[0].type: found `latencies`, expected one of always_sample, status_code, latency"],
    ),
    (
        "{name: a, type: latency}",
        &["[0]: found type: latency without settings, expected them below `latency`"],
    ),
    (
        "{name: a, type: latency, latency: {}, rate_limiting: {spans_per_second: 1}}",
        &[
            "[0].latency: found no threshold, expected threshold_ms or upper_threshold_ms",
            "[0].rate_limiting: found with type: latency, expected the settings of that type alone",
        ],
    ),
    (
        "{name: a, type: status_code, status_code: {status_codes: [ERR]}}",
        &["[0].status_code.status_codes[0]: found `ERR`, expected one of OK, ERROR, UNSET"],
    ),
    (
        "{name: a, type: status_code, status_code: {status_codes: []}}",
        &["[0].status_code.status_codes: found an empty list, expected an item or more"],
    ),
    (
        "{name: a, type: string_attribute, string_attribute: {key: k, values: ['[a'], enabled_regex_matching: true}}",
        &["[0].string_attribute.values[0]: found `[a`, expected a regular expression: unclosed"],
    ),
    (
        "{name: a, type: string_attribute, string_attribute: {value: k}}",
        &[
            "[0].string_attribute: found no key, expected it",
            "[0].string_attribute: found no values, expected it",
            "[0].string_attribute.value: unknown setting, did you mean `values`?",
        ],
    ),
    (
        "{name: a, type: numeric_attribute, numeric_attribute: {key: k}}",
        &[
            "[0].numeric_attribute: found neither min_value nor max_value, expected one that is not 0",
        ],
    ),
    (
        "{name: a, type: numeric_attribute, numeric_attribute: {key: k, min_value: 5, max_value: 4}}",
        &["[0].numeric_attribute: found min_value 5 above max_value 4, expected it below"],
    ),
    (
        "{name: a, type: probabilistic, probabilistic: {sampling_percentage: 101, mode: proportional}}",
        &[
            "[0].probabilistic.sampling_percentage: found 101, expected 0 to 100",
            "[0].probabilistic.mode: found `proportional`, expected one of hash_seed, consistent",
        ],
    ),
    (
        "{name: a, type: and, and: {and_sub_policy: [{name: b, type: and}]}}",
        &["[0].and.and_sub_policy[0].type: found `and`, expected one of always_sample"],
    ),
    (
        "{name: a, type: composite, composite: {max_total_spans_per_second: 1, policy_order: [c], \
         composite_sub_policy: [{name: b, type: always_sample}], rate_allocation: [{policy: b}]}}",
        &["[0].composite: found `c` in policy_order, expected one of composite_sub_policy: b"],
    ),
    (
        "{name: a, type: ottl_condition, ottl_condition: {}}",
        &[
            "[0].type: found `ottl_condition`, expected one of always_sample",
            "[0].ottl_condition: unknown setting, expected one of name, type, status_code",
        ],
    ),
    (
        "{name: a, type: always_sample}, {name: a, type: always_sample}",
        &[": found two policies with the name `a`, expected another"],
    ),
];

#[test]
fn mistakes_have_places() {
    for (policies, expected) in WRONG {
        let text = format!("tail_sampling:\n  policies: [{policies}]\n");
        let error = load(&text).unwrap_err().to_string();
        let found: Vec<&str> =
            error.lines().filter(|line| line.contains("remora.yaml:2:")).collect();
        assert_eq!(found.len(), expected.len(), "{policies}\n{error}");
        for expected in *expected {
            let expected = format!(": tail_sampling.policies{expected}");
            assert!(found.iter().any(|line| line.contains(&expected)), "{expected}\n{error}");
        }
    }
}
