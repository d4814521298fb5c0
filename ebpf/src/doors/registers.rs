//! The registers of user space at a system call, `struct pt_regs` of this architecture. The kernel
//! keeps the argument registers as they were, so a call's end shows its arguments too.

use crate::kernel;

/// The part of `struct pt_regs` from `r10` to `cs` (offset 56 to 144).
#[cfg(bpf_target_arch = "x86_64")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registers {
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    orig_ax: u64,
    ip: u64,
    cs: u64,
}

#[cfg(bpf_target_arch = "x86_64")]
impl Registers {
    /// Where `struct pt_regs` has the register in which Go keeps the goroutine (r14), and the stack pointer.
    pub const CALLER: [usize; 2] = [8, 152];

    /// Where they begin in `struct pt_regs`.
    pub const OFFSET: usize = 56;

    /// The call's number; `None` for a 32-bit call, whose numbers mean other calls.
    #[inline(always)]
    pub unsafe fn nr(this: *const Self) -> Option<u64> {
        const USER_CS_64: u64 = 0x33;
        // SAFETY: the caller vouches for `this`.
        unsafe { if (*this).cs == USER_CS_64 { Some((*this).orig_ax) } else { None } }
    }

    /// The first four arguments.
    #[inline(always)]
    pub unsafe fn args(this: *const Self) -> [u64; 4] {
        // SAFETY: the caller vouches for `this`.
        unsafe { [(*this).di, (*this).si, (*this).dx, (*this).r10] }
    }

    /// Number and arguments of the call whose registers are at `address`, read by a helper.
    #[inline(always)]
    pub fn read(address: u64) -> Option<(u64, [u64; 4])> {
        let regs: Self = kernel::read(address, Self::OFFSET as u32)?;
        // SAFETY: a whole value on the stack.
        unsafe { Some((Self::nr(&regs)?, Self::args(&regs))) }
    }
}

/// In `pstate`: a 32-bit program.
#[cfg(bpf_target_arch = "aarch64")]
const PSR_MODE32_BIT: u64 = 0x10;

/// `struct pt_regs` as far as `syscallno`.
#[cfg(bpf_target_arch = "aarch64")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registers {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    orig_x0: u64,
    syscallno: i32,
    unused: u32,
}

#[cfg(bpf_target_arch = "aarch64")]
impl Registers {
    /// As on x86-64: x28 and sp.
    pub const CALLER: [usize; 2] = [224, 248];

    /// Where they begin in `struct pt_regs`.
    pub const OFFSET: usize = 0;

    /// The call's number; `None` for a 32-bit call, whose numbers mean other calls.
    #[inline(always)]
    pub unsafe fn nr(this: *const Self) -> Option<u64> {
        // SAFETY: the caller vouches for `this`.
        unsafe {
            if (*this).pstate & PSR_MODE32_BIT == 0 { Some((*this).syscallno as u64) } else { None }
        }
    }

    /// The first four arguments; `x0` holds the result by now.
    #[inline(always)]
    pub unsafe fn args(this: *const Self) -> [u64; 4] {
        // SAFETY: the caller vouches for `this`.
        unsafe { [(*this).orig_x0, (*this).regs[1], (*this).regs[2], (*this).regs[3]] }
    }

    /// Number and arguments of the call whose registers are at `address`, read by a helper: only
    /// those, for all registers would be half of the stack.
    #[inline(always)]
    pub fn read(address: u64) -> Option<(u64, [u64; 4])> {
        let [_, _, pstate, x0, nr]: [u64; 5] =
            kernel::read(address, core::mem::offset_of!(Self, sp) as u32)?;
        let [x1, x2, x3]: [u64; 3] = kernel::read(address, 8)?;
        (pstate & PSR_MODE32_BIT == 0).then_some((nr as u32 as i32 as u64, [x0, x1, x2, x3]))
    }
}
