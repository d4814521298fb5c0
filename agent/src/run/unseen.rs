//! Selected processes that are not seen, whatever they do: 32-bit programs make their calls by other numbers, with
//! arguments of other layouts.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
};

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

/// Whether this is an ELF file of class 1 (`ELFCLASS32`, elf(5)).
fn is_32_bit(mut file: impl Read) -> io::Result<bool> {
    let mut ident = [0; 5];
    file.read_exact(&mut ident)?;
    Ok(ident == *b"\x7fELF\x01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_their_class() {
        for (bytes, expected) in [
            (&b"\x7fELF\x01\x01\x01"[..], Some(true)),
            (b"\x7fELF\x02\x01\x01", Some(false)),
            (b"#!/bin/sh", Some(false)),
            (b"\x7fELF", None),
        ] {
            assert_eq!(is_32_bit(bytes).ok(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn this_program_is_seen() {
        let mut unseen = Unseen::default();
        unseen.look(std::process::id());
        assert_eq!(unseen.count(), 0);
    }
}
