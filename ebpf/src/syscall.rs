//! Which bytes a finished system call moved: from number, arguments and result to a [`Moved`].
//! The doors differ in how they come by these; from here on there is one code path.

use remora_common::{
    connection::NOT_COUNTED,
    counter::Counter,
    record::{CloseCause, Direction, Role},
};

use crate::{
    connection, kernel, maps,
    moved::{Layout, Moved, SOCKET},
    transfer,
    user::{self, read_user},
};

/// System call numbers of this architecture.
#[cfg(bpf_target_arch = "x86_64")]
pub mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const CONNECT: u64 = 42;
    pub const ACCEPT: u64 = 43;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SHUTDOWN: u64 = 48;
    pub const SPLICE: u64 = 275;
    pub const ACCEPT4: u64 = 288;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
}

/// System call numbers of this architecture.
#[cfg(bpf_target_arch = "aarch64")]
pub mod nr {
    pub const CLOSE: u64 = 57;
    pub const READ: u64 = 63;
    pub const WRITE: u64 = 64;
    pub const READV: u64 = 65;
    pub const WRITEV: u64 = 66;
    pub const SENDFILE: u64 = 71;
    pub const SPLICE: u64 = 76;
    pub const ACCEPT: u64 = 202;
    pub const CONNECT: u64 = 203;
    pub const SENDTO: u64 = 206;
    pub const RECVFROM: u64 = 207;
    pub const SHUTDOWN: u64 = 210;
    pub const SENDMSG: u64 = 211;
    pub const RECVMSG: u64 = 212;
    pub const ACCEPT4: u64 = 242;
    pub const RECVMMSG: u64 = 243;
    pub const SENDMMSG: u64 = 269;
}

/// A finished system call of a selected process.
#[derive(Clone, Copy)]
pub struct Call {
    pub nr: u64,
    pub args: [u64; 4],
    /// Non-negative, or a negated errno.
    pub result: i64,
    /// When it began, 0 if unknown.
    pub begin_ns: u64,
    pub tgid: u32,
    pub tid: u32,
}

const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
/// Flags of a receive that consumes no stream bytes.
pub const NOT_CONSUMED: u64 = MSG_PEEK | MSG_ERRQUEUE;

const EPIPE: i64 = 32;
const ECONNABORTED: i64 = 103;
const ECONNRESET: i64 = 104;
const ETIMEDOUT: i64 = 110;
const EHOSTUNREACH: i64 = 113;
const EINPROGRESS: i64 = 115;

/// Offsets in `struct msghdr` as user space passes it, 64-bit.
const MSGHDR_IOV: u64 = 16;
/// `sizeof(struct mmsghdr)` and the offset of its `msg_len`.
const MMSGHDR_SIZE: u64 = 64;
const MMSGHDR_LEN: u64 = 56;
/// Messages of one `sendmmsg`/`recvmmsg` that are looked at.
const MESSAGES: usize = 16;

/// The buffer arguments of a call.
#[derive(Clone, Copy)]
pub struct Buffers {
    pub direction: Direction,
    pub layout: Layout,
    pub base: u64,
    pub count: u64,
    /// What a result of 0 means: nothing was asked for, or the stream ended.
    asked: bool,
}

/// Does what the call's end requires. `true`: jump to [`crate::more`].
#[inline(always)]
pub fn finished(call: &Call) -> bool {
    let [a0, a1, a2, a3] = call.args;
    let mut fd = a0 as u32;
    let mut result = call.result;
    let mut rest = 0;
    let buffers = match call.nr {
        nr::READ => flat(Direction::Rx, a1, a2),
        nr::WRITE => flat(Direction::Tx, a1, a2),
        nr::READV => pieces(Direction::Rx, a1, a2),
        nr::WRITEV => pieces(Direction::Tx, a1, a2),
        nr::SENDTO => flat(Direction::Tx, a1, a2),
        nr::RECVFROM if a3 & NOT_CONSUMED != 0 => return false,
        nr::RECVFROM => thrown_away(flat(Direction::Rx, a1, a2), a3),
        nr::SENDMSG => message(Direction::Tx, a1),
        nr::RECVMSG if a2 & NOT_CONSUMED != 0 => return false,
        nr::RECVMSG => thrown_away(message(Direction::Rx, a1), a2),
        nr::RECVMMSG if a3 & NOT_CONSUMED != 0 => return false,
        nr::SENDMMSG | nr::RECVMMSG => {
            if result > 0 {
                rest = messages_after_first(a1, result);
                result = i64::from(read_user::<u32>(a1 + MMSGHDR_LEN).unwrap_or(0));
            }
            message(if call.nr == nr::SENDMMSG { Direction::Tx } else { Direction::Rx }, a1)
        }
        nr::SENDFILE => nowhere(Direction::Tx),
        // Between a pipe and a socket, either way.
        nr::SPLICE if kernel::socket_of(fd).is_some() => nowhere(Direction::Rx),
        nr::SPLICE => {
            fd = a2 as u32;
            nowhere(Direction::Tx)
        }
        nr::ACCEPT | nr::ACCEPT4 => {
            if result >= 0 {
                connection::begin(result as u32, call.tgid, Role::Server);
            }
            return false;
        }
        nr::CONNECT => {
            if result == 0 || result == -EINPROGRESS {
                connection::begin(fd, call.tgid, Role::Client);
            }
            return false;
        }
        nr::CLOSE => {
            if result == 0 {
                connection::closed_fd(fd, call.tgid);
            }
            return false;
        }
        nr::SHUTDOWN => {
            shut_down(call, fd, a1);
            return false;
        }
        _ => return false,
    };
    if result <= 0 {
        if let Some((cause, errno)) = stop(&buffers, result) {
            report(fd, cause, errno);
        }
        return false;
    }
    let mut moved = Moved {
        fd,
        direction: buffers.direction as u32,
        layout: buffers.layout,
        source: SOCKET.into(),
        count: buffers.count as u32,
        base: buffers.base,
        len: result as u64,
        rest,
        begin_ns: call.begin_ns,
        seq: NOT_COUNTED,
        tgid: call.tgid,
        tid: call.tid,
        context: 0,
    };
    user::launder(&mut moved);
    transfer::moved(&mut moved)
}

#[inline(always)]
pub fn flat(direction: Direction, base: u64, len: u64) -> Buffers {
    Buffers { direction, layout: Layout::Flat, base, count: 1, asked: len > 0 }
}

#[inline(always)]
pub fn pieces(direction: Direction, base: u64, count: u64) -> Buffers {
    Buffers { direction, layout: Layout::Pieces, base, count, asked: count > 0 }
}

#[inline(always)]
pub fn nowhere(direction: Direction) -> Buffers {
    Buffers { direction, layout: Layout::Nowhere, base: 0, count: 0, asked: false }
}

/// The list of a `struct msghdr` in user memory.
#[inline(always)]
pub fn message(direction: Direction, header: u64) -> Buffers {
    match read_user::<[u64; 2]>(header + MSGHDR_IOV) {
        Some([base, count]) => pieces(direction, base, count),
        None => nowhere(direction),
    }
}

/// `MSG_TRUNC` on a stream consumes bytes without copying them (tcp(7)).
#[inline(always)]
pub fn thrown_away(buffers: Buffers, flags: u64) -> Buffers {
    if flags & MSG_TRUNC != 0 { nowhere(buffers.direction) } else { buffers }
}

/// What a call that moved nothing says: the stream's end, an error that ends the connection, or
/// nothing.
#[inline(always)]
pub fn stop(buffers: &Buffers, result: i64) -> Option<(CloseCause, u32)> {
    match -result {
        0 if buffers.direction as u8 == Direction::Rx as u8 && buffers.asked => {
            Some((CloseCause::EndOfFile, 0))
        }
        error @ (EPIPE | ECONNABORTED | ECONNRESET | ETIMEDOUT | EHOSTUNREACH) => {
            Some((CloseCause::Error, error as u32))
        }
        _ => None,
    }
}

/// `shutdown` of a Unix socket; TCP says so in its state machine.
#[inline(always)]
fn shut_down(call: &Call, fd: u32, how: u64) {
    const SHUT_WR: u64 = 1;
    const SHUT_RDWR: u64 = 2;
    if call.result == 0 && (how == SHUT_WR || how == SHUT_RDWR) {
        report(fd, CloseCause::LocalFin, 0);
    }
}

/// Says of a known connection that something ended.
#[inline(never)]
fn report(fd: u32, cause: CloseCause, errno: u32) {
    if let Some(socket) = kernel::socket_of(fd) {
        connection::say(socket.sk, cause, errno);
    }
}

/// Bytes of the messages of one `sendmmsg` or `recvmmsg` behind its first. On a stream they are one
/// run of bytes; the first message is looked into, the others are counted.
#[inline(always)]
fn messages_after_first(header: u64, messages: i64) -> u64 {
    let mut bytes = 0;
    let mut at = 1;
    while at < MESSAGES && (at as i64) < messages {
        let len = read_user::<u32>(header + at as u64 * MMSGHDR_SIZE + MMSGHDR_LEN);
        bytes += u64::from(len.unwrap_or(0));
        at += 1;
    }
    if messages > MESSAGES as i64 {
        maps::count(Counter::PiecesCut);
    }
    bytes
}
