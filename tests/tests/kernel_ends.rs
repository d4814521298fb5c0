//! How connections end: each end is told once, as soon as it is there. This test process is the target.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    os::fd::AsRawFd,
};

use remora_common::record::{CloseCause, Role};
use remora_tests::{
    lab::{Lab, exactly, pair, ways},
    skip,
};

/// A way to end a connection whose client has not read what the server answered.
type End = fn(TcpStream, TcpStream);

const ENDS: [(&str, End); 5] = [
    ("closed with unread bytes", |client, server| drop((client, server))),
    ("closed behind a shutdown, with unread bytes", |client, server| {
        client.shutdown(Shutdown::Both).unwrap();
        drop((client, server));
    }),
    ("reset", |client, server| {
        linger(&client);
        drop((client, server));
    }),
    ("reset by its server", |client, server| {
        linger(&server);
        drop((server, client));
    }),
    ("reset, and the server sends again", |client, mut server| {
        linger(&client);
        drop(client);
        server.write_all(b"more").unwrap_err();
    }),
];

/// `close` sends a reset.
fn linger(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of_val(&linger) as libc::socklen_t;
    // SAFETY: the option's own type and size.
    let result = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len)
    };
    assert_eq!(result, 0);
}

#[test]
fn a_connection_with_unread_bytes_ends_when_it_is_closed() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for (what, end) in ENDS {
            let (mut client, mut server) = pair();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            exactly(&mut server, 18);
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            end(client, server);
            let seen = lab.seen();
            for role in [Role::Client, Role::Server] {
                let id = seen.connection(role);
                let gone = seen.closed.iter().filter(|end| **end == (id, CloseCause::Gone));
                assert_eq!(gone.count(), 1, "{door:?}: {what}: {role:?}: {:?}", seen.closed);
            }
        }
    }
}
