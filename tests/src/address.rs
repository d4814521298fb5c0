//! Loopback addresses that nothing else on this machine has: a port there that is free now is free
//! later too. On 127.0.0.1 it may become the near end of anybody's connection meanwhile.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// A listener on one; the caller may drop it and have the address bound again.
///
/// # Panics
/// If there is no free port.
#[must_use]
pub fn listener() -> (TcpListener, SocketAddr) {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 100 + LAST.fetch_add(1, Relaxed) % 100, high, low | 1);
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}
