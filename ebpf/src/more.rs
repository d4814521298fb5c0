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
    policy::TURN_LIMIT,
    record::{CLASS_LARGE, data_flag},
};

use crate::{
    capture, connection,
    copy::{bare, copy_more},
    maps::{self, CONNECTIONS, WORK},
    moved::{Action, Cursor, Layout, Moved, Piece, Work},
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
    // before anything is attached, and a turn's limit is less than 32 pieces.
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
    if is_more(work, connection) {
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
    // SAFETY: as above.
    let frames = unsafe { work.piece.assume_init_ref() }.action == Action::CopyFrames;
    if frames {
        let cursor = &mut work.cursor;
        cursor.runs += 1;
        // Nothing is walked over before what the latest walk has found is sent.
        let found = cursor.run > 0 && cursor.hole > 0;
        if !found && !walk::go_on::<SOURCE>(work, connection) && work.cursor.runs < RUNS {
            return false;
        }
        let cursor = &mut work.cursor;
        if cursor.runs >= RUNS {
            cursor.lost = 1;
        }
        if cursor.lost != 0 {
            connection.walk[side] = Walk::NOWHERE;
        }
    }
    let Work { piece, cursor, .. } = work;
    // SAFETY: as above.
    let piece = unsafe { piece.assume_init_mut() };
    let left = TURN_LIMIT.saturating_sub(connection.copied[side]);
    let wanted = if frames { cursor.run } else { piece.total_len };
    piece.want = wanted.min(CLASS_LARGE as u32).min(left);
    if !frames {
        piece.total_len = piece.want;
        return true;
    }
    if cursor.begins != 0 && piece.want > 0 {
        piece.flags |= data_flag::FRAME;
    }
    cursor.begins = 0;
    // What is wanted and too much for this turn is counted with what is not wanted.
    if piece.want == cursor.run || piece.want == left {
        piece.total_len = cursor.run + cursor.hole;
        cursor.run = 0;
        cursor.hole = 0;
    } else {
        piece.total_len = piece.want;
        cursor.run -= piece.want;
    }
    true
}

/// Takes note of a piece that was sent; whether there is another.
#[inline(never)]
fn is_more(work: &mut Work, connection: &mut Connection) -> bool {
    let side = work.moved.side();
    let Work { piece, cursor, .. } = work;
    // SAFETY: as above.
    let piece = unsafe { piece.assume_init_mut() };
    capture::copied(piece, connection, side);
    capture::go_on(piece);
    if piece.action != Action::CopyFrames {
        return capture::wants_more(piece, connection, side);
    }
    if cursor.runs >= RUNS || cursor.lost != 0 && cursor.run == 0 {
        piece.flags |= data_flag::FRAMES_LOST;
        return false;
    }
    cursor.run > 0 || cursor.at < piece.fragment
}
