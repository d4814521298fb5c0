//! Whatever comes: each span is kept, left out or waits, and memory keeps its bound.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Span { trace: u64, failed: bool, target: usize, root: bool },
    Wait { ms: u64 },
    Change { max_traces: usize, kib: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let span = (0..40_u64, any::<bool>(), 0..3000_usize, any::<bool>());
    prop_oneof![
        8 => span.prop_map(|(trace, failed, target, root)| Step::Span { trace, failed, target, root }),
        2 => (0..700_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (1..20_usize, 4..64_usize).prop_map(|(max_traces, kib)| Step::Change { max_traces, kib }),
    ]
}

fn any_policies() -> Vec<Definition> {
    let slow = Policy::Latency { threshold_ms: 1, upper_threshold_ms: 0 };
    vec![
        errors(),
        named("few", Policy::RateLimiting { spans_per_second: 5 }),
        named(
            "share",
            Policy::Probabilistic { mode: Mode::HashSeed, hash_salt: "".into(), percentage: 30.0 },
        ),
        named(
            "drop",
            Policy::Drop(vec![
                Policy::Not(Box::new(Policy::StatusCode(vec![StatusCode::Error]))),
                slow,
                Policy::RateLimiting { spans_per_second: 3 },
            ]),
        ),
    ]
}

proptest! {
    #![proptest_config(crate::properties::config(256))]

    #[test]
    fn every_span_is_in_one_column(steps in prop::collection::vec(step(), 1..200)) {
        let settings = |max_traces, max_bytes| Settings {
            max_traces,
            max_bytes,
            wait_after_root_ns: SECOND / 4,
            remembered: Remembered { sampled: 5, not_sampled: 5 },
            ..settings(any_policies())
        };
        let mut bound = 64 << 10;
        let mut tail = Tail::new(settings(10, bound));
        let (mut now_ns, mut came, mut kept, mut left_out) = (SECOND, 0, 0, 0);
        for step in steps {
            match step {
                Step::Span { trace, failed, target, root } => {
                    let mut held = of(trace, (1, 3), if failed { 500 } else { 200 });
                    http(&mut held.span.exchange).target = "/".repeat(target).into();
                    tail.take(if root { held } else { with_parent(held) });
                    came += 1;
                }
                Step::Wait { ms } => {
                    now_ns += ms * MS;
                    tail.reach(now_ns, ClockOffset::fixed(0));
                }
                Step::Change { max_traces, kib } => {
                    bound = kib << 10;
                    tail.change(settings(max_traces, bound));
                }
            }
            prop_assert!(tail.bytes() <= bound);
            kept += tail.take_kept().len() as u64;
            left_out += tail.take_left_out();
            let counts = tail.counts();
            prop_assert_eq!(came, kept + left_out + counts.waiting.spans);
            prop_assert_eq!(counts.sampled().spans, kept);
            prop_assert_eq!(counts.dropped().spans + counts.not_sampled.spans, left_out);
            prop_assert_eq!(counts.waiting.spans == 0, tail.bytes() == 0);
        }
        while tail.decide_next() {}
        kept += tail.take_kept().len() as u64;
        left_out += tail.take_left_out();
        prop_assert_eq!((came, 0), (kept + left_out, tail.bytes()));
        prop_assert!(tail.resources.is_empty() && tail.traces.is_empty());
    }
}

/// 10,000 traces in each second, of two spans each, for longer than they wait.
#[test]
fn ten_thousand_traces_a_second_keep_the_bounds() {
    const TRACES: u64 = 10_000;
    for (wait_s, max_traces, mib) in
        [(1, 50_000, 64), (10, 50_000, 64), (30, 1_000_000, 64), (30, 50_000, 512)]
    {
        let mut tail = Tail::new(Settings {
            wait_ns: wait_s * SECOND,
            max_traces,
            max_bytes: mib << 20,
            ..settings(vec![
                errors(),
                named(
                    "share",
                    Policy::Probabilistic {
                        mode: Mode::HashSeed,
                        hash_salt: "".into(),
                        percentage: 10.0,
                    },
                ),
            ])
        });
        let resource = Arc::new(Resource::unknown());
        let seconds = (wait_s + 2).min(12);
        let (mut most, mut most_traces, mut out) = (0, 0, 0);
        for number in 0..seconds * TRACES {
            tail.reach(SECOND + number * (SECOND / TRACES), ClockOffset::fixed(0));
            let end_ms = number / 10;
            for status in [200, if number % 100 == 0 { 500 } else { 200 }] {
                let mut held = of(number, (end_ms, end_ms + 3), status);
                held.span.resource = Arc::clone(&resource);
                tail.take(held);
            }
            most = most.max(tail.bytes());
            most_traces = most_traces.max(tail.traces.len());
            out += tail.take_kept().len() as u64 + tail.take_left_out();
            // Places of traces that were decided early do not pile up either.
            assert!(tail.by_first.len() <= 2 * tail.traces.len() + 65);
        }
        let counts = tail.counts();
        assert!(
            most <= mib << 20 && most_traces <= max_traces,
            "{wait_s} s: {most}, {most_traces}"
        );
        let early = counts.early_memory + counts.early_traces;
        assert_eq!(early > 0, wait_s > 1, "{wait_s} s: {counts:?}");
        assert_eq!(out + counts.waiting.spans, seconds * TRACES * 2);
        println!(
            "{wait_s} s, {max_traces} traces, {mib} MiB: at most {most} bytes, {most_traces} traces, {early} early"
        );
    }
}
