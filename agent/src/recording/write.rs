//! `--record`: from the worker to a file. The worker copies what may be kept into a block; a thread
//! compresses and writes full ones, and those that are a second old. The worker never waits: if the
//! thread has too many blocks to write, the next one is left out, counted, and said in the file. A disk
//! that is full ends the recording, not the capture.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use remora_common::{record::Close, target::SELECTED};
use zerocopy::IntoBytes;

use super::format::{
    self, BLOCK, BLOCK_HEADER_LEN, CODEC_NONE, CODEC_ZSTD, End, Facts, HEADER_LEN, MAGIC, Target,
    VERSION, checksum, section,
};
use crate::{assemble::Kept, clock::ClockOffset, decode::Record, resource::Resource};

/// A block is written when it is as long.
const BLOCK_LEN: usize = 128 << 10;
/// Blocks that may wait to be written: 4 MiB.
const WAITING: usize = 32;
/// A block is written when it is as old, nanoseconds.
const FLUSH_NS: u64 = 1_000_000_000;
/// How long the end of a recording may take to be written.
const FINISH: Duration = Duration::from_secs(5);
/// Recordings of 10 k exchanges compress to a tenth at this level, in 0.2 us each.
const LEVEL: i32 = 1;

/// A recording in the making, as the worker sees it.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    block: Block,
    flushed_ns: u64,
    /// `None` when there is nothing to be written to any more.
    to_writer: Option<SyncSender<Block>>,
    used: Receiver<Block>,
    done: Receiver<Written>,
    failed: Arc<AtomicBool>,
    offset: ClockOffset,
    /// What is repeated after a loss.
    targets: BTreeMap<u32, (usize, Arc<Resource>)>,
    /// Records that were left out.
    left_out: u64,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    records: u64,
    /// Records before it that it says are left out.
    says_lost: u64,
}

/// What the thread has done.
#[derive(Debug, Default)]
struct Written {
    records: u64,
    /// Records of blocks that could not be written.
    unwritten: u64,
    bytes: u64,
}

/// What became of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub path: PathBuf,
    pub records: u64,
    /// Records that are not in it, because the disk was full or too slow.
    pub missing: u64,
    pub bytes: u64,
    /// It was written to its end.
    pub whole: bool,
}

impl Recorder {
    /// Begins a recording. A file that is there is overwritten; only its owner may read it.
    ///
    /// # Errors
    /// What is there is no file, or cannot be written.
    pub fn create(path: &Path, facts: &Facts) -> io::Result<Self> {
        // Opening a pipe would wait for a reader, and reading one waits for us.
        if let Ok(there) = fs::metadata(path)
            && !there.is_file()
            && !there.file_type().is_char_device()
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // Written at once: without the facts no later block can be read.
        let begin = encode(facts, [])?;
        file.write_all(&begin)?;
        let len = begin.len() as u64;

        let (to_writer, blocks) = mpsc::sync_channel(WAITING);
        let (give_back, used) = mpsc::sync_channel(WAITING);
        let (tell, done) = mpsc::sync_channel(1);
        let failed = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            name: path.display().to_string(),
            file,
            len,
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
            failed: Arc::clone(&failed),
            written: Written { bytes: len, ..Written::default() },
        };
        thread::Builder::new().name("remora-record".into()).spawn(move || {
            for mut block in blocks {
                writer.write(&block);
                block.bytes.clear();
                (block.records, block.says_lost) = (0, 0);
                let _ = give_back.try_send(block); // the worker makes a new one
            }
            let _ = tell.send(writer.written); // who does not wait any more does not need it
        })?;
        Ok(Self {
            path: path.to_owned(),
            block: Block::default(),
            flushed_ns: facts.start_mono_ns,
            to_writer: Some(to_writer),
            used,
            done,
            failed,
            offset: ClockOffset::fixed(facts.offset_ns),
            targets: BTreeMap::new(),
            left_out: 0,
        })
    }

    /// A record, with what may be kept of its content.
    pub fn record(&mut self, record: &Record<'_>, kept: Option<&Kept>) {
        self.block.records += 1;
        match record {
            Record::Data(data) => {
                let Some(kept) = kept else { return };
                let header = remora_common::record::Data { tail: kept.tail(), ..*data.header };
                self.section(section::RECORD, &[header.as_bytes(), kept.head()]);
            }
            Record::Open { open, .. } => self.section(section::RECORD, &[open.as_bytes()]),
            Record::Close { close, .. } => self.section(section::RECORD, &[close.as_bytes()]),
            Record::Process { process, .. } => {
                let mut process = **process;
                if process.selection & SELECTED == 0 {
                    process.comm = [0; 16]; // of no concern to who gets the recording
                }
                self.section(section::RECORD, &[process.as_bytes()]);
            }
            Record::Listen(listen) => self.section(section::RECORD, &[listen.as_bytes()]),
        }
        if self.block.bytes.len() >= BLOCK_LEN {
            self.flush();
        }
    }

    /// A sample that was no record.
    pub fn undecodable(&mut self) {
        self.block.records += 1;
        self.section(section::UNDECODABLE, &[]);
    }

    /// Reassembly was told of this time.
    pub fn tick(&mut self, mono_ns: u64) {
        self.section(section::TICK, &[&mono_ns.to_le_bytes()]);
    }

    /// Correlation forgot what was old at this time.
    pub fn forgot(&mut self, mono_ns: u64) {
        self.section(section::FORGOT, &[&mono_ns.to_le_bytes()]);
    }

    /// Reassembly was told of the end of a connection that no record tells of.
    pub fn orphan(&mut self, close: &Close) {
        self.section(section::ORPHAN, &[close.as_bytes()]);
    }

    /// To be called every few milliseconds.
    pub fn flush_due(&mut self, mono_ns: u64) {
        if mono_ns.saturating_sub(self.flushed_ns) >= FLUSH_NS {
            self.flushed_ns = mono_ns;
            self.flush();
        }
    }

    /// The offset between the clocks that was used for what follows, if it is another one.
    pub fn offset(&mut self, offset: ClockOffset) {
        if offset != self.offset {
            self.offset = offset;
            self.section(section::CLOCK, &[&offset.offset_ns().to_le_bytes()]);
        }
    }

    /// A process is watched from here on, or speaks for something else.
    pub fn target(&mut self, tgid: u32, selector: usize, resource: &Arc<Resource>) {
        self.targets.insert(tgid, (selector, Arc::clone(resource)));
        let attributes = format::attributes(resource.iter());
        self.json(
            section::TARGET,
            &Target { tgid, selector, resource: attributes, shared: resource.is_shared_instance() },
        );
    }

    /// A process is not watched any more.
    pub fn gone(&mut self, tgid: u32) {
        self.targets.remove(&tgid);
        self.section(section::GONE, &[&tgid.to_le_bytes()]);
    }

    /// Ends the recording; waits for the disk, but not for long.
    #[must_use]
    pub fn finish(mut self, end: &End) -> Summary {
        self.json(section::END, end);
        let deadline = Instant::now() + FINISH;
        let mut last = std::mem::take(&mut self.block);
        while let Some(to_writer) = &self.to_writer {
            match to_writer.try_send(last) {
                Err(TrySendError::Full(block)) if Instant::now() < deadline => last = block,
                _ => break,
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.to_writer.take());
        let written = self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let whole = written.is_ok() && !self.failed.load(Ordering::Relaxed);
        let Written { records, unwritten, bytes } = written.unwrap_or_else(|_| {
            tracing::warn!(file = %self.path.display(), "the recording's end is not written in time");
            Written::default()
        });
        let missing = self.left_out + unwritten;
        Summary { path: self.path, records, missing, bytes, whole: whole && missing == 0 }
    }

    fn json(&mut self, kind: u16, value: &impl serde::Serialize) {
        // Maps with text keys, numbers that are finite: there is nothing that cannot be written.
        if let Ok(text) = serde_json::to_vec(value) {
            self.section(kind, &[&text]);
        }
    }

    fn section(&mut self, kind: u16, parts: &[&[u8]]) {
        append(&mut self.block.bytes, kind, parts);
    }

    /// Hands the block to the thread, or leaves it out if that has too many.
    fn flush(&mut self) {
        if self.block.bytes.is_empty() {
            return;
        }
        let next = self.used.try_recv().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, next);
        let Some(to_writer) = &self.to_writer else { return };
        match to_writer.try_send(block) {
            Ok(()) => {}
            Err(TrySendError::Full(block) | TrySendError::Disconnected(block)) => {
                if self.left_out == 0 {
                    tracing::warn!(
                        file = %self.path.display(),
                        "the disk is too slow for the recording: records are left out, counted"
                    );
                }
                self.left_out += block.records;
                self.after_loss(block.says_lost + block.records);
            }
        }
    }

    /// What a reader has to know that the block it does not get would have told.
    fn after_loss(&mut self, lost: u64) {
        let targets = self.targets.clone();
        self.block.says_lost = lost;
        self.section(section::LOST, &[&lost.to_le_bytes()]);
        self.section(section::CLOCK, &[&self.offset.offset_ns().to_le_bytes()]);
        for (tgid, (selector, resource)) in &targets {
            self.target(*tgid, *selector, resource);
        }
    }
}

/// Appends a section to those of a block.
fn append(out: &mut Vec<u8>, kind: u16, parts: &[&[u8]]) {
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

struct Writer {
    name: String,
    file: File,
    /// Where the last whole block ends.
    len: u64,
    compressor: zstd::bulk::Compressor<'static>,
    failed: Arc<AtomicBool>,
    written: Written,
}

impl Writer {
    fn write(&mut self, block: &Block) {
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
    use super::*;
    use crate::recording::{
        format::Layout,
        read::{Reader, Section},
    };

    fn recorder(folder: &Path) -> Recorder {
        let facts = Facts {
            agent: String::new(),
            layout: Layout::HERE,
            limits: format::Limits::of(&crate::assemble::Limits::default()),
            seed: [1; 4],
            start_mono_ns: 0,
            offset_ns: 3,
            host: BTreeMap::new(),
            door: String::new(),
            selection: String::new(),
            query_keys: Vec::new(),
        };
        Recorder::create(&folder.join("recording"), &facts).unwrap()
    }

    fn fill_block(recorder: &mut Recorder) {
        for _ in 0..100 {
            recorder.undecodable();
        }
        recorder.flush();
    }

    #[test]
    fn a_disk_that_is_too_slow_costs_records_and_the_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = recorder(folder.path());
        let resource = Arc::new(Resource::new([("service.name".into(), "shop".into())]));
        recorder.target(7, 0, &resource);
        recorder.flush();
        // A thread that takes nothing.
        let (full, blocks) = mpsc::sync_channel(1);
        let thread = recorder.to_writer.replace(full);
        for _ in 0..4 {
            fill_block(&mut recorder);
        }
        assert_eq!(recorder.left_out, 300);
        let first = blocks.recv().unwrap();
        recorder.to_writer = thread;
        recorder.to_writer.as_ref().unwrap().send(first).unwrap();
        fill_block(&mut recorder);
        let summary = recorder.finish(&End::default());
        assert_eq!((summary.records, summary.missing, summary.whole), (200, 300, false));
        let mut reader = Reader::open(&summary.path).unwrap();
        let (mut read, mut lost, mut targets) = (0, 0, 0);
        while let Some(section) = reader.next().unwrap() {
            match section {
                Section::Undecodable => read += 1,
                Section::Lost(records) => lost += records,
                Section::Target(target) => targets += u32::from(target.tgid == 7),
                _ => {}
            }
        }
        assert_eq!((read, lost, targets), (200, 300, 2), "the facts are told again");
    }

    #[test]
    fn a_disk_that_gets_full_ends_the_recording_at_a_whole_block() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = recorder(folder.path());
        let path = recorder.path.clone();
        let begin = fs::metadata(&path).unwrap().len();
        fill_block(&mut recorder);
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::metadata(&path).unwrap().len() == begin {
            assert!(Instant::now() < deadline, "the block is not written");
            thread::sleep(Duration::from_millis(2));
        }
        let len = fs::metadata(&path).unwrap().len();
        recorder.failed.store(true, Ordering::Relaxed);
        fill_block(&mut recorder);
        let summary = recorder.finish(&End::default());
        assert_eq!((summary.records, summary.missing, summary.whole), (100, 100, false));
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
    }

    #[test]
    fn a_write_that_fails_leaves_no_half_of_a_block() {
        let mut writer = Writer {
            name: "full".into(),
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            len: 0,
            compressor: zstd::bulk::Compressor::new(LEVEL).unwrap(),
            failed: Arc::default(),
            written: Written::default(),
        };
        for records in [5, 6] {
            writer.write(&Block { bytes: vec![0; 64], records, says_lost: 0 });
        }
        assert!(writer.failed.load(Ordering::Relaxed));
        assert_eq!((writer.written.records, writer.written.unwritten), (0, 11));
    }
}
