//! The table of functions of a Go program (`.gopclntab`, `runtime/symtab.go`), which stripping leaves.
//!
//! | bytes | header, from Go 1.18 on |
//! |---|---|
//! | 0..4 | magic number: 1.18 or 1.20 |
//! | 6, 7 | least size of an instruction; size of a pointer |
//! | 8.. | words: functions, files, start of the code (0 from Go 1.26 on), then offsets of: names, units, files, values, functions |
//!
//! The part of functions begins with pairs of 32 bits, in order: where a function begins, from the start of the code on,
//! and where what is known of it stands in this part. That begins with the same offset and that of the name.

use memchr::memmem;

const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;
const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_2: u32 = 0xffff_fffb;

/// Why a table is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends within {0}")]
    Ends(&'static str),
    #[error("of a Go before 1.18, which passes arguments otherwise")]
    Old,
    #[error("magic number {0:#010x}, expected {MAGIC_1_18:#010x} or {MAGIC_1_20:#010x}")]
    Magic(u32),
    #[error("pointers of {0} bytes, expected 8")]
    PointerSize(u8),
    #[error("where the code starts is not told")]
    NoText,
}

/// Addresses of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub start: u64,
    pub end: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Functions<'a> {
    text: u64,
    count: usize,
    names: &'a [u8],
    /// The part of functions.
    part: &'a [u8],
}

impl<'a> Functions<'a> {
    /// Reads the header of `table`; `text` says where the code starts if that does not.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(table: &'a [u8], text: impl FnOnce() -> Option<u64>) -> Result<Self, Malformed> {
        let header = Malformed::Ends("its header");
        match u32_at(table, 0).ok_or(header.clone())? {
            MAGIC_1_18 | MAGIC_1_20 => {}
            MAGIC_1_16 | MAGIC_1_2 => return Err(Malformed::Old),
            other => return Err(Malformed::Magic(other)),
        }
        let pointer_size = *table.get(7).ok_or(header.clone())?;
        if pointer_size != 8 {
            return Err(Malformed::PointerSize(pointer_size));
        }
        let word = |index: usize| u64_at(table, 8 + index * 8).ok_or(header.clone());
        let part = |index: usize, what| {
            let start = usize::try_from(word(index)?).map_err(|_| Malformed::Ends(what))?;
            table.get(start..).ok_or(Malformed::Ends(what))
        };
        let count = usize::try_from(word(0)?).map_err(|_| Malformed::Ends("its functions"))?;
        let text = match word(2)? {
            0 => text().ok_or(Malformed::NoText)?,
            told => told,
        };
        let names = part(3, "its names")?;
        let functions = part(7, "its functions")?;
        // The names end where the units begin.
        let len = word(4)?.saturating_sub(word(3)?);
        let names = names.get(..usize::try_from(len).unwrap_or(0)).unwrap_or(names);
        Ok(Self { text, count, names, part: functions })
    }

    /// The functions of these names; `None` for each that there is not.
    ///
    /// # Errors
    /// [`Malformed::Ends`].
    pub fn find<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<Function>; N], Malformed> {
        let offsets = names.map(|name| self.name_offset(name));
        let mut found = [None; N];
        if offsets.iter().all(Option::is_none) {
            return Ok(found);
        }
        for index in 0..self.count {
            let ends = || Malformed::Ends("its functions");
            let pair = |index: usize| u32_at(self.part, index * 8).ok_or_else(ends);
            let about = u32_at(self.part, index * 8 + 4).ok_or_else(ends)? as usize;
            let name = u32_at(self.part, about.saturating_add(4)).ok_or_else(ends)?;
            let Some(at) = offsets.iter().position(|offset| *offset == Some(name)) else {
                continue;
            };
            // Behind the last one stands where it ends.
            let (start, end) = (u64::from(pair(index)?), u64::from(pair(index + 1)?));
            if start < end && found[at].is_none() {
                found[at] = Some(Function { start: self.text + start, end: self.text + end });
            }
        }
        Ok(found)
    }

    fn name_offset(&self, name: &str) -> Option<u32> {
        let needle = [b"\0", name.as_bytes(), b"\0"].concat();
        let at = memmem::find(self.names, &needle)? + 1;
        u32::try_from(at).ok()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of `functions` (offset and name), which end at `end`.
    fn table(text: u64, functions: &[(u32, &str)], end: u32) -> Vec<u8> {
        const HEADER: usize = 8 + 8 * 8;
        let mut names = vec![0];
        let offsets: Vec<u32> = functions
            .iter()
            .map(|(_, name)| {
                let at = names.len() as u32;
                names.extend_from_slice(name.as_bytes());
                names.push(0);
                at
            })
            .collect();
        let (mut pairs, mut abouts) = (Vec::new(), Vec::new());
        let pairs_len = functions.len() as u32 * 8 + 4;
        for ((start, _), name) in functions.iter().zip(offsets) {
            pairs.extend(start.to_le_bytes());
            pairs.extend((pairs_len + abouts.len() as u32).to_le_bytes());
            abouts.extend(start.to_le_bytes());
            abouts.extend(name.to_le_bytes());
        }
        pairs.extend(end.to_le_bytes());
        let names_at = HEADER as u64;
        let part_at = names_at + names.len() as u64;
        let words = [functions.len() as u64, 0, text, names_at, part_at, part_at, part_at, part_at];
        let mut table = MAGIC_1_20.to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        table.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        [table, names, pairs, abouts].concat()
    }

    const FUNCTIONS: [(u32, &str); 4] =
        [(0, "main.main"), (0x40, "a.Read"), (0x100, "a.Readx"), (0x180, "a.Write")];

    #[test]
    fn finds_functions_by_their_whole_names() {
        let bytes = table(0x401000, &FUNCTIONS, 0x200);
        let functions = Functions::parse(&bytes, || None).unwrap();
        let found = functions.find(["a.Read", "a.Write", "main", "a.Readx"]).unwrap();
        let of = |start, end| Some(Function { start, end });
        assert_eq!(
            found,
            [of(0x401040, 0x401100), of(0x401180, 0x401200), None, of(0x401100, 0x401180)]
        );
    }

    #[test]
    fn asks_where_the_code_starts_if_the_table_does_not_say_it() {
        let bytes = table(0, &FUNCTIONS, 0x200);
        let functions = Functions::parse(&bytes, || Some(0x1000)).unwrap();
        let [found] = functions.find(["main.main"]).unwrap();
        assert_eq!(found, Some(Function { start: 0x1000, end: 0x1040 }));
        assert_eq!(Functions::parse(&bytes, || None).unwrap_err(), Malformed::NoText);
    }

    #[test]
    fn older_and_other_tables_are_refused_by_name() {
        let mut bytes = table(0x401000, &FUNCTIONS, 0x200);
        bytes[..4].copy_from_slice(&MAGIC_1_16.to_le_bytes());
        assert_eq!(Functions::parse(&bytes, || None).unwrap_err(), Malformed::Old);
        bytes[0] = 0;
        assert_eq!(Functions::parse(&bytes, || None).unwrap_err(), Malformed::Magic(0xffff_ff00));
        bytes[..4].copy_from_slice(&MAGIC_1_18.to_le_bytes());
        bytes[7] = 4;
        assert_eq!(Functions::parse(&bytes, || None).unwrap_err(), Malformed::PointerSize(4));
    }

    #[test]
    fn what_is_cut_anywhere_is_an_error_or_nothing() {
        let bytes = table(0x401000, &FUNCTIONS, 0x200);
        for len in 0..bytes.len() {
            if let Ok(functions) = Functions::parse(&bytes[..len], || None) {
                let _ = functions.find(["a.Read", "a.Write"]);
            }
        }
    }
}
