//! What a recording keeps of bytes whose protocol is not sure yet.

use std::ops::Range;

use super::super::{Cx, kept::Keeping, wire::Fragment};
use crate::{
    exchange::Sink,
    protocol::{Keep, Next, http2, redis},
};

/// Has a recording keep of frames what it would if they were read.
pub(super) fn keep_frames<S: Sink>(frames: &[u8], fragment: &Fragment, cx: &mut Cx<'_, S>) {
    let mut keep = Keeping::of(&mut cx.shared.kept, fragment.place, frames);
    http2::keep_heads(frames, &mut keep);
    let mut reader = http2::Reader::new(false, false, frames.len());
    let mut used = 0;
    while matches!(reader.next(frames, &mut used, &mut keep), Next::Message(_)) {}
}

/// Has a recording keep of what may be commands of Redis what it would if that were certain, but for arguments of inline
/// commands: they may be secrets of another protocol.
pub(super) fn keep_commands(bytes: &[u8], keep: Keeping<'_>) {
    let mut keep = WithoutArguments { keep, bytes, inline: !bytes.starts_with(b"*") };
    let (mut reader, mut used) = (redis::Commands::default(), 0);
    while matches!(reader.next(bytes, &mut used, &mut keep), Next::Message(_)) {}
}

/// In place of an argument's bytes: Redis takes it for one, and HTTP/1 rejects it as it has rejected them.
const ARGUMENT: u8 = 0x7f;

/// Leaves out what stands behind the first word of a line.
struct WithoutArguments<'a> {
    keep: Keeping<'a>,
    bytes: &'a [u8],
    inline: bool,
}

impl WithoutArguments<'_> {
    fn is_argument(&self, at: usize) -> bool {
        let line = memchr::memrchr(b'\n', &self.bytes[..at]).map_or(0, |end| end + 1);
        self.inline
            && self.bytes[line..at].contains(&b' ')
            && !matches!(self.bytes[at], b' ' | b'\r' | b'\n' | b'"' | b'\'' | b'\\')
    }
}

impl Keep for WithoutArguments<'_> {
    fn keep(&mut self, range: Range<usize>) {
        for at in range {
            if self.is_argument(at) {
                self.keep.mask(at..at + 1, ARGUMENT);
            } else {
                self.keep.keep(at..at + 1);
            }
        }
    }

    fn mask(&mut self, range: Range<usize>, byte: u8) {
        self.keep.mask(range, byte);
    }

    fn listens(&self) -> bool {
        self.keep.listens()
    }
}
