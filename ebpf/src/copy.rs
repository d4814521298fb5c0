//! One record of a fragment's bytes: reserved in the ring, filled there, submitted.

use core::mem::MaybeUninit;

use aya_ebpf::maps::ring_buf::RingBufEntry;
use remora_common::{
    counter::Counter,
    policy,
    record::{CLASS_LARGE, CLASS_MEDIUM, CLASS_SMALL, Data, Kind, data_flag},
};

use crate::{
    emit, maps,
    moved::{Action, Layout, Moved, Piece},
    scan,
    user::{flat, forget, gather, last_bytes, read_user},
};

/// A sample with room for `N` bytes of content. The eight bytes more let the verifier accept an
/// eight-byte access at any offset below `N`.
#[repr(C)]
struct Sample<const N: usize> {
    data: Data,
    content: [MaybeUninit<u8>; N],
    slack: u64,
}

/// Copies at most [`CLASS_MEDIUM`] bytes; sets whether the head that is in progress, if that is what is copied,
/// ended in them and what follows is not another message.
#[inline(never)]
pub fn copy_first<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if moved.layout::<SOURCE>() == Layout::Pieces && moved.count != 1 {
        // Twice the room: the verifier bounds the place and the length of a piece apart.
        if piece.want <= CLASS_SMALL as u32 {
            copy::<SOURCE, { CLASS_SMALL * 2 }, CLASS_SMALL>(moved, piece, true);
        } else {
            copy::<SOURCE, { CLASS_MEDIUM * 2 }, CLASS_MEDIUM>(moved, piece, true);
        }
    } else if piece.want <= CLASS_SMALL as u32 {
        copy::<SOURCE, CLASS_SMALL, CLASS_SMALL>(moved, piece, true)
    } else {
        copy::<SOURCE, CLASS_MEDIUM, CLASS_MEDIUM>(moved, piece, true)
    }
}

/// The same for at most [`CLASS_LARGE`] bytes, wherever they are. VERIFIER: two sizes only, each once, with the room for
/// scatter-gather calls.
#[inline(never)]
pub fn copy_more<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if piece.want <= CLASS_SMALL as u32 {
        copy::<SOURCE, { CLASS_SMALL * 2 }, CLASS_SMALL>(moved, piece, true);
    } else {
        copy::<SOURCE, { CLASS_LARGE * 2 }, CLASS_LARGE>(moved, piece, true);
    }
}

/// Copies at most [`CLASS_SMALL`] bytes of the end of the call's.
#[inline(never)]
pub fn copy_last<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if moved.layout::<SOURCE>() == Layout::Pieces && moved.count != 1 {
        copy::<SOURCE, { CLASS_SMALL * 2 }, CLASS_SMALL>(moved, piece, false);
    } else {
        copy::<SOURCE, CLASS_SMALL, CLASS_SMALL>(moved, piece, false);
    }
}

/// One record with content: `ROOM` bytes reserved, at most `MOST` copied.
#[inline(always)]
fn copy<const SOURCE: u8, const ROOM: usize, const MOST: usize>(
    moved: &Moved,
    piece: &mut Piece,
    look: bool,
) {
    let Some(mut entry): Option<RingBufEntry<Sample<ROOM>>> = emit::reserve() else { return };
    let sample = entry.as_mut_ptr();
    // SAFETY: within the reserved sample.
    let content = unsafe { (&raw mut (*sample).content).cast::<u8>() };
    // SAFETY: within the reserved sample, all of them.
    let (data, head_len, slack) = unsafe {
        let data = &raw mut (*sample).data;
        (data, &raw mut (*data).head_len, &raw mut (*sample).slack)
    };
    // VERIFIER: first, so that nothing of it is remembered in the states that follow.
    // SAFETY: within the reserved sample.
    unsafe { header::<SOURCE>(data, moved, piece, piece.flags) };
    let Some(want) = at_most::<MOST>(&raw const piece.want) else { return entry.discard(0) };
    let copied = if ROOM == MOST {
        let base = if moved.layout::<SOURCE>() == Layout::Pieces {
            read_user::<[u64; 2]>(moved.base).map_or(0, |[base, _]| base)
        } else {
            moved.base
        };
        flat(content, base.wrapping_add(u64::from(piece.skip)), want)
    } else {
        gather::<SOURCE, MOST>(content, slack, moved, piece.skip - piece.passed, want)
    };
    // VERIFIER: written and read back at each place where ways join, or each would be followed apart
    // with what it implies for the value.
    // SAFETY: within the reserved sample.
    unsafe { head_len.write_volatile(copied) };
    let Some(copied) = at_most::<MOST>(head_len) else { return entry.discard(0) };
    // SAFETY: a member of a live struct. VERIFIER: read anew, so that `copied` learns nothing from it.
    if copied < unsafe { (&raw const piece.want).read_volatile() } {
        // SAFETY: within the reserved sample.
        unsafe { (*data).flags |= data_flag::UNREADABLE };
        maps::count(Counter::Unreadable);
    }
    let mut ended = false;
    // SAFETY: a member of a live struct. VERIFIER: read anew, as above.
    if look && unsafe { (&raw const piece.action).read_volatile() } == Action::CopyHead {
        // SAFETY: a member of a live struct.
        let whole = copied == unsafe { (&raw const piece.fragment).read_volatile() };
        // Most requests are a head and nothing else.
        ended = whole && scan::ends_with_blank_line::<MOST>(content, copied as usize);
        if !ended {
            // SAFETY: a member of a live struct. VERIFIER: read anew, as above.
            let before: scan::Newlines =
                unsafe { (&raw const piece.newlines).read_volatile() }.into();
            // SAFETY: `content` holds eight bytes, and `copied` says whether they are of the fragment.
            let first = unsafe { content.cast::<u64>().read() };
            if before & scan::FRESH != 0 && copied >= 8 && !scan::begins_head(first) {
                // Content: the other side has spoken before it was complete.
                ended = true;
            } else {
                let end = scan::blank_line::<MOST>(content, copied as usize, before);
                // SAFETY: within the reserved sample.
                let end = unsafe { forget(slack, end as u64) } as usize;
                // VERIFIER: the mask bounds the offset; the slack takes the eight bytes read there.
                let next = end & (MOST - 1);
                ended = end != 0;
                // SAFETY: within the reserved sample.
                let copied = unsafe { head_len.read_volatile() } as usize;
                if ended && next != 0 && next + 8 <= copied {
                    // SAFETY: `next < MOST <= ROOM`, and the sample has eight bytes more.
                    let first = unsafe { content.add(next).cast::<u64>().read_unaligned() };
                    ended = !scan::begins_message(first);
                }
                if !ended {
                    piece.newlines = scan::last_newlines::<MOST>(content, copied, before) as u16;
                }
            }
        }
    }
    emit::submit_and_wake(entry, waits_for_verdict(piece));
    piece.ended = u32::from(ended);
}

/// Not 0: much of what may be copied before the agent recognises the connection was moved.
#[inline(always)]
fn waits_for_verdict(piece: &Piece) -> u32 {
    // SAFETY: members of a live struct. VERIFIER: read anew, and compared without a branch.
    let (policy, moved) = unsafe {
        let pos = (&raw const piece.pos).read_volatile();
        (
            (&raw const piece.policy).read_volatile(),
            pos + (&raw const piece.other_pos).read_volatile(),
        )
    };
    u32::from(policy == policy::UNDECIDED.into())
        & u32::from(moved >= policy::UNDECIDED_WAKE.into())
}

/// A length at `word`, which is at most `MOST`. VERIFIER: it knows that bound afterwards and nothing
/// else; a value that were larger ends the program instead of being followed with another length.
#[inline(always)]
fn at_most<const MOST: usize>(word: *const u32) -> Option<u32> {
    // SAFETY: called with members of live structs.
    let value = unsafe { word.read_volatile() };
    if value > MOST as u32 { None } else { Some(value) }
}

/// A record without content.
#[inline(never)]
pub fn bare<const SOURCE: u8>(moved: &Moved, piece: &Piece) {
    let Some(mut entry): Option<RingBufEntry<Data>> = emit::reserve() else { return };
    let data = entry.as_mut_ptr();
    let tail = if moved.layout::<SOURCE>() == Layout::Nowhere {
        None
    } else {
        last_bytes::<SOURCE>(moved)
    };
    let flags = piece.flags | if tail.is_some() { data_flag::TAIL } else { 0 };
    // SAFETY: `data` is the reserved record.
    unsafe {
        header::<SOURCE>(data, moved, piece, flags);
        (*data).head_len = 0;
        (*data).tail = tail.unwrap_or(0).to_le_bytes();
    }
    emit::submit(entry);
}

/// All but `head_len`.
///
/// # Safety
/// `data` points to a whole record.
#[inline(always)]
unsafe fn header<const SOURCE: u8>(data: *mut Data, moved: &Moved, piece: &Piece, flags: u32) {
    // SAFETY: by this function's contract. Word by word: a struct would be built on the stack first.
    unsafe {
        (*data).kind = Kind::Data as u8;
        (*data).direction = moved.direction as u8;
        (*data).source = moved.source as u8;
        (*data).policy = piece.policy as u8;
        (*data).flags = flags;
        (*data).mono_ns = piece.now;
        (*data).begin_ns = moved.begin_ns;
        (*data).conn_id = piece.conn_id;
        (*data).pos = piece.pos;
        (*data).other_pos = piece.other_pos;
        (*data).tgid = moved.tgid;
        (*data).tid = moved.tid;
        (*data).total_len = piece.total_len;
        (*data).context = moved.context;
        // Volatile, or it became a call that fills byte by byte.
        (&raw mut (*data).tail).cast::<u64>().write_volatile(0);
    }
}
