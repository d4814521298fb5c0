//! What of a record's content a recording may keep: the bytes that reassembly used, without
//! credentials. All others are zero, which no parser takes for the beginning of anything, so that the
//! record means the same with them as without them: content, what comes behind a loss, other protocols.
//!
//! Nobody else can tell: where a message begins and ends, and what of it is a secret, is known to its protocol alone.

use std::ops::Range;

use crate::{decode::Data, protocol::Keep};

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

    /// Where what is kept of a piece goes, zeros as long as nothing is.
    pub(super) fn room(&mut self, place: Place, len: usize) -> &mut [u8] {
        match place {
            Place::Head(at) => &mut self.head[at..at + len],
            Place::Tail(at) => &mut self.tail[at..at + len],
        }
    }

    /// Bytes that mean something as they are.
    pub(super) fn literal(&mut self, place: Place, bytes: &[u8]) {
        self.room(place, bytes.len()).copy_from_slice(bytes);
    }
}

/// What a protocol's reader keeps of a piece, if a recording is made.
pub(super) struct Keeping<'a> {
    kept: Option<&'a mut Kept>,
    place: Place,
    bytes: &'a [u8],
}

impl<'a> Keeping<'a> {
    /// Of `bytes`, which stand at `place` in the record.
    pub(super) fn of(kept: &'a mut Option<Kept>, place: Place, bytes: &'a [u8]) -> Self {
        Self { kept: kept.as_mut(), place, bytes }
    }
}

impl Keep for Keeping<'_> {
    fn keep(&mut self, range: Range<usize>) {
        if let Some(kept) = &mut self.kept {
            kept.literal(self.place.plus(range.start), &self.bytes[range]);
        }
    }

    fn mask(&mut self, range: Range<usize>, byte: u8) {
        if let Some(kept) = &mut self.kept {
            kept.room(self.place.plus(range.start), range.len()).fill(byte);
        }
    }
}
