//! What the stage is told: its bounds, and policies with the names and the meaning that they have in the
//! `tail_sampling` processor of the OpenTelemetry Collector.

/// The stage's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From the first span of a trace until the trace is decided.
    pub wait_ns: u64,
    /// From a root span on, if that is earlier; 0: roots make no difference.
    pub wait_after_root_ns: u64,
    /// Traces that wait at once.
    pub max_traces: usize,
    /// Memory of the spans that wait.
    pub max_bytes: usize,
    /// Decisions that are remembered for spans that come late.
    pub remembered: Remembered,
    /// The first policy that samples a trace ends its evaluation.
    pub sample_on_first_match: bool,
    pub policies: Vec<Definition>,
}

/// How many decisions are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub sampled: usize,
    pub not_sampled: usize,
}

/// A policy by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub name: Box<str>,
    pub policy: Policy,
}

/// What a policy asks of a trace.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    AlwaysSample,
    /// A span has one of these.
    StatusCode(Vec<StatusCode>),
    /// Milliseconds from the first start to the last end. An upper threshold of 0 is none.
    Latency {
        threshold_ms: u32,
        upper_threshold_ms: u32,
    },
    StringAttribute {
        key: Box<str>,
        /// Texts, or regular expressions that match a part of the value.
        values: Vec<Box<str>>,
        regex: bool,
        invert: bool,
    },
    /// Between these values, both included.
    NumericAttribute {
        key: Box<str>,
        min: i64,
        max: i64,
        invert: bool,
    },
    BooleanAttribute {
        key: Box<str>,
        value: bool,
        invert: bool,
    },
    Probabilistic {
        mode: Mode,
        /// Empty: the Collector's own.
        hash_salt: Box<str>,
        percentage: f64,
    },
    RateLimiting {
        spans_per_second: u32,
    },
    And(Vec<Policy>),
    Not(Box<Policy>),
    Drop(Vec<Policy>),
    Composite {
        max_spans_per_second: u32,
        /// In the order in which they are asked, each with the spans per second that it may sample.
        parts: Vec<(Policy, u32)>,
    },
}

/// The status of a span. No span of an exchange is ever `Ok`: only applications set that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusCode {
    Ok,
    Error,
    Unset,
}

/// What a probabilistic policy decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// A hash of the trace id, as the Collector's policy does; but the randomness of the trace where its
    /// `tracestate` shows that it takes part in consistent probability sampling.
    #[default]
    HashSeed,
    /// Always the randomness of the trace.
    Consistent,
}
