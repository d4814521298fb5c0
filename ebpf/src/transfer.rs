//! Bytes of a socket that a call has moved: on which connection, and who is told of them. That is either
//! [`capture`], or the call of a TLS library that they belong to.

use core::mem::MaybeUninit;

use remora_common::{
    connection::{Connection, NOT_COUNTED, closing},
    frames,
    record::{Direction, data_flag},
};

use crate::{
    capture, connection, context, kernel, more,
    moved::{IN_MAP, Moved, Next, ON_STACK, SOCKET, Work},
    process,
    tls::{calls, rustls},
};

const RX: usize = Direction::Rx as usize;

/// Accounts for the bytes of `moved`, copies what is wanted of them. `true`: jump to [`more`].
///
/// VERIFIER: a function of its own with a laundered argument and a laundered plan, so that what
/// comes after them is verified once and not once for every way that leads there.
#[inline(never)]
pub fn moved(moved: &mut Moved) -> bool {
    let Some(socket) = kernel::socket_of(moved.fd) else { return false };
    let Some(connection) = connection::of(&socket, moved.fd, moved.tgid) else { return false };
    // SAFETY: a map value; two threads in one connection may race on it, then `pos` is off by a
    // fragment and user space sees a gap or an overlap.
    let connection = unsafe { &mut *connection };
    if !process::may_use(connection, moved.tgid) {
        return false;
    }
    if rustls::may_prove(connection, moved.direction) {
        rustls::carried(moved, connection, socket.sk);
    }
    let mut piece = MaybeUninit::uninit();
    let next = capture::account::<SOCKET, ON_STACK>(moved, &mut piece, connection, socket.sk, 0);
    if next == Next::More {
        // SAFETY: written, or there would be nothing more of it.
        let piece = unsafe { piece.assume_init_mut() };
        if more::leave::<SOCKET>(moved, piece, socket.sk) {
            return true;
        }
    }
    told(moved, connection, socket.sk, next);
    false
}

/// The same for a socket that is at hand. `work` is the program's own while it runs.
#[inline(never)]
pub fn moved_on(work: &mut Work, inode: u64, inet: u64) -> bool {
    let Work { moved, piece, sk, .. } = work;
    let Some(connection) = connection::met(moved, *sk, inode, inet) else { return false };
    // SAFETY: a map value; see `moved`.
    let connection = unsafe { &mut *connection };
    if !process::may_use(connection, moved.tgid) {
        return false;
    }
    moved.context = context::context_of(moved, connection, *sk);
    let flags = pass_over(connection, moved, *sk);
    if rustls::may_prove(connection, moved.direction) {
        rustls::carried(moved, connection, *sk);
        if moved.source != SOCKET.into() {
            // Plaintext now, and the unit is the same.
            moved.context = remora_common::context::unit(moved.context).into();
            moved.context = context::context_of(moved, connection, *sk);
        }
    }
    let next = capture::account::<SOCKET, IN_MAP>(moved, piece, connection, *sk, flags);
    if next == Next::More {
        more::begin::<SOCKET>(work);
        return true;
    }
    told(moved, connection, *sk, next);
    false
}

/// The bytes of `moved` were accounted for.
#[inline(always)]
fn told(moved: &Moved, connection: &mut Connection, sk: u64, next: Next) {
    let encrypted = next == Next::Encrypted;
    if encrypted {
        calls::carried(moved, connection, sk);
    }
    // Within a call of a TLS library the plaintext is still to come.
    if connection.closing & closing::IN_CALL != 0 && !(encrypted && calls::is_in_call(moved.tid)) {
        connection::settle(sk);
    }
}

/// Makes a hole in the positions where TCP has counted more bytes than this program was told of: it was
/// not run for them (a kernel that preempts itself keeps it from being entered twice), or `splice` moved them.
/// [`data_flag`]s of what stands behind the hole.
///
/// VERIFIER: a function of its own, so that what comes after it is verified once.
#[inline(never)]
fn pass_over(connection: &mut Connection, moved: &Moved, sk: u64) -> u32 {
    let side = moved.side();
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
        frames::pass(&mut connection.walk[side], hole.into());
        let at_turn = connection.seq_at_turn[side].wrapping_sub(before as u32);
        if at_turn as i32 >= hole as i32 {
            return data_flag::MISSING_BEFORE_TURN;
        }
    }
    0
}
