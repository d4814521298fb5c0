//! What a recording keeps of HTTP/1: heads without credentials, and the framing of content.

use super::{Place, mask::HeadMask};
use crate::{
    assemble::Kept,
    protocol::chunked::{self, Chunked},
};

impl Kept {
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
    pub(in crate::assemble) fn start_line(&mut self, place: Place, bytes: &[u8]) {
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
