//! What is copied of the bytes that a call moved. A *turn* is a run of bytes in one direction. A byte that is not
//! copied is still counted by position. What is wanted is a connection's policy ([`remora_common::policy`]), which the
//! agent may replace before each fragment:
//!
//! - `UNDECIDED`: as `ALL`, as long as little was copied, until a turn begins as a message of HTTP/1 does, or as
//!   a record of TLS.
//! - `HEADS`: a fragment of at most [`WINDOW`] bytes in which a head is in progress is copied whole. Of a longer one the
//!   first [`WINDOW`] bytes are copied, and more only while no blank line ended the head, up to [`HEAD_LIMIT`] for a
//!   head. Once the head ended, later fragments of the turn are counted and only their last 8 bytes are kept (a
//!   chunked message ends there), unless one begins as a message does: pipelining.
//! - `EDGES`: the first and the last bytes of each fragment. The last are a record of their own; what lies between them is
//!   counted in the first.
//! - `ALL`: every byte, up to [`HEAD_LIMIT`] of a turn; behind that the edges of each fragment, [`EDGE_LAST`] bytes each.

use core::mem::MaybeUninit;

use remora_common::{
    connection::{Connection, joined},
    control::{verdict_for, verdict_slot},
    policy::{self, EDGE_LAST, UNDECIDED_LIMIT, UNDECIDED_RECORD},
    record::{CLASS_HUGE, data_flag},
};

use crate::{
    connection,
    copy::{bare, copy_first, copy_last, copy_more},
    emit,
    maps::VERDICTS,
    moved::{Action, Layout, Moved, Next, ON_STACK, Piece, SOCKET},
    scan::{self, WINDOW},
    user::{first_bytes, launder},
};

/// A head longer than this is given up.
const HEAD_LIMIT: u32 = 64 << 10;

/// Accounts for the bytes of `moved` on `connection`, whose socket is `sk`, and copies what is wanted of them.
#[inline(always)]
pub fn account<const SOURCE: u8, const PLACE: bool>(
    moved: &Moved,
    piece: &mut MaybeUninit<Piece>,
    connection: &mut Connection,
    sk: u64,
    flags: u32,
) -> Next {
    let side = moved.side();
    let Some(piece) = plan::<SOURCE>(moved, piece, connection, side, sk, flags) else {
        return Next::Encrypted;
    };
    send::<SOURCE, PLACE>(moved, piece, connection, side);
    if SOURCE == SOCKET && moved.rest > 0 {
        piece.pos += u64::from(piece.total_len);
        piece.total_len = moved.rest.min(i32::MAX as u64) as u32;
        piece.flags = data_flag::IN_KERNEL;
        bare::<SOURCE>(moved, piece);
    }
    Next::Nothing
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
    if SOURCE == SOCKET && connection.object != 0 {
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
    let may_change = turn_begins && connection.policy != policy::HEADS;
    if behind_head || may_change {
        let first = first_bytes::<SOURCE>(moved);
        if may_change {
            if undecided {
                decide(connection, first);
            } else if SOURCE == SOCKET && scan::begins_tls(first) {
                // Some protocols ask for TLS in the open (PostgreSQL), and the agent may not have heard of it yet.
                connection.policy = policy::CIPHERTEXT;
            }
            if connection.policy == policy::CIPHERTEXT {
                return None;
            }
        }
        if behind_head && scan::begins_message(first) {
            connection.head_done[side] = 0;
            connection.copied[side] = 0;
        }
    }
    if connection.opened == 0 {
        connection::open(connection, sk);
    }
    let nowhere = moved.layout::<SOURCE>() == Layout::Nowhere;
    let action = if nowhere {
        Action::Count
    } else if connection.policy == policy::HEADS {
        if connection.head_done[side] != 0 { Action::Count } else { Action::CopyHead }
    } else if !is_told_enough_of(connection, side)
        && (connection.policy == policy::ALL || connection.policy == policy::UNDECIDED)
    {
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
        policy: connection.policy.into(),
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

/// Whether short edges will do: of a long turn, and where the agent is slow to say what it makes of a connection.
#[inline(always)]
fn is_told_enough_of(connection: &Connection, side: usize) -> bool {
    let undecided = connection.policy == policy::UNDECIDED;
    connection.copied[side] >= HEAD_LIMIT || undecided && connection.undecided >= UNDECIDED_LIMIT
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
    if piece.action == Action::CopyEdges && is_told_enough_of(connection, side) {
        piece.want = piece.want.min(EDGE_LAST);
    }
    piece.total_len = piece.want;
    if piece.action == Action::CopyEdges && piece.fragment > piece.want + EDGE_LAST {
        piece.total_len = piece.fragment - EDGE_LAST;
    }
    // VERIFIER: before each copy, so that the ways that lead there are one.
    unknown::<PLACE>(piece);
    copy_first::<SOURCE>(moved, piece);
    unknown::<PLACE>(piece);
    connection.copied[side] += piece.want;
    // VERIFIER: asked anew, so that the two ways are one in between.
    if piece.action != Action::CopyHead {
        connection.undecided = connection.undecided.wrapping_add(piece.want + UNDECIDED_RECORD);
    }
    if piece.action == Action::CopyEdges {
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
        connection.undecided = connection.undecided.wrapping_add(piece.want);
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
