//! What of a record's content a recording may keep: the bytes that reassembly used, without
//! credentials. All others are zero, which no parser takes for the beginning of anything, so that the
//! record means the same with them as without them: content, what comes behind a loss, other protocols.
//!
//! Nobody else can tell: where a head begins and ends is known to reassembly alone.

use crate::{
    decode::Data,
    protocol::chunked::{self, Chunked},
    recording::mask::HeadMask,
};

/// The content of the record that was taken last.
#[derive(Debug, Default)]
pub struct Kept {
    head: Vec<u8>,
    tail: [u8; 8],
}

/// Where in a record a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Head(usize),
    Tail(usize),
}

impl Place {
    pub(super) const fn plus(self, len: usize) -> Self {
        match self {
            Self::Head(at) => Self::Head(at + len),
            Self::Tail(at) => Self::Tail(at + len),
        }
    }
}

impl Kept {
    /// The content: as many bytes as the record has.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Instead of the record's tail.
    #[must_use]
    pub fn tail(&self) -> [u8; 8] {
        self.tail
    }

    pub(super) fn begin(&mut self, data: &Data<'_>) {
        self.head.clear();
        self.head.resize(data.head.len(), 0);
        self.tail = [0; 8];
    }

    fn room(&mut self, place: Place, len: usize) -> &mut [u8] {
        match place {
            Place::Head(at) => &mut self.head[at..at + len],
            Place::Tail(at) => &mut self.tail[at..at + len],
        }
    }

    /// Bytes that mean something as they are.
    pub(super) fn literal(&mut self, place: Place, bytes: &[u8]) {
        self.room(place, bytes.len()).copy_from_slice(bytes);
    }

    /// More of a head; `certain` if its start line is whole and stands where one has to.
    pub(super) fn head_bytes(
        &mut self,
        place: Place,
        bytes: &[u8],
        certain: bool,
        mask: &mut HeadMask,
    ) {
        mask.mask(bytes, certain, self.room(place, bytes.len()));
    }

    /// The start line at the beginning of `bytes`, which looks like one.
    pub(super) fn start_line(&mut self, place: Place, bytes: &[u8]) {
        let len = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        self.head_bytes(place, &bytes[..len], false, &mut HeadMask::new());
    }

    /// More of a head that has turned out to be none.
    pub(super) fn junk(&mut self, place: Place, bytes: &[u8]) {
        HeadMask::junk(bytes, self.room(place, bytes.len()));
    }

    /// Chunked content from where `chunked` stands.
    pub(super) fn framing(&mut self, place: Place, bytes: &[u8], chunked: Chunked) {
        chunked.copy_framing(bytes, self.room(place, bytes.len()));
    }

    /// Content whose end is looked for in its last bytes.
    pub(super) fn end_of_content(&mut self, place: Place, bytes: &[u8]) {
        let from = bytes.len().saturating_sub(chunked::TAIL_LEN);
        let room = self.room(place, bytes.len());
        for (&byte, kept) in bytes.iter().zip(room).skip(from) {
            if matches!(byte, b'0' | b'\r' | b'\n') {
                *kept = byte;
            }
        }
    }
}
