//! The functions of Go's `crypto/tls` that are probed, where their arguments stand, and whose connection it is.
//!
//! Arguments are in registers (Go's internal ABI: from Go 1.17 on amd64, from 1.18 on arm64), and so is the goroutine. A goroutine
//! may return from a function on another thread, with another stack, than it called it: calls in progress are kept by
//! goroutine. The connection is told by the object itself, which has the descriptor in it.

use aya_ebpf::{
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use remora_common::{
    connection::{Connection, joined},
    record::{Direction, Source},
};

use super::plaintext::{self, own_stack, unlinked};
use crate::{
    connection, context, emit,
    golang::{registers, socket_below},
    maps::selection,
    more,
    moved::{LIBRARY, Moved},
    process,
    user::read_user,
};

/// A goroutine of a process.
#[repr(C)]
#[derive(Clone, Copy)]
struct Goroutine {
    /// Address of its `runtime.g`.
    g: u64,
    tgid: u64,
}

/// A call of `Read` that is in progress.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    /// Address of the `tls.Conn`.
    object: u64,
    buffer: u64,
}

/// A goroutine that waits for the next request is in a call all the time. Nothing tells when one ends in a panic: the
/// least recently used go.
#[map]
static GO_READS: LruHashMap<Goroutine, Call> = LruHashMap::with_max_entries(16384, 0);

/// `(*Conn).Write(b []byte)`, behind the check of the stack, which may call the function anew. It writes all of `b` or
/// the connection is broken, so that its return need not be seen.
#[uprobe]
pub fn go_tls_write(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let [object, base, len, g] = registers(&ctx);
    // Its end is not known: when it begins is when it moves.
    if len > 0 && moved(object, (base, len), Direction::Tx, (tgid, tid, g)) {
        more::jump_tls(&ctx);
    }
    0
}

/// `(*Conn).Read(b []byte)`, likewise.
#[uprobe]
pub fn go_tls_read(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    if selection(tgid) != 0 {
        let [object, buffer, _, g] = registers(&ctx);
        let goroutine = Goroutine { g, tgid: tgid.into() };
        let _ = GO_READS.insert(goroutine, Call { object, buffer }, 0);
    }
    0
}

/// Each return of `(*Conn).Read`: the first result is the count of bytes, also beside an error.
#[uprobe]
pub fn go_tls_read_return(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let [len, _, _, g] = registers(&ctx);
    let goroutine = Goroutine { g, tgid: tgid.into() };
    // SAFETY: the value is copied at once.
    let Some(Call { object, buffer }) = (unsafe { GO_READS.get(goroutine) }).copied() else {
        return 0;
    };
    let _ = GO_READS.remove(goroutine);
    if len as i64 > 0 && moved(object, (buffer, len), Direction::Rx, (tgid, tid, g)) {
        more::jump_tls(&ctx);
    }
    0
}

/// Plaintext, address and length, was moved by the `tls.Conn` at `object`: by which process, thread, and goroutine. `true`: jump to
/// [`more`].
#[inline(always)]
fn moved(
    object: u64,
    bytes: (u64, u64),
    direction: Direction,
    (tgid, tid, g): (u32, u32, u64),
) -> bool {
    let Some((sk, connection)) = connection_of(object, tgid) else { return unlinked() };
    if !process::may_use(connection, tgid) {
        return false;
    }
    if connection.object != object {
        let complete = connection.joined == joined::NO;
        connection::becomes_plaintext(connection, object, complete);
    }
    let mut moved = Moved::plaintext(Source::GoTls, direction as u32, bytes, tgid, tid);
    moved.context = context::go::goroutine(selection(tgid), g);
    plaintext::account::<LIBRARY>(moved, connection, sk)
}

/// The connection of the socket that the `tls.Conn` at `object` works on.
#[inline(always)]
fn connection_of(object: u64, tgid: u32) -> Option<(u64, &'static mut Connection)> {
    // Its first member is a `net.Conn`: words for type and value.
    let (fd, socket) = socket_below(read_user(object.wrapping_add(8))?)?;
    let connection = connection::of(&socket, fd, tgid)?;
    // SAFETY: a map value, preallocated.
    Some((socket.sk, unsafe { &mut *connection }))
}
