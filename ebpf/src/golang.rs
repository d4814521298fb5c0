//! What programs of Go have where: their calling convention, and their connections. Used where their contexts are followed and
//! where the plaintext of their TLS is read.

use aya_ebpf::programs::ProbeContext;

use crate::{
    kernel::{self, Socket},
    user::read_user,
};

/// Descriptor and socket below a `net.Conn` whose value is at `value`: a `TCPConn` or `UnixConn`, whose first and only word leads
/// to a `netFD`; or another connection around one, if that is its first member (`tls.Conn`).
#[inline(never)]
pub fn socket_below(mut value: u64) -> Option<(u32, Socket)> {
    const LEVELS: u32 = 3;
    let mut level = 0;
    while level < LEVELS {
        let [first, second] = read_user::<[u64; 2]>(value)?;
        // `poll.FD`: a mutex of 16 bytes, the descriptor. Behind a word that tells a type stands a hash.
        if let Some(fd) = read_user::<u64>(first.wrapping_add(16))
            && fd < 1 << 30
            && let Some(socket) = kernel::socket_of(fd as u32)
        {
            return Some((fd as u32, socket));
        }
        value = second;
        level += 1;
    }
    None
}

/// The fourth argument.
#[inline(always)]
pub fn fourth(ctx: &ProbeContext) -> u64 {
    let regs = ctx.regs;
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        (*regs).rdi
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        (*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).regs[3]
    }
}

/// The first three arguments or results, and the goroutine.
#[inline(always)]
pub fn registers(ctx: &ProbeContext) -> [u64; 4] {
    let regs = ctx.regs;
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        [(*regs).rax, (*regs).rbx, (*regs).rcx, (*regs).r14]
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        let regs = &(*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).regs;
        [regs[0], regs[1], regs[2], regs[28]]
    }
}
