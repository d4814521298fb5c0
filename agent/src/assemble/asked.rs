//! Who has asked for a stream of HTTP/2 that another unit writes for them. It is told before the stream's first frame is written.

use std::collections::VecDeque;

use remora_common::{context, record::Stream};

/// Streams that may wait for their first frame. They wait for microseconds, or for ever where it was lost.
const MOST: usize = 4096;

/// Streams whose first frame was not seen yet, the latest one last.
#[derive(Debug, Default)]
pub(super) struct Asked(VecDeque<Stream>);

impl Asked {
    pub(super) fn note(&mut self, stream: &Stream) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(*stream);
    }

    /// The context of who has asked for the stream whose first frame the process `tgid` has written in context `writer`.
    pub(super) fn take(&mut self, tgid: u32, writer: u64, stream: u32) -> Option<u64> {
        let unit = context::unit(writer);
        if self.0.is_empty() || unit == 0 {
            return None;
        }
        let is_it = |it: &Stream| it.tgid == tgid && it.unit == unit && it.stream == stream;
        let at = self.0.iter().rposition(is_it)?;
        self.0.remove(at).map(|it| it.context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(unit: u32, stream: u32, context: u64) -> Stream {
        Stream { tgid: 7, unit, stream, context, ..Stream::default() }
    }

    #[test]
    fn a_stream_is_taken_once_and_by_its_writer_alone() {
        let mut asked = Asked::default();
        asked.note(&stream(3, 1, 10));
        asked.note(&stream(3, 3, 11));
        asked.note(&stream(4, 1, 12));
        let writer = |unit| context::context(unit, 5);
        assert_eq!(asked.take(7, writer(5), 1), None);
        assert_eq!(asked.take(8, writer(3), 1), None);
        assert_eq!(asked.take(7, writer(3), 5), None);
        assert_eq!(asked.take(7, 0, 1), None, "a thread");
        assert_eq!(asked.take(7, writer(3), 1), Some(10));
        assert_eq!(asked.take(7, writer(3), 1), None);
        assert_eq!(asked.take(7, writer(4), 1), Some(12));
    }

    #[test]
    fn of_too_many_the_latest_are_kept() {
        let mut asked = Asked::default();
        (0..=MOST as u32).for_each(|number| asked.note(&stream(3, number, 9)));
        assert_eq!(asked.0.len(), MOST);
        assert_eq!(asked.take(7, context::context(3, 0), 0), None);
        assert_eq!(asked.take(7, context::context(3, 0), MOST as u32), Some(9));
    }
}
