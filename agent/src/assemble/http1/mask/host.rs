//! What is kept of an authority: a host and its port, and nothing of what stands before an `@`.

use memchr::{memchr, memrchr};

use super::BLANK;

/// An authority of which the end was not seen yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Host {
    #[default]
    Name,
    Literal,
    /// Digits after a colon.
    Port(u8),
    /// This was no host.
    Userinfo,
}

impl Host {
    /// Keeps a host and its port. What stands before an `@` is blanked where it can be told: all of it
    /// if the `@` is there, else what cannot be a host.
    pub(super) fn mask(&mut self, bytes: &[u8], out: &mut [u8]) {
        let userinfo = memrchr(b'@', bytes).unwrap_or(0);
        for (at, (&byte, out)) in bytes.iter().zip(out).enumerate() {
            let keep = match (*self, byte) {
                (_, b'\r' | b'\n' | b' ' | b'\t') => true,
                (_, b'@') => {
                    *self = Self::Name;
                    true
                }
                _ if at < userinfo => false,
                (Self::Name, b'[') => {
                    *self = Self::Literal;
                    true
                }
                (Self::Name, b':') => {
                    *self = Self::Port(0);
                    true
                }
                (Self::Literal, b']') => {
                    *self = Self::Name;
                    true
                }
                (Self::Name | Self::Literal, _) => true,
                (Self::Port(digits @ 0..5), b'0'..=b'9') => {
                    *self = Self::Port(digits + 1);
                    true
                }
                (Self::Port(_), _) => {
                    *self = Self::Userinfo;
                    false
                }
                (Self::Userinfo, _) => false,
            };
            *out = if keep { byte } else { BLANK };
        }
    }
}

/// Blanks what is before the last `@` of a whole `Host` line.
pub(super) fn blank_userinfo(line: &mut [u8]) {
    let Some(end) = memrchr(b'@', line) else { return };
    let begin = memchr(b':', line).map_or(0, |colon| colon + 1);
    if begin < end {
        line[begin..end].fill(BLANK);
    }
}
