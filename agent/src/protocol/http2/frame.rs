//! The head of a frame (RFC 9113, section 4.1), and the codes of errors (section 7).

pub(super) const HEAD_LEN: usize = 9;
/// Longer frames nobody sends: without a `SETTINGS_MAX_FRAME_SIZE` the limit is 16 KiB, and the largest value that is in
/// use 1 MiB.
const MAX_LEN: u32 = 1 << 20;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;

/// The first nine bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct FrameHead {
    /// Of what follows.
    pub(super) len: u32,
    pub(super) kind: u8,
    flags: u8,
    /// 31 bits.
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) const fn read(bytes: [u8; HEAD_LEN]) -> Self {
        let [a, b, c, kind, flags, w, x, y, z] = bytes;
        Self {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff,
        }
    }

    /// Whether a frame that follows the rules may begin so. Of types that are not known anything is allowed.
    pub(super) const fn is_valid(self) -> bool {
        let of_connection = self.stream == 0;
        self.len <= MAX_LEN
            && match self.kind {
                DATA | HEADERS | PUSH_PROMISE | CONTINUATION => !of_connection,
                PRIORITY => !of_connection && self.len == 5,
                RST_STREAM => !of_connection && self.len == 4,
                SETTINGS => of_connection && self.len.is_multiple_of(6),
                PING => of_connection && self.len == 8,
                GOAWAY => of_connection && self.len >= 8,
                WINDOW_UPDATE => self.len == 4,
                _ => true,
            }
    }

    /// As [`Self::is_valid`], of types that are known, with no flag but those that they have: what random bytes
    /// seldom are.
    pub(super) const fn is_plain(self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITIZED,
            SETTINGS | PING => ACK,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        let ack = self.kind == SETTINGS && self.flags & ACK != 0;
        self.is_valid() && self.flags & !flags == 0 && !(ack && self.len > 0)
    }

    pub(super) const fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    pub(super) const fn ends_block(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Bytes in front of content or of a header block: a length of padding, a priority, a promised stream.
    pub(super) const fn prefix_len(self) -> u8 {
        let padded = matches!(self.kind, DATA | HEADERS | PUSH_PROMISE) && self.flags & PADDED != 0;
        let prioritized = self.kind == HEADERS && self.flags & PRIORITIZED != 0;
        padded as u8 + 5 * prioritized as u8 + 4 * (self.kind == PUSH_PROMISE) as u8
    }

    pub(super) const fn is_padded(self) -> bool {
        matches!(self.kind, DATA | HEADERS | PUSH_PROMISE) && self.flags & PADDED != 0
    }

    pub(super) const fn is_ack(self) -> bool {
        matches!(self.kind, SETTINGS | PING) && self.flags & ACK != 0
    }
}

/// The name of an error code; `None` of those that have none.
#[must_use]
pub const fn code_name(code: u32) -> Option<&'static str> {
    Some(match code {
        0x0 => "NO_ERROR",
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        _ => return None,
    })
}
