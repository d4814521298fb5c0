//! Copies more of a call than its first bytes: one piece each time a program runs, which jumps to itself until it has what
//! is wanted. What it works on is left to it in a map.
//!
//! The verifier looks at a program once, however often it runs: a search of 64 KiB for the end of a head would be
//! more than it accepts.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::{HashMap, ProgramArray},
};
use remora_common::{
    connection::NOT_COUNTED, counter::Counter, policy::TURN_LIMIT, record::CLASS_LARGE,
};

use crate::{
    capture,
    copy::copy_more,
    maps::{self, CONNECTIONS, WORK},
    moved::{Action, Layout, Moved, Piece, Work},
};

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
    },
    piece: core::mem::MaybeUninit::new(Piece {
        conn_id: 0,
        pos: 0,
        other_pos: 0,
        now: 0,
        flags: 0,
        skip: 0,
        fragment: 0,
        total_len: 0,
        want: 0,
        action: Action::Count,
        ended: 0,
        newlines: 0,
    }),
    sk: 0,
    tid: 0,
    reserved: 0,
};

/// Leaves a call to the program that goes on. `false`: there is no room, so that is all of it.
#[inline(always)]
pub fn leave<const SOURCE: u8>(moved: &Moved, piece: &mut Piece, sk: u64) -> bool {
    let left = set_aside(moved, piece, sk);
    if !left {
        capture::rest::<SOURCE>(moved, piece);
    }
    left
}

#[inline(never)]
fn set_aside(moved: &Moved, piece: &Piece, sk: u64) -> bool {
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
    true
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
#[inline(never)]
fn piece<const SOURCE: u8>(work: &mut Work) -> bool {
    let Some(connection) = CONNECTIONS.get_ptr_mut(work.sk) else { return false };
    // SAFETY: map values; the piece was written before anybody jumped here.
    let (connection, piece) = unsafe { (&mut *connection, work.piece.assume_init_mut()) };
    let (moved, side) = (&work.moved, work.moved.side());
    let left = TURN_LIMIT.saturating_sub(connection.copied[side]);
    piece.want = piece.total_len.min(CLASS_LARGE as u32).min(left);
    if piece.want > 0 {
        piece.total_len = piece.want;
        copy_more::<SOURCE>(moved, piece);
        capture::copied(piece, connection, side);
        if capture::wants_more(piece, connection, side) {
            return true;
        }
    }
    capture::rest::<SOURCE>(moved, piece);
    false
}
