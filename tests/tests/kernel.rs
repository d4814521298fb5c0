//! The kernel programs by themselves: this test process is their target.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aya::programs::ProgramInfo;
use remora::bpf::Door;
use remora_common::record::{CloseCause, Direction, Role, data_flag};
use remora_tests::{
    lab::{Fragment, Lab, doors, exactly, pair, ways},
    process::until,
    skip,
};

#[test]
fn every_door_that_opens_tells_the_same() {
    if skip::without_root() {
        return;
    }
    let doors = doors();
    assert!(!doors.is_empty(), "no door opens");
    for door in doors {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        client.write_all(b"GET /door HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        exactly(&mut server, 31);
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        exactly(&mut client, 40);
        drop((client, server));
        let seen = lab.seen();
        assert!(seen.joined.is_empty(), "{door:?}");
        let (client, server) = (seen.connection(Role::Client), seen.connection(Role::Server));
        for (conn_id, tx, rx) in [(client, 31, 40), (server, 40, 31)] {
            assert_eq!(seen.contiguous(conn_id, Direction::Tx), tx, "{door:?}");
            assert_eq!(seen.contiguous(conn_id, Direction::Rx), rx, "{door:?}");
            assert!(seen.closed.contains(&(conn_id, CloseCause::Gone)), "{:?}", seen.closed);
        }
        assert_eq!(seen.text(Direction::Rx).matches("GET /door").count(), 1);
    }
}

#[test]
fn an_unselected_process_yields_nothing() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        lab.targets.set(std::process::id(), 0);
        let (mut client, mut server) = pair();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server, 18);
        drop((client, server));
        let seen = lab.seen();
        assert!(
            seen.data.is_empty() && seen.opened.is_empty() && seen.closed.is_empty(),
            "{seen:?}"
        );
    }
}

#[test]
fn content_behind_a_head_is_counted_and_not_copied() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        server.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        server.write_all(&[b'x'; 5000]).unwrap();
        server.write_all(b"\r\n0\r\n\r\n").unwrap();
        exactly(&mut client, 47 + 5000 + 7);
        let seen = lab.seen();
        let conn_id = seen.connection(Role::Server);
        assert_eq!(seen.contiguous(conn_id, Direction::Tx), 47 + 5000 + 7);
        let sent: Vec<&Fragment> = seen.of(Direction::Tx).collect();
        assert_eq!(sent.iter().map(|f| f.head.len()).collect::<Vec<_>>(), [47, 0, 0]);
        assert_eq!(sent[1].flags & data_flag::TAIL, data_flag::TAIL);
        assert_eq!(&sent[1].tail, b"xxxxxxxx");
        assert_eq!(&sent[2].tail[1..], b"\r\n0\r\n\r\n");
    }
}

#[test]
fn a_long_head_is_copied_to_its_end() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let head =
            format!("GET / HTTP/1.1\r\ncookie: {}\r\ntraceparent: t\r\n\r\n", "c".repeat(40_000));
        let writer = std::thread::spawn(move || {
            client.write_all(head.as_bytes()).unwrap();
            (client, head)
        });
        exactly(&mut server, 40_000 + 16 + 8 + 2 + 16 + 2);
        let (_client, head) = writer.join().unwrap();
        let seen = lab.seen();
        for direction in [Direction::Tx, Direction::Rx] {
            assert_eq!(seen.text(direction).len(), head.len(), "{direction:?}");
            assert_eq!(seen.text(direction), head, "{direction:?}");
        }
    }
}

#[test]
fn pieces_of_a_writev_are_one_run_of_bytes() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        let pieces: Vec<std::io::IoSlice<'_>> =
            head.chunks(5).chain([&b"abc"[..]]).map(std::io::IoSlice::new).collect();
        let len = server.write_vectored(&pieces).unwrap();
        assert_eq!(len, head.len() + 3);
        exactly(&mut client, len);
        let seen = lab.seen();
        assert_eq!(seen.text(Direction::Tx).as_bytes(), [&head[..], b"abc"].concat());
        assert_eq!(seen.text(Direction::Rx), seen.text(Direction::Tx));
    }
}

#[test]
fn peeked_bytes_count_once_and_bytes_thrown_away_count() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n0123456789").unwrap();
        let mut bytes = [0; 64];
        server.peek(&mut bytes).unwrap();
        exactly(&mut server, 18);
        // SAFETY: with MSG_TRUNC nothing is written; the descriptor is open.
        let thrown =
            unsafe { libc::recv(server.as_raw_fd(), std::ptr::null_mut(), 10, libc::MSG_TRUNC) };
        assert_eq!(thrown, 10);
        let seen = lab.seen();
        let conn_id = seen.connection(Role::Server);
        assert_eq!(seen.contiguous(conn_id, Direction::Rx), 28);
        let last = seen.of(Direction::Rx).last().unwrap();
        assert_eq!((last.total_len, last.head.len()), (10, 0));
    }
}

#[test]
fn a_duplicated_descriptor_is_the_same_connection() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let mut again = server.try_clone().unwrap();
        client.write_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server, 19);
        exactly(&mut again, 19);
        let seen = lab.seen();
        let conn_id = seen.connection(Role::Server);
        assert_eq!(seen.contiguous(conn_id, Direction::Rx), 38);
    }
}

#[test]
fn a_connection_that_was_open_before_counts_from_where_it_is_seen() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let (mut client, mut server) = pair();
        client.write_all(b"GET /0 HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server, 19);
        let mut lab = Lab::new(door);
        client.write_all(b"GET /1 HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server, 19);
        server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        exactly(&mut client, 27);
        let seen = lab.seen();
        let roles: Vec<Role> = seen.opened.iter().map(|opened| opened.1).collect();
        // The socket layer tells what the calls that are over do not.
        let known = [Role::Client, Role::Server];
        assert_eq!(roles, if door == Door::Socket { known } else { [Role::Unknown; 2] });
        assert_eq!(seen.joined.len(), 2);
        for (conn_id, tx, rx) in [(seen.opened[0].0, 19, 27), (seen.opened[1].0, 27, 19)] {
            assert_eq!(seen.contiguous(conn_id, Direction::Tx), tx);
            assert_eq!(seen.contiguous(conn_id, Direction::Rx), rx);
        }
    }
}

#[test]
fn a_file_sent_in_the_kernel_is_counted() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'f'; 3000]).unwrap();
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n").unwrap();
        let mut offset = 0;
        // SAFETY: open descriptors and a live offset.
        let sent =
            unsafe { libc::sendfile(server.as_raw_fd(), file.as_raw_fd(), &raw mut offset, 3000) };
        assert_eq!(sent, 3000);
        exactly(&mut client, 41 + 3000);
        let seen = lab.seen();
        assert_eq!(seen.contiguous(seen.connection(Role::Server), Direction::Tx), 3041);
        let last = seen.of(Direction::Tx).last().unwrap();
        assert_eq!(
            (last.total_len, last.flags & data_flag::IN_KERNEL),
            (3000, data_flag::IN_KERNEL)
        );
    }
}

/// TCP counts the end of a stream as a byte, in the receive of the bytes that it came with.
#[test]
fn the_end_of_a_stream_is_no_byte() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        exactly(&mut server, 18);
        server.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        server.write_all(b"all").unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        let seen = lab.seen();
        let received = seen.contiguous(seen.connection(Role::Client), Direction::Rx);
        assert_eq!((received, answer.len()), (22, 22), "{door:?}");
    }
}

/// Moves `len` bytes out of a socket without a receive.
fn splice(socket: &TcpStream, len: usize) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut left = len;
    while left > 0 {
        let (from, to, none) = (socket.as_raw_fd(), writer.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: open descriptors, no offsets.
        let moved = unsafe { libc::splice(from, none, to, none, left, 0) };
        left -= usize::try_from(moved).unwrap();
    }
    exactly(&mut reader, len);
}

/// The kernel moves such bytes without a receive; TCP counts them.
#[test]
fn bytes_that_leave_a_socket_unseen_are_a_hole_in_its_positions() {
    if skip::without_root() || !ways().contains(&Door::Socket) {
        return;
    }
    for answered in [false, true] {
        let mut lab = Lab::new(Door::Socket);
        let (mut client, mut server_end) = pair();
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 3000\r\n\r\n").unwrap();
        exactly(&mut server_end, 41);
        client.write_all(&[b'c'; 3000]).unwrap();
        splice(&server_end, 3000);
        if answered {
            server_end.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            exactly(&mut client, 27);
        }
        client.write_all(b"GET /next HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server_end, 22);
        let seen = lab.seen();
        assert_eq!(seen.contiguous(seen.connection(Role::Client), Direction::Tx), 41 + 3000 + 22);
        let server = seen.connection(Role::Server);
        let received = seen.of(Direction::Rx).filter(|fragment| fragment.conn_id == server);
        let before_turn = if answered { data_flag::MISSING_BEFORE_TURN } else { 0 };
        assert_eq!(
            received.map(|fragment| (fragment.pos, fragment.flags)).collect::<Vec<_>>(),
            [(0, 0), (41 + 3000, before_turn)]
        );
        client.write_all(&[b'x'; 500]).unwrap();
        splice(&server_end, 500);
        drop((server_end, client));
        let mut gone = Vec::new();
        until("the server's end to be gone", || {
            gone.extend(lab.seen().gone.into_iter().filter(|(conn_id, _)| *conn_id == server));
            !gone.is_empty()
        });
        let sent = if answered { 27 } else { 0 };
        assert_eq!(gone, [(server, [41 + 3000 + 22 + 500, sent])]);
    }
}

#[test]
fn unix_sockets_are_followed_to_their_close() {
    if skip::without_root() {
        return;
    }
    let mut lab = Lab::new(Door::SysExitRaw);
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let mut client = UnixStream::connect(folder.path().join("socket")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    exactly(&mut server, 18);
    drop(client);
    let mut nothing = [0; 1];
    assert_eq!(server.read(&mut nothing).unwrap(), 0);
    drop(server);
    let seen = lab.seen();
    let (client, server) = (seen.connection(Role::Client), seen.connection(Role::Server));
    assert_eq!(seen.contiguous(server, Direction::Rx), 18);
    assert!(seen.closed.contains(&(client, CloseCause::Gone)), "{:?}", seen.closed);
    assert!(seen.closed.contains(&(server, CloseCause::EndOfFile)), "{:?}", seen.closed);
    assert!(seen.closed.contains(&(server, CloseCause::Gone)), "{:?}", seen.closed);
}

/// Nothing tells of their close where only sends and receives are seen.
#[test]
fn unix_sockets_that_ended_give_their_place_to_others() {
    if skip::without_root() || !ways().contains(&Door::Socket) {
        return;
    }
    let mut lab = Lab::new(Door::Socket);
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let mut exchange = |mut client: &UnixStream, mut server: &UnixStream| {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        exactly(&mut server, 18);
        lab.seen()
    };
    let pair = || {
        let client = UnixStream::connect(folder.path().join("socket")).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let lasting = pair();
    let first = exchange(&lasting.0, &lasting.1);
    let roles: Vec<Role> = first.opened.iter().map(|opened| opened.1).collect();
    assert_eq!(roles, [Role::Client, Role::Server]);
    assert!(first.joined.is_empty());
    let mut closed = 0;
    // Twice as many as there is room for, with no drop (`seen` looks).
    for _ in 0..5000 {
        let (client, server) = pair();
        let seen = exchange(&client, &server);
        assert_eq!(seen.opened.len(), 2);
        closed += seen.closed.len();
    }
    assert!(closed > 5000, "{closed} of 10,000 ends seen");
    let again = exchange(&lasting.0, &lasting.1);
    assert!(again.opened.is_empty(), "a connection that lives has lost its place");
    assert_eq!(again.data[0].conn_id, first.opened[0].0);
    assert_eq!(again.data[0].pos, 18);
}

/// On a kernel that preempts itself a thread may be put off in the middle of a program, and the next one
/// runs it on the same processor: nothing of the first may be left to the second.
#[test]
fn threads_that_are_put_off_in_a_program_are_kept_apart() {
    if skip::without_root() {
        return;
    }
    // What all of them do in one turn fits into the ring.
    const PAIRS: usize = 8;
    const ROUNDS: usize = 200;
    const TURNS: usize = 4;
    for door in doors() {
        let mut lab = Lab::new(door);
        for _ in 0..TURNS {
            (0..PAIRS)
                .flat_map(|number| talk(number, ROUNDS))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            let mut owners = HashMap::new();
            for fragment in lab.seen().data {
                let head = String::from_utf8_lossy(&fragment.head).into_owned();
                let Some((_, rest)) = head.split_once("n=") else { continue };
                let number = rest.split(';').next().unwrap_or_default().to_owned();
                let owner = owners.entry(fragment.conn_id).or_insert_with(|| number.clone());
                assert_eq!(*owner, number, "{door:?}: two connections in one");
            }
            assert_eq!(owners.len(), 2 * PAIRS, "{door:?}");
        }
    }
}

/// A client and a server that say their number in each of so many messages.
fn talk(number: usize, rounds: usize) -> [JoinHandle<()>; 2] {
    let (mut client, mut server) = pair();
    let request = format!("GET /n={number}; HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: n={number};\r\n\r\n");
    let (sent, answered) = (request.len(), answer.len());
    let client = std::thread::spawn(move || {
        for _ in 0..rounds {
            client.write_all(request.as_bytes()).unwrap();
            exactly(&mut client, answered);
        }
    });
    let server = std::thread::spawn(move || {
        for _ in 0..rounds {
            exactly(&mut server, sent);
            server.write_all(answer.as_bytes()).unwrap();
        }
    });
    [client, server]
}

/// All programs in the kernel.
fn loaded() -> Vec<ProgramInfo> {
    aya::programs::loaded_programs().filter_map(Result::ok).collect()
}

fn ids() -> Vec<u32> {
    loaded().iter().map(ProgramInfo::id).collect()
}

/// The verifier gives up after a million instructions, and each costs time when the agent starts.
#[test]
fn programs_stay_far_from_the_verifiers_limit() {
    if skip::without_root() {
        return;
    }
    for door in doors() {
        let before = ids();
        let start = Instant::now();
        let _lab = Lab::new(door);
        let took = start.elapsed();
        let ours = loaded().into_iter().filter(|program| !before.contains(&program.id()));
        let counts: Vec<(String, u32)> = ours
            .filter_map(|program| {
                let name = program.name_as_str().unwrap_or_default().to_owned();
                Some((name, program.verified_instruction_count()?))
            })
            .collect();
        let most = counts.iter().map(|(_, count)| *count).max();
        let all: u32 = counts.iter().map(|(_, count)| count).sum();
        // Since 5.16 the kernel tells.
        println!("{}: {took:?}, {all} instructions verified: {counts:?}", door.as_str());
        assert!(most.unwrap_or(0) < 80_000, "{counts:?}");
    }
}

#[test]
fn nothing_stays_attached() {
    if skip::without_root() {
        return;
    }
    let before = ids();
    let lab = Lab::new(Door::SysExitRaw);
    let ours: Vec<u32> = ids().into_iter().filter(|id| !before.contains(id)).collect();
    assert!(!ours.is_empty());
    let start = Instant::now();
    drop(lab);
    let took = start.elapsed();
    until("the kernel to free the programs", || ids().iter().all(|id| !ours.contains(id)));
    println!("detached in {took:?}");
    assert!(took < remora_tests::process::patient(Duration::from_secs(3)));
}
