//! The state of each captured connection: found or made at each call, dropped at its end.

mod history;
mod open;

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::PerCpuArray,
};
use remora_common::{
    connection::{Connection, NOT_COUNTED, closing, joined, tls, unix_key},
    control::CONN_ID_CPU_BITS,
    counter::Counter,
    policy,
    record::{Close, CloseCause, Direction, Kind, Role, family},
};

pub use self::{
    history::{catch_up, was_read_to_its_end},
    open::open,
};
use crate::{
    emit,
    kernel::{self, Socket},
    maps::{self, CONNECTIONS, ENDLESS, ENDLESS_SLOTS, UNIX_FDS},
    moved::Moved,
    offset,
};

/// `sk_state` of a socket that is not connected any more (include/net/tcp_states.h; Unix sockets too).
const TCP_CLOSE: u8 = 7;

/// Where a connection is put together, for the stack is small.
#[repr(C)]
#[derive(Clone, Copy)]
struct Making {
    busy: u64,
    connection: Connection,
}

/// A thread that the kernel puts off while it is at it keeps its place.
const PLACES: u32 = 4;

#[map]
static MAKING: PerCpuArray<Making> = PerCpuArray::with_max_entries(PLACES, 0);

/// Makes the state of the connection of `sk` with what `finish` knows of it; `false` if there is no room.
#[inline(always)]
fn make(sk: u64, inode: u64, tgid: u32, finish: impl FnOnce(&mut Connection)) -> bool {
    let mut at = 0;
    while at < PLACES {
        if let Some(place) = MAKING.get_ptr_mut(at)
            // SAFETY: a map value of this processor, which is this thread's from here on if it is not busy.
            && unsafe { (&raw const (*place).busy).read_volatile() } == 0
        {
            // SAFETY: as above.
            let place = unsafe { &mut *place };
            place.busy = 1;
            clear(&mut place.connection);
            place.connection.id = new_id();
            place.connection.inode = inode;
            place.connection.tgid = tgid;
            finish(&mut place.connection);
            #[expect(
                clippy::needless_borrows_for_generic_args,
                reason = "the value would be on the stack"
            )]
            let made = CONNECTIONS.insert(sk, &place.connection, 0).is_ok();
            place.busy = 0;
            maps::count(if made { Counter::ConnectionsAdded } else { Counter::ConnectionsFull });
            return made;
        }
        at += 1;
    }
    maps::count(Counter::ConnectionsFull);
    false
}

/// The beginning of every connection, all zeros but for these.
#[inline(always)]
fn clear(connection: &mut Connection) {
    // SAFETY: its members are all integers.
    unsafe { zero(connection) };
    connection.seq = [NOT_COUNTED; 2];
    connection.last = 2;
    connection.head_done = [1; 2];
}

/// Fills `value`, whose size is in words, with zeros. Volatile, or it became a call that fills byte by byte.
///
/// # Safety
/// Zeros are a `T`.
#[inline(always)]
unsafe fn zero<T>(value: &mut T) {
    let words = core::ptr::from_mut(value).cast::<u64>();
    for word in 0..size_of::<T>() / 8 {
        // SAFETY: within the value; by this function's contract.
        unsafe { words.add(word).write_volatile(0) };
    }
}

fn new_id() -> u64 {
    // SAFETY: the helpers have no preconditions.
    let (now, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    now << CONN_ID_CPU_BITS | u64::from(cpu) & ((1 << CONN_ID_CPU_BITS) - 1)
}

/// Remembers a connection whose beginning was seen.
#[inline(never)]
pub fn begin(fd: u32, tgid: u32, role: Role) {
    if let Some(socket) = kernel::socket_of(fd) {
        forget(socket.sk, CloseCause::Gone, 0);
        insert(&socket, fd, tgid, role);
    }
}

/// The state of the connection of `socket`; made now if it was open before it was watched.
#[inline(always)]
pub fn of(socket: &Socket, fd: u32, tgid: u32) -> Option<*mut Connection> {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(socket.sk) {
        // SAFETY: a map value; preallocated, so never unmapped.
        if unsafe { (*connection).inode } == socket.inode {
            return Some(connection);
        }
        forget(socket.sk, CloseCause::Gone, 0);
    }
    // The other end may reset the connection between a call's work and its end: it is forgotten by then.
    if kernel::read::<u8>(socket.sk, offset!(sock_state)) == Some(TCP_CLOSE) {
        return None;
    }
    insert(socket, fd, tgid, Role::Unknown);
    CONNECTIONS.get_ptr_mut(socket.sk)
}

/// The state of the connection of the socket `sk` on which `moved` was moved; made now if this is its
/// first time. `inet`: its end will be seen.
#[inline(always)]
pub fn met(moved: &Moved, sk: u64, inode: u64, inet: u64) -> Option<*mut Connection> {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value; preallocated, so never unmapped.
        if unsafe { (*connection).inode } == inode {
            return Some(connection);
        }
        forget(sk, CloseCause::Gone, 0);
    }
    meet(moved, sk, inode, inet);
    CONNECTIONS.get_ptr_mut(sk)
}

#[inline(never)]
fn meet(moved: &Moved, sk: u64, inode: u64, inet: u64) {
    let mut closed = false;
    let (role, joined) = if inet == 0 {
        (history::role_of_unix(sk) as u8, joined::UNLESS_MESSAGE)
    } else {
        closed = kernel::read::<u8>(sk, offset!(sock_state)) == Some(TCP_CLOSE);
        history::of_tcp(sk, moved)
    };
    // The other end may reset the connection between the work and this: it is forgotten by then. What it sent before
    // may be read all the same, and may be the first that is.
    if closed && (moved.direction != Direction::Rx as u32 || joined != joined::NO) {
        return;
    }
    let made = make(sk, inode, moved.tgid, |connection| {
        connection.role = role;
        connection.joined = joined;
        connection.closing = if closed { closing::IN_CALL } else { 0 };
        if moved.seq != NOT_COUNTED {
            let word = |offset| kernel::read::<u32>(sk, offset).map_or(NOT_COUNTED, u64::from);
            connection.seq = [word(offset!(tcp_copied_seq)), word(offset!(tcp_write_seq))];
            connection.seq_at_turn = connection.seq.map(|seq| seq as u32);
            let before = (moved.seq as u32).wrapping_sub(moved.len as u32);
            connection.seq[moved.side()] = before.into();
        }
    });
    if made && inet == 0 {
        make_room(sk);
    }
}

/// Remembers a connection whose end nothing tells of in the next slot of [`ENDLESS`]. Of those that stand
/// in the way the first that has ended gives its place; if none has, the last loses it.
#[inline(never)]
fn make_room(sk: u64) {
    const TRIES: u32 = 4;
    let Some(next) = ENDLESS.get_ptr_mut(0) else { return };
    for tried in 1..=TRIES {
        // SAFETY: a map value. Two at once may take one slot; then one of them is not remembered.
        let at = unsafe {
            *next += 1;
            *next as u32 % (ENDLESS_SLOTS - 1) + 1
        };
        let Some(slot) = ENDLESS.get_ptr_mut(at) else { return };
        // SAFETY: a map value.
        let old = unsafe { *slot };
        let ended = old == 0 || old == sk || has_ended(old);
        if ended || tried == TRIES {
            if old != 0 && old != sk {
                if !ended {
                    maps::count(Counter::ConnectionsEvicted);
                }
                forget(old, if ended { CloseCause::Gone } else { CloseCause::Evicted }, 0);
            }
            // SAFETY: a map value.
            unsafe { *slot = sk };
            return;
        }
    }
}

/// Whether the socket that was at `sk` when its connection was met is no longer there.
#[inline(always)]
fn has_ended(sk: u64) -> bool {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sk) else { return true };
    let inode = || {
        let socket = kernel::read::<u64>(sk, offset!(sock_socket))?;
        let file = kernel::read::<u64>(socket, offset!(socket_file))?;
        let inode = kernel::read::<u64>(file, offset!(file_inode))?;
        kernel::read::<u64>(inode, offset!(inode_ino))
    };
    // SAFETY: a map value.
    inode() != Some(unsafe { (*connection).inode })
}

/// The number of the connection of `socket`, if it is known; else 0.
#[inline(always)]
pub fn id_of(socket: &Socket) -> u64 {
    // SAFETY: a map value; preallocated, so never unmapped.
    CONNECTIONS.get_ptr_mut(socket.sk).map_or(0, |connection| unsafe {
        if (*connection).inode == socket.inode { (*connection).id } else { 0 }
    })
}

/// Says of a connection, if it is known, that something ended.
#[inline(never)]
pub fn say(sk: u64, cause: CloseCause, errno: u32) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value; it is only read.
        let connection = unsafe { &*connection };
        // A send that failed is not the end where an answer has arrived.
        if cause as u8 != CloseCause::Error as u8 || unread(sk) <= 1 {
            close(connection, cause, errno);
        }
        if connection.closing & closing::IN_CALL != 0 {
            settle(sk);
        }
    }
}

/// The other side has ended its direction: says so to who has opened the connection, for what it asks from now on is not answered.
/// Not where a call is at work that TCP has bytes of: those may have been read before.
#[inline(never)]
pub fn peer_is_done(sk: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sk) else { return };
    // SAFETY: a map value; it is only read.
    let connection = unsafe { &*connection };
    if connection.role != Role::Client as u8 {
        return;
    }
    let told = connection.seq[Direction::Tx as usize];
    let sent = kernel::read::<u32>(sk, offset!(tcp_write_seq));
    if told != NOT_COUNTED && sent == Some(told as u32) {
        close(connection, CloseCause::PeerFin, 0);
    }
}

/// TCP has closed the connection: forgets it now, or where a process has the socket still, behind the next call on it that
/// leaves nothing to be read. The other end may reset a connection while a call sends on it; what the call has moved by
/// then is told of when it returns. It may also reset it right behind an answer, which nobody has read yet.
#[inline(never)]
pub fn ended(sk: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sk) else { return };
    // SAFETY: a map value; preallocated, so never unmapped.
    let connection = unsafe { &mut *connection };
    if is_in_use(sk) {
        connection.closing |= closing::IN_CALL;
        return;
    }
    catch_up(connection, sk, true);
    forget(sk, CloseCause::Gone, kernel::read::<u32>(sk, offset!(sock_err)).unwrap_or(0));
}

/// Whether a process has the socket still, and may be in a call on it: `close` takes it from its file first.
#[inline(always)]
fn is_in_use(sk: u64) -> bool {
    let socket = kernel::read::<u64>(sk, offset!(sock_socket)).unwrap_or(0);
    socket != 0 && kernel::read::<u64>(socket, offset!(socket_sk)) == Some(sk)
}

/// How many bytes have arrived that no call has moved. An end of the stream that nobody has read is one.
#[inline(always)]
fn unread(sk: u64) -> u32 {
    let word = |offset| kernel::read::<u32>(sk, offset).unwrap_or(0);
    if kernel::read::<u16>(sk, offset!(sock_protocol)) != Some(history::IPPROTO_TCP) {
        return 0;
    }
    word(offset!(tcp_rcv_nxt)).wrapping_sub(word(offset!(tcp_copied_seq)))
}

/// The call in which the connection ended has been told of: forgets the connection, if all of it is read.
#[inline(never)]
pub fn settle(sk: u64) {
    if unread(sk) == 0 {
        destroyed(sk);
    }
}

/// Nothing will be moved on it any more, whether all that has arrived was read or not.
/// Nothing but this ends a connection that was closed within a call to which no process came back.
#[inline(never)]
pub fn destroyed(sk: u64) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value; preallocated, so never unmapped.
        catch_up(unsafe { &mut *connection }, sk, true);
        forget(sk, CloseCause::Gone, kernel::read::<u32>(sk, offset!(sock_err)).unwrap_or(0));
    }
}

#[inline(never)]
fn insert(socket: &Socket, fd: u32, tgid: u32, role: Role) {
    let made = make(socket.sk, socket.inode, tgid, |connection| {
        connection.role = role as u8;
        let unknown = role as u8 == Role::Unknown as u8;
        connection.joined = if unknown { joined::YES } else { joined::NO };
    });
    if !made {
        return;
    }
    if kernel::read::<u16>(socket.sk, offset!(sock_family)) == Some(family::UNIX) {
        // A full table only means that the agent sees this socket's end later, by idleness.
        let _ = UNIX_FDS.insert(unix_key(tgid, fd), socket.sk, 0);
    }
}

/// `close(fd)` succeeded. Only Unix sockets end here; TCP ends in its own state machine.
#[inline(always)]
pub fn closed_fd(fd: u32, tgid: u32) {
    let key = unix_key(tgid, fd);
    // SAFETY: the value is copied at once.
    if let Some(&sk) = unsafe { UNIX_FDS.get(key) } {
        let _ = UNIX_FDS.remove(key);
        forget(sk, CloseCause::Gone, 0);
    }
}

/// Drops the state of the connection of `sk` and says so, if there is any.
#[inline(never)]
pub fn forget(sk: u64, cause: CloseCause, errno: u32) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value, still in the map.
        unsafe { close(&*connection, cause, errno) };
        // Since Linux 6.15 the wait for a map's lock may time out, where a processor that has it stands still.
        if CONNECTIONS.remove(sk).is_ok() || CONNECTIONS.remove(sk).is_ok() {
            maps::count(Counter::ConnectionsRemoved);
        }
    }
}

/// Where its frames begin is not known any more.
#[inline(always)]
pub fn forget_frames(connection: &mut Connection) {
    // SAFETY: zeros are [`remora_common::frames::Walk::NOWHERE`].
    unsafe { zero(&mut connection.walk) };
}

/// Sends a `Close` record, if the connection's `Open` was sent.
#[inline(always)]
pub fn close(connection: &Connection, cause: CloseCause, errno: u32) {
    if connection.opened == 0 {
        return;
    }
    emit::record(&Close {
        kind: Kind::Close as u8,
        cause: cause as u8,
        reserved: [0; 2],
        errno,
        mono_ns: emit::now(),
        conn_id: connection.id,
        pos_rx: connection.pos[0],
        pos_tx: connection.pos[1],
        tgid: connection.tgid,
        tid: connection.tgid,
    });
}

/// The connection turned out to carry what `object` encrypts; `complete`: from its first byte on. If
/// records of it were sent already, they ended another connection as far as the agent can tell.
#[inline(always)]
pub fn becomes_plaintext(connection: &mut Connection, object: u64, complete: bool) {
    if connection.opened != 0 {
        close(connection, CloseCause::Gone, 0);
        connection.id = new_id();
        connection.opened = 0;
    }
    connection.pos = [0; 2];
    connection.copied = [0; 2];
    connection.policy = policy::UNDECIDED;
    connection.advised = policy::UNDECIDED;
    connection.undecided = 0;
    forget_frames(connection);
    connection.last = 2;
    connection.head_done = [1; 2];
    connection.object = object;
    connection.tls = if complete { 0 } else { tls::MISSED };
}
