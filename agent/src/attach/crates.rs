//! Which versions of a crate a Rust program has, by the sources that are named among its constants, for panics.

use std::{fs::File, io};

use memchr::memmem;
use object::{Object as _, ObjectSection as _, SectionKind};

use super::segments::{Elf, pieces};

/// Most bytes of constants that are searched.
const CONSTANTS_LIMIT: u64 = 96 << 20;
/// Longest version.
const VERSION_LIMIT: usize = 32;

/// Each version of the crate whose sources lie in folders that begin with `folder` (`/rustls-`), in order.
pub(super) fn versions(file: &File, elf: &Elf<'_>, folder: &str) -> io::Result<Vec<String>> {
    let constants = |kind| matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyString);
    // With the slash behind it.
    let name_limit = folder.len() + VERSION_LIMIT + 1;
    let mut found = Vec::new();
    let mut left = CONSTANTS_LIMIT;
    for section in elf.sections().filter(|section| constants(section.kind())) {
        let Some((offset, len)) = section.file_range() else { continue };
        let len = len.min(left);
        left -= len;
        // A name that begins in one piece may end in the next.
        pieces(file, (offset, len), name_limit, |_, piece| {
            for version in versions_in(piece, folder) {
                if !found.contains(&version) {
                    found.push(version);
                }
            }
        })?;
    }
    found.sort();
    Ok(found)
}

fn versions_in(constants: &[u8], folder: &str) -> impl Iterator<Item = String> {
    let len = folder.len();
    memmem::find_iter(constants, folder.as_bytes()).filter_map(move |at| {
        let rest = &constants[at + len..];
        let end = rest.iter().take(VERSION_LIMIT).position(|byte| *byte == b'/')?;
        let version = std::str::from_utf8(&rest[..end]).ok()?;
        // Other crates' names begin so, too.
        version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_sources() {
        let constants = b"\0/r/rustls-0.23.46/src/a.rs\0/r/rustls-native-certs-0.8.5/src/b.rs\0/r/rustls-0.21.1/src/c.rs\0/rustls-";
        let found: Vec<_> = versions_in(constants, "/rustls-").collect();
        assert_eq!(found, ["0.23.46", "0.21.1"]);
    }
}
