//! Bytes of a head as the text that an exchange keeps.

/// Longest value that is kept of a target, and of any other field, bytes. Longer ones are cut.
pub(super) const MAX_TARGET_LEN: usize = 16 << 10;
pub(super) const MAX_VALUE_LEN: usize = 1024;

pub(super) fn value(bytes: &[u8]) -> Box<str> {
    text(bytes, MAX_VALUE_LEN)
}

pub(super) fn text(bytes: &[u8], max_len: usize) -> Box<str> {
    let bytes = &bytes[..bytes.len().min(max_len)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into(),
    }
}
