//! The walk over frames as the kernel programs take it, over bytes that are at hand; and frames to walk over.

use remora_common::frames::{Head, Passed, ROWS, Row, Walk, advance, read_head};

/// The first eight bytes.
pub fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

/// Walks over fragments as the kernel programs do.
pub struct Walker<'a> {
    pub row: &'a Row,
    side: usize,
    pub walk: Walk,
    pub pos: usize,
    /// What was copied, by position, and where frames were told to begin.
    pub copied: Vec<(usize, u8)>,
    pub begun: Vec<usize>,
    pub steps: usize,
    /// As much is taken to have been copied of the turn as may be.
    pub spent: bool,
}

impl<'a> Walker<'a> {
    pub fn new(row: u8, side: usize) -> Self {
        let row = &ROWS[usize::from(row)];
        Self {
            row,
            side,
            walk: Walk::START,
            pos: 0,
            copied: Vec::new(),
            begun: Vec::new(),
            steps: 0,
            spent: false,
        }
    }

    /// Whether it still knows where frames begin.
    pub fn fragment(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let here = u32::try_from(bytes.len()).unwrap();
            self.steps += 1;
            let mut passed = Passed { copy: here, skip: 0, begins: self.walk.have == 0 };
            let head = match self.walk.left {
                0 => read_head(self.row, self.side, &mut self.walk, word(bytes), here, self.spent),
                _ => Head::Whole,
            };
            match head {
                Head::Whole => passed = advance(&mut self.walk, here),
                Head::Cut => {}
                Head::Lost => {
                    assert_eq!(self.walk.state, Walk::UNKNOWN);
                    return false;
                }
            }
            let Passed { copy, skip, begins } = passed;
            assert!(copy + skip > 0 && copy + skip <= here);
            if begins {
                self.begun.push(self.pos);
            }
            let (copy, passed) = (copy as usize, (copy + skip) as usize);
            self.copied.extend((self.pos..).zip(bytes[..copy].iter().copied()));
            self.pos += passed;
            bytes = &bytes[passed..];
        }
        true
    }
}

/// A message of PostgreSQL.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &len.to_be_bytes(), body].concat()
}

/// Numbers that look random and are the same each time.
pub fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
