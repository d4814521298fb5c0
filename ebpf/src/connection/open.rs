//! The first record of a connection: its addresses, and who opened it.

use remora_common::{
    connection::{Connection, joined, tls},
    record::{Kind, Open, UNIX_PATH_LEN, family, open_flag},
};

use crate::{emit, kernel, offset};

/// Sends the `Open` record of a connection that is about to send its first `Data`.
#[inline(never)]
pub fn open(connection: &mut Connection, sk: u64) {
    let Some(mut entry) = emit::reserve::<Open>() else { return };
    let (tgid, tid) = emit::current();
    let role = connection.role;
    let family = kernel::read::<u16>(sk, offset!(sock_family)).unwrap_or(0);
    let joined = connection.joined != joined::NO || connection.tls & tls::MISSED != 0;
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
