//! One program at the end of every system call, typed (`tp_btf`) or raw. The fastest way out comes
//! first: every process on the host passes here.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

use super::registers::Registers;
use crate::{
    emit,
    maps::selection,
    more,
    moved::SOCKET,
    syscall::{self, Call},
};

/// Registers are read through a typed pointer: plain loads.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_btf(ctx: BtfTracePointContext) -> i32 {
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let regs: *const u8 = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    // SAFETY: the kernel passes a `struct pt_regs`, in which `Registers` stands at `OFFSET`.
    unsafe {
        let regs = regs.add(Registers::OFFSET).cast::<Registers>();
        if let Some(nr) = Registers::nr(regs) {
            let args = Registers::args(regs);
            if syscall::finished(&Call { nr, args, result, begin_ns: 0, tgid, tid }) {
                more::jump(&ctx);
            }
        }
    }
    0
}

/// Never attached: see [`more`].
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_btf_more(ctx: BtfTracePointContext) -> i32 {
    if more::of_thread::<SOCKET>(emit::current().1) {
        more::jump(&ctx);
    }
    0
}

/// Registers are copied by a helper: for kernels that refuse the typed program.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_raw(ctx: RawTracePointContext) -> i32 {
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let result: i64 = ctx.arg(1);
    if let Some((nr, args)) = Registers::read(ctx.arg(0))
        && syscall::finished(&Call { nr, args, result, begin_ns: 0, tgid, tid })
    {
        more::jump(&ctx);
    }
    0
}

/// Never attached: see [`more`].
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_raw_more(ctx: RawTracePointContext) -> i32 {
    if more::of_thread::<SOCKET>(emit::current().1) {
        more::jump(&ctx);
    }
    0
}
