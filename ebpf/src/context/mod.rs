//! In which execution context a process moves bytes, and who takes over whose ([`remora_common::context`]): what user space has
//! a request's children found by. One file per runtime; which one a process has, the agent has said in the process's
//! byte ([`remora_common::target::runtime`]). Of threads nothing is to be found: a record has their number.
//!
//! A runtime answers three questions:
//! - At a call ([`Caller`]): which unit runs? The registers tell.
//! - Of bytes that were moved ([`context_of`]): what context is that? The unit that reads a request on a connection of a server begins
//!   another work with it.
//! - At functions of its own: which unit starts another one, and which one asks for what another one writes?

pub mod go;
mod tokio;
mod work;

use remora_common::{
    connection::Connection,
    context::context,
    policy,
    record::{Direction, Role},
    target,
};

use self::work::Unit;
use crate::{
    maps::selection,
    moved::{Moved, SOCKET},
};

/// Who makes a call, by the registers of user space at the call.
#[derive(Clone, Copy)]
pub struct Caller {
    /// The register that a runtime has for what runs.
    pub register: u64,
    pub stack_pointer: u64,
}

/// Whether it matters who makes calls in a process of this byte.
#[inline(always)]
pub fn is_followed(selection: u8) -> bool {
    selection & target::RUNTIME != 0
}

/// The number of the unit of the process `tgid` that makes a call; 0: it is not one of the runtime's.
#[inline(always)]
pub fn unit(selection: u8, tgid: u32, caller: Caller) -> u64 {
    match go::layout(selection) {
        Some(layout) => go::running(layout, caller),
        None => tokio::running(selection, tgid),
    }
}

/// The context of the bytes of `moved`, which the unit `moved.context` has moved on `connection` and which are not counted yet.
#[inline(always)]
pub fn context_of(moved: &Moved, connection: &Connection, sk: u64) -> u64 {
    if moved.context == 0 { 0 } else { context_of_unit(moved, connection, sk) }
}

/// The context of plaintext that a function of a TLS library has moved; `moved.context` is the unit if the library's file knows it.
///
/// VERIFIER: a function of its own, so that what comes after it is verified once.
#[inline(never)]
pub fn context_of_plaintext(moved: &mut Moved, connection: &Connection, sk: u64) {
    if moved.context == 0 {
        moved.context = tokio::running(selection(moved.tgid), moved.tgid);
    }
    moved.context = context_of(moved, connection, sk);
}

/// VERIFIER: a function of its own, so that what comes after it is verified once.
#[inline(never)]
fn context_of_unit(moved: &Moved, connection: &Connection, sk: u64) -> u64 {
    let mover = Unit::new(moved.context, moved.tgid);
    let receives = moved.direction == Direction::Rx as u32;
    let serves = connection.role == Role::Server as u8;
    // What a TLS library encrypts is told of where the library moves it. Of answers it does not matter who moves them.
    let is_ciphertext = moved.source == SOCKET.into()
        && (connection.object != 0 || connection.policy == policy::CIPHERTEXT);
    if receives != serves || is_ciphertext {
        return context(mover.id, 0);
    }
    if serves {
        return work::reads_request(&mover, moved, connection, sk);
    }
    let for_others = match go::layout(selection(moved.tgid)) {
        Some(_) => work::tied(sk, connection),
        None => tokio::writes(&mover, moved, connection, sk),
    };
    for_others.unwrap_or_else(|| work::writes(&mover))
}
