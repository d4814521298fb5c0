//! What the stages of a capture hand on: bytes that a call moved, one record to be made of them, and both of these while
//! a program works on them.

use core::mem::MaybeUninit;

use remora_common::{connection::NOT_COUNTED, record::Source};

/// What kind of [`Source`], as a parameter: the kernel programs of both are verified apart.
pub const SOCKET: u8 = Source::Socket as u8;
/// A TLS library's; [`Moved::source`] says which.
pub const LIBRARY: u8 = u8::MAX;
/// Those of a TLS library that may have them in several buffers.
pub const LIBRARY_PIECES: u8 = u8::MAX - 1;

/// Where a [`Piece`] is.
pub const ON_STACK: bool = false;
/// As part of a [`Work`].
pub const IN_MAP: bool = true;

/// Where the bytes of a call are.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Layout {
    /// One buffer at `base`.
    Flat = 0,
    /// `count` of `struct iovec` at `base`.
    Pieces = 1,
    /// Nowhere: moved inside the kernel, or thrown away.
    Nowhere = 2,
}

/// A finished call that moved `len > 0` bytes on `fd`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Moved {
    pub fd: u32,
    pub direction: u32,
    pub layout: Layout,
    /// [`Source`].
    pub source: u16,
    pub count: u32,
    pub base: u64,
    pub len: u64,
    /// Bytes that the call moved behind those, which are only counted.
    pub rest: u64,
    /// What TCP has counted in this direction behind these bytes, and above these 32 bits in the other one; or
    /// [`remora_common::connection::NOT_COUNTED`].
    pub seq: u64,
    /// When the call began, 0 if unknown. Not next to `rest`: two zeros side by side became a call that fills byte by
    /// byte.
    pub begin_ns: u64,
    pub tgid: u32,
    pub tid: u32,
    /// As [`remora_common::record::Data::context`]; until the connection is known the number of the unit alone.
    pub context: u64,
}

impl Moved {
    /// Plaintext that a library moved in one piece, address and length.
    #[inline(always)]
    pub fn plaintext(
        source: Source,
        direction: u32,
        (base, len): (u64, u64),
        tgid: u32,
        tid: u32,
    ) -> Self {
        Self {
            fd: 0,
            direction,
            layout: Layout::Flat,
            source: source as u16,
            count: 1,
            base,
            len,
            rest: 0,
            begin_ns: 0,
            seq: NOT_COUNTED,
            tgid,
            tid,
            context: 0,
        }
    }

    /// Its place in what a connection has for each direction.
    #[inline(always)]
    pub const fn side(&self) -> usize {
        (self.direction & 1) as usize
    }

    /// Where the bytes are; known beforehand if a TLS library moved them.
    #[inline(always)]
    pub fn layout<const SOURCE: u8>(&self) -> Layout {
        if SOURCE == LIBRARY { Layout::Flat } else { self.layout }
    }
}

/// One record to be made of a [`Moved`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Piece {
    pub conn_id: u64,
    pub pos: u64,
    /// Position of the opposite direction.
    pub other_pos: u64,
    pub now: u64,
    pub flags: u32,
    /// Bytes of the call before this piece.
    pub skip: u32,
    /// Of these, how many lie in buffers that [`Moved`] does not list any more.
    pub passed: u32,
    pub reserved: u32,
    /// Bytes of the call, at most `i32::MAX`.
    pub fragment: u32,
    pub total_len: u32,
    /// Bytes to copy, at most the sample's room.
    pub want: u32,
    pub action: Action,
    /// Non-zero once the head in progress was seen to end.
    pub ended: u32,
    /// By which the connection is copied.
    pub policy: u16,
    /// [`crate::scan::Newlines`] before this piece of a head.
    pub newlines: u16,
    /// Bytes that the call moved behind those that were wanted first.
    pub behind: u64,
}

/// What is done with the bytes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// A record without content.
    Count = 0,
    /// As far as the head in progress goes.
    CopyHead = 1,
    /// Its first and its last bytes.
    CopyEdges = 2,
    /// All of it.
    CopyAll = 3,
    /// The frames that are wanted.
    CopyFrames = 4,
    /// They are counted, and no record says so.
    Nothing = 5,
}

/// How far the frames of a call were walked over.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cursor {
    /// Address of the next byte; that and the next ones, so many in all, lie together.
    pub base: u64,
    pub here: u32,
    /// Bytes of the call that were passed.
    pub at: u32,
    /// The next entry of a scatter-gather list, and how many bytes of the call lie before the latest one.
    pub index: u32,
    pub buffer_at: u32,
    /// Of the bytes that were passed and not sent: first so many that are wanted, then so many that are not.
    pub run: u32,
    pub hole: u32,
    /// Non-zero: the first one is a frame's first.
    pub begins: u32,
    /// Runs of programs so far.
    pub runs: u32,
    /// Non-zero: frames are not walked over any more, for the next one is not known to begin anywhere; or, [`Self::AT_FRAME`],
    /// for there are too many.
    pub lost: u32,
    /// Bytes in the buffers that are looked at.
    pub reach: u64,
}

impl Cursor {
    pub const AT_FRAME: u32 = 2;
    pub const START: Self = Self {
        base: 0,
        here: 0,
        at: 0,
        index: 0,
        buffer_at: 0,
        run: 0,
        hole: 0,
        begins: 0,
        runs: 0,
        lost: 0,
        reach: 0,
    };
}

/// What programs work on, in a map instead of on their stack: the verifier knows nothing of what is read there, so
/// that nothing has to be laundered, and one program may leave it to the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    pub moved: Moved,
    pub piece: MaybeUninit<Piece>,
    pub cursor: Cursor,
    /// Address of the socket's `struct sock`.
    pub sk: u64,
    /// The thread whose call is not done with, or 0.
    pub tid: u32,
    pub reserved: u32,
}

/// What is left to the caller of [`crate::capture::account`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Next {
    Nothing = 0,
    /// The bytes are not copied: they may be what a TLS library works on.
    Encrypted = 1,
    /// More of the call is wanted than is copied at once: [`crate::more`].
    More = 2,
}
