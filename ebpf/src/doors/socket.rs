//! Two programs in the kernel's socket layer (`sock_send_length` and `sock_recv_length`, from Linux 6.3),
//! which it passes once for each send and receive, whichever call asked for it. Calls on anything else,
//! and all other calls, cost nothing; the socket is at hand and need not be looked for.
//!
//! What this door does not show, and what is done instead:
//! - accept and connect: a connection is met at its first bytes; what the kernel counted of it until then
//!   tells who opened it and whether these are its first ([`connection::met`]).
//! - `splice` from a socket: tcp(7) moves the bytes without a receive. TCP counts them: they are a hole in
//!   the positions. So are bytes for which the kernel left out a run of these programs.
//! - the close of a Unix socket: whether one has ended is looked at when others need its place.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_task_btf, bpf_skc_to_tcp_sock, bpf_task_pt_regs},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use remora_common::{
    connection::NOT_COUNTED,
    layout::ABSENT,
    record::{Direction, family},
};

use super::registers::Registers;
use crate::{
    connection,
    context::{self, Caller},
    emit, kernel,
    maps::{WORK, selection},
    more,
    moved::{Layout, Moved, SOCKET},
    offset,
    syscall::{self, Buffers, nr},
    transfer,
};

const RX: u8 = Direction::Rx as u8;
const TX: u8 = Direction::Tx as u8;

/// `sock_send_length(sk, result, flags)`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_sent(ctx: BtfTracePointContext) -> i32 {
    passed::<TX>(&ctx);
    0
}

/// `sock_recv_length(sk, result, flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_received(ctx: BtfTracePointContext) -> i32 {
    passed::<RX>(&ctx);
    0
}

/// A member of the kernel struct at `base`, a plain load: the verifier knows the type behind `base`.
///
/// # Safety
/// The kernel gave `base` out as a pointer to that struct. If it points nowhere the load yields zeros.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: by this function's contract.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

#[inline(always)]
fn passed<const DIRECTION: u8>(ctx: &BtfTracePointContext) {
    let (tgid, tid) = emit::current();
    let selection = selection(tgid);
    if selection == 0 {
        return;
    }
    let sk: *const u8 = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    let flags: u64 = ctx.arg(2);
    if DIRECTION == RX && flags & syscall::NOT_CONSUMED != 0 {
        return;
    }
    // SAFETY: the tracepoint's `struct sock`, and what hangs on it while its file is in use.
    let (inode, inet, upper) = unsafe {
        if load::<u16>(sk, offset!(sock_type)) != kernel::SOCK_STREAM {
            return;
        }
        let socket: *const u8 = load(sk, offset!(sock_socket));
        if socket.is_null() {
            return;
        }
        // A socket of the kernel's own has no file: that of a network file system, used in a read.
        let file: *const u8 = load(socket, offset!(socket_file));
        if file.is_null() {
            return;
        }
        let inode: *const u8 = load(file, offset!(file_inode));
        if inode.is_null() {
            return;
        }
        let family: u16 = load(sk, offset!(sock_family));
        let inode: u64 = load(inode, offset!(inode_ino));
        let upper: u64 = load(sk, offset!(sock_user_data));
        (inode, family == family::INET || family == family::INET6, upper)
    };
    let (fd, mut buffers) = asked::<DIRECTION>(flags);
    if result <= 0 {
        if let Some((cause, errno)) = syscall::stop(&buffers, result.into()) {
            connection::say(sk as u64, cause, errno);
        }
        return;
    }
    // Who uses rings may have this moved by one while it is in another call.
    if buffers.layout != Layout::Nowhere
        && uses_io_uring()
        && kernel::socket_of(fd).is_none_or(|socket| socket.sk != sk as u64)
    {
        buffers.layout = Layout::Nowhere;
    }
    let Some(work) = WORK.get_ptr_mut(DIRECTION.into()) else { return };
    // SAFETY: a map value that is this program's while it runs.
    let work = unsafe { &mut *work };
    work.moved = Moved {
        fd,
        direction: DIRECTION.into(),
        layout: buffers.layout,
        source: SOCKET.into(),
        count: buffers.count as u32,
        base: buffers.base,
        len: result as u64,
        rest: 0,
        begin_ns: 0,
        seq: if inet && upper == 0 { counted::<DIRECTION>(sk) } else { NOT_COUNTED },
        tgid,
        tid,
        context: if context::is_followed(selection) { unit(selection, tgid) } else { 0 },
    };
    work.sk = sk as u64;
    if transfer::moved_on(work, inode, inet.into()) {
        more::jump(ctx);
    }
}

/// Never attached: see [`more`]. One for both.
#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_more(ctx: BtfTracePointContext) -> i32 {
    if more::at_hand::<SOCKET>(emit::current().1) {
        more::jump(&ctx);
    }
    0
}

/// What TCP has counted, as [`Moved::seq`] has it, or [`NOT_COUNTED`] where a layer between it and the process (TLS
/// in the kernel; a socket map, whose mark is `sk_user_data`) moves other bytes than the process does.
#[inline(always)]
fn counted<const DIRECTION: u8>(sk: *const u8) -> u64 {
    // SAFETY: the tracepoint's `struct sock`; the helper tells whether a `struct tcp_sock` is around it.
    unsafe {
        let tcp = bpf_skc_to_tcp_sock(sk.cast_mut().cast()).cast::<u8>().cast_const();
        if tcp.is_null() || load::<u64>(tcp, offset!(icsk_ulp_ops)) != 0 {
            return NOT_COUNTED;
        }
        let read: u32 = load(tcp, offset!(tcp_copied_seq));
        let written: u32 = load(tcp, offset!(tcp_write_seq));
        let (own, other) = if DIRECTION == RX { (read, written) } else { (written, read) };
        u64::from(other) << 32 | u64::from(own)
    }
}

/// Descriptor and buffers of the system call that the thread is in, if it is one that names them.
#[inline(always)]
fn asked<const DIRECTION: u8>(flags: u64) -> (u32, Buffers) {
    let direction = if DIRECTION == RX { Direction::Rx } else { Direction::Tx };
    let nowhere = (0, syscall::nowhere(direction));
    // SAFETY: helpers of Linux 5.15; the registers of user space at the call.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    // SAFETY: a `struct pt_regs`, in which `Registers` stands at `OFFSET`.
    let (number, [a0, a1, a2, _]) = unsafe {
        let regs = regs.add(Registers::OFFSET).cast::<Registers>();
        let Some(number) = Registers::nr(regs) else { return nowhere };
        (number, Registers::args(regs))
    };
    let buffers = match (number, DIRECTION) {
        (nr::READ | nr::RECVFROM, RX) | (nr::WRITE | nr::SENDTO, TX) => {
            syscall::flat(direction, a1, a2)
        }
        (nr::READV, RX) | (nr::WRITEV, TX) => syscall::pieces(direction, a1, a2),
        (nr::RECVMSG, RX) | (nr::SENDMSG, TX) => syscall::message(direction, a1),
        // Moved inside the kernel; or one of several messages, and which is not known; or a ring's.
        _ => return nowhere,
    };
    (a0 as u32, if DIRECTION == RX { syscall::thrown_away(buffers, flags) } else { buffers })
}

/// The unit that makes the system call.
#[inline(always)]
fn unit(selection: u8, tgid: u32) -> u64 {
    // SAFETY: helpers of Linux 5.15; the registers of user space at the call.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    let [register, stack_pointer] = Registers::CALLER;
    // SAFETY: a `struct pt_regs`, in which both stand there.
    let caller = unsafe {
        Caller {
            register: load(regs, register as u32),
            stack_pointer: load(regs, stack_pointer as u32),
        }
    };
    context::unit(selection, tgid, caller)
}

/// Whether the process has an `io_uring`.
#[inline(always)]
fn uses_io_uring() -> bool {
    // SAFETY: the helper has no preconditions; the task that runs.
    offset!(task_io_uring) != ABSENT
        && unsafe { load::<u64>(bpf_get_current_task_btf().cast(), offset!(task_io_uring)) } != 0
}
