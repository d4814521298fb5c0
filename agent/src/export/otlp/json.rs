//! OTLP/JSON text, appended to a `Vec<u8>`: proto3 JSON with OTLP's own rules: trace and span ids in
//! hex, 64-bit integers as strings, enums as numbers, keys in lowerCamelCase.
//! Source: OTLP specification, "JSON Protobuf Encoding".

use std::io::Write;

use crate::attribute::AttributeSink;

/// A cursor that puts commas where they belong: a key or an element is preceded by one unless it is
/// the first after `{` or `[`.
pub(crate) struct Json<'a>(pub(crate) &'a mut Vec<u8>);

impl Json<'_> {
    fn comma(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    /// `"key":`, the value to follow. Keys are ours and need no escape.
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        self.comma();
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        self
    }

    /// `"key":{ .. }`
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key).0.push(b'{');
        fill(self);
        self.0.push(b'}');
    }

    /// `"key":[ .. ]`
    pub(crate) fn array(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key).0.push(b'[');
        fill(self);
        self.0.push(b']');
    }

    /// An object as an element of an array.
    pub(crate) fn element(&mut self, fill: impl FnOnce(&mut Self)) {
        self.comma();
        self.0.push(b'{');
        fill(self);
        self.0.push(b'}');
    }

    pub(crate) fn str(&mut self, key: &str, value: &str) {
        self.key(key);
        string(self.0, value);
    }

    /// A number of at most 32 bits, or an enum.
    pub(crate) fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        write(self.0, value);
    }

    /// A 64-bit integer: a string, since JSON numbers are doubles to many readers.
    pub(crate) fn int64(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        quoted(self.0, value);
    }

    pub(crate) fn int64s(&mut self, key: &str, values: impl Iterator<Item = u64>) {
        self.array(key, |json| {
            for value in values {
                json.comma();
                quoted(json.0, value);
            }
        });
    }

    pub(crate) fn double(&mut self, key: &str, value: f64) {
        self.key(key);
        double(self.0, value);
    }

    pub(crate) fn doubles(&mut self, key: &str, values: impl Iterator<Item = f64>) {
        self.array(key, |json| {
            for value in values {
                json.comma();
                double(json.0, value);
            }
        });
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key).0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An identifier in lower-case hex.
    pub(crate) fn hex(&mut self, key: &str, id: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.key(key).0.push(b'"');
        for &byte in id {
            self.0.push(DIGITS[usize::from(byte >> 4)]);
            self.0.push(DIGITS[usize::from(byte & 15)]);
        }
        self.0.push(b'"');
    }

    fn key_value(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        self.element(|json| {
            json.str("key", key);
            json.object("value", value);
        });
    }
}

/// As elements of an array of `KeyValue`.
impl AttributeSink for Json<'_> {
    fn str(&mut self, key: &str, value: &str) {
        self.key_value(key, |json| json.str("stringValue", value));
    }

    fn int(&mut self, key: &str, value: i64) {
        self.key_value(key, |json| json.int64("intValue", value));
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key_value(key, |json| json.bool("boolValue", value));
    }

    fn double(&mut self, key: &str, value: f64) {
        self.key_value(key, |json| json.double("doubleValue", value));
    }

    fn strs(&mut self, key: &str, values: &[&str]) {
        self.key_value(key, |json| {
            json.object("arrayValue", |json| {
                json.array("values", |json| {
                    for value in values {
                        json.element(|json| json.str("stringValue", value));
                    }
                });
            });
        });
    }
}

fn write(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn quoted(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.push(b'"');
    write(out, value);
    out.push(b'"');
}

fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        // `{:?}` is the shortest text that reads back as the same number, with an exponent if long.
        write!(out, "{value:?}").expect("writing to a Vec cannot fail");
    } else {
        let name = if value.is_nan() {
            "\"NaN\""
        } else if value > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        };
        out.extend_from_slice(name.as_bytes());
    }
}

/// A string with its quotes (RFC 8259 section 7: quote, backslash and control characters escaped).
fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut clean = 0;
    for (at, &byte) in value.as_bytes().iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&value.as_bytes()[clean..at]);
        clean = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => write!(out, "\\u{byte:04x}").expect("writing to a Vec cannot fail"),
        }
    }
    out.extend_from_slice(&value.as_bytes()[clean..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_string_reads_back_as_itself(text in any::<String>()) {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_finite_double_reads_back_as_itself(value in proptest::num::f64::NORMAL) {
            let mut out = Vec::new();
            double(&mut out, value);
            let text = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
            prop_assert!(serde_json::from_slice::<f64>(&out).is_ok());
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = Vec::new();
        string(&mut out, "a\u{0}\"\\\n\u{1f}é");
        assert_eq!(
            out,
            br#""a\u0000\"\\\n\u001f"#.iter().chain("é\"".as_bytes()).copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn doubles_without_a_json_number_are_named() {
        for (value, text) in [
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (1e300, "1e300"),
            (-0.5, "-0.5"),
        ] {
            let mut out = Vec::new();
            double(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
