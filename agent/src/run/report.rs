//! The books as they are printed at exit: every record and every request in one column.

use std::fmt;

use super::books::Books;
use crate::{accounting::Lost, export::stats::LaneStats};

/// Prints as lines for people; the totals of a line are the sum of what follows them.
pub(super) struct Report<'a> {
    pub(super) books: &'a Books,
    pub(super) lanes: &'a [LaneStats],
}

/// `name=count` for every count that is not 0.
fn counts<'a>(
    f: &mut fmt::Formatter<'_>,
    counts: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    counts
        .filter(|(_, count)| *count > 0)
        .try_for_each(|(name, count)| write!(f, " {name}={count}"))
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { books, lanes } = self;
        let stats = &books.assembled;
        write!(f, "remora: records {} = parsed {}", books.records, stats.parsed)?;
        counts(f, books.ignored())?;
        write!(f, "; dropped in the kernel")?;
        if books.drops.iter().all(|(_, count)| *count == 0) {
            f.write_str(" 0")?;
        }
        counts(f, books.drops.iter().map(|(name, count)| (&**name, *count)))?;
        write!(
            f,
            "\nremora: bytes {} = seen {} + missed {}",
            stats.bytes + stats.gap_bytes,
            stats.bytes,
            stats.gap_bytes
        )?;
        let requests = &books.counts;
        write!(
            f,
            "\nremora: requests {} = spans {} + sampled_out {} + lost {}",
            requests.ended(),
            requests.spans,
            requests.sampled_out,
            requests.lost.iter().sum::<u64>()
        )?;
        counts(f, Lost::ALL.iter().map(|&reason| (reason.as_str(), requests.lost(reason))))?;
        for lane in *lanes {
            write!(
                f,
                "\nremora: {} to {}: accepted {} = exported {} + dropped {}",
                lane.signal.as_str(),
                lane.destination.as_str(),
                lane.accepted,
                lane.exported,
                lane.dropped.total()
            )?;
            counts(f, lane.dropped.iter().map(|(reason, count)| (reason.as_str(), count)))?;
        }
        if let Some(recording) = &books.recording {
            write!(
                f,
                "\nremora: recording {}: records {} + missing {}, {} bytes{}",
                recording.path.display(),
                recording.records,
                recording.missing,
                recording.bytes,
                if recording.whole { "" } else { ", not whole" }
            )?;
        }
        writeln!(f)
    }
}
