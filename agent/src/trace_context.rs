//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): identifiers, and the `traceparent` and
//! `tracestate` header fields as a receiver reads them. What is malformed is as if it were not there.

mod b3;
mod baggage;

use std::sync::Arc;

pub use self::{b3::B3, baggage::values as baggage_values};

/// What of the context that requests carry is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `traceparent` and `tracestate`.
    pub trace_context: bool,
    /// B3 in either form, where there is no `traceparent` that counts.
    pub b3: bool,
    /// Keys of `baggage` that become attributes.
    pub baggage: Vec<Arc<str>>,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { trace_context: true, b3: false, baggage: Vec::new() }
    }
}

/// 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

/// Trace flags of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TraceFlags(pub u8);

impl TraceFlags {
    pub const SAMPLED: Self = Self(1);
    /// At least the right 7 bytes of the trace id are random (level 2, section 3.2.2.5.2).
    pub const RANDOM: Self = Self(2);

    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }
}

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: TraceFlags,
}

/// What a request carries of the trace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TraceContext {
    pub parent: Option<TraceParent>,
    /// Empty without a parent.
    pub state: TraceState,
    /// Keys of `baggage` that were asked for, and their values.
    pub baggage: Vec<(Arc<str>, Box<str>)>,
}

/// A valid `tracestate`, as on the wire (several fields joined by `,`); empty without one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TraceState(pub Box<str>);

/// Most members a `tracestate` may have (section 3.3.1.1).
pub const MAX_TRACE_STATE_MEMBERS: usize = 32;

impl TraceParent {
    /// Reads the value of the only `traceparent` field of a message, without surrounding whitespace.
    /// A version later than 00 is read as far as 00 goes, if what follows is set off by `-`
    /// (section 4.3, "Versioning of traceparent").
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_first_chunk::<55>()?;
        let version = byte(fields[0], fields[1])?;
        let dashes = fields[2] == b'-' && fields[35] == b'-' && fields[52] == b'-';
        if !dashes || version == 0xff {
            return None;
        }
        match rest {
            [] => {}
            [b'-', ..] if version > 0 => {}
            _ => return None,
        }
        let trace_id = bytes::<16>(&fields[3..35]).filter(|id| *id != [0; 16])?;
        let span_id = bytes::<8>(&fields[36..52]).filter(|id| *id != [0; 8])?;
        let flags = byte(fields[53], fields[54])?;
        // Only the bits that version 00 defines mean anything: bit 0, and bit 1 since level 2.
        Some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            flags: TraceFlags(flags & 0b11),
        })
    }
}

impl TraceState {
    /// Joins the values of all `tracestate` fields of a message in their order. `None` if one member
    /// is malformed, a key occurs twice, or there are more than 32: then none of it may be used,
    /// while `traceparent` stays valid (section 3.3).
    #[must_use]
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut members: [&str; MAX_TRACE_STATE_MEMBERS] = [""; MAX_TRACE_STATE_MEMBERS];
        let mut count = 0;
        let mut len = 0;
        for value in values {
            for member in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if member.is_empty() {
                    continue; // allowed, and dropped
                }
                let key = member_key(member)?;
                let twice = members[..count].iter().any(|other| {
                    other.as_bytes().starts_with(key) && other.as_bytes()[key.len()] == b'='
                });
                if twice {
                    return None;
                }
                *members.get_mut(count)? = std::str::from_utf8(member).ok()?;
                count += 1;
                len += member.len() + 1;
            }
        }
        let mut joined = String::with_capacity(len.saturating_sub(1));
        for (at, member) in members[..count].iter().enumerate() {
            if at > 0 {
                joined.push(',');
            }
            joined.push_str(member);
        }
        Some(Self(joined.into_boxed_str()))
    }
}

/// The key of a well-formed `key=value` (sections 3.3.1.3.1 and 3.3.1.3.2).
fn member_key(member: &[u8]) -> Option<&[u8]> {
    let equals = memchr::memchr(b'=', member)?;
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    // Level 1 and level 2 differ in where a digit may begin; both are accepted.
    let first_ok = key.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let key_ok = first_ok
        && key.len() <= 256
        && key.iter().filter(|&&b| b == b'@').count() <= 1
        && key.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(b));
    // Not ending in a space holds because the member was trimmed.
    let value_ok = (1..=256).contains(&value.len())
        && value.iter().all(|&b| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=');
    (key_ok && value_ok).then_some(key)
}

fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    for (byte_out, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte_out = byte(pair[0], pair[1])?;
    }
    Some(out)
}

/// Two lower-case hexadecimal digits; upper case is malformed here.
fn byte(high: u8, low: u8) -> Option<u8> {
    Some(digit(high)? << 4 | digit(low)?)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

macro_rules! hex {
    ($($id:ty),*) => {$(
        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl std::fmt::Debug for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )*};
}
hex!(TraceId, SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn state(values: &[&str]) -> Option<String> {
        TraceState::parse(values.iter().map(|v| v.as_bytes())).map(|state| state.0.into())
    }

    #[test]
    fn reads_version_00() {
        let parent = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(parent.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id.to_string(), "00f067aa0ba902b7");
        assert!(parent.flags.is_sampled());
    }

    #[test]
    fn reads_later_versions_as_far_as_00_goes() {
        for value in [VALID.replacen("00", "cc", 1), VALID.replacen("00", "cc", 1) + "-what-ever"] {
            assert!(TraceParent::parse(value.as_bytes()).is_some(), "{value}");
        }
        for value in [VALID.replacen("00", "cc", 1) + ".x", VALID.replacen("00", "cc", 1) + "0"] {
            assert!(TraceParent::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn ignores_malformed_values() {
        let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for value in [
            VALID.replacen("00", "ff", 1),
            VALID.replacen("00", "0", 1),
            VALID.to_uppercase(),
            VALID.replace(trace_id, &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace(trace_id, "4bf92f3577b34da6a3ce929d0e0e473g"),
            VALID.replace("-01", "-0x"),
            VALID.replace('-', "_"),
            format!("{VALID}-extra"),
            format!("{VALID} "),
        ] {
            assert_eq!(TraceParent::parse(value.as_bytes()), None, "{value}");
        }
        for len in 0..VALID.len() {
            assert_eq!(TraceParent::parse(&VALID.as_bytes()[..len]), None, "{len}");
        }
    }

    #[test]
    fn keeps_only_the_flags_it_knows() {
        let value = VALID.replace("-01", "-fe");
        assert_eq!(TraceParent::parse(value.as_bytes()).unwrap().flags, TraceFlags(2));
    }

    #[test]
    fn joins_tracestate_fields_in_order_without_empty_members() {
        assert_eq!(state(&["a=1, b=2 ,", "", "t@v=x y"]).as_deref(), Some("a=1,b=2,t@v=x y"));
        assert_eq!(state(&[]).as_deref(), Some(""));
    }

    #[test]
    fn drops_a_tracestate_with_a_bad_member() {
        for bad in
            ["a", "a=", "=1", "A=1", "a=1,a=2", "a=b=c", "a@b@c=1", "a=\t1", "a=\u{e4}", "-a=1"]
        {
            assert_eq!(state(&[bad]), None, "{bad}");
        }
        let key = "k".repeat(257);
        assert_eq!(state(&[&format!("{key}=1")]), None);
        assert_eq!(state(&[&format!("a={key}")]), None);
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(state(&[&many.join(",")]), None);
        assert!(state(&[&many[..32].join(",")]).is_some());
    }
}
