//! The tables that header blocks refer to (RFC 7541, section 2.3).
//!
//! Of a connection that was seen from its beginning the dynamic table is known. Of any other it is known from the first
//! insertion on that was seen: the newest entry has the lowest index, so how many older ones there are does not matter.
//! What an index beyond them refers to is unknown, and never guessed.

use std::collections::VecDeque;

/// Appendix A; the first one has index 1.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry takes besides name and value (section 4.1).
const OVERHEAD: usize = 32;
/// The size a table has if nothing else was said (RFC 9113, section 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// Larger tables are followed only so far: what lies deeper is unknown.
const LARGEST: usize = 64 << 10;

/// What an index refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Name and value, as far as they are known.
    Field(Option<&'a [u8]>, Option<&'a [u8]>),
    /// Something that was inserted without being seen.
    Unknown,
    /// Nothing: the encoder made a mistake.
    Nothing,
}

#[derive(Debug, Default)]
struct Entry {
    /// Name and value behind each other.
    bytes: Vec<u8>,
    /// `None`: the name is unknown.
    name_len: Option<usize>,
    value_known: bool,
    size: usize,
}

/// The dynamic table of one direction, with the static one in front.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest one first.
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// There may be older entries than those above.
    has_more: bool,
    spare: Vec<u8>,
}

impl Table {
    /// `begins`: nothing was inserted yet.
    pub(super) fn new(begins: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: DEFAULT_SIZE,
            has_more: !begins,
            spare: Vec::new(),
        }
    }

    /// Insertions may have been missed.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.has_more = true;
    }

    /// The encoder has set its size (section 6.3).
    pub(super) fn resize(&mut self, max: u64) {
        self.max = usize::try_from(max).unwrap_or(LARGEST).min(LARGEST);
        self.evict(0);
        self.has_more &= max > 0;
    }

    pub(super) fn get(&self, index: u64) -> Found<'_> {
        let Some(at) = usize::try_from(index).ok().and_then(|index| index.checked_sub(1)) else {
            return Found::Nothing;
        };
        if let Some((name, value)) = STATIC.get(at) {
            return Found::Field(Some(name.as_bytes()), Some(value.as_bytes()));
        }
        match self.entries.get(at - STATIC.len()) {
            Some(entry) => {
                let (name, value) = entry.bytes.split_at(entry.name_len.unwrap_or(0));
                Found::Field(entry.name_len.map(|_| name), entry.value_known.then_some(value))
            }
            None if self.has_more => Found::Unknown,
            None => Found::Nothing,
        }
    }

    /// Inserts a field of which `name` and `value` are known or not; `wire_len` is what both take in a block, or less: of a name that is
    /// itself an index, nothing.
    ///
    /// Strings that are compressed take less than their length, so more entries are kept than the encoder has. That does no
    /// harm, for it refers to none that it has not, and a recording, whose strings differ where they are hidden, keeps
    /// the same ones.
    pub(super) fn insert(&mut self, name: Option<&[u8]>, value: Option<&[u8]>, wire_len: usize) {
        let size = wire_len.saturating_add(OVERHEAD);
        self.evict(size);
        if size > self.max {
            return; // section 4.4: the table is empty now
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.extend_from_slice(name.unwrap_or_default());
        bytes.extend_from_slice(value.unwrap_or_default());
        self.entries.push_front(Entry {
            bytes,
            name_len: name.map(<[u8]>::len),
            value_known: value.is_some(),
            size,
        });
        self.size += size;
    }

    /// Makes room for `size`.
    fn evict(&mut self, size: usize) {
        while self.size.saturating_add(size) > self.max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
            self.has_more = true;
            self.spare = oldest.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &'a str, value: &'a str) -> Found<'a> {
        Found::Field(Some(name.as_bytes()), Some(value.as_bytes()))
    }

    #[test]
    fn the_static_table_is_that_of_the_appendix() {
        let table = Table::new(true);
        assert_eq!(table.get(0), Found::Nothing);
        assert_eq!(table.get(2), field(":method", "GET"));
        assert_eq!(table.get(8), field(":status", "200"));
        assert_eq!(table.get(31), field("content-type", ""));
        assert_eq!(table.get(58), field("user-agent", ""));
        assert_eq!(table.get(61), field("www-authenticate", ""));
        assert_eq!((table.get(62), table.get(u64::MAX)), (Found::Nothing, Found::Nothing));
    }

    #[test]
    fn what_was_inserted_before_is_unknown_and_what_comes_after_is_exact() {
        let mut table = Table::new(false);
        assert_eq!(table.get(62), Found::Unknown);
        table.insert(Some(b"a"), Some(b"1"), 2);
        table.insert(Some(b"b"), None, 2);
        assert_eq!(table.get(62), Found::Field(Some(b"b"), None));
        assert_eq!(table.get(63), field("a", "1"));
        assert_eq!(table.get(64), Found::Unknown);
        table.forget();
        assert_eq!(table.get(62), Found::Unknown);
    }

    #[test]
    fn the_oldest_make_room_and_what_is_larger_than_the_table_empties_it() {
        let mut table = Table::new(true);
        table.resize(100);
        for name in [b"a", b"b", b"c"] {
            table.insert(Some(name), Some(b"0123456789"), 11);
        }
        assert_eq!(
            (table.get(62), table.get(63)),
            (field("c", "0123456789"), field("b", "0123456789"))
        );
        assert_eq!(table.get(64), Found::Unknown);
        table.insert(Some(b"d"), Some(&[b'x'; 200]), 201);
        assert_eq!(table.get(62), Found::Unknown);
        table.resize(0);
        assert_eq!(table.get(62), Found::Nothing);
        table.resize(u64::MAX);
        assert_eq!(table.max, LARGEST);
    }
}
