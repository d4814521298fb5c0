//! Standard output on a thread of its own: a terminal that was stopped, a pager that waits, hold up
//! neither capture nor the agent's end. What there is no room for is counted, not kept.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::warn;

/// Text that waits to be written, bytes.
const ROOM: usize = 1 << 20;

/// Takes text and returns at once; what was written since the last flush goes together or not at all.
#[derive(Debug)]
pub struct BackgroundWriter {
    pending: Vec<u8>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    text: Vec<u8>,
    /// Some is being written.
    busy: bool,
    /// What the output said; nothing is written after it.
    failed: Option<io::ErrorKind>,
    closed: bool,
    lines_dropped: usize,
}

impl BackgroundWriter {
    /// # Errors
    /// No thread can be started.
    pub fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("remora-print".into()).spawn(move || theirs.run(out))?;
        Ok(Self { pending: Vec::new(), shared })
    }

    /// Waits for what is written still, at most so long; says what never was.
    pub fn finish(&mut self, within: Duration) {
        // What went wrong was said when it did.
        let _ = self.flush();
        let state = self.shared.lock();
        let waits =
            |state: &mut State| (state.busy || !state.text.is_empty()) && state.failed.is_none();
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, within, waits)
            .unwrap_or_else(PoisonError::into_inner);
        let left = lines(&state.text) + state.lines_dropped;
        state.text.clear();
        if left > 0 && state.failed.is_none() {
            warn!(lines = left, "standard output did not take everything: lines not printed");
        }
    }
}

impl Write for BackgroundWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        if state.text.len() + self.pending.len() > ROOM {
            if state.lines_dropped == 0 {
                warn!("standard output takes nothing: lines are dropped, counted, until it does");
            }
            state.lines_dropped += lines(&self.pending);
        } else {
            state.text.extend_from_slice(&self.pending);
            self.shared.changed.notify_all();
        }
        self.pending.clear();
        Ok(())
    }
}

impl Drop for BackgroundWriter {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No change is left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut out: impl Write) {
        loop {
            let idle = |state: &mut State| state.text.is_empty() && !state.closed;
            let state = self.changed.wait_while(self.lock(), idle);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.text.is_empty() {
                return;
            }
            let text = std::mem::take(&mut state.text);
            state.busy = true;
            drop(state);
            let written = out.write_all(&text).and_then(|()| out.flush());
            let mut state = self.lock();
            state.busy = false;
            state.failed = written.err().map(|error| error.kind());
            self.changed.notify_all();
            if state.failed.is_some() {
                return;
            }
        }
    }
}

fn lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes when it is let.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn takes_everything_at_once_and_writes_it_in_order() {
        let ((open, gate), (sink, written)) = (channel(), channel());
        let mut writer = BackgroundWriter::new(Gate(gate, sink)).unwrap();
        for line in 0..100 {
            writeln!(writer, "{line}").unwrap();
            writer.flush().unwrap();
        }
        (0..100).for_each(|_| open.send(()).unwrap());
        writer.finish(Duration::from_secs(20));
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let expected: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn drops_and_counts_what_there_is_no_room_for() {
        let ((_open, gate), (sink, _written)) = (channel(), channel());
        let mut writer = BackgroundWriter::new(Gate(gate, sink)).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..3000 {
            writer.write_all(&line).unwrap();
            writer.flush().unwrap();
        }
        // One piece of any length may be in the writer's hands.
        let state = writer.shared.lock();
        assert!(state.text.len() <= ROOM && state.lines_dropped >= 3000 - 2 * 1024);
        drop(state);
        writer.finish(Duration::from_millis(1));
    }

    #[test]
    fn tells_of_an_output_that_failed() {
        let ((open, gate), (sink, _written)) = (channel(), channel());
        let mut writer = BackgroundWriter::new(Gate(gate, sink)).unwrap();
        drop(open);
        let mut failed = false;
        for _ in 0..1000 {
            writer.write_all(b"line\n").unwrap();
            failed |= writer.flush().is_err();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(failed);
        writer.finish(Duration::from_secs(20));
    }
}
