//! What is copied of the bytes that a call moved. A *turn* is a run of bytes in one direction. A byte that is not
//! copied is still counted by position. What is wanted is a connection's policy ([`remora_common::policy`]), which the
//! agent may replace before each fragment:
//!
//! - `UNDECIDED`: as `EDGES`, as long as little was copied, until a turn begins as a message of HTTP/1 does, or as
//!   a record of TLS.
//! - `HEADS`: a fragment of at most [`WINDOW`] bytes in which a head is in progress is copied whole. Of a longer one the
//!   first [`WINDOW`] bytes are copied, and more only while no blank line ended the head, up to [`HEAD_LIMIT`] for a
//!   head. Once the head ended, later fragments of the turn are counted and only their last 8 bytes are kept (a
//!   chunked message ends there), unless one begins as a message does: pipelining.
//! - `EDGES`: the first and the last bytes of each fragment. The last are a record of their own; what lies between them is
//!   counted in the first.
//! - `ALL`: every byte, up to [`HEAD_LIMIT`] of a turn and the first [`WINDOW`] bytes of each fragment behind.

use core::mem::MaybeUninit;

use remora_common::{
    connection::NOT_COUNTED,
    control::{verdict_for, verdict_slot},
    policy::{self, EDGE_FIRST, EDGE_LAST, UNDECIDED_LIMIT, UNDECIDED_RECORD},
    record::{CLASS_HUGE, Direction, Source, data_flag},
};

use crate::{
    connection::{self, Connection, joined},
    copy::{Action, Piece, bare, copy_first, copy_last, copy_more},
    emit, kernel,
    maps::VERDICTS,
    openssl,
    scan::{self, WINDOW},
    user::{first_bytes, launder},
};

/// A head longer than this is given up.
const HEAD_LIMIT: u32 = 64 << 10;
const RX: usize = Direction::Rx as usize;
/// [`Source`] as a parameter: the kernel programs of each are verified apart.
const SOCKET: u8 = Source::Socket as u8;
const OPENSSL: u8 = Source::OpenSsl as u8;

/// Where a [`Piece`] is.
const ON_STACK: bool = false;
/// As part of a [`Work`].
const IN_MAP: bool = true;

/// Where the bytes of a call are.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
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
    pub count: u32,
    pub base: u64,
    pub len: u64,
    /// Bytes that the call moved behind those, which are only counted.
    pub rest: u64,
    /// What TCP has counted in this direction behind these bytes, and above these 32 bits in the other one; or
    /// [`NOT_COUNTED`].
    pub seq: u64,
    /// When the call began, 0 if unknown. Not next to `rest`: two zeros side by side became a call that fills byte by
    /// byte.
    pub begin_ns: u64,
    pub tgid: u32,
    pub tid: u32,
}

/// Where the bytes are; known beforehand if a TLS library moved them.
#[inline(always)]
pub fn layout<const SOURCE: u8>(moved: &Moved) -> Layout {
    if SOURCE == SOCKET { moved.layout } else { Layout::Flat }
}

/// Accounts for the bytes of `moved`, copies what is wanted of them.
///
/// VERIFIER: a function of its own with a laundered argument and a laundered plan, so that what
/// comes after them is verified once and not once for every way that leads there.
#[inline(never)]
pub fn moved(moved: &Moved) {
    let Some(socket) = kernel::socket_of(moved.fd) else { return };
    let Some(connection) = connection::of(&socket, moved.fd, moved.tgid) else { return };
    account::<ON_STACK>(moved, &mut MaybeUninit::uninit(), connection, socket.sk, 0);
}

/// What a program works on, in a map instead of on its stack: the verifier knows nothing of what is read there, so
/// that nothing has to be laundered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    pub moved: Moved,
    pub piece: MaybeUninit<Piece>,
}

/// The same for a socket that is at hand. `work` is the program's own while it runs.
#[inline(never)]
pub fn moved_on(work: &mut Work, sk: u64, inode: u64, inet: u64) {
    let Work { moved, piece } = work;
    let Some(connection) = connection::met(moved, sk, inode, inet) else { return };
    // SAFETY: a map value; see `account`.
    let flags = pass_over(unsafe { &mut *connection }, moved, sk);
    account::<IN_MAP>(moved, piece, connection, sk, flags);
}

/// Makes a hole in the positions where TCP has counted more bytes than this program was told of: it was
/// not run for them (a kernel that preempts itself keeps it from being entered twice), or `splice` moved them.
/// [`data_flag`]s of what stands behind the hole.
///
/// VERIFIER: a function of its own, so that what comes after it is verified once.
#[inline(never)]
fn pass_over(connection: &mut Connection, moved: &Moved, sk: u64) -> u32 {
    let side = (moved.direction & 1) as usize;
    let before = connection.seq[side];
    if moved.seq == NOT_COUNTED {
        connection.seq[side] = NOT_COUNTED;
        return 0;
    }
    let seq = moved.seq as u32;
    connection.seq[side] = seq.into();
    if before == NOT_COUNTED {
        return 0;
    }
    connection.seq_at_turn[side ^ 1] = (moved.seq >> 32) as u32;
    let hole = seq.wrapping_sub(before as u32).wrapping_sub(moved.len as u32);
    // Less than nothing: another thread has moved bytes there since, and said so first.
    if hole as i32 > 0 && !(hole == 1 && side == RX && connection::was_read_to_its_end(sk)) {
        connection.pos[side] += u64::from(hole);
        let at_turn = connection.seq_at_turn[side].wrapping_sub(before as u32);
        if at_turn as i32 >= hole as i32 {
            return data_flag::MISSING_BEFORE_TURN;
        }
    }
    0
}

#[inline(always)]
fn account<const PLACE: bool>(
    moved: &Moved,
    piece: &mut MaybeUninit<Piece>,
    connection: *mut Connection,
    sk: u64,
    flags: u32,
) {
    // SAFETY: a map value; two threads in one connection may race on it, then `pos` is off by a
    // fragment and user space sees a gap or an overlap.
    let connection = unsafe { &mut *connection };
    let side = (moved.direction & 1) as usize;
    let Some(piece) = plan::<SOCKET>(moved, piece, connection, side, sk, flags) else {
        return openssl::carried(moved, connection, sk);
    };
    send::<SOCKET, PLACE>(moved, piece, connection, side);
    if moved.rest > 0 {
        piece.pos += u64::from(piece.total_len);
        piece.total_len = moved.rest.min(i32::MAX as u64) as u32;
        piece.flags = data_flag::IN_KERNEL;
        bare::<SOCKET>(moved, piece);
    }
}

/// The same for plaintext of a connection that a TLS library encrypts; it is in one buffer.
#[inline(always)]
pub fn plaintext(moved: &Moved, connection: &mut Connection, sk: u64) {
    let side = (moved.direction & 1) as usize;
    let mut piece = MaybeUninit::uninit();
    if let Some(piece) = plan::<OPENSSL>(moved, &mut piece, connection, side, sk, 0) {
        send::<OPENSSL, ON_STACK>(moved, piece, connection, side);
    }
}

#[inline(always)]
fn send<const SOURCE: u8, const PLACE: bool>(
    moved: &Moved,
    piece: &mut Piece,
    connection: &mut Connection,
    side: usize,
) {
    if piece.action == Action::Count {
        unknown::<PLACE>(piece);
        bare::<SOURCE>(moved, piece);
    } else {
        copied::<SOURCE, PLACE>(moved, piece, connection, side);
    }
}

/// Says what is to be done with the bytes of `moved`; `None`: they are only counted.
#[inline(always)]
fn plan<'a, const SOURCE: u8>(
    moved: &Moved,
    piece: &'a mut MaybeUninit<Piece>,
    connection: &mut Connection,
    side: usize,
    sk: u64,
    flags: u32,
) -> Option<&'a mut Piece> {
    if SOURCE == SOCKET && connection.ssl != 0 {
        return None;
    }
    let pos = connection.pos[side];
    connection.pos[side] = pos + moved.len + moved.rest;
    let turn_begins = connection.last != side as u8;
    if turn_begins {
        connection.last = side as u8;
        connection.copied[side] = 0;
        connection.head_done[side] = 0;
    }
    heed_advice(connection, side, turn_begins);
    if connection.policy == policy::COUNT || connection.policy == policy::CIPHERTEXT {
        return None;
    }
    // What the first bytes are matters until a message was seen, and behind the head of one.
    let undecided = connection.policy == policy::UNDECIDED;
    let behind_head = connection.head_done[side] != 0;
    if behind_head || (undecided && turn_begins) {
        let first = first_bytes::<SOURCE>(moved);
        if undecided && turn_begins {
            decide(connection, first);
            if connection.policy == policy::CIPHERTEXT {
                return None;
            }
        }
        if behind_head && scan::begins_message(first) {
            connection.head_done[side] = 0;
            connection.copied[side] = 0;
        }
    }
    if connection.policy == policy::UNDECIDED && connection.undecided >= UNDECIDED_LIMIT {
        return None;
    }
    if connection.opened == 0 {
        connection::open(connection, sk);
    }
    let nowhere = layout::<SOURCE>(moved) == Layout::Nowhere;
    let action = if nowhere {
        Action::Count
    } else if connection.policy == policy::HEADS {
        if connection.head_done[side] != 0 { Action::Count } else { Action::CopyHead }
    } else if connection.policy == policy::ALL {
        Action::CopyAll
    } else {
        Action::CopyEdges
    };
    let fragment = moved.len.min(i32::MAX as u64) as u32;
    Some(piece.write(Piece {
        conn_id: connection.id,
        pos,
        other_pos: connection.pos[side ^ 1],
        now: emit::now(),
        flags: flags | if nowhere { data_flag::IN_KERNEL } else { 0 },
        skip: 0,
        fragment,
        total_len: fragment,
        want: 0,
        action,
        ended: 0,
        reserved: 0,
    }))
}

/// Takes the agent's advice, if there is a new one.
#[inline(always)]
fn heed_advice(connection: &mut Connection, side: usize, turn_begins: bool) {
    if let Some(&verdict) = VERDICTS.get(verdict_slot(connection.id))
        && let Some(policy) = verdict_for(verdict, connection.id)
        && policy != connection.advised
    {
        connection.advised = policy;
        if policy != connection.policy {
            connection.policy = policy;
            connection.undecided = 0;
            // Within a turn nobody knows of a head that is in progress; one that begins here will be seen.
            connection.head_done[side] = u8::from(!turn_begins);
        }
    }
}

/// Decides what kind of connection this is, if the first bytes of a turn tell.
#[inline(always)]
fn decide(connection: &mut Connection, first: u64) {
    if scan::begins_message(first) {
        connection.policy = policy::HEADS;
        if connection.joined == joined::UNLESS_MESSAGE {
            connection.joined = joined::NO;
        }
    } else if scan::begins_tls(first) {
        connection.policy = policy::CIPHERTEXT;
    }
}

/// Copies of a fragment what its action says.
#[inline(always)]
fn copied<const SOURCE: u8, const PLACE: bool>(
    moved: &Moved,
    piece: &mut Piece,
    connection: &mut Connection,
    side: usize,
) {
    // A longer fragment is sent in pieces: what is not known to be wanted is not in the first one.
    piece.want = piece.fragment.min(WINDOW as u32);
    piece.total_len = piece.want;
    if piece.action == Action::CopyEdges && piece.fragment > EDGE_FIRST + EDGE_LAST {
        piece.total_len = piece.fragment - EDGE_LAST;
    }
    // VERIFIER: before each copy, so that the ways that lead there are one.
    unknown::<PLACE>(piece);
    copy_first::<SOURCE>(moved, piece);
    unknown::<PLACE>(piece);
    connection.copied[side] += piece.want;
    // VERIFIER: asked anew, so that the two ways are one in between.
    if piece.action == Action::CopyEdges {
        connection.undecided += piece.want + UNDECIDED_RECORD;
        if next(piece) {
            piece.want = piece.total_len.min(EDGE_LAST);
            piece.total_len = piece.want;
            unknown::<PLACE>(piece);
            copy_last::<SOURCE>(moved, piece);
        }
        return;
    }
    connection.head_done[side] = piece.ended as u8;
    // VERIFIER: four pieces of the largest class are a whole head.
    let mut pieces = 0;
    while pieces < 4 && next(piece) && (piece.action == Action::CopyAll || piece.ended == 0) {
        if connection.copied[side] >= HEAD_LIMIT {
            connection.head_done[side] = 1;
            break;
        }
        piece.want = piece.total_len.min(CLASS_HUGE as u32);
        piece.total_len = piece.want;
        unknown::<PLACE>(piece);
        copy_more::<SOURCE>(moved, piece);
        unknown::<PLACE>(piece);
        connection.copied[side] += piece.want;
        pieces += 1;
    }
    if pieces == 4 {
        next(piece);
    }
    if piece.total_len > 0 {
        bare::<SOURCE>(moved, piece);
    }
}

/// VERIFIER: it knows nothing of `piece` afterwards.
#[inline(always)]
fn unknown<const PLACE: bool>(piece: &mut Piece) {
    if PLACE == ON_STACK {
        launder(piece);
    }
}

/// Goes on behind `piece`, to all the rest of the call; `false` if that is nothing.
#[inline(always)]
fn next(piece: &mut Piece) -> bool {
    piece.pos += u64::from(piece.total_len);
    piece.skip += piece.total_len;
    piece.total_len = piece.fragment.saturating_sub(piece.skip);
    piece.flags = data_flag::CONTINUED;
    piece.total_len > 0
}
