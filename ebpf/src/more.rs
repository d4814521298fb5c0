//! Copies more of a call than its first bytes: one piece each time a program runs, which jumps to itself until it has what
//! is wanted. What it works on is left to it in a map.
//!
//! The verifier looks at a program once, however often it runs: a search of 64 KiB for the end of a head would be
//! more than it accepts.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::{HashMap, ProgramArray},
};
use remora_common::{
    connection::{Connection, NOT_COUNTED, closing},
    counter::Counter,
    frames::Walk,
    policy::{self, TURN_LIMIT},
    record::{CLASS_LARGE, data_flag},
};

use crate::{
    capture, connection,
    copy::{bare, copy_more},
    maps::{self, CONNECTIONS, WORK},
    moved::{Action, Cursor, Layout, Moved, Piece, Work},
    user::{PIECES, read_user},
    walk,
};

/// So often a program goes on at most for one call: the kernel lets it jump 32 or 33 times.
const RUNS: u32 = 30;

/// The program of the door that goes on, put there by the agent: all that jump to it are of one type.
#[map]
static MORE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// That of TLS libraries' functions.
#[map]
static MORE_TLS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// What programs that may be entered twice on a processor leave to the next, by thread.
#[map]
static SET_ASIDE: HashMap<u32, Work> = HashMap::with_max_entries(256, 0);

/// A static, for the stack is small.
static NOTHING: Work = Work {
    moved: Moved {
        fd: 0,
        direction: 0,
        layout: Layout::Nowhere,
        source: 0,
        count: 0,
        base: 0,
        len: 0,
        rest: 0,
        seq: NOT_COUNTED,
        begin_ns: 0,
        tgid: 0,
        tid: 0,
        context: 0,
    },
    piece: MaybeUninit::uninit(),
    cursor: Cursor::START,
    sk: 0,
    tid: 0,
    reserved: 0,
};

/// Leaves a call to the program that goes on. `false`: there is no room, so that is all of it.
#[inline(always)]
pub fn leave<const SOURCE: u8>(moved: &Moved, piece: &mut Piece, sk: u64) -> bool {
    let left = set_aside::<SOURCE>(moved, piece, sk);
    if !left {
        capture::rest::<SOURCE>(moved, piece);
    }
    left
}

#[inline(never)]
fn set_aside<const SOURCE: u8>(moved: &Moved, piece: &Piece, sk: u64) -> bool {
    if SET_ASIDE.get_ptr_mut(moved.tid).is_none() {
        #[expect(
            clippy::needless_borrows_for_generic_args,
            reason = "the value would be on the stack"
        )]
        let _ = SET_ASIDE.insert(moved.tid, &NOTHING, 0);
    }
    let Some(work) = SET_ASIDE.get_ptr_mut(moved.tid) else {
        maps::count(Counter::EntriesFull);
        return false;
    };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    let work = unsafe { &mut *work };
    work.moved = *moved;
    work.piece.write(*piece);
    work.sk = sk;
    walk::begin::<SOURCE>(work, piece.fragment);
    true
}

/// The same for a program that has its own [`Work`].
#[inline(always)]
pub fn begin<const SOURCE: u8>(work: &mut Work) {
    work.tid = work.moved.tid;
    let len = work.moved.len.min(i32::MAX as u64) as u32;
    walk::begin::<SOURCE>(work, len);
}

/// Jumps to the program that goes on.
#[inline(always)]
pub fn jump(ctx: &impl EbpfContext) {
    // SAFETY: nothing here waits to be dropped. Returns only where it fails, and it does not: the slot is filled
    // before anything is attached, and no call is gone on with more than [`RUNS`] times.
    unsafe { MORE.tail_call(ctx, 0) };
}

/// The same for a function of a TLS library.
#[inline(always)]
pub fn jump_tls(ctx: &impl EbpfContext) {
    // SAFETY: as above.
    unsafe { MORE_TLS.tail_call(ctx, 0) };
}

/// A thread that ends gives its entry back.
pub fn forget(tid: u32) {
    let _ = SET_ASIDE.remove(tid);
}

/// Copies one more piece of the call that thread `tid` has set aside; whether there is another.
#[inline(always)]
pub fn of_thread<const SOURCE: u8>(tid: u32) -> bool {
    let Some(work) = SET_ASIDE.get_ptr_mut(tid) else { return false };
    // SAFETY: a map value, preallocated; only this thread touches its own.
    if piece::<SOURCE>(unsafe { &mut *work }) {
        return true;
    }
    let _ = SET_ASIDE.remove(tid);
    false
}

/// The same for a program of the socket layer. Which of the two it goes on for is told by the thread: they have a
/// [`Work`] each, which is theirs until the last piece, for the kernel enters neither of them again before.
#[inline(always)]
pub fn at_hand<const SOURCE: u8>(tid: u32) -> bool {
    let mut direction = 0;
    while direction < 2 {
        if let Some(work) = WORK.get_ptr_mut(direction)
            // SAFETY: a map value; see above.
            && unsafe { (*work).tid } == tid
        {
            // SAFETY: as above.
            let work = unsafe { &mut *work };
            let again = piece::<SOURCE>(work);
            if !again {
                work.tid = 0;
            }
            return again;
        }
        direction += 1;
    }
    false
}

/// Copies one more piece; whether there is another.
///
/// VERIFIER: what goes before and behind the copy are functions of their own, so that it is verified once.
#[inline(never)]
fn piece<const SOURCE: u8>(work: &mut Work) -> bool {
    let Some(connection) = CONNECTIONS.get_ptr_mut(work.sk) else { return false };
    // SAFETY: a map value.
    let connection = unsafe { &mut *connection };
    if !choose::<SOURCE>(work, connection) {
        return true;
    }
    let Work { moved, piece, .. } = work;
    // SAFETY: written before anybody jumped here.
    let piece = unsafe { piece.assume_init_mut() };
    if piece.want > 0 {
        copy_more::<SOURCE>(moved, piece);
    } else if piece.total_len > 0 {
        bare::<SOURCE>(moved, piece);
    }
    if is_more::<SOURCE>(work, connection) {
        return true;
    }
    let Work { moved, piece, sk, .. } = work;
    // SAFETY: as above.
    capture::rest::<SOURCE>(moved, unsafe { piece.assume_init_mut() });
    if connection.closing & closing::IN_CALL != 0 {
        connection::settle(*sk);
    }
    false
}

/// Says what the next piece is; `false`: that is not known yet.
#[inline(never)]
fn choose<const SOURCE: u8>(work: &mut Work, connection: &mut Connection) -> bool {
    let side = work.moved.side();
    work.cursor.runs += 1;
    // SAFETY: as above.
    let frames = unsafe { work.piece.assume_init_ref() }.action == Action::CopyFrames;
    if frames && !frame_is_found::<SOURCE>(work, connection) {
        return false;
    }
    let Work { moved, piece, cursor, .. } = work;
    // SAFETY: as above.
    let piece = unsafe { piece.assume_init_mut() };
    let copied = connection.copied[side];
    let left = capture::turn_limit(piece.action).saturating_sub(copied);
    let wanted = if frames { cursor.run } else { piece.total_len.min(left) };
    piece.want = wanted.min(CLASS_LARGE as u32);
    if moved.layout::<SOURCE>() == Layout::Pieces && moved.count > PIECES {
        pass_buffers(moved, piece, cursor);
        if moved.count > PIECES {
            want_what_is_in_reach(moved, piece, cursor);
        }
    }
    if !frames {
        if cursor.runs >= RUNS {
            piece.want = 0;
            piece.action = Action::Count;
        } else {
            piece.total_len = piece.want;
        }
        return true;
    }
    if cursor.begins != 0 && piece.want > 0 {
        piece.flags |= data_flag::FRAME;
    }
    cursor.begins = 0;
    if piece.want == cursor.run {
        piece.total_len = cursor.run + cursor.hole;
        cursor.run = 0;
        cursor.hole = 0;
    } else {
        piece.total_len = piece.want;
        cursor.run -= piece.want;
    }
    true
}

/// Walks on, as long as the runs that are left are enough to copy what is left of the call whole; `false`: nothing that
/// can be sent is found yet.
#[inline(never)]
fn frame_is_found<const SOURCE: u8>(work: &mut Work, connection: &mut Connection) -> bool {
    let side = work.moved.side();
    // Nothing is walked over before what the latest walk has found is sent.
    let found = work.cursor.run > 0 && work.cursor.hole > 0;
    let found = found || work.cursor.lost != 0 || walk::go_on::<SOURCE>(work, connection);
    let Work { moved, piece, cursor, .. } = work;
    // SAFETY: as above.
    let piece = unsafe { piece.assume_init_ref() };
    let unsent = piece.fragment.saturating_sub(piece.skip).min(TURN_LIMIT);
    let by_buffers =
        if moved.layout::<SOURCE>() == Layout::Pieces { moved.count / PIECES } else { 0 };
    let needed = by_buffers.max(unsent / CLASS_LARGE as u32) + 2;
    let walk = &connection.walk[side];
    // Behind bytes that are left out the agent has to know where a frame begins.
    let at_frame = walk.state == Walk::AT_FRAME || walk.left == 0 && walk.have == 0;
    let can_end = at_frame || cursor.hole == 0 || cursor.runs + 2 >= RUNS;
    if cursor.lost == 0 && can_end && cursor.at < piece.fragment && cursor.runs + needed >= RUNS {
        cursor.lost = if at_frame { Cursor::AT_FRAME } else { 1 };
    }
    if cursor.lost != 0 {
        connection.walk[side] = Walk::NOWHERE;
        return true;
    }
    found
}

/// Passes buffers of which the latest piece was.
///
/// VERIFIER: no way leaves the loop early, or each would be followed to the end of the program.
#[inline(never)]
fn pass_buffers(moved: &mut Moved, piece: &mut Piece, cursor: &mut Cursor) {
    let mut looked = 0;
    while looked < PIECES {
        looked += 1;
        let [_, len] = read_user::<[u64; 2]>(moved.base).unwrap_or([0, u64::MAX]);
        let rest = u64::from(piece.skip).wrapping_sub(piece.passed.into());
        if len <= rest && moved.count > 1 {
            pass(moved, piece, cursor, 1, len as u32);
        }
    }
}

/// The same for all that were walked over and sent.
#[inline(never)]
fn pass_walked(moved: &mut Moved, piece: &mut Piece, cursor: &mut Cursor) {
    let (count, until) = if cursor.here > 0 {
        (cursor.index.saturating_sub(1), cursor.buffer_at)
    } else {
        (cursor.index, cursor.at)
    };
    let len = until.wrapping_sub(piece.passed);
    pass(moved, piece, cursor, count, len);
}

/// Passes `count` buffers of together `len` bytes.
#[inline(always)]
fn pass(moved: &mut Moved, piece: &mut Piece, cursor: &mut Cursor, count: u32, len: u32) {
    piece.passed += len;
    moved.base += u64::from(count) * 16;
    moved.len -= u64::from(len);
    moved.count = moved.count.saturating_sub(count);
    cursor.index = cursor.index.saturating_sub(count);
}

/// Wants no more than those buffers hold that are looked at.
#[inline(never)]
fn want_what_is_in_reach(moved: &Moved, piece: &mut Piece, cursor: &mut Cursor) {
    cursor.reach = 0;
    let mut at = 0;
    while at < PIECES {
        let Some([_, len]) = read_user::<[u64; 2]>(moved.base + u64::from(at) * 16) else { return };
        cursor.reach += len;
        at += 1;
    }
    let reach = cursor.reach.saturating_sub((piece.skip - piece.passed).into());
    if reach > 0 && reach < piece.want.into() {
        piece.want = reach as u32;
    }
}

/// Takes note of a piece that was sent; whether there is another.
#[inline(never)]
fn is_more<const SOURCE: u8>(work: &mut Work, connection: &mut Connection) -> bool {
    let side = work.moved.side();
    let Work { moved, piece, cursor, .. } = work;
    // SAFETY: as above.
    let piece = unsafe { piece.assume_init_mut() };
    capture::copied(piece, connection, side);
    capture::go_on(piece);
    if piece.action == Action::CopyFrames {
        if cursor.run == 0 && moved.layout::<SOURCE>() == Layout::Pieces {
            pass_walked(moved, piece, cursor);
        }
        if cursor.lost == 0 || cursor.run > 0 {
            return cursor.run > 0 || cursor.at < piece.fragment;
        }
        // What could not be walked over is copied whole, so that the agent can.
        piece.action = Action::CopyAll;
        piece.policy = policy::ALL.into();
        if cursor.lost == Cursor::AT_FRAME {
            piece.flags |= data_flag::FRAME;
        }
    }
    capture::wants_more(piece, connection, side)
}
