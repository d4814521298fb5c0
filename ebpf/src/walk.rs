//! Walks over the frames of a call (see [`remora_common::frames`]): reads the head of each from user memory, and says
//! which of its bytes are wanted.

use remora_common::{
    connection::{Connection, joined},
    frames::{self, HTTP2_ROW, Head, Passed, ROWS, Row, Walk, frame, may_begin},
    policy::{FRAMES, TURN_LIMIT},
};

use crate::{
    maps,
    moved::{Cursor, Layout, Moved, Work},
    user::{peek, read_user},
};

/// Bytes that a client of HTTP/2 sends before its frames.
pub const PREFACE: u16 = 24;
/// Frames, and buffers of a scatter-gather list, that one run of a program looks at.
const STEPS: u32 = 4;

#[inline(always)]
fn row(connection: &Connection) -> Option<&'static Row> {
    let number = u64::from(connection.policy.wrapping_sub(FRAMES));
    // SAFETY: a live value. VERIFIER: read back, so that the number that was compared is the one that is used, and not
    // the same once more.
    let number = unsafe { (&raw const number).read_volatile() };
    ROWS.get(number as usize)
}

/// Whether frames can be walked from the first byte of `moved` on. Where it is not known that one begins there, it
/// is taken for granted only if it ends where the call does, or another follows it.
#[inline(always)]
pub fn can_go<const SOURCE: u8>(moved: &Moved, connection: &mut Connection) -> bool {
    let side = moved.side();
    let len = moved.len.min(i32::MAX as u64) as u32;
    let Some(row) = row(connection) else { return false };
    if !maps::may_jump() {
        return false;
    }
    if moved.rest > 0 {
        // What frames are in bytes that nobody can read is not known.
        connection.walk[side] = Walk::NOWHERE;
        return false;
    }
    if connection.walk[side].state != Walk::UNKNOWN {
        return true;
    }
    let (base, here) = if moved.layout::<SOURCE>() == Layout::Flat {
        (moved.base, len)
    } else {
        match read_user::<[u64; 2]>(moved.base) {
            Some([base, here]) if here < len.into() => (base, here as u32),
            Some([base, _]) => (base, len),
            None => return false,
        }
    };
    let Some(first) = peek(base, here.into()) else { return false };
    let Some(at) = may_begin(row, side, first, len) else { return false };
    if at < len {
        let left = here.saturating_sub(at);
        if left < row.head.into() {
            return false;
        }
        let Some(second) = peek(base.wrapping_add(at.into()), left.into()) else { return false };
        if frame(row, side, second, false).is_none() {
            return false;
        }
    }
    connection.walk[side] = Walk::START;
    true
}

/// A connection speaks HTTP/2. Frames begin behind so many bytes of direction `side`: 24 for the client's preface, or none
/// for a server. In the other one they begin with its first byte, or behind the preface.
#[inline(never)]
pub fn begin_http2(connection: &mut Connection, side: usize, behind: u16) {
    connection.policy = FRAMES + HTTP2_ROW;
    let (side, other) = (side & 1, (side ^ 1) & 1);
    connection.walk[side] = Walk { left: behind.into(), wanted: behind, ..Walk::START };
    let begins = connection.pos[other] == 0 && (behind > 0 || connection.joined == joined::NO);
    let behind = PREFACE - behind;
    connection.walk[other] = if begins {
        Walk { left: behind.into(), wanted: behind, ..Walk::START }
    } else {
        Walk::NOWHERE
    };
}

/// Makes ready to walk over `moved`.
#[inline(always)]
pub fn begin<const SOURCE: u8>(work: &mut Work, len: u32) {
    let flat = work.moved.layout::<SOURCE>() == Layout::Flat;
    let cursor = &mut work.cursor;
    cursor.base = work.moved.base;
    cursor.here = if flat { len } else { 0 };
    cursor.at = 0;
    cursor.index = 0;
    cursor.buffer_at = 0;
    cursor.run = 0;
    cursor.hole = 0;
    cursor.begins = 0;
    cursor.runs = 0;
    cursor.lost = 0;
}

/// Goes on until there is something to send: wanted bytes behind others, or the end. `false`: not yet.
#[inline(never)]
pub fn go_on<const SOURCE: u8>(work: &mut Work, connection: &mut Connection) -> bool {
    let mut steps = 0;
    while steps < STEPS {
        steps += 1;
        if one::<SOURCE>(work, connection) {
            return true;
        }
    }
    false
}

/// One frame, or what of it is at hand; `true`: see [`go_on`].
///
/// VERIFIER: a function of its own, and its parts functions of theirs, which work in maps: what they found out is
/// forgotten when they return, so that the ways through them are one from there on.
#[inline(never)]
fn one<const SOURCE: u8>(work: &mut Work, connection: &mut Connection) -> bool {
    let side = work.moved.side();
    // SAFETY: written before anybody jumped here.
    let fragment = unsafe { work.piece.assume_init_ref() }.fragment;
    if work.cursor.at >= fragment {
        return true;
    }
    if work.cursor.here == 0 {
        return !next_buffer::<SOURCE>(work, fragment);
    }
    let cursor = &mut work.cursor;
    if connection.walk[side].left == 0 {
        // Before what may be a part of a head.
        if cursor.hole > 0 && cursor.here < 8 {
            return true;
        }
        let head = read_head(cursor, connection, side);
        if head == Head::Lost {
            cursor.lost = 1;
            return true;
        }
        if head == Head::Cut {
            let here = cursor.here;
            let begins = u32::from(connection.walk[side].have) == here;
            take(cursor, Passed { copy: here, skip: 0, begins });
            return false;
        }
    }
    let walk = &mut connection.walk[side];
    if walk.wanted > 0 && cursor.hole > 0 {
        return true;
    }
    let passed = frames::advance(walk, cursor.here);
    take(cursor, passed);
    false
}

#[inline(never)]
fn read_head(cursor: &Cursor, connection: &mut Connection, side: usize) -> Head {
    let (Some(row), Some(next)) = (row(connection), peek(cursor.base, cursor.here.into())) else {
        return Head::Lost;
    };
    let side = side & 1;
    let spent = connection.copied[side] + cursor.run >= TURN_LIMIT;
    frames::read_head(row, side, &mut connection.walk[side], next, cursor.here, spent)
}

#[inline(always)]
fn take(cursor: &mut Cursor, passed: Passed) {
    if cursor.run == 0 {
        cursor.begins = u32::from(passed.begins);
    }
    let len = passed.copy + passed.skip;
    cursor.run += passed.copy;
    cursor.hole += passed.skip;
    cursor.at += len;
    cursor.base += u64::from(len);
    cursor.here -= len;
}

/// The next buffer of a scatter-gather list; `false` if there is none.
#[inline(never)]
fn next_buffer<const SOURCE: u8>(work: &mut Work, fragment: u32) -> bool {
    let Work { moved, cursor, .. } = work;
    if moved.layout::<SOURCE>() != Layout::Pieces || cursor.index >= moved.count {
        cursor.lost = 1;
        return false;
    }
    let Some([base, len]) = read_user::<[u64; 2]>(moved.base + u64::from(cursor.index) * 16) else {
        cursor.lost = 1;
        return false;
    };
    let most = fragment - cursor.at;
    cursor.index += 1;
    cursor.buffer_at = cursor.at;
    cursor.base = base;
    cursor.here = if len < most.into() { len as u32 } else { most };
    true
}
