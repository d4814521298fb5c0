//! What a collector answers: partial success, and the status with its retry delay.
//! Sources: `opentelemetry.proto.collector.*.v1.Export*ServiceResponse`, `google.rpc.Status`,
//! `google.rpc.RetryInfo`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Format,
    wire::{Field, fields},
};

/// `ExportTracePartialSuccess` and its like for metrics. A request that was accepted whole has none,
/// or an empty one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct PartialSuccess {
    /// Spans or data points that the server will not keep, nor wants again.
    pub(crate) rejected: u64,
    /// May be set without rejections: a warning.
    pub(crate) message: String,
}

/// Reads the body of a success. What cannot be read is taken as whole success, which the status said.
pub(crate) fn partial_success(format: Format, body: &[u8]) -> PartialSuccess {
    match format {
        Format::Protobuf => partial_success_protobuf(body),
        Format::Json => partial_success_json(body),
    }
}

fn partial_success_protobuf(body: &[u8]) -> PartialSuccess {
    let mut partial = PartialSuccess::default();
    for (number, field) in fields(body) {
        let (1, Field::Bytes(inner)) = (number, field) else { continue };
        for (number, field) in fields(inner) {
            match (number, field) {
                // int64; a negative one makes no sense
                (1, Field::Number(rejected)) if rejected <= i64::MAX as u64 => {
                    partial.rejected = rejected
                }
                (2, Field::Bytes(text)) => partial.message = text_of(text),
                _ => {}
            }
        }
    }
    partial
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResponse {
    partial_success: Option<JsonPartial>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonPartial {
    #[serde(alias = "rejectedDataPoints")]
    rejected_spans: Option<serde_json::Value>,
    error_message: Option<String>,
}

fn partial_success_json(body: &[u8]) -> PartialSuccess {
    let Ok(JsonResponse { partial_success: Some(partial) }) = serde_json::from_slice(body) else {
        return PartialSuccess::default();
    };
    // proto3 JSON writes an int64 as a string and accepts both
    let rejected = match partial.rejected_spans {
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        _ => None,
    };
    PartialSuccess {
        rejected: rejected.unwrap_or(0),
        message: partial.error_message.unwrap_or_default(),
    }
}

/// The message of a `google.rpc.Status`, which OTLP/HTTP sends as the body of a failure; if the body is
/// something else, its beginning as text.
pub(crate) fn failure_message(content_type: &str, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct JsonStatus {
        message: String,
    }
    let message = if content_type.starts_with("application/x-protobuf") {
        fields(body).find_map(|(number, field)| match (number, field) {
            (2, Field::Bytes(text)) => Some(text_of(text)),
            _ => None,
        })
    } else if content_type.starts_with("application/json") {
        serde_json::from_slice::<JsonStatus>(body).ok().map(|status| status.message)
    } else {
        None
    };
    message.unwrap_or_else(|| text_of(body))
}

/// For logs: one line of at most 200 characters.
fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// `RetryInfo.retry_delay` among the details of an encoded `google.rpc.Status`.
pub(crate) fn retry_delay(status: &[u8]) -> Option<Duration> {
    fields(status).find_map(|(number, detail)| {
        let (3, Field::Bytes(any)) = (number, detail) else { return None };
        let is_retry_info = fields(any).any(|(number, field)| {
            matches!((number, field), (1, Field::Bytes(url)) if url.ends_with(b"/google.rpc.RetryInfo"))
        });
        let value = fields(any).find_map(|(number, field)| match (number, field) {
            (2, Field::Bytes(value)) => Some(value),
            _ => None,
        });
        // A RetryInfo without a delay, or with an empty one, allows to retry at once.
        is_retry_info.then(|| value.and_then(duration).unwrap_or_default())
    })
}

/// `RetryInfo { retry_delay = 1: Duration { seconds = 1, nanos = 2 } }`
fn duration(retry_info: &[u8]) -> Option<Duration> {
    let (_, Field::Bytes(delay)) = fields(retry_info).find(|(number, _)| *number == 1)? else {
        return None;
    };
    let mut parts = (0, 0);
    for (number, field) in fields(delay) {
        match (number, field) {
            (1, Field::Number(seconds)) => parts.0 = i64::try_from(seconds).ok()?.cast_unsigned(),
            (2, Field::Number(nanos)) => parts.1 = u32::try_from(nanos).ok()?,
            _ => {}
        }
    }
    (parts.1 < 1_000_000_000).then(|| Duration::new(parts.0, parts.1))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::export::otlp::wire;

    #[test]
    fn reads_partial_success_of_both_formats() {
        let expected = PartialSuccess { rejected: 3, message: "too old".into() };
        let body = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".into(),
            }),
        }
        .encode_to_vec();
        assert_eq!(partial_success(Format::Protobuf, &body), expected);
        for json in [
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#,
            r#"{"partialSuccess":{"rejectedDataPoints":3,"errorMessage":"too old"}}"#,
        ] {
            assert_eq!(partial_success(Format::Json, json.as_bytes()), expected);
        }
        for (format, body) in [
            (Format::Protobuf, &b""[..]),
            (Format::Protobuf, b"\xff\xff"),
            (Format::Json, b""),
            (Format::Json, b"{}"),
            (Format::Json, b"<html>"),
        ] {
            assert_eq!(partial_success(format, body), PartialSuccess::default());
        }
    }

    /// `google.rpc.Status { code, message, details: [Any { type_url, value }] }`
    fn status_with_retry_info(seconds: u64, nanos: u64) -> Vec<u8> {
        let mut out = Vec::new();
        wire::uint(&mut out, 1, 8);
        wire::bytes(&mut out, 2, b"slow down");
        wire::message(&mut out, 3, |any| {
            wire::bytes(any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            wire::message(any, 2, |info| {
                wire::message(info, 1, |delay| {
                    wire::uint(delay, 1, seconds);
                    wire::uint(delay, 2, nanos);
                });
            });
        });
        out
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in any::<Vec<u8>>()) {
            partial_success(Format::Protobuf, &body);
            partial_success(Format::Json, &body);
            retry_delay(&body);
            for content_type in ["application/x-protobuf", "application/json", ""] {
                prop_assert!(failure_message(content_type, &body).chars().count() <= 200);
            }
        }
    }

    #[test]
    fn reads_retry_info_and_only_that() {
        assert_eq!(
            retry_delay(&status_with_retry_info(2, 500_000_000)),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(retry_delay(&status_with_retry_info(0, 0)), Some(Duration::ZERO));
        let mut other = Vec::new();
        wire::message(&mut other, 3, |any| {
            wire::bytes(any, 1, b"type.googleapis.com/google.rpc.QuotaFailure");
        });
        assert_eq!(retry_delay(&other), None);
        assert_eq!(retry_delay(b"\x1a"), None);
    }

    #[test]
    fn failure_message_is_one_bounded_line() {
        assert_eq!(
            failure_message("application/x-protobuf", &status_with_retry_info(0, 0)),
            "slow down"
        );
        assert_eq!(failure_message("application/json", br#"{"code":3,"message":"bad"}"#), "bad");
        assert_eq!(failure_message("text/html", b"<h1>\nno</h1>\n"), "<h1> no</h1>");
        assert_eq!(failure_message("text/plain", &[b'x'; 5000]).len(), 200);
    }
}
