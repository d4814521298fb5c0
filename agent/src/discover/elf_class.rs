//! What kind of program an executable holds.

use std::io::{self, Read};

/// Whether this is an ELF file of class 1 (`ELFCLASS32`, elf(5)).
///
/// # Errors
/// It cannot be read, or is shorter than what tells.
pub fn is_32_bit(mut file: impl Read) -> io::Result<bool> {
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
}
