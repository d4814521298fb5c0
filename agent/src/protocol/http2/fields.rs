//! What a header block says.

/// Bytes of names and values that are kept of a block. An index of one byte may stand for thousands: what comes beyond is
/// left out.
const MAX_LEN: usize = 256 << 10;

/// Fields that are looked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Known {
    Method,
    Path,
    Authority,
    Scheme,
    Status,
    Protocol,
    Host,
    UserAgent,
    ContentType,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    Traceparent,
    Tracestate,
    GrpcStatus,
    B3,
    XB3TraceId,
    XB3SpanId,
    XB3Sampled,
    XB3Flags,
    XRequestId,
    Baggage,
}

const COUNT: usize = Known::Baggage as usize + 1;

impl Known {
    /// Names are in lower case (RFC 9113, section 8.2.1).
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":authority" => Self::Authority,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            b"host" => Self::Host,
            b"user-agent" => Self::UserAgent,
            b"content-type" => Self::ContentType,
            b"forwarded" => Self::Forwarded,
            b"x-forwarded-for" => Self::XForwardedFor,
            b"x-forwarded-proto" => Self::XForwardedProto,
            b"traceparent" => Self::Traceparent,
            b"tracestate" => Self::Tracestate,
            b"grpc-status" => Self::GrpcStatus,
            b"b3" => Self::B3,
            b"x-b3-traceid" => Self::XB3TraceId,
            b"x-b3-spanid" => Self::XB3SpanId,
            b"x-b3-sampled" => Self::XB3Sampled,
            b"x-b3-flags" => Self::XB3Flags,
            b"x-request-id" => Self::XRequestId,
            b"baggage" => Self::Baggage,
            _ => return None,
        })
    }

    /// Whether its value may have a credential in it.
    #[must_use]
    pub(super) const fn may_hide(self) -> bool {
        matches!(self, Self::Path | Self::Authority | Self::Host)
    }
}

/// The fields of a block, in their order.
#[derive(Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    /// Where in `bytes` a name begins, its value begins, and that ends.
    lines: Vec<[usize; 3]>,
    /// One more than the line of each [`Known`] one that comes first; 0 without one.
    first: [u16; COUNT],
    counts: [u8; COUNT],
    /// Fields of which the name is not known, or the value of a [`Known`] one.
    unknown: u32,
    /// Not all of them are here.
    cut: bool,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.first = [0; COUNT];
        self.counts = [0; COUNT];
        (self.unknown, self.cut) = (0, false);
    }

    /// A field, of which the value may be unknown.
    pub(super) fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.push(name, value),
            None if Known::of(name).is_some() => self.push_unknown(),
            None => {}
        }
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        let begin = self.bytes.len();
        if begin + name.len() + value.len() > MAX_LEN || self.lines.len() >= usize::from(u16::MAX) {
            self.cut = true;
            return;
        }
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.lines.push([begin, begin + name.len(), self.bytes.len()]);
        if let Some(known) = Known::of(name) {
            let at = known as usize;
            self.counts[at] = self.counts[at].saturating_add(1);
            if self.first[at] == 0 {
                self.first[at] = self.lines.len() as u16;
            }
        }
    }

    pub(super) fn push_unknown(&mut self) {
        self.unknown = self.unknown.saturating_add(1);
    }

    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// The value of the first line of that name.
    #[must_use]
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        let [_, value, end] =
            *self.lines.get(usize::from(self.first[known as usize]).checked_sub(1)?)?;
        self.bytes.get(value..end)
    }

    /// How many lines have that name, up to 255.
    #[must_use]
    pub const fn count(&self, known: Known) -> u8 {
        self.counts[known as usize]
    }

    /// Names and values of all lines.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines
            .iter()
            .map(|&[name, value, end]| (&self.bytes[name..value], &self.bytes[value..end]))
    }

    /// Whether there were fields without a name, or [`Known`] ones without a value: the table they refer to was not seen whole.
    #[must_use]
    pub const fn has_unknown(&self) -> bool {
        self.unknown > 0
    }

    /// Whether there were more fields than these.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// `:status`; 0 without one.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.get(Known::Status) {
            Some(&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                let digit = |byte: u8| u16::from(byte - b'0');
                digit(a) * 100 + digit(b) * 10 + digit(c)
            }
            _ => 0,
        }
    }
}
