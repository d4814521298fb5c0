//! The functions of OpenSSL that are probed, and where their arguments and results stand.

use aya_ebpf::{
    EbpfContext,
    macros::{map, uprobe, uretprobe},
    maps::ProgramArray,
    programs::{ProbeContext, RetProbeContext},
};
use remora_common::{layout::ABSENT, record::Direction};

use super::calls::{self, Call};
use crate::{emit, maps::selection, more, moved::OPENSSL, offset};

/// Leads nowhere; see [`own_stack`].
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Makes the program use the stack of the thread that runs it. From 6.13 on the kernel gives programs of
/// this type a stack for each CPU unless they may jump, and does not keep those at functions of user
/// space from being entered twice on one CPU (`bpf_prog_run_array_uprobe`): a thread that is put off in one
/// would find its kernel pointers overwritten by the next.
///
/// VERIFIER: it counts the jump before it looks at any way, and knows that none leads there.
#[inline(always)]
pub fn own_stack(ctx: &impl EbpfContext) {
    if offset!(task_tgid) == ABSENT {
        // SAFETY: nothing here waits to be dropped.
        unsafe { NOWHERE.tail_call(ctx, 0) };
    }
}

/// `SSL_read(ssl, buf, num)`: the result says how many bytes.
#[uprobe]
pub fn ssl_read(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Rx, 0, false)
}

/// `SSL_read_ex(ssl, buf, num, *readbytes)`, and OpenSSL's own function behind both.
#[uprobe]
pub fn ssl_read_ex(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Rx, ctx.arg(3).unwrap_or(0), false)
}

/// `SSL_write(ssl, buf, num)`: the result says how many bytes.
#[uprobe]
pub fn ssl_write(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Tx, 0, false)
}

/// `SSL_write_ex(ssl, buf, num, *written)`, and OpenSSL's own function behind both before 3.3.
#[uprobe]
pub fn ssl_write_ex(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Tx, ctx.arg(3).unwrap_or(0), false)
}

/// `SSL_write_ex2(ssl, buf, num, flags, *written)`, and OpenSSL's own function behind it since 3.3.
#[uprobe]
pub fn ssl_write_ex2(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Tx, ctx.arg(4).unwrap_or(0), false)
}

/// `SSL_do_handshake(ssl)`.
#[uprobe]
pub fn ssl_do_handshake(ctx: ProbeContext) -> u32 {
    entered(&ctx, Direction::Rx, 0, true)
}

#[inline(always)]
fn entered(ctx: &ProbeContext, direction: Direction, done: u64, handshake: bool) -> u32 {
    own_stack(ctx);
    let (tgid, tid) = emit::current();
    if selection(tgid) != 0
        && let (Some(object), Some(buffer)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1))
    {
        let call = Call { object, buffer, direction, done, handshake };
        calls::begins(&call, tid, stack_pointer(ctx.regs));
    }
    0
}

/// The return of all of them.
#[uretprobe]
pub fn ssl_return(ctx: RetProbeContext) -> u32 {
    own_stack(&ctx);
    let (tgid, tid) = emit::current();
    let sp = stack_pointer(ctx.regs).wrapping_sub(RETURN_ADDRESS);
    if calls::ends::<OPENSSL>(ctx.ret::<u64>() as u32 as i32, tgid, tid, sp) {
        more::jump_tls(&ctx);
    }
    0
}

/// Never attached: see [`more`].
#[uretprobe]
pub fn ssl_more(ctx: RetProbeContext) -> u32 {
    if more::of_thread::<OPENSSL>(emit::current().1) {
        more::jump_tls(&ctx);
    }
    0
}

/// Bytes that a return takes off the stack.
#[cfg(bpf_target_arch = "x86_64")]
const RETURN_ADDRESS: u64 = 8;
#[cfg(bpf_target_arch = "aarch64")]
const RETURN_ADDRESS: u64 = 0;

#[inline(always)]
fn stack_pointer(regs: *mut aya_ebpf::bindings::pt_regs) -> u64 {
    // SAFETY: the kernel passes the registers of user space.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        (*regs).rsp
    }
    // SAFETY: as above.
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        (*regs.cast::<aya_ebpf::bindings::user_pt_regs>()).sp
    }
}
