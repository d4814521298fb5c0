//! B3 propagation (<https://github.com/openzipkin/b3-propagation>): the field `b3`, or several fields `X-B3-*`.

use super::{SpanId, TraceFlags, TraceId, TraceParent, bytes};

/// The values of a message's B3 fields, the first of each, without surrounding whitespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct B3<'a> {
    /// `b3`
    pub single: Option<&'a [u8]>,
    /// `X-B3-TraceId`
    pub trace_id: Option<&'a [u8]>,
    /// `X-B3-SpanId`
    pub span_id: Option<&'a [u8]>,
    /// `X-B3-Sampled`
    pub sampled: Option<&'a [u8]>,
    /// `X-B3-Flags`
    pub flags: Option<&'a [u8]>,
}

impl B3<'_> {
    /// The context that they carry; of both forms the single field counts. What is malformed is as if it were not there. Where nothing
    /// is said of sampling, the decision is left to the receiver: the trace counts as sampled.
    #[must_use]
    pub fn parse(&self) -> Option<TraceParent> {
        if let Some(single) = self.single {
            let mut parts = single.split(|&byte| byte == b'-');
            let (trace_id, span_id) = (parts.next()?, parts.next()?);
            let sampled = parts.next();
            // Behind it may stand the parent's span, and nothing more.
            if parts.nth(1).is_some() {
                return None;
            }
            return context(
                trace_id,
                span_id,
                sampled.is_none_or(|state| matches!(state, b"1" | b"d")),
            );
        }
        let (trace_id, span_id) = (self.trace_id?, self.span_id?);
        let is_debug = self.flags == Some(b"1");
        // Earlier senders wrote words.
        let says_no = matches!(self.sampled, Some(b"0" | b"false"));
        context(trace_id, span_id, is_debug || !says_no)
    }
}

fn context(trace_id: &[u8], span_id: &[u8], is_sampled: bool) -> Option<TraceParent> {
    let trace_id = match trace_id.len() {
        32 => bytes::<16>(trace_id)?,
        16 => {
            let mut whole = [0; 16];
            whole[8..].copy_from_slice(&bytes::<8>(trace_id)?);
            whole
        }
        _ => return None,
    };
    let span_id = if span_id.len() == 16 { bytes::<8>(span_id)? } else { return None };
    if trace_id == [0; 16] || span_id == [0; 8] {
        return None;
    }
    let flags = if is_sampled { TraceFlags::SAMPLED } else { TraceFlags(0) };
    Some(TraceParent { trace_id: TraceId(trace_id), span_id: SpanId(span_id), flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn single(value: &str) -> Option<TraceParent> {
        B3 { single: Some(value.as_bytes()), ..B3::default() }.parse()
    }

    #[test]
    fn examples_of_the_specification() {
        let parent = single(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90")).expect("a context");
        assert_eq!(
            (parent.trace_id.to_string(), parent.span_id.to_string()),
            (TRACE.into(), SPAN.into())
        );
        assert!(parent.flags.is_sampled());
        let several = B3 {
            trace_id: Some(TRACE.as_bytes()),
            span_id: Some(SPAN.as_bytes()),
            sampled: Some(b"1"),
            ..B3::default()
        };
        assert_eq!(several.parse(), Some(parent));
    }

    #[test]
    fn a_trace_id_of_eight_bytes_is_the_right_half() {
        let parent = single("64fe8b2a57d3eff7-e457b5a2e4d86bd1-0").expect("a context");
        assert_eq!(parent.trace_id.to_string(), "000000000000000064fe8b2a57d3eff7");
        assert!(!parent.flags.is_sampled());
    }

    #[test]
    fn states_of_sampling() {
        let of_single =
            |state: &str| single(&format!("{TRACE}-{SPAN}{state}")).map(|it| it.flags.is_sampled());
        assert_eq!(
            ["", "-1", "-d", "-0"].map(of_single),
            [Some(true), Some(true), Some(true), Some(false)]
        );
        let several = |sampled: Option<&'static [u8]>, flags: Option<&'static [u8]>| {
            let (trace_id, span_id) = (Some(TRACE.as_bytes()), Some(SPAN.as_bytes()));
            B3 { trace_id, span_id, sampled, flags, single: None }
                .parse()
                .map(|it| it.flags.is_sampled())
        };
        assert_eq!(several(None, None), Some(true));
        assert_eq!(several(Some(b"false"), None), Some(false));
        assert_eq!(several(Some(b"0"), Some(b"1")), Some(true), "debug");
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        for value in [
            "0",
            "1",
            "d",
            "",
            "-",
            "80f198ee-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd",
            "00000000000000000000000000000000-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1",
            "80F198EE56343BA864FE8B2A57D3EFF7-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-x",
        ] {
            assert_eq!(single(value), None, "{value:?}");
        }
        assert_eq!(B3 { trace_id: Some(TRACE.as_bytes()), ..B3::default() }.parse(), None);
    }
}
