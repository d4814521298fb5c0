//! URLs inside of parameters: `?next=https%3A%2F%2Fu%3Ap%40h%2Fcb%23access_token%3D..`, plain or
//! percent-encoded, each with further ones inside.

use super::{Decoded, REDACTED, reference::url_at};

/// So deep are URLs looked into; what is deeper is hidden whole.
pub(super) const DEPTH: usize = 4;

/// What is shown of a parameter's value instead, if it is a URL with something in it that is not shown.
pub(super) fn nested(value: &str, depth: usize) -> Option<String> {
    let encoded = value.contains('%');
    if !encoded && !looks_like_url(value) {
        return None;
    }
    if depth == 0 {
        return Some(REDACTED.into());
    }
    if !encoded {
        let shown = url_at(value, depth - 1);
        return (shown != value).then(|| shown.into_owned());
    }
    let bytes: Vec<u8> = Decoded(value.bytes()).collect();
    let decoded = String::from_utf8_lossy(&bytes);
    let shown = if looks_like_url(&decoded) {
        let shown = url_at(&decoded, depth - 1);
        (shown != decoded).then(|| shown.into_owned())
    } else if decoded.contains('%') && decoded != value {
        nested(&decoded, depth - 1)
    } else {
        None
    };
    shown.map(|shown| encode(&shown))
}

fn looks_like_url(text: &str) -> bool {
    text.contains("//") || text.starts_with('/')
}

/// As a value of a query may be written.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/@?=,!*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}
