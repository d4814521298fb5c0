//! What a process does by ways that are not seen, as far as it can be told without tracing it.
//!
//! Which calls a program is going to make (`preadv2`, `recvmmsg`, `SSL_sendfile`) nothing tells beforehand.

use std::{fs::File, path::Path};

use procfs::process::{FDTarget, Process};
use serde::Serialize;

use crate::discover::is_32_bit;

/// A way by which a process moves bytes that yield no spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub what: &'static str,
    pub reason: &'static str,
}

const COMPAT: Unseen = Unseen {
    what: "32-bit",
    reason: "its calls have other numbers: at best their bytes are counted, no spans",
};
const IO_URING: Unseen = Unseen {
    what: "io_uring",
    reason: "what a ring moves on sockets is counted by the socket door and not seen by others, no spans; other calls are \
             seen",
};

/// Of `process`, in this order.
pub(super) fn of(process: &Process) -> Vec<Unseen> {
    let exe = format!("/proc/{}/exe", process.pid());
    let compat = File::open(Path::new(&exe)).and_then(is_32_bit).unwrap_or(false);
    // One that may not be read is no ring that is known of.
    let ring = process.fd().is_ok_and(|descriptors| {
        descriptors
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::AnonInode(kind) if kind.contains("io_uring")))
    });
    [(compat, COMPAT), (ring, IO_URING)]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, way)| way)
        .collect()
}
