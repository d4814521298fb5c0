//! One program at the end of each entry function of the calls we want (`__x64_sys_read` ...), which
//! take a `struct pt_regs *` and return the call's result. Other calls are not touched.
//!
//! Those programs only look whether the process is selected. All that follows is in one more, which
//! they jump to: the kernel verifies a program whole, and would go through it once for each call. It
//! lets a program jump only to one for functions of its own type (6.12.y), and there may be two types:
//! calls that a kernel can be built without name their argument differently.
//!
//! From 6.13 on the kernel gives a program its own stack for each CPU. It keeps a program from being entered
//! twice on one CPU where it is *attached*, not where it is jumped to: a thread that is put off in there
//! would find its stack overwritten by the next thread's, and what was a kernel pointer might be
//! anything. Programs that may jump themselves have no such stack, so these may.

use aya_ebpf::{
    macros::{fexit, map},
    maps::ProgramArray,
    programs::FExitContext,
};

use super::registers::Registers;
use crate::{
    emit,
    maps::selection,
    more,
    moved::SOCKET,
    syscall::{self, Call},
};

/// [`fexit_file_finished`] and [`fexit_file_more`], put there by the agent.
#[map]
static FEXIT_FILES: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// [`fexit_socket_finished`] and [`fexit_socket_more`], or the other ones where the kernel takes them.
#[map]
static FEXIT_SOCKETS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Slots of both.
const FINISHED: u32 = 0;
const MORE: u32 = 1;

/// Never attached: the way of all the others on.
#[fexit]
pub fn fexit_file_finished(ctx: FExitContext) -> i32 {
    finished(&ctx, &FEXIT_FILES)
}

/// The same for functions of the other type.
#[fexit]
pub fn fexit_socket_finished(ctx: FExitContext) -> i32 {
    finished(&ctx, &FEXIT_SOCKETS)
}

/// `own` is the map that leads here.
#[inline(always)]
fn finished(ctx: &FExitContext, own: &ProgramArray) -> i32 {
    let (tgid, tid) = emit::current();
    let regs: *const u8 = ctx.arg(0);
    // The word behind the arguments is the result; `ctx.ret()` would need a helper of 5.17.
    let result: i64 = ctx.arg(1);
    if result == i64::MIN {
        // SAFETY: nothing here waits to be dropped. No call has this result: that the jump stands here is
        // what keeps the stack shared by nobody (see the module).
        unsafe { own.tail_call(ctx, FINISHED) };
        return 0;
    }
    // SAFETY: the kernel passes a `struct pt_regs`, in which `Registers` stands at `OFFSET`.
    unsafe {
        let regs = regs.add(Registers::OFFSET).cast::<Registers>();
        if let Some(nr) = Registers::nr(regs) {
            let args = Registers::args(regs);
            if syscall::finished(&Call { nr, args, result, begin_ns: 0, tgid, tid }) {
                // Returns only where it fails, and it does not: see `more`.
                own.tail_call(ctx, MORE);
            }
        }
    }
    0
}

/// Never attached: see [`more`].
#[fexit]
pub fn fexit_file_more(ctx: FExitContext) -> i32 {
    go_on(&ctx, &FEXIT_FILES)
}

/// The same for functions of the other type.
#[fexit]
pub fn fexit_socket_more(ctx: FExitContext) -> i32 {
    go_on(&ctx, &FEXIT_SOCKETS)
}

#[inline(always)]
fn go_on(ctx: &FExitContext, own: &ProgramArray) -> i32 {
    if more::of_thread::<SOCKET>(emit::current().1) {
        // SAFETY: nothing here waits to be dropped; as above.
        unsafe { own.tail_call(ctx, MORE) };
    }
    0
}

#[inline(always)]
fn jump(ctx: &FExitContext, to: &ProgramArray) -> i32 {
    if selection(emit::current().0) != 0 {
        // SAFETY: nothing here waits to be dropped. Returns only where it fails, and it does not: the
        // slot is filled before anything is attached.
        unsafe { to.tail_call(ctx, FINISHED) };
    }
    0
}

macro_rules! doors {
    ($to:ident: $($name:ident)*) => {
        $(
            #[fexit]
            pub fn $name(ctx: FExitContext) -> i32 {
                jump(&ctx, &$to)
            }
        )*
    };
}

doors! {
    FEXIT_FILES:
    fexit_read
    fexit_write
    fexit_close
    fexit_readv
    fexit_writev
    fexit_sendfile64
    fexit_splice
}

doors! {
    FEXIT_SOCKETS:
    fexit_connect
    fexit_accept
    fexit_sendto
    fexit_recvfrom
    fexit_sendmsg
    fexit_recvmsg
    fexit_shutdown
    fexit_accept4
    fexit_recvmmsg
    fexit_sendmmsg
}
