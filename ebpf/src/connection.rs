//! The state of each captured connection, and its first and last records.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use remora_common::{
    connection::{NOT_COUNTED, unix_key},
    control::CONN_ID_CPU_BITS,
    counter::Counter,
    policy,
    record::{Close, CloseCause, Direction, Kind, Open, Role, UNIX_PATH_LEN, family, open_flag},
};

pub use remora_common::connection::Connection;

use crate::{
    capture::Moved,
    emit,
    kernel::{self, Socket},
    maps::{self, CONNECTIONS, ENDLESS, ENDLESS_SLOTS, UNIX_FDS},
    offset,
};

/// `sk_state` of a socket that is not connected any more (include/net/tcp_states.h; Unix sockets too).
const TCP_CLOSE: u8 = 7;

/// Whether bytes had moved on a connection before it was met.
pub mod joined {
    pub const NO: u8 = 0;
    pub const YES: u8 = 1;
    /// Unless what was met first begins as a message does.
    pub const UNLESS_MESSAGE: u8 = 2;
}

fn new(inode: u64, tgid: u32, role: u8, joined: u8) -> Connection {
    Connection {
        id: new_id(),
        inode,
        pos: [0; 2],
        seq: [NOT_COUNTED; 2],
        seq_at_turn: [0; 2],
        copied: [0; 2],
        tgid,
        policy: policy::UNDECIDED,
        last: 2,
        head_done: [0; 2],
        advised: policy::UNDECIDED,
        reserved: 0,
        role,
        opened: 0,
        undecided: 0,
        ssl: 0,
        missed: 0,
        closing: 0,
        joined,
        reserved2: [0; 2],
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
    let (role, joined) = if inet == 0 {
        (unix_role(sk) as u8, joined::UNLESS_MESSAGE)
    } else {
        // The other end may reset the connection between the work and this: it is forgotten by then.
        if kernel::read::<u8>(sk, offset!(sock_state)) == Some(TCP_CLOSE) {
            return;
        }
        history(sk, moved)
    };
    let mut connection = new(inode, moved.tgid, role, joined);
    if moved.seq != NOT_COUNTED {
        let word = |offset| kernel::read::<u32>(sk, offset).map_or(NOT_COUNTED, u64::from);
        connection.seq = [word(offset!(tcp_copied_seq)), word(offset!(tcp_write_seq))];
        connection.seq_at_turn = connection.seq.map(|seq| seq as u32);
        let before = (moved.seq as u32).wrapping_sub(moved.len as u32);
        connection.seq[(moved.direction & 1) as usize] = before.into();
    }
    if CONNECTIONS.insert(sk, connection, 0).is_err() {
        maps::count(Counter::ConnectionsFull);
        return;
    }
    maps::count(Counter::ConnectionsAdded);
    if inet == 0 {
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
        if old == 0 || old == sk || tried == TRIES || has_ended(old) {
            if old != 0 && old != sk {
                forget(old, CloseCause::Gone, 0);
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

/// What [`tcp_history`] says. The kernel may be counting while it is asked, on another processor: what says
/// that bytes moved before is asked again.
#[inline(always)]
fn history(sk: u64, moved: &Moved) -> (u8, u8) {
    let (mut role, mut known) = (Role::Unknown as u8, joined::YES);
    for _ in 0..3 {
        // VERIFIER: one word that is always whole; a function that returns an `Option` of two bytes shifts
        // what it never set.
        let found = asked_once(sk, moved);
        (role, known) = ((found >> 8) as u8, found as u8);
        if known == joined::NO {
            break;
        }
    }
    (role, known)
}

/// Role and `joined` in one word.
#[inline(never)]
fn asked_once(sk: u64, moved: &Moved) -> u64 {
    let (role, joined) = tcp_history(sk, moved).unwrap_or((Role::Unknown as u8, joined::YES));
    u64::from(role) << 8 | u64::from(joined)
}

/// Who opened a TCP connection, and whether bytes moved on it before `moved`: the kernel counts what it
/// sent and received. Sequence numbers wrap at 2^32, so the counts beside them are taken modulo 2^32.
#[inline(always)]
fn tcp_history(sk: u64, moved: &Moved) -> Option<(u8, u8)> {
    const IPPROTO_TCP: u16 = 6;
    if kernel::read::<u16>(sk, offset!(sock_protocol))? != IPPROTO_TCP {
        return None;
    }
    let word = |offset| kernel::read::<u32>(sk, offset);
    // Received and not yet read is `rcv_nxt - copied_seq`; both count an end of the stream as one more.
    let unread = word(offset!(tcp_rcv_nxt))?.wrapping_sub(word(offset!(tcp_copied_seq))?);
    let read = word(offset!(tcp_bytes_received))?.wrapping_sub(unread);
    let snd_nxt = word(offset!(tcp_snd_nxt))?;
    let sent = word(offset!(tcp_bytes_sent))?.wrapping_sub(word(offset!(tcp_bytes_retrans))?);
    let written = sent.wrapping_add(word(offset!(tcp_write_seq))?.wrapping_sub(snd_nxt));
    // `bytes_acked` counts the SYN of the side that sent the first one (tcp_snd_una_update), and not
    // that of the other.
    let unacked = snd_nxt.wrapping_sub(word(offset!(tcp_snd_una))?);
    let opening = word(offset!(tcp_bytes_acked))?.wrapping_add(unacked).wrapping_sub(sent);
    let role = match opening {
        0 => Role::Server,
        1 => Role::Client,
        _ => Role::Unknown,
    };
    let len = moved.len as u32;
    let receives = moved.direction == Direction::Rx as u32;
    let first = if receives { read == len && written == 0 } else { read == 0 && written == len };
    Some((role as u8, if first { joined::NO } else { joined::YES }))
}

/// Whether the end of the stream was read, which TCP counts as a byte: by the receive of the bytes before it, if
/// it came with them.
#[inline(never)]
pub fn was_read_to_its_end(sk: u64) -> bool {
    const RCV_SHUTDOWN: u8 = 1; // include/net/sock.h
    let read = || {
        let shut = kernel::read::<u8>(sk, offset!(sock_shutdown))? & RCV_SHUTDOWN != 0;
        let received = kernel::read::<u32>(sk, offset!(tcp_rcv_nxt))?;
        Some(shut && kernel::read::<u32>(sk, offset!(tcp_copied_seq))? == received)
    };
    read() == Some(true)
}

/// The connection ends: adds to its positions what TCP has counted and no run told of. The end of the stream,
/// which TCP counts as a byte, is none; `ended`: the other side's may have been received.
#[inline(never)]
pub fn catch_up(connection: &mut Connection, sk: u64, ended: bool) {
    if connection.ssl != 0 {
        return; // the positions are those of the plaintext
    }
    let ends = [u8::from(ended && was_read_to_its_end(sk)), connection.closing];
    for (side, end) in ends.into_iter().enumerate() {
        let before = connection.seq[side];
        let member = if side == 0 { offset!(tcp_copied_seq) } else { offset!(tcp_write_seq) };
        if before != NOT_COUNTED
            && let Some(counted) = kernel::read::<u32>(sk, member)
        {
            let more = counted.wrapping_sub(before as u32).wrapping_sub(end.into());
            if more as i32 > 0 {
                connection.pos[side] += u64::from(more);
                connection.seq[side] = (before as u32).wrapping_add(more).into();
            }
        }
    }
}

/// Who opened a connection of Unix sockets: the accepted one inherits the listener's path, the
/// other one has none, as a rule.
#[inline(always)]
fn unix_role(sk: u64) -> Role {
    let address =
        |sk: u64| kernel::read::<u64>(sk, offset!(unix_addr)).is_some_and(|address| address != 0);
    if kernel::read::<u16>(sk, offset!(sock_family)) != Some(family::UNIX) {
        return Role::Unknown;
    }
    let peer = kernel::read::<u64>(sk, offset!(unix_peer)).unwrap_or(0);
    match (address(sk), peer != 0 && address(peer)) {
        (true, false) => Role::Server,
        (false, true) => Role::Client,
        _ => Role::Unknown,
    }
}

/// Says of a connection, if it is known, that something ended.
#[inline(never)]
pub fn say(sk: u64, cause: CloseCause, errno: u32) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: a map value; it is only read.
        close(unsafe { &*connection }, cause, errno);
    }
}

#[inline(never)]
fn insert(socket: &Socket, fd: u32, tgid: u32, role: Role) {
    let joined = if role as u8 == Role::Unknown as u8 { joined::YES } else { joined::NO };
    let connection = new(socket.inode, tgid, role as u8, joined);
    if CONNECTIONS.insert(socket.sk, connection, 0).is_err() {
        maps::count(Counter::ConnectionsFull);
        return;
    }
    maps::count(Counter::ConnectionsAdded);
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

/// The connection turned out to carry what `ssl` encrypts; `complete`: from its first byte on. If
/// records of it were sent already, they ended another connection as far as the agent can tell.
#[inline(always)]
pub fn becomes_plaintext(connection: &mut Connection, ssl: u64, complete: bool) {
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
    connection.last = 2;
    connection.head_done = [0; 2];
    connection.ssl = ssl;
    connection.missed = u32::from(!complete);
}

/// Sends the `Open` record of a connection that is about to send its first `Data`.
#[inline(never)]
pub fn open(connection: &mut Connection, sk: u64) {
    let Some(mut entry) = emit::reserve::<Open>() else { return };
    let (tgid, tid) = emit::current();
    let role = connection.role;
    let family = kernel::read::<u16>(sk, offset!(sock_family)).unwrap_or(0);
    let joined = connection.joined != joined::NO || connection.missed != 0;
    let open = entry.as_mut_ptr();
    // SAFETY: `open` points to reserved ring memory of the record's size; all of it is written.
    unsafe {
        for word in 0..size_of::<Open>() / 8 {
            // Volatile, or it became a call that fills byte by byte.
            open.cast::<u64>().add(word).write_volatile(0);
        }
        (*open).kind = Kind::Open as u8;
        (*open).role = role;
        (*open).flags = if joined { open_flag::JOINED } else { 0 };
        (*open).family = family;
        (*open).mono_ns = emit::now();
        (*open).conn_id = connection.id;
        (*open).inode = connection.inode;
        (*open).tgid = tgid;
        (*open).tid = tid;
        (*open).netns = kernel::netns(sk);
        match family {
            family::INET => {
                ports(open, sk);
                let local = (&raw mut (*open).local_addr).cast::<[u8; 4]>();
                let remote = (&raw mut (*open).remote_addr).cast::<[u8; 4]>();
                kernel::read_to(local, sk, offset!(sock_rcv_saddr));
                kernel::read_to(remote, sk, offset!(sock_daddr));
            }
            family::INET6 => {
                ports(open, sk);
                kernel::read_to(&raw mut (*open).local_addr, sk, offset!(sock_v6_rcv_saddr));
                kernel::read_to(&raw mut (*open).remote_addr, sk, offset!(sock_v6_daddr));
            }
            family::UNIX => unix_path(open, sk),
            _ => {}
        }
    }
    connection.opened = 1;
    emit::submit(entry);
}

/// # Safety
/// `open` points to a whole record.
#[inline(always)]
unsafe fn ports(open: *mut Open, sk: u64) {
    let local = kernel::read::<u16>(sk, offset!(sock_num)).unwrap_or(0);
    let remote = kernel::read::<u16>(sk, offset!(sock_dport)).unwrap_or(0);
    // SAFETY: by this function's contract.
    unsafe {
        (*open).local_port = local;
        (*open).remote_port = u16::from_be(remote);
    }
}

/// The path the socket is bound to, else the path of its peer.
///
/// # Safety
/// `open` points to a whole record.
#[inline(always)]
unsafe fn unix_path(open: *mut Open, sk: u64) {
    let mut address = kernel::read::<u64>(sk, offset!(unix_addr)).unwrap_or(0);
    if address == 0 {
        let peer = kernel::read::<u64>(sk, offset!(unix_peer)).unwrap_or(0);
        if peer != 0 {
            address = kernel::read::<u64>(peer, offset!(unix_addr)).unwrap_or(0);
        }
    }
    if address == 0 {
        return;
    }
    // `len` counts the two bytes of `sun_family` that `name` begins with.
    let len = kernel::read::<u32>(address, offset!(unix_address_len)).unwrap_or(0);
    // SAFETY: by this function's contract.
    unsafe {
        let path = &raw mut (*open).unix_path;
        if kernel::read_to(path, address + 2, offset!(unix_address_name)) {
            (*open).unix_path_len = len.saturating_sub(2).min(UNIX_PATH_LEN as u32) as u16;
        }
    }
}
