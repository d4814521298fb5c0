//! A recording, section by section. Any bytes may be given: what is wrong with them is said with its
//! place, what is found there and what was expected; a file that was cut is read as far as it is whole.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use remora_common::record::{Close, Kind};
use zerocopy::IntoBytes;

use super::format::{
    BLOCK, BLOCK_HEADER_LEN, CODEC_NONE, CODEC_ZSTD, End, Facts, HEADER_LEN, Layout, MAGIC,
    MAX_BLOCK_LEN, SECTION_HEADER_LEN, Target, VERSION, checksum, section,
};
use crate::clock::ClockOffset;

/// Longest record that is taken from a layout of another version.
const MAX_STRUCT_LEN: usize = 4096;

/// Why a file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the recording")]
    Io(#[from] io::Error),
    #[error("not a recording: found {found} at offset 0, expected {expected}")]
    Foreign { found: String, expected: String },
    #[error(
        "format version {found} at offset 8, expected {VERSION} or less: it was made by a newer agent"
    )]
    Newer { found: u32 },
    /// The rest is missing; everything before `offset` was whole.
    #[error("cut at offset {offset}: found {found} bytes of {what}, expected {expected}")]
    Cut { offset: u64, what: &'static str, found: usize, expected: usize },
    #[error("damaged at offset {offset}: found {what} {found}, expected {expected}")]
    Damaged { offset: u64, what: &'static str, found: String, expected: String },
}

/// One section.
#[derive(Debug, PartialEq)]
pub enum Section<'a> {
    /// A record in this version's layout, aligned; to be decoded, which may fail.
    Record(&'a [u8]),
    Undecodable,
    Tick(u64),
    Offset(ClockOffset),
    Target(Target),
    Gone(u32),
    Lost(u64),
    End(End),
    Orphan(Close),
    Forgot(u64),
    /// Of a later version.
    Unknown(u16),
}

/// Sections of any bytes that can be read.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    facts: Facts,
    block: Blocks,
    /// A record that was laid out anew.
    record: Vec<u64>,
}

/// The block that is being read.
#[derive(Debug, Default)]
struct Blocks {
    /// Of words, so that records are aligned.
    words: Vec<u64>,
    len: usize,
    at: usize,
    stored: Vec<u8>,
    /// Of the block in the file, and of what comes behind it.
    offset: u64,
    next_offset: u64,
}

impl Reader<BufReader<File>> {
    /// # Errors
    /// There is no such file, or it does not begin as a recording of a version that is known.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(BufReader::with_capacity(1 << 20, File::open(path)?))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header and the facts.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut header = [0; HEADER_LEN];
        let len = fill(&mut from, &mut header)?;
        let magic = &header[..len.min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] || magic.is_empty() {
            return Err(ReadError::Foreign {
                found: format!("`{}`", magic.escape_ascii()),
                expected: format!("`{}`", MAGIC.escape_ascii()),
            });
        }
        if len < HEADER_LEN {
            let (what, expected) = ("the header", HEADER_LEN);
            return Err(ReadError::Cut { offset: 0, what, found: len, expected });
        }
        let version = word(&header, 8);
        if version > VERSION {
            return Err(ReadError::Newer { found: version });
        }
        let mut block = Blocks { next_offset: HEADER_LEN as u64, ..Blocks::default() };
        if !block.load(&mut from)? {
            let (what, expected) = ("the first block", BLOCK_HEADER_LEN);
            return Err(ReadError::Cut { offset: HEADER_LEN as u64, what, found: 0, expected });
        }
        let (kind, range) = block.section()?;
        let offset = block.offset;
        if kind != section::FACTS {
            return Err(ReadError::Damaged {
                offset,
                what: "a first section of type",
                found: kind.to_string(),
                expected: section::FACTS.to_string(),
            });
        }
        let facts: Facts = json(&block.words.as_bytes()[range], offset)?;
        let Layout { data, open, close, process, listen, stream } = facts.layout;
        for len in [data, open, close, process, listen, stream] {
            if !(8..=MAX_STRUCT_LEN).contains(&len) {
                return Err(ReadError::Damaged {
                    offset,
                    what: "a record of length",
                    found: len.to_string(),
                    expected: format!("8 to {MAX_STRUCT_LEN}"),
                });
            }
        }
        Ok(Self { from, facts, block, record: Vec::new() })
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Type and bytes of the next section, as they are in the file; `None` at its end.
    ///
    /// # Errors
    /// What is there cannot be read; nothing behind it can, either.
    pub fn next_raw(&mut self) -> Result<Option<(u16, &[u8])>, ReadError> {
        if self.block.at == self.block.len && !self.block.load(&mut self.from)? {
            return Ok(None);
        }
        let (kind, range) = self.block.section()?;
        Ok(Some((kind, &self.block.words.as_bytes()[range])))
    }

    /// The next section; `None` at the end of the file.
    ///
    /// # Errors
    /// As [`Self::next_raw`].
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Section<'_>>, ReadError> {
        if self.block.at == self.block.len && !self.block.load(&mut self.from)? {
            return Ok(None);
        }
        let (kind, range) = self.block.section()?;
        let offset = self.block.offset;
        let bytes = &self.block.words.as_bytes()[range];
        let long = |len: usize| match bytes.get(..len) {
            Some(bytes) => Ok(bytes),
            None => Err(ReadError::Damaged {
                offset,
                what: "a section with a length of",
                found: format!("{} (type {kind})", bytes.len()),
                expected: format!("{len} or more"),
            }),
        };
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Ok(Some(match kind {
            section::RECORD if self.facts.layout == Layout::HERE => Section::Record(bytes),
            section::RECORD => {
                let len = lay_out(bytes, &self.facts.layout, &mut self.record);
                Section::Record(&self.record.as_bytes()[..len])
            }
            section::UNDECODABLE => Section::Undecodable,
            section::TICK => Section::Tick(number(long(8)?)),
            section::FORGOT => Section::Forgot(number(long(8)?)),
            section::ORPHAN => {
                let mut close = Close::default();
                let room = close.as_mut_bytes();
                let bytes = &bytes[..bytes.len().min(self.facts.layout.close)];
                let len = room.len().min(bytes.len());
                room[..len].copy_from_slice(&bytes[..len]);
                Section::Orphan(close)
            }
            section::CLOCK => Section::Offset(ClockOffset::fixed(number(long(8)?).cast_signed())),
            section::TARGET => Section::Target(json(bytes, offset)?),
            section::GONE => Section::Gone(word(long(4)?, 0)),
            section::LOST => Section::Lost(number(long(8)?)),
            section::END => Section::End(json(bytes, offset)?),
            other => Section::Unknown(other),
        }))
    }
}

impl Blocks {
    /// Reads a block; false at the end of the file.
    fn load(&mut self, from: &mut impl Read) -> Result<bool, ReadError> {
        let offset = self.next_offset;
        let damaged = |what, found: String, expected: String| {
            Err(ReadError::Damaged { offset, what, found, expected })
        };
        let mut header = [0; BLOCK_HEADER_LEN];
        let found = fill(from, &mut header)?;
        if found == 0 {
            return Ok(false);
        }
        if found < BLOCK_HEADER_LEN {
            let (what, expected) = ("a block's header", BLOCK_HEADER_LEN);
            return Err(ReadError::Cut { offset, what, found, expected });
        }
        if header[..4] != BLOCK {
            let found = format!("`{}`", header[..4].escape_ascii());
            return damaged(
                "in the place of a block",
                found,
                format!("`{}`", BLOCK.escape_ascii()),
            );
        }
        let (computed, said) = (checksum(&header[..20]), word(&header, 20));
        if computed != said {
            let (found, expected) = (format!("{computed:08x}"), format!("{said:08x}"));
            return damaged("a block's header with the checksum", found, expected);
        }
        let [stored_len, len, codec, said] = [4, 8, 12, 16].map(|at| word(&header, at));
        let (stored_len, len) = (stored_len as usize, len as usize);
        if stored_len.max(len) > MAX_BLOCK_LEN || len % 8 != 0 || len == 0 {
            let expected = format!("up to {MAX_BLOCK_LEN}, a multiple of 8");
            return damaged("a block of the length", stored_len.max(len).to_string(), expected);
        }
        // As much room as the file has bytes: lengths may be lies.
        self.stored.clear();
        let found = from.by_ref().take(stored_len as u64).read_to_end(&mut self.stored)?;
        if found < stored_len {
            let what = "a block";
            return Err(ReadError::Cut { offset, what, found, expected: stored_len });
        }
        let computed = checksum(&self.stored);
        if computed != said {
            let (found, expected) = (format!("{computed:08x}"), format!("{said:08x}"));
            return damaged("a block with the checksum", found, expected);
        }
        self.words.resize(len / 8, 0);
        let room = &mut self.words.as_mut_bytes()[..len];
        let unpacked = match codec {
            CODEC_NONE if stored_len == len => {
                room.copy_from_slice(&self.stored);
                Ok(len)
            }
            CODEC_NONE => Ok(stored_len),
            CODEC_ZSTD => zstd::bulk::decompress_to_buffer(&self.stored, room),
            other => {
                return damaged("the codec", other.to_string(), "0 or 1".into());
            }
        };
        match unpacked {
            Ok(unpacked) if unpacked == len => {}
            Ok(unpacked) => {
                return damaged("content of the length", unpacked.to_string(), len.to_string());
            }
            Err(error) => return damaged("content", error.to_string(), "Zstandard".into()),
        }
        (self.at, self.len) = (0, len);
        self.offset = offset;
        self.next_offset = offset + (BLOCK_HEADER_LEN + stored_len) as u64;
        Ok(true)
    }

    /// The section that comes next in the block: its type, and where its bytes are.
    fn section(&mut self) -> Result<(u16, std::ops::Range<usize>), ReadError> {
        let bytes = &self.words.as_bytes()[self.at..self.len];
        let len = match bytes.get(..SECTION_HEADER_LEN) {
            Some(header) => word(header, 4) as usize,
            None => 0, // a block is a multiple of 8 long, and so is a section
        };
        let rest = bytes.len().saturating_sub(SECTION_HEADER_LEN);
        if len > rest {
            return Err(ReadError::Damaged {
                offset: self.offset,
                what: "a section with a length of",
                found: len.to_string(),
                expected: format!("up to {rest}, which is left of the block"),
            });
        }
        let kind = u16::from_le_bytes([bytes[0], bytes[1]]);
        let begin = self.at + SECTION_HEADER_LEN;
        self.at = begin + len.next_multiple_of(8).min(rest);
        Ok((kind, begin..begin + len))
    }
}

/// A record as structs of this version: what they have more is zero. Returns its length.
fn lay_out(bytes: &[u8], there: &Layout, out: &mut Vec<u64>) -> usize {
    let here = Layout::HERE;
    let (from, to) = match bytes.first().and_then(|&byte| Kind::from_byte(byte)) {
        Some(Kind::Data) => (there.data, here.data),
        Some(Kind::Open) => (there.open, here.open),
        Some(Kind::Close) => (there.close, here.close),
        Some(Kind::Process) => (there.process, here.process),
        Some(Kind::Listen) => (there.listen, here.listen),
        Some(Kind::Stream) => (there.stream, here.stream),
        None => (0, 0),
    };
    let (header, content) = bytes.split_at(from.min(bytes.len()));
    let len = to + content.len();
    out.clear();
    out.resize(len.div_ceil(8), 0);
    let room = out.as_mut_bytes();
    let common = header.len().min(to);
    room[..common].copy_from_slice(&header[..common]);
    room[to..len].copy_from_slice(content);
    len
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], offset: u64) -> Result<T, ReadError> {
    serde_json::from_slice(bytes).map_err(|error| ReadError::Damaged {
        offset,
        what: "a section that cannot be read:",
        found: error.to_string(),
        expected: "JSON as docs/recording.md describes it".into(),
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Reads until `room` is full or nothing is left; returns how much that was.
fn fill(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < room.len() {
        match from.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
