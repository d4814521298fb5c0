//! One program at the end of each entry function of the calls we want (`__x64_sys_read` ...), which
//! take a `struct pt_regs *` and return the call's result. Other calls are not touched.

use aya_ebpf::{macros::fexit, programs::FExitContext};

use super::registers::Registers;
use crate::{
    emit,
    maps::selection,
    syscall::{self, Call, nr},
};

#[inline(always)]
fn finished(ctx: &FExitContext, nr: u64) -> i32 {
    let (tgid, tid) = emit::current();
    if selection(tgid) == 0 {
        return 0;
    }
    let regs: *const u8 = ctx.arg(0);
    // The word behind the arguments is the result; `ctx.ret()` would need a helper of 5.17.
    let result: i64 = ctx.arg(1);
    // SAFETY: the kernel passes a `struct pt_regs`, in which `Registers` stands at `OFFSET`.
    let args = unsafe { Registers::args(regs.add(Registers::OFFSET).cast()) };
    syscall::finished(&Call { nr, args, result, begin_ns: 0, tgid, tid });
    0
}

macro_rules! doors {
    ($($name:ident = $nr:ident;)*) => {
        $(
            #[fexit]
            pub fn $name(ctx: FExitContext) -> i32 {
                finished(&ctx, nr::$nr)
            }
        )*
    };
}

doors! {
    fexit_read = READ;
    fexit_write = WRITE;
    fexit_close = CLOSE;
    fexit_readv = READV;
    fexit_writev = WRITEV;
    fexit_sendfile64 = SENDFILE;
    fexit_connect = CONNECT;
    fexit_accept = ACCEPT;
    fexit_sendto = SENDTO;
    fexit_recvfrom = RECVFROM;
    fexit_sendmsg = SENDMSG;
    fexit_recvmsg = RECVMSG;
    fexit_shutdown = SHUTDOWN;
    fexit_splice = SPLICE;
    fexit_accept4 = ACCEPT4;
    fexit_recvmmsg = RECVMMSG;
    fexit_sendmmsg = SENDMMSG;
}
