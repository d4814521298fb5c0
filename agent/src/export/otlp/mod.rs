//! OTLP's two encodings, written by hand: spans and metric points straight into bytes, requests by
//! putting those bytes together. What is queued is encoded; nothing is encoded twice.
//!
//! ```text
//! spans.rs, metrics.rs   one span, one metric -> bytes            (wire.rs, json.rs: the primitives)
//! request.rs             bytes by resource -> one export request, cut below the size limit
//! ```
//! In every request the scope is `remora` with the agent's version, and the schema URL is that of the
//! semantic conventions that names and attributes follow.

pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod spans;
pub(crate) mod wire;

#[cfg(test)]
mod oracle;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Protobuf,
    Json,
}

/// What is exported. Each has its own queues, so that neither holds up the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// The name in logs and in the `signal` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}
