//! Reads kernel memory along the offsets in [`LAYOUT`]: from a descriptor to its socket, from a
//! socket to its addresses. Every step may fail (the memory may be gone); then the answer is `None`.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use remora_common::layout::{ABSENT, PidNamespace, UPID_SIZE};

pub use crate::maps::LAYOUT;
use crate::maps::PID_NAMESPACE;

/// The offset of a member of [`LAYOUT`].
#[macro_export]
macro_rules! offset {
    ($member:ident) => {
        $crate::kernel::constant(&raw const $crate::kernel::LAYOUT.$member)
    };
}

/// A word of a read-only global. VERIFIER: it knows the value behind a load from there; a plain load
/// would have been folded at compile time.
#[inline(always)]
pub fn constant(word: *const u32) -> u32 {
    // SAFETY: only called with members of a static, by `offset!`.
    unsafe { word.read_volatile() }
}

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// `sk_type` of a stream.
pub const SOCK_STREAM: u16 = 1;

/// A `T` at `base + offset`.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    let address = base.wrapping_add(u64::from(offset)) as *const _;
    // SAFETY: the helper writes `size_of::<T>()` bytes to `value` or fails; it checks the source.
    unsafe {
        if bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}

/// Copies a `T` at `base + offset` to `place`, without a stop on the stack: 512 bytes are for all
/// frames of a program together (before Linux 6.13). Zeros where it cannot be read.
///
/// # Safety
/// `place` may be written.
#[inline(always)]
pub unsafe fn read_to<T: Copy>(place: *mut T, base: u64, offset: u32) -> bool {
    let address = base.wrapping_add(u64::from(offset)) as *const _;
    // SAFETY: the helper writes `size_of::<T>()` bytes to `place`; it checks the source.
    offset != ABSENT
        && unsafe { bpf_probe_read_kernel(place.cast(), size_of::<T>() as u32, address) == 0 }
}

/// A stream socket as the current process sees it.
#[derive(Clone, Copy)]
pub struct Socket {
    /// Address of its `struct sock`.
    pub sk: u64,
    pub inode: u64,
}

/// The stream socket behind `fd` of the current task, `None` for anything else. The open file is
/// looked up anew at each call, so duplicated and passed descriptors need no tracking.
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<Socket> {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, offset!(task_files))?;
    let fdt: u64 = read(files, offset!(files_fdt))?;
    let max_fds: u32 = read(fdt, offset!(fdtable_max_fds))?;
    if fd >= max_fds {
        return None;
    }
    let table: u64 = read(fdt, offset!(fdtable_fd))?;
    let file: u64 = read(table.wrapping_add(u64::from(fd) * 8), 0)?;
    let inode: u64 = read(file, offset!(file_inode))?;
    let mode: u16 = read(inode, offset!(inode_mode))?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: u64 = read(file, offset!(file_private_data))?;
    let kind: u16 = read(socket, offset!(socket_type))?;
    if kind != SOCK_STREAM {
        return None;
    }
    let sk: u64 = read(socket, offset!(socket_sk))?;
    if sk == 0 {
        return None;
    }
    let inode: u64 = read(inode, offset!(inode_ino))?;
    Some(Socket { sk, inode })
}

/// Device and inode of the agent's pid namespace, if that is not the initial one: then the kernel's own
/// numbers will do. VERIFIER: constants, so that what is not needed is not there.
#[inline(always)]
pub fn pid_namespace() -> Option<(u64, u64)> {
    let namespace = &raw const PID_NAMESPACE;
    // SAFETY: a static; see `constant`.
    let (device, inode) = unsafe {
        (
            (&raw const (*namespace).device).read_volatile(),
            (&raw const (*namespace).inode).read_volatile(),
        )
    };
    (inode != PidNamespace::INITIAL.inode).then_some((device, inode))
}

/// The number of the thread `task`, which is that of its process if it is the first one, in the agent's pid namespace.
#[inline(always)]
pub fn thread_id(task: u64) -> Option<u32> {
    let Some((_, inode)) = pid_namespace() else { return read(task, offset!(task_pid)) };
    let pid: u64 = read(task, offset!(task_thread_pid))?;
    let level: u32 = read(pid, offset!(pid_level))?;
    let own = pid.wrapping_add(u64::from(level) * UPID_SIZE);
    let own = own.wrapping_add(u64::from(offset!(pid_numbers)));
    let namespace: u64 = read(own, offset!(upid_ns))?;
    let inum: u32 = read(namespace, offset!(pid_namespace_inum))?;
    if u64::from(inum) == inode { read(own, offset!(upid_nr)) } else { None }
}

/// When the process of the thread `task` was started, nanoseconds since boot; it keeps that when it becomes
/// another program.
#[inline(always)]
pub fn start_of(task: u64) -> Option<u64> {
    let leader: u64 = read(task, offset!(task_group_leader))?;
    read(leader, offset!(task_start_boottime))
}

/// The network namespace of a socket as its inode number, 0 if unknown.
#[inline(always)]
pub fn netns(sk: u64) -> u32 {
    let inum = read::<u64>(sk, offset!(sock_net)).and_then(|net| read(net, offset!(net_inum)));
    inum.unwrap_or(0)
}
