//! What the kernel itself has counted of a socket: who opened its connection, whether bytes moved before it was
//! met, and those that no program was run for.

use remora_common::{
    connection::{Connection, NOT_COUNTED, closing, joined},
    record::{Direction, Role, family},
};

use crate::{kernel, moved::Moved, offset, user::launder};

pub(super) const IPPROTO_TCP: u16 = 6;

/// What [`tcp_history`] says. The kernel may be counting while it is asked, on another processor: who opened the
/// connection is asked again where that cannot be told, and so is whether bytes moved before where it seems so.
#[inline(always)]
pub fn of_tcp(sk: u64, moved: &Moved) -> (u8, u8) {
    let mut known = u64::from(joined::YES);
    let mut role = Role::Unknown as u64;
    for _ in 0..3 {
        // VERIFIER: one word that is always whole; a function that returns an `Option` of two bytes shifts
        // what it never set. Laundered, or all that follows were verified for each role.
        let mut found = asked_once(sk, moved);
        launder(&mut found);
        known &= found & 0xff;
        if role == Role::Unknown as u64 {
            role = found >> 8;
        }
        if known == joined::NO.into() && role != Role::Unknown as u64 {
            break;
        }
    }
    (role as u8, known as u8)
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
    if connection.object != 0 {
        return; // the positions are those of the plaintext
    }
    let ends = [u8::from(ended && was_read_to_its_end(sk)), connection.closing & closing::FIN];
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
pub fn role_of_unix(sk: u64) -> Role {
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
