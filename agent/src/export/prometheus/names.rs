//! Names and units as Prometheus wants them (OpenTelemetry specification, "Prometheus and OpenMetrics
//! compatibility").

use std::fmt::Write;

/// A metric name: what is not `[a-zA-Z0-9_:]` becomes `_`, runs of `_` become one, a digit at the
/// start gets a `_` before it, and the unit comes last if it is not there yet.
pub(super) fn metric_name(name: &str, unit: Option<&str>) -> String {
    let mut out = sanitized(name, |byte| byte == b':');
    if let Some(unit) = unit
        && !(out.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
    {
        out.push('_');
        out.push_str(unit);
    }
    out
}

/// A label name: as for metrics, without `:`.
pub(super) fn label_name(key: &str) -> String {
    sanitized(key, |_| false)
}

fn sanitized(name: &str, also: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    for byte in name.bytes() {
        let byte = if byte.is_ascii_alphanumeric() || also(byte) { byte } else { b'_' };
        if byte == b'_' && out.ends_with('_') {
            continue;
        }
        if out.is_empty() && byte.is_ascii_digit() {
            out.push('_');
        }
        out.push(char::from(byte));
    }
    if out.is_empty() { "_".into() } else { out }
}

/// A UCUM unit in words: `s` is `seconds`, `By/s` is `bytes_per_second`; `None` for `1`, for
/// annotations like `{request}`, and for nothing.
pub(super) fn unit_name(unit: &str) -> Option<String> {
    let mut out = String::new();
    for (at, part) in unit.split('/').take(2).enumerate() {
        let plain = part.split('{').next().unwrap_or_default().trim();
        let word = match (at, plain) {
            (_, "" | "1") => continue,
            (_, "d") => "days",
            (_, "h") => "hours",
            (_, "min") => "minutes",
            (_, "s") => "seconds",
            (_, "ms") => "milliseconds",
            (_, "us") => "microseconds",
            (_, "ns") => "nanoseconds",
            (_, "By") => "bytes",
            (_, "KiBy") => "kibibytes",
            (_, "MiBy") => "mebibytes",
            (_, "GiBy") => "gibibytes",
            (_, "kBy") => "kilobytes",
            (_, "MBy") => "megabytes",
            (_, "GBy") => "gigabytes",
            (_, "Cel") => "celsius",
            (_, "Hz") => "hertz",
            (_, "%") => "percent",
            (_, other) => other,
        };
        if at == 0 {
            out.push_str(&sanitized(word, |_| false));
        } else {
            let one = word.strip_suffix('s').unwrap_or(word);
            let separator = if out.is_empty() { "" } else { "_" };
            // Writing to a String does not fail.
            let _ = write!(out, "{separator}per_{}", sanitized(one, |_| false));
        }
    }
    if out.is_empty() { None } else { Some(out) }
}

/// Appends a label value or help text between quotes or not: `\`, line feed and, in labels, `"`
/// escaped.
pub(super) fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_carry_their_unit_once() {
        for (name, unit, expected) in [
            ("http.server.request.duration", "s", "http_server_request_duration_seconds"),
            ("http.server.request.body.size", "By", "http_server_request_body_size_bytes"),
            ("queue.bytes", "By", "queue_bytes"),
            ("megabytes", "By", "megabytes_bytes"),
            ("requests", "{request}", "requests"),
            ("a..b--c", "1", "a_b_c"),
            ("9lives", "", "_9lives"),
            ("network.io", "By/s", "network_io_bytes_per_second"),
            ("speed", "{request}/s", "speed_per_second"),
            ("ns:name", "", "ns:name"),
        ] {
            let unit = unit_name(unit);
            assert_eq!(metric_name(name, unit.as_deref()), expected);
        }
    }

    #[test]
    fn label_names_and_values_are_escaped() {
        assert_eq!(label_name("http.request.method"), "http_request_method");
        assert_eq!(label_name("1st"), "_1st");
        assert_eq!(label_name("ä"), "_");
        assert_eq!(label_name(""), "_");
        let mut out = String::new();
        escape(&mut out, "a\"b\\c\nd", true);
        assert_eq!(out, "a\\\"b\\\\c\\nd");
    }
}
