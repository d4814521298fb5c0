//! Remora's kernel programs: see what selected processes move over sockets, copy the heads of it,
//! and say where in the stream each piece stood.
//!
//! ```text
//! doors/        how a finished system call is seen      -> syscall.rs  which bytes it moved
//! capture.rs    what of them is copied                  -> emit.rs     into the ring
//! connection.rs which connection they belong to         -> kernel.rs   read from kernel memory
//! openssl.rs    the same for bytes that a TLS library encrypts
//! lifecycle.rs  fork, exec, exit, listen, connection states
//! ```
#![no_std]
#![no_main]

mod capture;
mod connection;
mod copy;
mod doors;
mod emit;
mod kernel;
mod lifecycle;
mod maps;
mod openssl;
mod scan;
mod syscall;
mod user;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// `bpf_probe_read_*` are for GPL-compatible programs; the sources are `Apache-2.0 OR MIT`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
