//! Policies that are not made of others, with their settings.

use crate::{
    config::{section::section, value::keywords},
    tail::{Mode, Policy, StatusCode},
};

/// Declares what policies of a kind may be: any that is not made of others, and these.
macro_rules! policy_types {
    ($(#[doc = $about:literal])* pub enum $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $crate::config::value::keywords! {
            $(#[doc = $about])*
            pub enum $name {
                AlwaysSample = "always_sample",
                StatusCode = "status_code",
                Latency = "latency",
                StringAttribute = "string_attribute",
                NumericAttribute = "numeric_attribute",
                BooleanAttribute = "boolean_attribute",
                Probabilistic = "probabilistic",
                RateLimiting = "rate_limiting",
                $($variant = $word),*
            }
        }
    };
}
pub(super) use policy_types;

policy_types! {
    /// What a policy is that is not made of others.
    pub enum SimpleType {}
}

keywords! {
    impl StatusCode { Ok = "OK", Error = "ERROR", Unset = "UNSET" }
}

keywords! {
    impl Mode { HashSeed = "hash_seed", Consistent = "consistent" }
}

section! {
    /// Settings of policies that are not made of others.
    pub struct Simple {
        /// Samples a trace in which a span has one of these statuses.
        pub status_code: StatusCodes = StatusCodes::default();
        /// Samples a trace by its time from the first start to the last end.
        pub latency: Latency = Latency::default();
        /// Samples a trace in which a span or its resource has a text.
        pub string_attribute: StringAttribute = StringAttribute::default();
        /// Samples a trace in which a span or its resource has a number.
        pub numeric_attribute: NumericAttribute = NumericAttribute::default(),
            rule(is_bounded);
        /// Samples a trace in which a span or its resource has a truth value.
        pub boolean_attribute: BooleanAttribute = BooleanAttribute::default();
        /// Samples a share of all traces.
        pub probabilistic: Probabilistic = Probabilistic::default();
        /// Samples traces as long as there are few spans.
        pub rate_limiting: RateLimiting = RateLimiting::default();
    }
}

section! {
    /// Samples a trace in which a span has one of these statuses.
    pub struct StatusCodes {
        /// `ERROR`, `UNSET`, or `OK`, which no span here has.
        pub status_codes: Vec<StatusCode> = vec![];
    }
}

section! {
    /// Samples a trace by its time from the first start to the last end.
    pub struct Latency {
        /// Milliseconds that it takes at least; with an upper threshold more than these.
        pub threshold_ms: u32 = 0;
        /// Milliseconds that it takes at most; 0: any.
        pub upper_threshold_ms: u32 = 0;
    }
}

section! {
    /// Samples a trace in which a span or its resource has a text.
    pub struct StringAttribute {
        /// The attribute.
        pub key: Option<Box<str>> = None;
        /// Its values.
        pub values: Vec<Box<str>> = vec![];
        /// Values are regular expressions; one matches if it does so anywhere in the text.
        pub enabled_regex_matching: bool = false;
        /// Has no effect here: expressions take linear time.
        pub cache_max_size: u32 = 0;
        /// Samples a trace in which no span and no resource has such a value.
        pub invert_match: bool = false;
    }
}

section! {
    /// Samples a trace in which a span or its resource has a number.
    pub struct NumericAttribute {
        /// The attribute.
        pub key: Option<Box<str>> = None;
        /// The least value; 0: any, as in the Collector.
        pub min_value: i64 = 0;
        /// The greatest value; 0: any, as in the Collector.
        pub max_value: i64 = 0;
        /// Samples a trace in which no span and no resource has such a value.
        pub invert_match: bool = false;
    }
}

section! {
    /// Samples a trace in which a span or its resource has a truth value.
    pub struct BooleanAttribute {
        /// The attribute.
        pub key: Option<Box<str>> = None;
        /// Its value.
        pub value: bool = false;
        /// Samples a trace in which no span and no resource has this value.
        pub invert_match: bool = false;
    }
}

section! {
    /// Samples a share of all traces.
    pub struct Probabilistic {
        /// Of the hash; the Collector's own if nothing is said.
        pub hash_salt: Option<Box<str>> = None;
        /// The share, in percent.
        pub sampling_percentage: f64 = 0.0, within(0.0, 100.0);
        /// hash_seed: a hash of the trace id, as in the Collector, but consistent for traces whose `tracestate` has `ot=`;
        /// consistent: OpenTelemetry's consistent probability sampling for all traces, with `th` in `tracestate`.
        pub mode: Mode = Mode::HashSeed;
    }
}

section! {
    /// Samples traces as long as there are few spans.
    pub struct RateLimiting {
        /// Spans in each second stay below this.
        pub spans_per_second: u32 = 0;
    }
}

/// 0 is no bound.
fn is_bounded(one: &NumericAttribute) -> Result<(), String> {
    match (one.min_value, one.max_value) {
        (0, 0) => Err("found neither min_value nor max_value, expected one that is not 0".into()),
        (min, max) if min != 0 && max != 0 && min > max => {
            Err(format!("found min_value {min} above max_value {max}, expected it below"))
        }
        _ => Ok(()),
    }
}

impl Simple {
    /// That of the type, for the stage; a type that is missing was a mistake when it was read.
    pub(super) fn policy(&self, kind: Option<SimpleType>) -> Policy {
        match kind.unwrap_or(SimpleType::AlwaysSample) {
            SimpleType::AlwaysSample => Policy::AlwaysSample,
            SimpleType::StatusCode => Policy::StatusCode(self.status_code.status_codes.clone()),
            SimpleType::Latency => self.latency(),
            SimpleType::StringAttribute => self.string_attribute(),
            SimpleType::NumericAttribute => self.numeric_attribute(),
            SimpleType::BooleanAttribute => self.boolean_attribute(),
            SimpleType::Probabilistic => self.probabilistic(),
            SimpleType::RateLimiting => {
                Policy::RateLimiting { spans_per_second: self.rate_limiting.spans_per_second }
            }
        }
    }

    fn latency(&self) -> Policy {
        let Latency { threshold_ms, upper_threshold_ms } = self.latency;
        Policy::Latency { threshold_ms, upper_threshold_ms }
    }

    fn string_attribute(&self) -> Policy {
        let one = self.string_attribute.clone();
        Policy::StringAttribute {
            key: one.key.unwrap_or_default(),
            values: one.values,
            regex: one.enabled_regex_matching,
            invert: one.invert_match,
        }
    }

    fn numeric_attribute(&self) -> Policy {
        let one = self.numeric_attribute.clone();
        let or = |value, any| if value == 0 { any } else { value };
        Policy::NumericAttribute {
            key: one.key.unwrap_or_default(),
            min: or(one.min_value, i64::MIN),
            max: or(one.max_value, i64::MAX),
            invert: one.invert_match,
        }
    }

    fn boolean_attribute(&self) -> Policy {
        let one = self.boolean_attribute.clone();
        let key = one.key.unwrap_or_default();
        Policy::BooleanAttribute { key, value: one.value, invert: one.invert_match }
    }

    fn probabilistic(&self) -> Policy {
        let one = self.probabilistic.clone();
        Policy::Probabilistic {
            mode: one.mode,
            hash_salt: one.hash_salt.unwrap_or_default(),
            percentage: one.sampling_percentage,
        }
    }
}
