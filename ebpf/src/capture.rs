//! What is copied of the bytes that a call moved. A *turn* is a run of bytes in one direction; it
//! begins with a message's head, and only heads are wanted. A byte that is not copied is still counted
//! by position.
//!
//! - A fragment of at most [`WINDOW`] bytes in which a head is in progress is copied whole.
//! - Of a longer one the first [`WINDOW`] bytes are copied, and more only while no blank line ended the
//!   head, up to [`HEAD_LIMIT`] for a head.
//! - Once the head ended, later fragments of the turn are counted and only their last 8 bytes are kept
//!   (a chunked message ends there), unless one begins as a message does: pipelining.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
    maps::ring_buf::RingBufEntry,
};
use remora_common::{
    capture,
    control::{verdict_for, verdict_slot},
    counter::Counter,
    record::{CLASS_HUGE, CLASS_LARGE, CLASS_MEDIUM, CLASS_SMALL, Data, Kind, Source, data_flag},
};

use crate::{
    connection::{self, Connection},
    emit, kernel,
    maps::{self, VERDICTS},
    openssl,
    scan::{self, WINDOW},
};

/// A head longer than this is given up.
const HEAD_LIMIT: u32 = 64 << 10;
/// Turns without a message's beginning after which a connection that never had one is only counted.
const MISSES: u8 = 4;
/// Pieces of a scatter-gather list that are walked.
const PIECES: usize = 16;

/// [`Source`] as a parameter: the kernel programs of each are verified apart.
const SOCKET: u8 = Source::Socket as u8;
const OPENSSL: u8 = Source::OpenSsl as u8;

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
    /// When the call began, 0 if unknown.
    pub begin_ns: u64,
    pub tgid: u32,
    pub tid: u32,
}

/// Where the bytes are; known beforehand if a TLS library moved them.
#[inline(always)]
fn layout<const SOURCE: u8>(moved: &Moved) -> Layout {
    if SOURCE == SOCKET { moved.layout } else { Layout::Flat }
}

/// A sample with room for `N` bytes of content. The eight bytes more let the verifier accept an
/// eight-byte access at any offset below `N`.
#[repr(C)]
struct Sample<const N: usize> {
    data: Data,
    content: [MaybeUninit<u8>; N],
    slack: u64,
}

/// One record to be made of a [`Moved`].
#[repr(C)]
#[derive(Clone, Copy)]
struct Piece {
    conn_id: u64,
    pos: u64,
    /// Position of the opposite direction.
    other_pos: u64,
    now: u64,
    flags: u32,
    /// Bytes of the call before this piece.
    skip: u32,
    /// Bytes of the call, at most `i32::MAX`.
    fragment: u32,
    total_len: u32,
    /// Bytes to copy, at most the sample's room.
    want: u32,
    action: Action,
    /// Non-zero once the head in progress was seen to end.
    ended: u32,
    /// Makes the size a multiple of eight.
    reserved: u32,
}

/// What is done with the bytes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Action {
    /// A record without content.
    Count = 0,
    /// As far as the head in progress goes.
    CopyHead = 1,
    /// All of it.
    CopyAll = 2,
}

/// Accounts for the bytes of `moved`, copies what is wanted of them.
///
/// VERIFIER: a function of its own with a laundered argument and a laundered plan, so that what
/// comes after them is verified once and not once for every way that leads there.
#[inline(never)]
pub fn moved(moved: &Moved) {
    let Some(socket) = kernel::socket_of(moved.fd) else { return };
    let Some(connection) = connection::of(&socket, moved.fd, moved.tgid) else { return };
    // SAFETY: a map value; two threads in one connection may race on it, then `pos` is off by a
    // fragment and user space sees a gap or an overlap.
    let connection = unsafe { &mut *connection };
    let side = (moved.direction & 1) as usize;
    let Some(mut piece) = plan::<SOCKET>(moved, connection, side, socket.sk) else {
        return openssl::carried(moved, connection, socket.sk);
    };
    send::<SOCKET>(moved, &mut piece, connection, side);
    if moved.rest > 0 {
        piece.pos += u64::from(piece.total_len);
        piece.total_len = moved.rest.min(i32::MAX as u64) as u32;
        piece.flags = data_flag::IN_KERNEL;
        bare::<SOCKET>(moved, &piece);
    }
}

/// The same for plaintext of a connection that a TLS library encrypts; it is in one buffer.
#[inline(always)]
pub fn plaintext(moved: &Moved, connection: &mut Connection, sk: u64) {
    let side = (moved.direction & 1) as usize;
    if let Some(mut piece) = plan::<OPENSSL>(moved, connection, side, sk) {
        send::<OPENSSL>(moved, &mut piece, connection, side);
    }
}

#[inline(always)]
fn send<const SOURCE: u8>(
    moved: &Moved,
    piece: &mut Piece,
    connection: &mut Connection,
    side: usize,
) {
    launder(piece);
    if piece.action == Action::Count {
        bare::<SOURCE>(moved, piece);
    } else {
        head::<SOURCE>(moved, piece, connection, side);
    }
}

/// What is to be done with the bytes of `moved`; `None`: they are only counted.
#[inline(always)]
fn plan<const SOURCE: u8>(
    moved: &Moved,
    connection: &mut Connection,
    side: usize,
    sk: u64,
) -> Option<Piece> {
    if SOURCE == SOCKET && connection.ssl != 0 {
        return None;
    }
    let pos = connection.pos[side];
    connection.pos[side] = pos + moved.len + moved.rest;
    if connection.mode == capture::COUNT || connection.mode == capture::CIPHERTEXT {
        return None;
    }

    let turn_begins = connection.last != side as u8;
    if turn_begins {
        connection.last = side as u8;
        connection.copied[side] = 0;
        connection.head_done[side] = 0;
        if let Some(&verdict) = VERDICTS.get(verdict_slot(connection.id))
            && let Some(mode) = verdict_for(verdict, connection.id)
        {
            connection.mode = mode;
        }
    }

    let first = first_bytes::<SOURCE>(moved);
    if turn_begins && !lock_in(connection, first, moved.len) {
        return None;
    }
    if connection.opened == 0 {
        connection::open(connection, sk);
    }
    if connection.head_done[side] != 0 && scan::begins_message(first) {
        connection.head_done[side] = 0;
        connection.copied[side] = 0;
    }
    let nowhere = layout::<SOURCE>(moved) == Layout::Nowhere;
    let action = if nowhere {
        Action::Count
    } else if connection.mode == capture::ALL {
        Action::CopyAll
    } else if connection.head_done[side] != 0 {
        Action::Count
    } else {
        Action::CopyHead
    };
    let fragment = moved.len.min(i32::MAX as u64) as u32;
    Some(Piece {
        conn_id: connection.id,
        pos,
        other_pos: connection.pos[side ^ 1],
        now: emit::now(),
        flags: if nowhere { data_flag::IN_KERNEL } else { 0 },
        skip: 0,
        fragment,
        total_len: fragment,
        want: 0,
        action,
        ended: 0,
        reserved: 0,
    })
}

/// Decides what kind of connection this is from the first bytes of its turns; `false`: not one that
/// is copied.
#[inline(always)]
fn lock_in(connection: &mut Connection, first: u64, len: u64) -> bool {
    if scan::begins_message(first) {
        connection.hit = 1;
        return true;
    }
    if connection.hit != 0 {
        return true;
    }
    if scan::begins_tls(first) {
        connection.mode = capture::CIPHERTEXT;
        return false;
    }
    // OpenSSL reads the five bytes of a TLS record's head apart; nothing else is told by so few.
    if len < 8 {
        return true;
    }
    connection.misses += 1;
    if connection.misses >= MISSES {
        connection.mode = capture::COUNT;
        return false;
    }
    true
}

/// Copies a fragment in which a head is in progress.
#[inline(always)]
fn head<const SOURCE: u8>(
    moved: &Moved,
    piece: &mut Piece,
    connection: &mut Connection,
    side: usize,
) {
    // A longer fragment is sent in pieces: what is not known to be wanted is not in the first one.
    piece.want = piece.fragment.min(WINDOW as u32);
    piece.total_len = piece.want;
    // VERIFIER: before each copy, so that the ways that lead there are one.
    launder(piece);
    copy_first::<SOURCE>(moved, piece);
    launder(piece);
    connection.copied[side] += piece.want;
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
        launder(piece);
        copy_more::<SOURCE>(moved, piece);
        launder(piece);
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

/// Goes on behind `piece`, to all the rest of the call; `false` if that is nothing.
#[inline(always)]
fn next(piece: &mut Piece) -> bool {
    piece.pos += u64::from(piece.total_len);
    piece.skip += piece.total_len;
    piece.total_len = piece.fragment.saturating_sub(piece.skip);
    piece.flags = data_flag::CONTINUED;
    piece.total_len > 0
}

/// Copies at most [`WINDOW`] bytes; sets whether the head ended in them and what follows is not
/// another message.
#[inline(never)]
fn copy_first<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if layout::<SOURCE>(moved) == Layout::Pieces && moved.count != 1 {
        // Twice the room: the verifier bounds the place and the length of a piece apart.
        copy::<SOURCE, { CLASS_MEDIUM * 2 }, CLASS_MEDIUM>(moved, piece, true);
    } else if piece.want <= CLASS_SMALL as u32 {
        copy::<SOURCE, CLASS_SMALL, CLASS_SMALL>(moved, piece, true)
    } else {
        copy::<SOURCE, CLASS_MEDIUM, CLASS_MEDIUM>(moved, piece, true)
    }
}

#[inline(never)]
fn copy_more<const SOURCE: u8>(moved: &Moved, piece: &mut Piece) {
    if layout::<SOURCE>(moved) == Layout::Pieces && moved.count != 1 {
        copy::<SOURCE, { CLASS_HUGE * 2 }, CLASS_HUGE>(moved, piece, false);
    } else if piece.want <= CLASS_LARGE as u32 {
        copy::<SOURCE, CLASS_LARGE, CLASS_LARGE>(moved, piece, false);
    } else {
        copy::<SOURCE, CLASS_HUGE, CLASS_HUGE>(moved, piece, false);
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
        let base = if layout::<SOURCE>(moved) == Layout::Pieces {
            read_user::<[u64; 2]>(moved.base).map_or(0, |[base, _]| base)
        } else {
            moved.base
        };
        flat(content, base.wrapping_add(u64::from(piece.skip)), want)
    } else {
        gather::<MOST>(content, slack, moved, piece.skip, want)
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
    if look {
        let end = scan::blank_line::<MOST>(content, copied as usize);
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
    }
    emit::submit(entry);
    piece.ended = u32::from(ended);
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
fn bare<const SOURCE: u8>(moved: &Moved, piece: &Piece) {
    let Some(mut entry): Option<RingBufEntry<Data>> = emit::reserve() else { return };
    let data = entry.as_mut_ptr();
    let tail =
        if layout::<SOURCE>(moved) == Layout::Nowhere { None } else { last_bytes::<SOURCE>(moved) };
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
        (*data).source = SOURCE;
        (*data).reserved = 0;
        (*data).flags = flags;
        (*data).mono_ns = piece.now;
        (*data).begin_ns = moved.begin_ns;
        (*data).conn_id = piece.conn_id;
        (*data).pos = piece.pos;
        (*data).other_pos = piece.other_pos;
        (*data).tgid = moved.tgid;
        (*data).tid = moved.tid;
        (*data).total_len = piece.total_len;
        (*data).context = 0;
        (*data).tail = [0; 8];
    }
}

/// Copies `want` bytes of user memory, all or nothing.
#[inline(always)]
fn flat(content: *mut u8, base: u64, want: u32) -> u32 {
    // SAFETY: the helper checks the source; `want` is at most the sample's room.
    let result = unsafe { bpf_probe_read_user(content.cast(), want, base as *const _) };
    if result == 0 { want } else { 0 }
}

/// Copies `want` bytes of a scatter-gather list from `skip` on, as far as [`PIECES`] go.
#[inline(always)]
fn gather<const MOST: usize>(
    content: *mut u8,
    slack: *mut u64,
    moved: &Moved,
    skip: u32,
    want: u32,
) -> u32 {
    let mut skip = u64::from(skip);
    let mut done = 0u64;
    let mut at = 0;
    while at < PIECES {
        // SAFETY: the caller's slack.
        (done, skip) = unsafe { (forget(slack, done), forget(slack, skip)) };
        if done >= u64::from(want) || at as u32 >= moved.count {
            break;
        }
        let Some([base, len]) = read_user::<[u64; 2]>(moved.base + at as u64 * 16) else {
            break;
        };
        at += 1;
        // Bytes of this piece that are behind `skip`, none if it lies before it.
        let before = if skip < len { skip } else { len };
        skip -= before;
        let left = u64::from(want) - done;
        let mut len = len - before;
        if len > left {
            len = left;
        }
        // SAFETY: the caller's slack.
        let len = unsafe { forget(slack, len) };
        // VERIFIER: place and length are each at most `MOST`, the room is twice that.
        if len > MOST as u64 {
            break;
        }
        // Forgotten for the compiler, which would leave out the mask: it knows `done < want`, but a
        // kernel before 6.8 does not learn from comparing two unknown values.
        // SAFETY: the caller's slack.
        let place = unsafe { forget(slack, done) } as usize & (MOST - 1);
        let source = base.wrapping_add(before) as *const _;
        // SAFETY: `place + len <= 2 * MOST`, the room.
        if unsafe { bpf_probe_read_user(content.add(place).cast(), len as u32, source) } != 0 {
            break;
        }
        done += len;
    }
    // SAFETY: the caller's slack.
    let done = unsafe { forget(slack, done) } as u32;
    if done < want && moved.count > PIECES as u32 {
        maps::count(Counter::PiecesCut);
    }
    // VERIFIER: the bound was forgotten too.
    if done > want { want } else { done }
}

/// The same value, of which the verifier knows nothing any more: the kernel wrote it. Without this
/// it would follow every combination of values on its own.
#[inline(always)]
pub fn launder<T: Copy>(value: &mut T) {
    let address = core::ptr::from_mut(value);
    // SAFETY: `size_of::<T>()` bytes of a live value are copied onto themselves.
    unsafe {
        bpf_probe_read_kernel(address.cast(), size_of::<T>() as u32, address.cast_const().cast())
    };
}

/// The same value, of which the verifier knows nothing any more: it went through memory. Without
/// this it would follow every value that the offset of a later access can have, each apart.
///
/// # Safety
/// `slack` points to eight bytes of our own.
#[inline(always)]
unsafe fn forget(slack: *mut u64, value: u64) -> u64 {
    // SAFETY: by this function's contract.
    unsafe {
        slack.write_volatile(value);
        slack.read_volatile()
    }
}

/// The first eight bytes of the call's buffer in memory order, zeros where there are fewer.
#[inline(always)]
fn first_bytes<const SOURCE: u8>(moved: &Moved) -> u64 {
    let (base, len) = match layout::<SOURCE>(moved) {
        Layout::Flat => (moved.base, moved.len),
        Layout::Pieces => match read_user::<[u64; 2]>(moved.base) {
            Some([base, len]) => (base, len.min(moved.len)),
            None => return 0,
        },
        Layout::Nowhere => return 0,
    };
    short_read(base, len)
}

/// The last eight bytes of the call's buffer in memory order, right-aligned; of a scatter-gather list
/// at most the bytes of the last piece that was used.
#[inline(always)]
fn last_bytes<const SOURCE: u8>(moved: &Moved) -> Option<u64> {
    let (base, len) = if layout::<SOURCE>(moved) == Layout::Pieces {
        let mut left = moved.len;
        let mut found = (0, 0);
        let mut at = 0;
        while at < PIECES && (at as u32) < moved.count {
            let [base, len] = read_user::<[u64; 2]>(moved.base + at as u64 * 16)?;
            if left <= len {
                found = (base, left);
                break;
            }
            left -= len;
            at += 1;
        }
        found
    } else {
        (moved.base, moved.len)
    };
    if len >= 8 {
        read_user::<u64>(base.wrapping_add(len - 8))
    } else if len > 0 {
        Some(short_read(base, len) << ((8 - (len & 7)) * 8))
    } else {
        None
    }
}

/// Up to eight bytes at `base`, zero-extended.
#[inline(always)]
fn short_read(base: u64, len: u64) -> u64 {
    let mut word = 0u64;
    let len = if len > 8 { 8 } else { len as u32 };
    // SAFETY: at most eight bytes are written to `word`; the helper checks the source.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), len, base as *const _) };
    word
}

/// A `T` in user memory.
#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes or fails; it checks the source.
    unsafe {
        let size = size_of::<T>() as u32;
        if bpf_probe_read_user(value.as_mut_ptr().cast(), size, address as *const _) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}
