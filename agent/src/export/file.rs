//! `--otlp-file`: the OTLP file exporter's format, one `ExportTraceServiceRequest` or
//! `ExportMetricsServiceRequest` in JSON per line.
//!
//! A disk that is full is no reason to stop: what cannot be written is counted, and a line that was cut
//! is taken back, or ended where that is impossible, so that every other line stays readable.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    otlp::{Format, request::join},
    queue::Queue,
    settings::FileTarget,
    stats::DropReason,
};

/// An open target. Both signals write to it, a line at a time.
pub(crate) struct LineFile {
    name: String,
    file: File,
    /// Opened for appending, so that it may be shortened; standard output has a position of its own.
    appends: bool,
    /// The last line has no end.
    torn: bool,
    /// The last write failed, and that was logged.
    failing: bool,
}

impl LineFile {
    /// # Errors
    /// The file cannot be created or opened for appending.
    pub(crate) fn open(target: &FileTarget) -> io::Result<Self> {
        let (name, file, appends) = match target {
            FileTarget::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned()?;
                ("standard output".into(), File::from(stdout), false)
            }
            FileTarget::Path(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                (path.display().to_string(), file, true)
            }
        };
        Ok(Self { name, file, appends, torn: false, failing: false })
    }

    /// Writes `line` whole or not at all, as far as the target allows.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut written = 0;
        while written < line.len() {
            match self.file.write(&line[written..]) {
                Ok(0) => return Err(self.take_back(written, io::ErrorKind::WriteZero.into())),
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.take_back(written, error)),
            }
        }
        Ok(())
    }

    fn take_back(&mut self, written: usize, error: io::Error) -> io::Error {
        if written > 0 {
            let shorten =
                |meta: Metadata| self.file.set_len(meta.len().saturating_sub(written as u64));
            self.torn = !self.appends || self.file.metadata().and_then(shorten).is_err();
        }
        error
    }

    /// Writes and logs; true if it was written.
    fn put(&mut self, line: &[u8]) -> bool {
        match self.write(line) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!(file = self.name, "writing works again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(file = self.name, %error, "cannot write; dropping, counted, until it works again");
                }
                false
            }
        }
    }
}

/// Writes until the task is aborted. A write may block (a pipe nobody reads), so it has its own thread.
pub(crate) async fn run(queue: Arc<Queue>, file: Arc<Mutex<LineFile>>) {
    loop {
        let claim = queue.claim(0).await;
        let line = line(&queue, &claim.bodies);
        let file = Arc::clone(&file);
        let write = move || file.lock().unwrap_or_else(PoisonError::into_inner).put(&line);
        match tokio::task::spawn_blocking(write).await {
            Ok(true) => queue.delivered(0),
            Ok(false) | Err(_) => queue.discard(DropReason::WriteFailed),
        }
    }
}

fn line(queue: &Queue, bodies: &[Bytes]) -> Vec<u8> {
    let mut line = Vec::from(join(Format::Json, queue.signal, bodies));
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> LineFile {
        LineFile::open(&FileTarget::Path(path.into())).unwrap()
    }

    #[test]
    fn appends_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spans.jsonl");
        assert!(open(&path).put(b"{1}\n"));
        assert!(open(&path).put(b"{2}\n"));
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{2}\n");
    }

    #[test]
    fn a_cut_line_is_taken_back_or_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spans.jsonl");
        let mut file = open(&path);
        assert!(file.put(b"{1}\n"));
        // what a write that was cut after two bytes leaves behind
        file.file.write_all(b"{2").unwrap();
        file.take_back(2, io::ErrorKind::StorageFull.into());
        assert!(file.put(b"{3}\n"));
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{3}\n");

        file.file.write_all(b"{4").unwrap();
        file.torn = true;
        assert!(file.put(b"{5}\n"));
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{3}\n{4\n{5}\n");
    }

    #[test]
    fn a_full_disk_fails_every_line_and_nothing_else() {
        let mut file = open("/dev/full".as_ref());
        assert!(!file.put(b"{1}\n"));
        assert!(!file.put(b"{2}\n"));
        assert!(file.failing);
    }
}
