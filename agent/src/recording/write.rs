//! `--record`: from the worker to a file. The worker copies what may be kept into a block; a thread
//! compresses and writes full ones, and those that are a second old. The worker never waits: if the
//! thread has too many blocks to write, the next one is left out, counted, and said in the file. A disk
//! that is full ends the recording, not the capture.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
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

use super::{
    block::{Block, Writer, Written, append, encode},
    format::{self, End, Facts, Target, section},
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
        let mut writer = Writer::new(path.display().to_string(), file, len, Arc::clone(&failed))?;
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
            Record::Stream(stream) => self.section(section::RECORD, &[stream.as_bytes()]),
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
}
