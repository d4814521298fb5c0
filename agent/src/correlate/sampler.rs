//! Which spans are exported: the samplers of the OpenTelemetry SDK specification, by their names in
//! `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

use thiserror::Error;

use crate::trace_context::{TraceFlags, TraceId};

/// What is known of a span's parent when it is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    None,
    /// In another process (or in the application's own tracer): its flags came with the request.
    Remote(TraceFlags),
    /// A span of ours.
    Local(TraceFlags),
}

/// Whether a span is exported. Metrics count it either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Sample,
    Drop,
}

impl Decision {
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        matches!(self, Self::Sample)
    }
}

/// What decides on a root span, and on every span if parents do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Root {
    AlwaysOn,
    AlwaysOff,
    /// Sampled if the low 63 bits of the trace id are below this.
    Below(u64),
}

/// A sampler; [`Sampler::default`] is that of the specification, `parentbased_always_on`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
}

/// What is wrong with `OTEL_TRACES_SAMPLER` or its argument.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamplerError {
    #[error(
        "OTEL_TRACES_SAMPLER is `{0}`, expected always_on, always_off, traceidratio, \
         parentbased_always_on, parentbased_always_off or parentbased_traceidratio"
    )]
    Unknown(String),
    #[error("OTEL_TRACES_SAMPLER_ARG is `{0}`, expected a ratio between 0 and 1")]
    Ratio(String),
}

impl Default for Sampler {
    fn default() -> Self {
        Self { root: Root::AlwaysOn, parent_based: true }
    }
}

impl Sampler {
    /// A sampler by its name in the specification (case does not matter) and its argument.
    ///
    /// # Errors
    /// A name that is not a sampler, or a ratio that is no number in `0..=1`.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Self, SamplerError> {
        let lower = name.to_ascii_lowercase();
        let (kind, parent_based) = match lower.strip_prefix("parentbased_") {
            Some(kind) => (kind, true),
            None => (&*lower, false),
        };
        let root = match kind {
            "always_on" => Root::AlwaysOn,
            "always_off" => Root::AlwaysOff,
            "traceidratio" => {
                let text = argument.unwrap_or("1");
                let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                Root::ratio(ratio.ok_or_else(|| SamplerError::Ratio(text.into()))?)
            }
            _ => return Err(SamplerError::Unknown(name.into())),
        };
        Ok(Self { root, parent_based })
    }

    /// Decides on a span of this trace. Parent-based samplers follow the parent, if there is one.
    #[must_use]
    pub fn decide(&self, trace_id: TraceId, parent: Parent) -> Decision {
        let sampled = match parent {
            Parent::Remote(flags) | Parent::Local(flags) if self.parent_based => flags.is_sampled(),
            _ => match self.root {
                Root::AlwaysOn => true,
                Root::AlwaysOff => false,
                Root::Below(bound) => {
                    let [.., a, b, c, d, e, f, g, h] = trace_id.0;
                    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < bound
                }
            },
        };
        if sampled { Decision::Sample } else { Decision::Drop }
    }
}

impl Root {
    /// The same bits and bound as the SDKs in Go and Rust, so that agents and SDKs with one ratio
    /// keep the same traces.
    fn ratio(ratio: f64) -> Self {
        const ALL: u64 = 1 << 63;
        if ratio >= 1.0 {
            return Self::AlwaysOn;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "0 <= ratio < 1, and 2^63 is exact as f64"
        )]
        let bound = (ratio * ALL as f64) as u64;
        Self::Below(bound)
    }
}

impl Decision {
    /// The flags of a span: the decision, and what else the parent's flags say (W3C Trace Context
    /// level 2 has a bit for random trace ids; it is a property of the trace id, so it stays).
    pub(super) fn flags(self, parent: TraceFlags) -> TraceFlags {
        let others = parent.0 & !TraceFlags::SAMPLED.0;
        TraceFlags(others | if self.is_sampled() { TraceFlags::SAMPLED.0 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IdGenerator;

    const ON: TraceFlags = TraceFlags::SAMPLED;
    const OFF: TraceFlags = TraceFlags(0);

    fn from(name: &str, argument: &str) -> Result<Sampler, SamplerError> {
        Sampler::parse(name, Some(argument).filter(|argument| !argument.is_empty()))
    }

    #[test]
    fn every_standard_sampler_decides_as_specified() {
        use Parent::{Local, None, Remote};
        for (name, parent, expected) in [
            ("always_on", None, true),
            ("always_on", Remote(OFF), true),
            ("always_off", None, false),
            ("always_off", Local(ON), false),
            ("traceidratio", None, false),
            ("traceidratio", Remote(ON), false),
            ("parentbased_always_on", None, true),
            ("parentbased_always_on", Remote(ON), true),
            ("parentbased_always_on", Remote(OFF), false),
            ("parentbased_always_on", Local(OFF), false),
            ("parentbased_always_off", None, false),
            ("parentbased_always_off", Remote(ON), true),
            ("parentbased_always_off", Local(ON), true),
            ("parentbased_traceidratio", None, false),
            ("parentbased_traceidratio", Remote(ON), true),
            ("PARENTBASED_TraceIdRatio", Remote(OFF), false),
        ] {
            let decision = from(name, "0").unwrap().decide(TraceId([1; 16]), parent);
            assert_eq!(decision.is_sampled(), expected, "{name} {parent:?}");
        }
    }

    #[test]
    fn default_is_that_of_the_specification() {
        assert_eq!(Sampler::default(), from("parentbased_always_on", "").unwrap());
        assert_eq!(from("traceidratio", "").unwrap(), from("always_on", "").unwrap());
    }

    #[test]
    fn ratio_keeps_its_share_of_random_traces() {
        let mut ids = IdGenerator::from_seed([9, 8, 7, 6]);
        for ratio in [0.0, 0.1, 0.5, 1.0] {
            let sampler = from("traceidratio", &ratio.to_string()).unwrap();
            let all = 20_000;
            let kept = (0..all)
                .filter(|_| sampler.decide(ids.trace_id(), Parent::None).is_sampled())
                .count();
            let share = kept as f64 / f64::from(all);
            assert!((share - ratio).abs() < 0.02, "{share} of {ratio}");
        }
    }

    #[test]
    fn errors_name_the_variable_the_value_and_what_is_expected() {
        let unknown = from("sometimes", "").unwrap_err().to_string();
        assert!(unknown.contains("OTEL_TRACES_SAMPLER is `sometimes`"));
        assert!(unknown.contains("parentbased_traceidratio"));
        for argument in ["1.5", "-0.1", "half", "NaN"] {
            let error = from("traceidratio", argument).unwrap_err();
            assert_eq!(error, SamplerError::Ratio(argument.into()));
        }
    }
}
