//! Plaintext that a function of a TLS library has moved, of whichever library.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    macros::{map, uprobe},
    maps::ProgramArray,
    programs::ProbeContext,
};
use remora_common::{connection::Connection, counter::Counter, layout::ABSENT};

use crate::{
    capture, context, emit, maps, more,
    moved::{LIBRARY_PIECES, Moved, Next, ON_STACK},
    offset, user,
};

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

/// Accounts for the bytes of `moved`, which `connection` carries, whose socket is `sk`. `true`: jump to [`more`].
#[inline(always)]
pub fn account<const SOURCE: u8>(mut moved: Moved, connection: &mut Connection, sk: u64) -> bool {
    if context::is_followed(maps::selection(moved.tgid)) {
        context::context_of_plaintext(&mut moved, connection, sk);
    }
    user::launder(&mut moved);
    let mut piece = MaybeUninit::uninit();
    match capture::account::<SOURCE, ON_STACK>(&moved, &mut piece, connection, sk, 0) {
        Next::Nothing | Next::Encrypted => false,
        // SAFETY: written, or there would be nothing more of it.
        Next::More => more::leave::<SOURCE>(&moved, unsafe { piece.assume_init_mut() }, sk),
    }
}

/// Plaintext whose connection is not known, or that is not as it should be, is counted and not sent: `false`.
#[inline(always)]
pub fn unlinked() -> bool {
    maps::count(Counter::TlsUnlinked);
    false
}

/// Never attached: see [`more`].
#[uprobe]
pub fn tls_more(ctx: ProbeContext) -> u32 {
    if more::of_thread::<LIBRARY_PIECES>(emit::current().1) {
        more::jump_tls(&ctx);
    }
    0
}
