//! Is this HTTP/2?

use super::frame::{self, FrameHead, HEAD_LEN};
use crate::protocol::{Keep, Parse};

/// As long as a frame may be where no longer one was allowed (`SETTINGS_MAX_FRAME_SIZE`): what begins with a longer one is
/// not recognised by it.
const USUAL_LEN: u32 = 16 << 10;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's first bytes.
#[must_use]
pub fn opens(bytes: &[u8]) -> Parse<(), ()> {
    let common = bytes.len().min(PREFACE.len());
    match (bytes[..common] == PREFACE[..common], common == PREFACE.len()) {
        (true, true) => Parse::Parsed { value: (), used: PREFACE.len() },
        (true, false) if !bytes.is_empty() => Parse::NeedMore,
        _ => Parse::NotThis(()),
    }
}

/// Whether a server's first bytes are its settings, which it may send before it has heard the client.
#[must_use]
pub fn looks_like_settings(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk().copied().map(FrameHead::read) else { return false };
    head.kind == frame::SETTINGS && !head.is_ack() && head.len <= 256 && frames(bytes).is_some()
}

/// What a run of frames tells of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Whether these are a client's, where a header block says so.
    pub of_client: Option<bool>,
    /// Whether a stream is named: the connection is in use.
    pub has_stream: bool,
}

/// Whether frames begin with the first byte: one after the other up to the end of `bytes`, the last one perhaps cut.
#[must_use]
pub fn frames(bytes: &[u8]) -> Option<Frames> {
    let mut seen = Frames { of_client: None, has_stream: false };
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_LEN>() {
        if head[5] & 0x80 != 0 {
            return None; // the reserved bit, which stays 0
        }
        let head = FrameHead::read(*head);
        if !head.is_plain() || head.len > USUAL_LEN {
            return None;
        }
        seen.has_stream |= head.stream != 0 && head.kind != frame::WINDOW_UPDATE;
        if head.kind == frame::HEADERS {
            seen.of_client = seen.of_client.or(side(head, behind));
        }
        rest = behind.get(head.len as usize..).unwrap_or_default();
    }
    (bytes.len() >= HEAD_LEN).then_some(seen)
}

/// Keeps what [`frames`] has looked at, if it has found some: the heads of all of them, and how header blocks begin.
pub fn keep_heads(bytes: &[u8], keep: &mut impl Keep) {
    let mut at = 0;
    while let Some(&head) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        keep.keep(at..at + HEAD_LEN);
        let head = FrameHead::read(head);
        let block = at + HEAD_LEN + usize::from(head.prefix_len());
        if head.kind == frame::HEADERS && block < bytes.len() {
            keep.keep(block..block + 1);
        }
        at += HEAD_LEN + head.len as usize;
    }
}

/// Whether a block is a request's or a response's, if its first field is in the static table.
fn side(head: FrameHead, payload: &[u8]) -> Option<bool> {
    match payload.get(usize::from(head.prefix_len()))? {
        // Indexed; or with the name indexed, to be inserted or not: `:authority` to `:scheme`, and `:status`.
        0x81..=0x87 | 0x41..=0x47 | 0x01..=0x07 | 0x11..=0x17 => Some(true),
        0x88..=0x8e | 0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => Some(false),
        _ => None,
    }
}
