//! What OpenTelemetry writes into `tracestate`: `ot=th:c;rv:0123456789abcd`. `th` is the threshold that a trace's
//! randomness had to reach to be sampled, `rv` that randomness, if it is not the trace id's
//! (<https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>).

#[cfg(any(test, fuzzing))]
use crate::trace_context::TraceState;
use crate::trace_context::{MAX_TRACE_STATE_MEMBERS, TraceId};

/// Randomness and thresholds have 56 bits.
pub(super) const ALL: u64 = 1 << 56;
const DIGITS: usize = 14;
const KEY: &str = "ot=";
/// Most bytes of a value (W3C Trace Context, section 3.3.1.3.2).
const MAX_VALUE: usize = 256;

/// What a `tracestate` says of sampling. What is malformed is as if it were not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenTelemetry {
    pub(super) randomness: Option<u64>,
    pub(super) threshold: Option<u64>,
}

/// That of a trace whose state says none: the last 56 bits of its id.
pub(super) fn randomness(id: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g] = id.0;
    u64::from_be_bytes([0, a, b, c, d, e, f, g])
}

impl OpenTelemetry {
    pub(super) fn of(state: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in value(state).split(';').filter_map(|part| part.split_once(':')) {
            match key {
                "rv" if value.len() == DIGITS => found.randomness = number(value),
                "th" => found.threshold = number(value),
                _ => {}
            }
        }
        found
    }
}

/// The value of OpenTelemetry's member.
fn value(state: &str) -> &str {
    let mut members = state.split(',').map(str::trim_ascii);
    members.find_map(|member| member.strip_prefix(KEY)).unwrap_or_default()
}

/// Up to 14 digits, the first ones of a number of 56 bits.
fn number(digits: &str) -> Option<u64> {
    let are_digits = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let len = u32::try_from(digits.len()).ok().filter(|len| (1..=14).contains(len))?;
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| are_digits)?;
    Some(number << (4 * (14 - len)))
}

/// The state of a span of the trace `id` that was sampled with this threshold. A threshold that it came with stays if it
/// is higher: the trace was sampled by both. What does not belong to sampling stays as it is.
pub(super) fn with_threshold(state: &str, id: TraceId, threshold: u64) -> Box<str> {
    let said = OpenTelemetry::of(state);
    let random = said.randomness.unwrap_or_else(|| randomness(id));
    // One that the randomness does not reach is wrong: the trace would not be here.
    let before = said.threshold.filter(|before| *before <= random).unwrap_or(0);
    let digits = format!("{:014x}", threshold.max(before));
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let mut own = format!("{KEY}th:{digits}");
    let others =
        value(state).split(';').filter(|part| !part.is_empty() && !part.starts_with("th:"));
    for part in others {
        if own.len() - KEY.len() + 1 + part.len() <= MAX_VALUE {
            own.push(';');
            own.push_str(part);
        }
    }
    own.truncate(own.trim_ascii_end().len());
    // What was changed last stands first (W3C Trace Context, section 3.5).
    let members = state.split(',').map(str::trim_ascii);
    let members = members.filter(|member| !member.is_empty() && !member.starts_with(KEY));
    for member in members.take(MAX_TRACE_STATE_MEMBERS - 1) {
        own.push(',');
        own.push_str(member);
    }
    own.into_boxed_str()
}

/// For `fuzzing`: what is written into a state that is one can be read again.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(state: &TraceState) {
    let id = TraceId([0xff; 16]);
    let written = with_threshold(&state.0, id, 1 << 55);
    let again = TraceState::parse([written.as_bytes()]).expect("a state");
    assert_eq!(again.0, written);
    assert!(OpenTelemetry::of(&written).threshold >= Some(1 << 55), "{written}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TraceId = TraceId([0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x80, 0, 0, 0, 0, 0, 1]);

    fn of(state: &str) -> (Option<u64>, Option<u64>) {
        let OpenTelemetry { randomness, threshold } = OpenTelemetry::of(state);
        (randomness, threshold)
    }

    #[test]
    fn reads_what_is_well_formed() {
        assert_eq!(randomness(ID), 0x80_0000_0000_0001);
        assert_eq!(of("ot=th:c;rv:0123456789abcd"), (Some(0x01_2345_6789_abcd), Some(0xc << 52)));
        assert_eq!(of("a=b, ot=p:8;th:0"), (None, Some(0)));
        for wrong in ["", "ot=", "not=th:c", "ot=th:", "ot=th:C", "ot=th:+c", "ot=rv:1", "ot=thc"] {
            assert_eq!(of(wrong), (None, None), "{wrong}");
        }
        assert_eq!(of("ot=th:123456789abcdef"), (None, None), "too long");
    }

    #[test]
    fn writes_its_threshold_and_leaves_the_rest() {
        let half = 0x8 << 52;
        for (state, expected) in [
            ("", "ot=th:8"),
            ("a=b,c=d", "ot=th:8,a=b,c=d"),
            ("ot=x:1 ;th:4", "ot=th:8;x:1"),
            ("a=b,ot=x:1;th:4;y:2,c=d", "ot=th:8;x:1;y:2,a=b,c=d"),
            ("ot=rv:ffffffffffffff;th:c", "ot=th:c;rv:ffffffffffffff"),
            // The trace cannot have been sampled with this one.
            ("ot=th:9", "ot=th:8"),
        ] {
            assert_eq!(&*with_threshold(state, ID, half), expected, "{state}");
        }
        assert_eq!(&*with_threshold("", ID, 0), "ot=th:0");
        let many: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        let written = with_threshold(&many.join(","), ID, half);
        assert_eq!(written.split(',').count(), 32, "one goes");
        let long = format!("ot=x:{}", "y".repeat(252));
        assert_eq!(&*with_threshold(&long, ID, half), "ot=th:8", "no room");
    }
}
