//! Selected processes that are not seen, whatever they do: 32-bit programs make their calls by other numbers, with
//! arguments of other layouts.

use std::{collections::HashSet, fs::File};

use crate::discover::is_32_bit;

/// Those that run.
#[derive(Debug, Default)]
pub(super) struct Unseen(HashSet<u32>);

impl Unseen {
    /// A process was selected, or became another program.
    pub(super) fn look(&mut self, tgid: u32) {
        // One that has ended meanwhile is of no interest.
        let is_unseen =
            File::open(format!("/proc/{tgid}/exe")).and_then(is_32_bit).unwrap_or(false);
        if !is_unseen {
            self.0.remove(&tgid);
        } else if self.0.insert(tgid) {
            tracing::warn!(pid = tgid, "a 32-bit program: what it sends and receives is not seen");
        }
    }

    pub(super) fn gone(&mut self, tgid: u32) {
        self.0.remove(&tgid);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_seen() {
        let mut unseen = Unseen::default();
        unseen.look(std::process::id());
        assert_eq!(unseen.count(), 0);
    }
}
