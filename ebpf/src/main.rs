//! Remora's kernel programs: see what selected processes move over sockets, copy the heads of it,
//! and say where in the stream each piece stood.
//!
//! ```text
//! doors/        how a finished system call is seen      -> syscall.rs  which bytes it moved
//! transfer.rs   on which connection, and who is told    -> connection/ state of each connection
//! capture.rs    what of them is copied                  -> copy.rs, emit.rs  into the ring
//! more.rs       more of a call than its first bytes     -> walk.rs    which of its frames are wanted
//! context/      who makes a call: goroutines            -> golang.rs  what Go has where
//! tls/          the same for bytes that a TLS library encrypts
//! lifecycle.rs  fork, exec, exit, listen, connection states  -> process.rs  what is kept of processes
//! moved.rs      what these hand on      maps.rs, kernel.rs, user.rs  memory: shared, the kernel's, the process's
//! ```
#![no_std]
#![no_main]

mod capture;
mod connection;
mod context;
mod copy;
mod doors;
mod emit;
mod golang;
mod kernel;
mod lifecycle;
mod maps;
mod more;
mod moved;
mod process;
mod scan;
mod syscall;
mod tls;
mod transfer;
mod user;
mod walk;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// `bpf_probe_read_*` are for GPL-compatible programs; the sources are `Apache-2.0 OR MIT`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
