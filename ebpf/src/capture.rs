//! What is copied of the bytes that a call moved. A *turn* is a run of bytes in one direction. A byte that is not
//! copied is still counted by position. What is wanted is a connection's policy ([`remora_common::policy`]), which the
//! agent may replace before each fragment:
//!
//! - `UNDECIDED`: as `ALL`, as long as little was copied, and by short edges from then on; until a turn begins as a
//!   message of HTTP/1 does, or as a record of TLS.
//! - `HEADS`: as long as a head is in progress (a turn that does not begin as a message does has none) the first
//!   [`EDGE_FIRST`] bytes of a fragment are copied, and more of it, piece by piece, while no blank line ended the head. Once it
//!   ended, later fragments of the turn are counted and only their last 8 bytes are kept (a chunked message ends
//!   there), unless one begins as a message does: pipelining.
//! - `EDGES`: the first and the last bytes of each fragment. The last are a record of their own; what lies between them is
//!   counted in the first.
//! - `ALL`: every byte.
//! - `FRAMES`: those of the frames that are wanted ([`walk`]), and as `ALL` while it is not known where one begins.
//!
//! Of one turn at most [`TURN_LIMIT`] or [`TURN_LIMIT_OF_ALL`] bytes are copied, however many fragments it has. Behind that
//! only short edges of each fragment are, [`EDGE_LAST`] bytes each, which cost no more than the records that say of them;
//! of a head nothing.

use core::mem::MaybeUninit;

use remora_common::{
    connection::{Connection, joined},
    control::{verdict_for, verdict_slot},
    frames::{self, Walk},
    policy::{
        self, EDGE_FIRST, EDGE_LAST, TURN_LIMIT, TURN_LIMIT_OF_ALL, UNDECIDED_LIMIT,
        UNDECIDED_RECORD,
    },
    record::data_flag,
};

use crate::{
    connection,
    copy::{bare, copy_first, copy_last},
    emit,
    maps::{self, VERDICTS},
    moved::{Action, Layout, Moved, Next, ON_STACK, Piece, SOCKET},
    scan,
    user::{PIECES, first_bytes, launder},
    walk,
};

/// Where the agent has said what a connection is, TLS is looked for within so many bytes of a direction.
const TLS_BEGINS_WITHIN: u64 = 4096;

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
    // VERIFIER: before each copy, so that the ways that lead there are one.
    unknown::<PLACE>(piece);
    if piece.want > 0 {
        copy_first::<SOURCE>(moved, piece);
        unknown::<PLACE>(piece);
        copied(piece, connection, side);
        // Most calls are this and nothing else.
        if piece.behind == 0 {
            return Next::Nothing;
        }
        go_on(piece);
        unknown::<PLACE>(piece);
    }
    // VERIFIER: asked anew, so that the ways are one before.
    if piece.action == Action::CopyEdges {
        last_edge::<SOURCE, PLACE>(moved, piece);
    } else if piece.action == Action::CopyFrames
        || wants_more(piece, connection, side) && maps::may_jump()
    {
        return Next::More;
    }
    unknown::<PLACE>(piece);
    rest::<SOURCE>(moved, piece);
    Next::Nothing
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
    if SOURCE == SOCKET && connection.object != 0 && moved.source == SOCKET.into() {
        return None;
    }
    let pos = connection.pos[side];
    connection.pos[side] = pos + moved.len + moved.rest;
    let turn_begins = connection.last != side as u8;
    if turn_begins {
        connection.last = side as u8;
        connection.copied[side] = 0;
        // A head that has not ended goes on: the other side has answered what came before it.
        if connection.head_done[side] != 0 {
            begin_head(connection, side);
        }
    }
    heed_advice(connection, side, turn_begins);
    let mut action = Action::CopyHead;
    if connection.policy != policy::HEADS {
        action = other_than_head::<SOURCE>(moved, connection, turn_begins);
        if action == Action::Nothing {
            return None;
        }
    }
    if action == Action::CopyHead && connection.head_done[side] != 0 {
        if scan::begins_message(first_bytes::<SOURCE>(moved)) {
            begin_head(connection, side);
        } else {
            action = Action::Count;
        }
    }
    if connection.opened == 0 {
        connection::open(connection, sk);
    }
    let mut flags = flags;
    if moved.layout::<SOURCE>() == Layout::Nowhere {
        frames::pass(&mut connection.walk[side], moved.len);
        flags |= data_flag::IN_KERNEL;
        action = Action::Count;
    }
    // A longer fragment is sent in pieces: what is not known to be wanted is not in the first one. Words of 64 bits: the
    // instruction set shifts shorter ones to and fro.
    let fragment = moved.len.min(i32::MAX as u64);
    let mut want = fragment.min(EDGE_FIRST.into());
    let mut total_len = fragment;
    let left = u64::from(turn_limit(action)).saturating_sub(connection.copied[side].into());
    if action == Action::Count || action == Action::CopyFrames || is_long_list::<SOURCE>(moved) {
        want = 0;
    } else if action == Action::CopyEdges {
        let enough = is_told_enough_of(connection, side);
        want = want.min(if enough { 0 } else { left }.max(EDGE_LAST.into()));
        total_len = want;
        if fragment > want + u64::from(EDGE_LAST) {
            total_len = fragment - u64::from(EDGE_LAST);
        }
    } else {
        want = want.min(left);
        if want > 0 {
            total_len = want;
        }
    }
    let mut policy = connection.policy;
    if policy >= policy::FRAMES
        && action != Action::CopyFrames
        && connection.walk[side].state == Walk::UNKNOWN
    {
        policy = policy::ALL;
    }
    Some(piece.write(Piece {
        conn_id: connection.id,
        pos,
        other_pos: connection.pos[side ^ 1],
        now: emit::now(),
        flags,
        skip: 0,
        passed: 0,
        reserved: 0,
        fragment: fragment as u32,
        total_len: total_len as u32,
        want: want as u32,
        action,
        ended: 0,
        policy: policy.into(),
        newlines: connection.newlines[side].into(),
        // VERIFIER: counted together, so that it does not tell apart what `rest` is.
        behind: fragment - want + moved.rest,
    }))
}

/// What is done under policies other than `HEADS`, which one that nobody recognised may become here.
#[inline(never)]
fn other_than_head<const SOURCE: u8>(
    moved: &Moved,
    connection: &mut Connection,
    turn_begins: bool,
) -> Action {
    let mut policy = connection.policy;
    if policy == policy::COUNT || policy == policy::CIPHERTEXT {
        return Action::Nothing;
    }
    // Some protocols ask for TLS in the open (PostgreSQL), and the agent may not have heard of it yet.
    let young = connection.pos[moved.side()] < TLS_BEGINS_WITHIN;
    if turn_begins && (young || policy == policy::UNDECIDED) {
        let first = first_bytes::<SOURCE>(moved);
        let is_http2 = scan::begins_http2(first);
        if policy == policy::UNDECIDED && (is_http2 | scan::is_surely_message(first)) {
            if connection.joined == joined::UNLESS_MESSAGE {
                connection.joined = joined::NO;
            }
            if !is_http2 {
                connection.policy = policy::HEADS;
                return Action::CopyHead;
            }
            walk::begin_http2(connection, moved.side(), walk::PREFACE);
            policy = connection.policy;
        }
        if policy == policy::UNDECIDED && scan::greets_in_http2(first) {
            walk::begin_http2(connection, moved.side(), 0);
            policy = connection.policy;
        }
        if SOURCE == SOCKET && scan::begins_tls(first) {
            connection.policy = policy::CIPHERTEXT;
            return Action::Nothing;
        }
    }
    if policy == policy::ALL || policy == policy::UNDECIDED {
        let enough = is_told_enough_of(connection, moved.side());
        return if enough { Action::CopyEdges } else { Action::CopyAll };
    }
    if policy >= policy::FRAMES {
        if walk::can_go::<SOURCE>(moved, connection) {
            return Action::CopyFrames;
        }
        if !is_told_enough_of(connection, moved.side()) {
            return Action::CopyAll;
        }
    }
    Action::CopyEdges
}

/// How much is copied of a turn.
#[inline(always)]
pub fn turn_limit(action: Action) -> u32 {
    if action == Action::CopyAll { TURN_LIMIT_OF_ALL } else { TURN_LIMIT }
}

/// Whether a scatter-gather list is longer than one run of a program looks at: all of it is left to those that go on.
#[inline(always)]
fn is_long_list<const SOURCE: u8>(moved: &Moved) -> bool {
    moved.layout::<SOURCE>() == Layout::Pieces && moved.count > PIECES && maps::may_jump()
}

/// Whether short edges will do: of a long turn, and where the agent is slow to say what it makes of a connection.
#[inline(always)]
fn is_told_enough_of(connection: &Connection, side: usize) -> bool {
    let undecided = connection.policy == policy::UNDECIDED;
    connection.copied[side] >= TURN_LIMIT_OF_ALL
        || undecided && connection.undecided >= UNDECIDED_LIMIT
}

/// The next bytes are taken for the beginning of a head.
#[inline(always)]
fn begin_head(connection: &mut Connection, side: usize) {
    connection.head_done[side] = 0;
    connection.newlines[side] = scan::FRESH as u8;
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
            // A head may be in progress, of which all was copied so far; where it is content, some of that is copied.
            let in_head = connection.policy == policy::UNDECIDED && policy == policy::HEADS;
            connection.policy = policy;
            connection.undecided = 0;
            connection::forget_frames(connection);
            // Else nobody knows within a turn; one that begins here will be seen.
            connection.head_done = [1; 2];
            if turn_begins {
                begin_head(connection, side);
            } else if in_head {
                connection.head_done[side] = 0;
                connection.newlines[side] = 0;
            }
        }
    }
}

/// The last bytes of a fragment of which only the edges are wanted.
#[inline(always)]
fn last_edge<const SOURCE: u8, const PLACE: bool>(moved: &Moved, piece: &mut Piece) {
    if piece.total_len > 0 {
        piece.want = piece.total_len.min(EDGE_LAST);
        piece.total_len = piece.want;
        unknown::<PLACE>(piece);
        copy_last::<SOURCE>(moved, piece);
        go_on(piece);
    }
}

/// Takes note of what a piece has copied.
#[inline(always)]
pub fn copied(piece: &Piece, connection: &mut Connection, side: usize) {
    let copied = u64::from(connection.copied[side]) + u64::from(piece.want);
    connection.copied[side] = copied as u32;
    if piece.action == Action::CopyHead {
        if piece.ended != 0 || copied >= TURN_LIMIT.into() {
            connection.head_done[side] = 1;
        } else {
            connection.newlines[side] = piece.newlines as u8;
        }
    } else if connection.policy == policy::UNDECIDED {
        let spent = u64::from(connection.undecided) + u64::from(piece.want);
        connection.undecided = (spent + u64::from(UNDECIDED_RECORD)).min(u32::MAX.into()) as u32;
    }
}

/// Whether more than that is wanted.
#[inline(always)]
pub fn wants_more(piece: &Piece, connection: &Connection, side: usize) -> bool {
    let wanted =
        piece.action == Action::CopyAll || (piece.action == Action::CopyHead && piece.ended == 0);
    piece.total_len > 0 && wanted && connection.copied[side] < turn_limit(piece.action)
}

/// Counts what is left of the call.
#[inline(always)]
pub fn rest<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if piece.total_len > 0 {
        bare::<SOURCE>(moved, piece);
    }
    if SOURCE == SOCKET && moved.rest > 0 {
        piece.pos += u64::from(piece.total_len);
        piece.skip = piece.fragment;
        piece.total_len = moved.rest.min(i32::MAX as u64) as u32;
        piece.flags = data_flag::IN_KERNEL;
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

/// Goes on behind `piece`, to all the rest of the call.
#[inline(always)]
pub fn go_on(piece: &mut Piece) {
    piece.pos += u64::from(piece.total_len);
    piece.skip += piece.total_len;
    if piece.total_len > 0 {
        piece.flags = data_flag::CONTINUED;
    }
    piece.total_len = piece.fragment.saturating_sub(piece.skip);
}
