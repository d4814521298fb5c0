//! Go: the unit is the goroutine.
//!
//! A register has the address of its `runtime.g` (Go's internal ABI: from Go 1.17 on amd64, from 1.18 on arm64), also at a system
//! call, which is made on the goroutine's own stack.
//!
//! - The goroutine that reads a request from a connection handles it, and so do those that it starts while it does
//!   (`runtime.newproc.func1`, at the call that makes the new one runnable).
//! - `net/http`'s server has a second goroutine read ahead, one byte, to see whether the client has gone. If that is the next
//!   request's first byte, the handler may still be busy with the last one: it begins the next one when it reads itself.
//! - `net/http`'s client writes on a goroutine of the connection (`writeLoop`). For whom, is said when `roundTrip` is called
//!   with the connection, which it has for itself until the response is read.
//! - Of HTTP/2 and gRPC see [`streams`].

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use remora_common::{context::Go, target::runtime};

use super::{
    Caller,
    work::{self, Unit, Work},
};
use crate::{
    emit,
    golang::{registers, socket_below},
    maps::selection,
    tls::own_stack,
    user::read_user,
};

mod streams;

/// Where the Go of a process of this byte keeps things.
#[inline(always)]
pub fn layout(selection: u8) -> Option<Go> {
    // VERIFIER: no array, of which it would bound the index.
    match runtime(selection) {
        1 => Some(Go::ALL[0]),
        2 => Some(Go::ALL[1]),
        3 => Some(Go::ALL[2]),
        _ => None,
    }
}

/// The id of the goroutine that makes a call; 0: none does. C code, which may have anything in that register, runs on another stack.
#[inline(always)]
pub fn running(layout: Go, caller: Caller) -> u64 {
    // `g.stack`
    let Some([low, high]) = read_user::<[u64; 2]>(caller.register) else { return 0 };
    if caller.stack_pointer < low || caller.stack_pointer >= high {
        return 0;
    }
    id_of(layout, caller.register)
}

#[inline(always)]
fn id_of(layout: Go, g: u64) -> u64 {
    read_user(g.wrapping_add(layout.goid.into())).unwrap_or(0)
}

/// The goroutine whose `runtime.g` is at `g`, as a function of Go has it in a register, in a process of this byte; 0: it is not
/// known where it has its id.
#[inline(always)]
pub fn goroutine(selection: u8, g: u64) -> u64 {
    layout(selection).map_or(0, |layout| id_of(layout, g))
}

/// In `runtime.newproc.func1`, at its call of `runtime.runqput(p, new, next)`, on a thread's own stack.
#[uprobe]
pub fn go_starts(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    let [_, new, _, g0] = registers(&ctx);
    let running = || read_user::<u64>(read_user::<u64>(g0 + Go::M)? + u64::from(layout.curg));
    let Some(parent) = running() else { return 0 };
    let parent = Unit::new(id_of(layout, parent), tgid);
    if parent.id == 0 {
        return 0;
    }
    let child = || Unit::new(id_of(layout, new), tgid);
    if let Some(of) = work::inherited(&parent) {
        let begins = read_user(new.wrapping_add(Go::PC)).unwrap_or(0);
        work::starts(&child(), &Work { begins, ..of });
    }
    streams::starts(&parent, child);
    0
}

/// `runtime.goexit0(goroutine)`, on a thread's own stack.
#[uprobe]
pub fn go_ends(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    work::ends(&Unit::new(id_of(layout, registers(&ctx)[0]), tgid));
    0
}

/// `net/http.(*persistConn).roundTrip(request)`.
#[uprobe]
pub fn go_round_trip(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let tgid = emit::current().0;
    let Some(layout) = layout(selection(tgid)) else { return 0 };
    let [connection, _, _, g] = registers(&ctx);
    let goroutine = Unit::new(id_of(layout, g), tgid);
    // An interface: its type, its value.
    let value = read_user::<u64>(connection + Go::PERSIST_CONN + 8);
    if goroutine.id != 0
        && let Some((_, socket)) = value.and_then(socket_below)
    {
        work::tie(socket.sk, socket.inode, work::asks(&goroutine));
    }
    0
}
