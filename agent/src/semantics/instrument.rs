//! A histogram of exchanges, as conventions declare it.

use crate::span::Span;

/// A histogram of exchanges.
#[derive(Debug)]
pub struct Instrument {
    pub name: &'static str,
    /// UCUM.
    pub unit: &'static str,
    pub description: &'static str,
    /// Upper bounds of explicit buckets, ascending.
    pub bounds: &'static [f64],
    pub measure: Measure,
}

/// What can be measured of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Seconds.
    Duration,
    /// Bytes, where they are known exactly.
    RequestContent,
    /// The same; only of a response that there was.
    ResponseContent,
}

impl Measure {
    /// Whether there is such a value that is not known exactly.
    #[must_use]
    pub fn is_inexact(self, span: &Span) -> bool {
        let Some(http) = span.exchange.detail.http() else { return false };
        match self {
            Self::Duration => false,
            Self::RequestContent => !span.exchange.marks.knows_request_size(),
            Self::ResponseContent => http.status != 0 && !span.exchange.marks.knows_response_size(),
        }
    }

    /// The value; `None` if this exchange has no such one.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53: 104 days, 8 PiB")]
    #[inline]
    #[must_use]
    pub fn of(self, span: &Span) -> Option<f64> {
        match self {
            Self::Duration => Some(span.duration_ns() as f64 / 1e9),
            Self::RequestContent => {
                let size = span.exchange.detail.http()?.request_content_len;
                span.exchange.marks.knows_request_size().then_some(size as f64)
            }
            Self::ResponseContent => {
                let http = span.exchange.detail.http()?;
                let known = http.status != 0 && span.exchange.marks.knows_response_size();
                known.then_some(http.response_content_len as f64)
            }
        }
    }
}
