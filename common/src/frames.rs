//! Protocols that are frames with their length in front, a [`Row`] each, and the walk over them: which bytes of a
//! direction are wanted, whatever fragments it comes in. The kernel programs take one step
//! ([`read_head`], [`advance`]) after the other; nothing here knows where bytes come from.
//!
//! A frame of a wanted type is copied whole or with its first bytes; the others are counted. Where a frame's head is cut
//! by the end of a fragment its bytes are copied too: whose head it is, is not known yet.

/// Types of frames, as a set.
#[derive(Clone, Copy, Debug)]
pub struct Types([u64; 4]);

impl Types {
    pub const NONE: Self = Self([0; 4]);
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// The set of `types`.
    #[must_use]
    pub const fn of(types: &[u8]) -> Self {
        let (mut set, mut at) = (Self::NONE, 0);
        while at < types.len() {
            set.0[(types[at] >> 6) as usize] |= 1 << (types[at] & 63);
            at += 1;
        }
        set
    }

    /// Of both.
    #[must_use]
    pub const fn and(self, other: &[u8]) -> Self {
        let (a, b) = (self.0, Self::of(other).0);
        Self([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    #[inline(always)]
    const fn has(&self, kind: u8) -> bool {
        self.0[(kind >> 6) as usize] >> (kind & 63) & 1 != 0
    }
}

/// What is wanted of the frames in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Those that there are: anything else is no frame.
    pub known: Types,
    /// Of these the whole frame.
    pub whole: Types,
    /// Of these the first [`Row::first`] bytes, and short ones whole ([`Row::short`]).
    pub first: Types,
}

/// A protocol.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Bytes at the beginning of a frame that tell its length and type, at most 8.
    pub head: u8,
    /// Where in them the length stands, in how many bytes (1 to 4), and which comes first.
    pub length_at: u8,
    pub length_width: u8,
    pub big_endian: bool,
    /// What makes the length that stands there that of the whole frame.
    pub bias: u8,
    /// Lengths as they stand there; others are of no frame.
    pub least: u32,
    pub most: u32,
    /// Where in the head the type stands, or [`NO_TYPE`].
    pub type_at: u8,
    /// See [`Wanted::first`].
    pub first: u16,
    /// Frames of these types that are no longer than this are wanted whole while little was copied of a turn: to leave out a
    /// few bytes costs a record, which is more.
    pub short: u16,
    /// By [`crate::record::Direction`].
    pub wanted: [Wanted; 2],
}

/// Frames have no type: all are of type 0.
pub const NO_TYPE: u8 = u8::MAX;

/// Rows by number: the policy is [`crate::policy::FRAMES`] and the number.
pub static ROWS: [Row; 4] = [
    postgres([POSTGRES_BACKEND, POSTGRES_FRONTEND]),
    postgres([POSTGRES_FRONTEND, POSTGRES_BACKEND]),
    HTTP2,
    MYSQL,
];
/// PostgreSQL, and the traced process is the client.
pub const POSTGRES_CLIENT: u8 = 0;
/// PostgreSQL, and the traced process is the server.
pub const POSTGRES_SERVER: u8 = 1;
pub const HTTP2_ROW: u8 = 2;
pub const MYSQL_ROW: u8 = 3;

/// Messages of version 3: a type, then a length that counts itself (PostgreSQL documentation, 55.7). The startup packet
/// and its like have no type and are no frames of this row: its first byte is 0.
const fn postgres(wanted: [Wanted; 2]) -> Row {
    Row {
        head: 5,
        length_at: 1,
        length_width: 4,
        big_endian: true,
        bias: 1,
        least: 4,
        most: 1 << 30,
        type_at: 0,
        first: 0,
        short: 0,
        wanted,
    }
}

/// Passwords (`p`) and the data of COPY (`d`) are never copied.
const POSTGRES_FRONTEND: Wanted = Wanted {
    known: Types::of(b"BCDEFHPQSXcdfp"),
    whole: Types::of(b"BCDEFHPQSXcf"),
    first: Types::NONE,
};

/// Rows (`D`), results of functions (`V`) and the data of COPY (`d`) are counted.
const POSTGRES_BACKEND: Wanted = Wanted {
    known: Types::of(b"123ACDEGHIKNRSTVWZcdnstv"),
    whole: Types::of(b"123ACEGHIKNRSTWZcnstv"),
    first: Types::NONE,
};

/// RFC 9113, section 4.1: a length of 24 bits that counts what is behind nine bytes, the type, flags, a stream.
const HTTP2: Row = Row {
    head: 4,
    length_at: 0,
    length_width: 3,
    big_endian: true,
    bias: 9,
    least: 0,
    most: 1 << 20,
    type_at: 3,
    // The head, and what stands before each message of gRPC.
    first: 9 + 5,
    short: 1024,
    wanted: [HTTP2_FRAMES; 2],
};

/// HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY and CONTINUATION whole. Of DATA and of what means nothing (PRIORITY,
/// PING, WINDOW_UPDATE, ALTSVC, ORIGIN, PRIORITY_UPDATE) how it begins.
const HTTP2_FRAMES: Wanted = {
    let (whole, first) = (&[1, 3, 4, 5, 7, 9], &[0, 2, 6, 8, 10, 12, 16]);
    Wanted { known: Types::of(whole).and(first), whole: Types::of(whole), first: Types::of(first) }
};

/// A length of 24 bits that counts what is behind it and a sequence number (MySQL documentation, "MySQL Packets"). What
/// a packet is, the one before it tells: how it begins is all that can be wanted.
const MYSQL: Row = Row {
    head: 4,
    length_at: 0,
    length_width: 3,
    big_endian: false,
    bias: 4,
    least: 0,
    most: 0xff_ffff,
    type_at: NO_TYPE,
    first: 64,
    short: 64,
    wanted: [Wanted { known: Types::ALL, whole: Types::NONE, first: Types::ALL }; 2],
};

const _: () = {
    let mut at = 0;
    while at < ROWS_CHECKED.len() {
        let row = &ROWS_CHECKED[at];
        let length_ends = row.length_at + row.length_width;
        assert!(row.head <= 8 && row.head >= length_ends && row.length_width <= 4);
        assert!(row.type_at == NO_TYPE || row.type_at < row.head);
        assert!(row.least + row.bias as u32 >= row.head as u32 && row.most <= 1 << 30);
        at += 1;
    }
};
/// A static cannot be read where constants are made.
const ROWS_CHECKED: [Row; 3] = [postgres([POSTGRES_BACKEND, POSTGRES_FRONTEND]), HTTP2, MYSQL];

/// Where in its frames a direction is, between two fragments.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Bytes of the frame in progress that did not pass yet; 0: a frame's head is next.
    pub left: u32,
    /// Of these, how many from the first on are wanted. More than this holds is more than is copied of a turn.
    pub wanted: u16,
    /// Bytes of that head that passed already.
    pub have: u8,
    /// See the constants.
    pub state: u8,
    /// Those bytes, the first one lowest.
    pub head: u64,
}

impl Walk {
    /// It is not known where frames begin: none was seen to, or bytes were not seen.
    pub const UNKNOWN: u8 = 0;
    pub const KNOWN: u8 = 1;
    /// The same, and no byte of the frame in progress has passed.
    pub const AT_FRAME: u8 = 2;

    /// Before anything was seen.
    pub const NOWHERE: Self = Self { left: 0, wanted: 0, have: 0, state: Self::UNKNOWN, head: 0 };
    /// Where a frame begins.
    pub const START: Self = Self { state: Self::KNOWN, ..Self::NOWHERE };
}

/// What is at a place where a frame's head is next.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The rest of it, and so a frame; nothing has passed yet.
    Whole = 0,
    /// Not all of it. All bytes that are at hand have passed, and are wanted.
    Cut = 1,
    /// No frame; nothing has passed.
    Lost = 2,
}

/// Bytes of a frame that have passed: wanted ones, and behind them others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub copy: u32,
    pub skip: u32,
    /// The first of the wanted bytes is a frame's first.
    pub begins: bool,
}

/// Length of the frame that begins with `head`, and how many of its bytes are wanted; `None`: it is no frame. `spent`: as
/// much was copied of the turn as may be, and only what has to be is wanted.
#[inline(always)]
#[must_use]
pub fn frame(row: &Row, side: usize, head: u64, spent: bool) -> Option<(u32, u32)> {
    let raw = (head >> ((row.length_at & 7) * 8)) as u32;
    let unused = 32 - (row.length_width.min(4) as u32) * 8;
    let value = if row.big_endian { raw.swap_bytes() >> unused } else { raw << unused >> unused };
    let kind = if row.type_at == NO_TYPE { 0 } else { (head >> ((row.type_at & 7) * 8)) as u8 };
    let wanted = &row.wanted[side & 1];
    if value < row.least || value > row.most || !wanted.known.has(kind) {
        return None;
    }
    let len = value + u32::from(row.bias);
    if wanted.whole.has(kind) {
        Some((len, len))
    } else if wanted.first.has(kind) {
        let short = len <= row.short.into() && !spent;
        Some((len, if short { len } else { least(row.first.into(), len) }))
    } else {
        Some((len, 0))
    }
}

/// Reads a frame's head where one is next. Of the `here > 0` bytes that are at hand `next` are the first 8, the first one
/// lowest, and zeros where there are fewer. `spent`: see [`frame`].
#[inline(always)]
pub fn read_head(
    row: &Row,
    side: usize,
    walk: &mut Walk,
    next: u64,
    here: u32,
    spent: bool,
) -> Head {
    let have = u32::from(walk.have & 7);
    let missing = u32::from(row.head).wrapping_sub(have);
    // No shift by 64: `have` is less than 8.
    let head = walk.head | next << (have * 8);
    if here < missing {
        // Fewer than 8 together, or it were a whole one.
        walk.head = head & !(u64::MAX << (((have + here) & 7) * 8));
        walk.have = (have + here) as u8;
        return Head::Cut;
    }
    walk.head = 0;
    walk.have = 0;
    let Some((len, wanted)) = frame(row, side, head, spent) else {
        walk.state = Walk::UNKNOWN;
        return Head::Lost;
    };
    walk.left = len.wrapping_sub(have);
    if have == 0 {
        walk.wanted = least(wanted, u16::MAX.into()) as u16;
        walk.state = Walk::AT_FRAME;
    } else {
        // Of a head that was cut all bytes are copied.
        let wanted = if wanted < row.head.into() { row.head.into() } else { wanted };
        walk.wanted = least(wanted.wrapping_sub(have), u16::MAX.into()) as u16;
    }
    Head::Whole
}

/// Goes on in the frame in progress by what of it is in the `here > 0` bytes that are at hand.
#[inline(always)]
pub fn advance(walk: &mut Walk, here: u32) -> Passed {
    let passed = least(walk.left, here);
    let copy = least(walk.wanted.into(), passed);
    let begins = walk.state == Walk::AT_FRAME && copy > 0;
    walk.state = Walk::KNOWN;
    walk.left -= passed;
    walk.wanted -= copy as u16;
    Passed { copy, skip: passed - copy, begins }
}

/// Where another frame has to begin, for one to be taken to begin with a fragment of `len` bytes that `next` begins: at
/// its end, or in it, where [`frame`] tells. `None`: it is no frame, or it cannot be told. One without anything in it
/// tells nothing: content that is zeros looks like many of them.
#[inline(always)]
#[must_use]
pub fn may_begin(row: &Row, side: usize, next: u64, len: u32) -> Option<u32> {
    let (first, _) = frame(row, side, next, false)?;
    let says_something = first > row.bias.into();
    (len >= row.head.into() && first <= len && says_something).then_some(first)
}

/// `len` bytes pass unseen.
#[inline(always)]
pub fn pass(walk: &mut Walk, len: u64) {
    if len > u64::from(walk.left) {
        *walk = Walk::NOWHERE;
        return;
    }
    if len > 0 && walk.state == Walk::AT_FRAME {
        walk.state = Walk::KNOWN;
    }
    walk.left -= len as u32;
    walk.wanted = walk.wanted.saturating_sub(least(len as u32, u16::MAX.into()) as u16);
}

#[inline(always)]
const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}
