//! The books as they are printed at exit: every record and every request in one column.

use std::fmt;

use super::books::Books;
use crate::export::stats::LaneStats;

/// Prints as lines for people; the totals of a line are the sum of what follows them.
pub(super) struct Report<'a> {
    pub(super) books: &'a Books,
    pub(super) lanes: &'a [LaneStats],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.books.accounting(self.lanes, 0).lines() {
            writeln!(f, "remora: {line}")?;
        }
        let Some(recording) = &self.books.recording else { return Ok(()) };
        writeln!(
            f,
            "remora: recording {}: records {} + missing {}, {} bytes{}",
            recording.path.display(),
            recording.records,
            recording.missing,
            recording.bytes,
            if recording.whole { "" } else { ", not whole" }
        )
    }
}
