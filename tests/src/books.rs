//! The books that an agent prints when it ends, and whether they close.

use std::collections::BTreeMap;

/// Counts by reason; those that are 0 are left out.
pub type Reasons = BTreeMap<String, u64>;

/// Everything that the lines say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub records: u64,
    pub parsed: u64,
    /// Records that took no part in an exchange.
    pub ignored: Reasons,
    /// What the kernel side gave up on.
    pub drops: Reasons,
    /// Application bytes that were seen, and that moved while records were lost.
    pub bytes: u64,
    pub gap_bytes: u64,
    pub requests: u64,
    pub spans: u64,
    pub sampled_out: u64,
    /// Left out by filters: of spans, of metrics.
    pub filtered: u64,
    pub unmeasured: u64,
    pub lost: Reasons,
    /// By `traces to file` and so on.
    pub lanes: BTreeMap<String, Lane>,
}

/// One destination's account of one signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    pub accepted: u64,
    pub exported: u64,
    pub dropped: Reasons,
}

impl Books {
    /// Finds the lines in a log; every sum in them has to come out.
    ///
    /// # Panics
    /// If there are none, or if one does not close.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut books = Self::default();
        let (mut found, mut measured) = (0, None);
        for line in log.lines().filter_map(|line| line.strip_prefix("remora: ")) {
            let words: Vec<&str> = line.split([' ', ';', ',']).filter(|w| !w.is_empty()).collect();
            let number = |word: &str| {
                let at = words.iter().position(|&said| said == word);
                let number = at.and_then(|at| words.get(at + 1)?.parse().ok());
                number.unwrap_or_else(|| panic!("no number behind {word:?}: {line}"))
            };
            if line.starts_with("records ") {
                let (read, dropped) = line.split_once("; dropped in the kernel").expect("drops");
                (books.records, books.parsed) = (number("records"), number("parsed"));
                (books.ignored, books.drops) = (reasons(read), reasons(dropped));
                found += 1;
            } else if line.starts_with("bytes ") {
                (books.bytes, books.gap_bytes) = (number("seen"), number("missed"));
                assert_eq!(number("bytes"), books.bytes + books.gap_bytes, "{line}");
                found += 1;
            } else if line.starts_with("requests ") {
                books.requests = number("requests");
                (books.spans, books.sampled_out) = (number("spans"), number("sampled_out"));
                books.filtered = if line.contains(" + filtered ") { number("filtered") } else { 0 };
                books.lost = reasons(line);
                assert_eq!(total(&books.lost), number("lost"), "{line}");
                found += 1;
            } else if line.starts_with("metrics: measured ") {
                books.unmeasured = number("filtered");
                measured = Some(number("measured"));
            } else if let Some((name, _)) = line.split_once(": accepted ") {
                let (accepted, exported) = (number("accepted"), number("exported"));
                let dropped = reasons(line);
                assert_eq!(total(&dropped), number("dropped"), "{line}");
                assert_eq!(accepted, exported + number("dropped"), "{line}");
                books.lanes.insert(name.to_owned(), Lane { accepted, exported, dropped });
            }
        }
        assert_eq!(found, 3, "no books, or twice: {log}");
        let Self { records, parsed, requests, spans, sampled_out, filtered, .. } = books;
        assert_eq!(records, parsed + total(&books.ignored), "{log}");
        let ended = spans + sampled_out + filtered;
        assert_eq!(requests, ended + total(&books.lost), "{log}");
        if let Some(measured) = measured {
            assert_eq!(measured + books.unmeasured, ended, "{log}");
        }
        for (name, lane) in books.lanes.iter().filter(|(name, _)| name.starts_with("traces")) {
            assert_eq!(lane.accepted, spans, "{name}: {log}");
        }
        books
    }

    #[must_use]
    pub fn lost(&self, reason: &str) -> u64 {
        self.lost.get(reason).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn all_lost(&self) -> u64 {
        total(&self.lost)
    }

    #[must_use]
    pub fn dropped_in_kernel(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or(0)
    }

    /// Spans by destination, `otlp` or `file`.
    ///
    /// # Panics
    /// If there is no such.
    #[must_use]
    pub fn traces_to(&self, destination: &str) -> &Lane {
        &self.lanes[&format!("traces to {destination}")]
    }

    /// Checks the books of an agent that may have missed whole requests against the number that there
    /// were: one that is in no column left a hole, and both of its records, or more, are among the
    /// `dropped` of the kernel side. Returns how many.
    ///
    /// # Panics
    /// If something is unexplained.
    pub fn explain(&self, requests: u64, dropped: &str) -> u64 {
        let dropped = self.dropped_in_kernel(dropped);
        assert!(self.requests <= requests, "{requests} requests, but {self:?}");
        let unseen = requests - self.requests;
        assert!(2 * unseen <= dropped, "{unseen} requests are unexplained: {self:?}");
        unseen
    }
}

impl Lane {
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.dropped.get(reason).copied().unwrap_or(0)
    }
}

/// Every `name=count`.
fn reasons(text: &str) -> Reasons {
    let counts = text.split([' ', ';']).filter_map(|word| word.split_once('='));
    counts.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}

fn total(reasons: &Reasons) -> u64 {
    reasons.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
remora: records 10 = parsed 7 skipped=2 empty=1; dropped in the kernel ring_full=5
remora: bytes 120 = seen 100 + missed 20
remora: requests 6 = spans 3 + sampled_out 1 + lost 2 gap=2
remora: traces to file: accepted 3 = exported 1 + dropped 2 write_failed=2
";

    #[test]
    fn reads_every_number() {
        let books = Books::read(LOG);
        assert_eq!((books.records, books.parsed, books.ignored["skipped"]), (10, 7, 2));
        assert_eq!((books.bytes, books.gap_bytes), (100, 20));
        assert_eq!((books.requests, books.spans, books.lost("gap")), (6, 3, 2));
        assert_eq!(books.traces_to("file").dropped("write_failed"), 2);
        assert_eq!(books.explain(8, "ring_full"), 2);
    }

    #[test]
    #[should_panic(expected = "left: 7")]
    fn refuses_books_that_do_not_close() {
        let _ = Books::read(&LOG.replace("requests 6", "requests 7"));
    }
}
