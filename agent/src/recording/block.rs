//! Blocks of a recording: how their sections are put together, stored and written.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::format::{
    BLOCK, BLOCK_HEADER_LEN, CODEC_NONE, CODEC_ZSTD, Facts, HEADER_LEN, MAGIC, VERSION, checksum,
    section,
};

/// Recordings of 10 k exchanges compress to a tenth at this level, in 0.2 us each.
const LEVEL: i32 = 1;

#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    /// Records before it that it says are left out.
    pub(super) says_lost: u64,
}

/// What the thread has done.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) records: u64,
    /// Records of blocks that could not be written.
    pub(super) unwritten: u64,
    pub(super) bytes: u64,
}

/// Appends a section to those of a block.
pub(super) fn append(out: &mut Vec<u8>, kind: u16, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.resize(out.len().next_multiple_of(8), 0);
}

fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The block of these sections, compressed if that makes it shorter.
fn stored_block(sections: &[u8], compressed: Option<&[u8]>) -> Vec<u8> {
    let (codec, stored) = match compressed.filter(|stored| stored.len() < sections.len()) {
        Some(stored) => (CODEC_ZSTD, stored),
        None => (CODEC_NONE, sections),
    };
    let mut block = Vec::with_capacity(BLOCK_HEADER_LEN + stored.len());
    block.extend_from_slice(&BLOCK);
    for word in [stored.len() as u32, sections.len() as u32, codec, checksum(stored)] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    block.extend_from_slice(&checksum(&block).to_le_bytes());
    block.extend_from_slice(stored);
    block
}

/// A recording of one block, of these facts and sections as [`Reader::next_raw`] gives them.
///
/// [`Reader::next_raw`]: super::read::Reader::next_raw
///
/// # Errors
/// The facts cannot be written.
pub fn encode<'a>(
    facts: &Facts,
    sections: impl IntoIterator<Item = (u16, &'a [u8])>,
) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    append(&mut block, section::FACTS, &[&serde_json::to_vec(facts)?]);
    for (kind, bytes) in sections {
        append(&mut block, kind, &[bytes]);
    }
    let compressed = zstd::bulk::compress(&block, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    Ok([&header()[..], &stored_block(&block, Some(&compressed))].concat())
}

/// What the thread writes to.
pub(super) struct Writer {
    name: String,
    file: File,
    /// Where the last whole block ends.
    len: u64,
    compressor: zstd::bulk::Compressor<'static>,
    failed: Arc<AtomicBool>,
    pub(super) written: Written,
}

impl Writer {
    /// Goes on behind the first `len` bytes of `file`; sets `failed` when no more can be written.
    pub(super) fn new(
        name: String,
        file: File,
        len: u64,
        failed: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        let written = Written { bytes: len, ..Written::default() };
        Ok(Self { name, file, len, compressor, failed, written })
    }

    pub(super) fn write(&mut self, block: &Block) {
        if self.failed.load(Ordering::Relaxed) {
            self.written.unwritten += block.records;
            return;
        }
        let compressed = self.compressor.compress(&block.bytes).ok();
        let whole = stored_block(&block.bytes, compressed.as_deref());
        match self.file.write_all(&whole) {
            Ok(()) => {
                self.len += whole.len() as u64;
                self.written.records += block.records;
                self.written.bytes = self.len;
            }
            Err(error) => {
                tracing::warn!(
                    file = self.name, %error,
                    "the recording ends here: what comes is captured, but not recorded"
                );
                self.failed.store(true, Ordering::Relaxed);
                self.written.unwritten += block.records;
                // Half a block would be read as one that was cut; where it stays, that is what it is.
                let _ =
                    self.file.set_len(self.len).and_then(|()| self.file.seek(io::SeekFrom::End(0)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_write_that_fails_leaves_no_half_of_a_block() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::new("full".into(), file, 0, Arc::default()).unwrap();
        for records in [5, 6] {
            writer.write(&Block { bytes: vec![0; 64], records, says_lost: 0 });
        }
        assert!(writer.failed.load(Ordering::Relaxed));
        assert_eq!((writer.written.records, writer.written.unwritten), (0, 11));
    }
}
