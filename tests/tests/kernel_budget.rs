//! How much the kernel programs copy: of a head all of it and not what follows in the same call, of a turn no more than its
//! limit. This test process is their target.

use std::{
    io::{IoSlice, Read, Write},
    net::TcpStream,
};

use remora::bpf::{Door, Options};
use remora_common::{
    policy::{self, EDGE_FIRST, EDGE_LAST, TURN_LIMIT, TURN_LIMIT_OF_ALL, UNDECIDED_LIMIT},
    record::{CLASS_LARGE, Direction, Role},
};
use remora_tests::{
    lab::{Fragment, Lab, Seen, doors, exactly, pair, ways},
    skip,
};

/// A request's head of `len` bytes.
fn head(len: usize) -> Vec<u8> {
    let (begin, end) = (b"PUT / HTTP/1.1\r\nx: ", b"\r\n\r\n");
    let fill = vec![b'h'; len - begin.len() - end.len()];
    [&begin[..], &fill, end].concat()
}

/// How the bytes of one message reach the kernel.
type Send = fn(&mut TcpStream, &[u8]);

/// From one buffer, and from several.
const WAYS_TO_SEND: [(&str, Send); 2] = [
    ("write", |stream, bytes| assert_eq!(stream.write(bytes).unwrap(), bytes.len())),
    ("writev", |stream, bytes| {
        let pieces: Vec<IoSlice<'_>> =
            bytes.chunks(bytes.len().div_ceil(7)).map(IoSlice::new).collect();
        assert_eq!(stream.write_vectored(&pieces).unwrap(), bytes.len());
    }),
];

/// Sends `messages`, each in a call of its own, with somebody who reads them.
fn send(way: Send, client: &mut TcpStream, server: &TcpStream, messages: &[&[u8]]) {
    let (mut server, len) = (server.try_clone().unwrap(), messages.iter().map(|m| m.len()).sum());
    let reader = std::thread::spawn(move || exactly(&mut server, len));
    for message in messages {
        way(client, message);
    }
    reader.join().unwrap();
}

/// What the client has sent in its latest calls, of `len` bytes together: the bytes that were copied of them.
fn copied(seen: &Seen, conn_id: u64, from: u64, len: usize) -> Vec<u8> {
    let mut copied = Vec::new();
    let mut pos = from;
    for fragment in seen.of(Direction::Tx).filter(|fragment| fragment.conn_id == conn_id) {
        assert_eq!(fragment.pos, pos, "positions follow each other");
        pos += fragment.total_len;
        copied.extend_from_slice(&fragment.head);
    }
    assert_eq!(pos, from + len as u64, "every byte is counted");
    copied
}

#[test]
fn a_head_is_copied_to_its_end_and_content_behind_it_in_the_same_call_is_not() {
    if skip::without_root() {
        return;
    }
    let content = vec![b'c'; 100_000];
    let ways = ways();
    for door in doors() {
        let all = [1500, 20_000, 40, 1023, 1024, 1025, 1027, 5119, 5120, 5122, 60_000];
        // Behind the doors the way is the same.
        let lens = if ways.contains(&door) { &all[..] } else { &all[..2] };
        let mut lab = Lab::new(door);
        for (name, way) in WAYS_TO_SEND {
            for &len in lens {
                let (mut client, server) = pair();
                let head = head(len);
                let message = [&head[..], &content].concat();
                send(way, &mut client, &server, &[&message]);
                let seen = lab.seen();
                let copied = copied(&seen, seen.connection(Role::Client), 0, message.len());
                assert!(copied.starts_with(&head), "{door:?}, {name}: a head of {len} bytes");
                let more = copied.len() - head.len();
                let piece = if len <= 1024 { EDGE_FIRST as usize } else { CLASS_LARGE };
                assert!(more < piece, "{door:?}, {name}: {more} bytes behind a head of {len}");
            }
        }
    }
}

#[test]
fn the_end_of_a_head_is_found_across_calls() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for (len, end) in [(40, "\r\n\r\n"), (40, "\n\n"), (1027, "\r\n\r\n"), (5122, "\r\n\r\n")] {
            for cut in 1..=end.len() {
                let (mut client, server) = pair();
                let mut first = head(len);
                first.truncate(len - 4);
                first.extend_from_slice(end.as_bytes());
                let second = first.split_off(first.len() - cut);
                let content = [b'c'; 300];
                let [write, _] = WAYS_TO_SEND;
                send(write.1, &mut client, &server, &[&first, &second, &content]);
                let seen = lab.seen();
                let all = first.len() + second.len() + content.len();
                let copied = copied(&seen, seen.connection(Role::Client), 0, all);
                let head = [&first[..], &second].concat();
                assert_eq!(copied.escape_ascii().to_string(), head.escape_ascii().to_string());
            }
        }
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_ends_as_well() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, server) = pair();
        let head = head(60);
        // The first of them tells what it is.
        let mut messages: Vec<&[u8]> = vec![&head[..8]];
        messages.extend(head[8..].chunks(1));
        let content = [b'c'; 50];
        messages.extend(content.chunks(1));
        let [write, _] = WAYS_TO_SEND;
        send(write.1, &mut client, &server, &messages);
        let seen = lab.seen();
        let copied = copied(&seen, seen.connection(Role::Client), 0, 60 + 50);
        assert_eq!(copied, head);
    }
}

/// Who answers before a request is complete begins a turn of its content.
#[test]
fn a_turn_that_begins_with_content_is_not_taken_for_a_head() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let [write, _] = WAYS_TO_SEND;
        send(write.1, &mut client, &server, &[&head(100), &[b'c'; 1000]]);
        server.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n").unwrap();
        exactly(&mut client, 38);
        let content = [b'c'; 100_000];
        send(write.1, &mut client, &server, &[&content, &content, &head(200)]);
        let seen = lab.seen();
        let client = seen.connection(Role::Client);
        let copied = copied(&seen, client, 0, 100 + 1000 + 200_000 + 200);
        let expected = [&head(100)[..], &content[..EDGE_FIRST as usize], &head(200)].concat();
        assert_eq!(copied.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

/// The other side may answer an earlier request while the next one is on its way.
#[test]
fn a_head_goes_on_in_the_next_turn() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let [write, _] = WAYS_TO_SEND;
        let (first, second) = (head(60), head(90));
        send(write.1, &mut client, &server, &[&[&first[..], &second[..50]].concat()]);
        server.write_all(b"HTTP/1.1 204 Ok\r\n\r\n").unwrap();
        exactly(&mut client, 19);
        send(write.1, &mut client, &server, &[&second[50..70], &second[70..], &[b'c'; 20]]);
        let seen = lab.seen();
        let copied = copied(&seen, seen.connection(Role::Client), 0, 60 + 90 + 20);
        assert_eq!(copied, [first, second].concat(), "{door:?}");
    }
}

/// Whatever the policy, and whatever the length of its fragments.
#[test]
fn of_one_turn_no_more_than_its_limit_is_copied() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for policy in [policy::UNDECIDED, policy::HEADS, policy::EDGES, policy::ALL] {
            let limit = match policy {
                policy::HEADS | policy::EDGES => TURN_LIMIT,
                policy::ALL => TURN_LIMIT_OF_ALL,
                _ => UNDECIDED_LIMIT,
            } as usize;
            for (len, count) in [(100, 4000), (1000, 400), (5000, 80), (400_000, 2)] {
                let (mut client, mut server) = pair();
                // Another turn, so that the connection is known.
                server.write_all(b"+").unwrap();
                exactly(&mut client, 1);
                for (conn_id, ..) in lab.seen().opened {
                    lab.verdicts.advise(conn_id, policy);
                }
                let mut message = vec![b'm'; len];
                if policy == policy::HEADS {
                    message[..5].copy_from_slice(b"GET /");
                }
                let messages = vec![&message[..]; count];
                let [write, _] = WAYS_TO_SEND;
                send(write.1, &mut client, &server, &messages);
                let seen = lab.seen();
                let what = format!("{door:?}: {count} calls of {len} bytes under policy {policy}");
                for direction in [Direction::Tx, Direction::Rx] {
                    let of = || seen.of(direction).filter(|f| f.total_len > 1);
                    let copied: usize = of().map(|f| f.head.len()).sum();
                    let edges = of().filter(|f| f.head.len() <= EDGE_LAST as usize).count();
                    let edges = edges * EDGE_LAST as usize;
                    assert!(copied <= limit + edges, "{what}: {copied} bytes {direction:?}");
                }
                // All that may be is.
                let sent: usize = seen.of(Direction::Tx).map(|f| f.head.len()).sum();
                match policy {
                    policy::HEADS => assert_eq!(sent, limit, "{what}"),
                    // Of one call as much as programs can go on for.
                    policy::ALL if len > limit => assert!(sent > limit / 3, "{what}: {sent}"),
                    policy::ALL => assert!(sent >= limit, "{what}: {sent}"),
                    policy::UNDECIDED => assert!(sent > limit / 4, "{what}: {sent}"),
                    _ => assert!(sent > 2 * EDGE_FIRST as usize, "{what}: {sent}"),
                }
                let end = seen.of(Direction::Tx).last().map(|f| f.pos + f.total_len);
                assert_eq!(end, Some((len * count) as u64), "{what}");
            }
        }
    }
}

/// Some libraries write each field of a head, or each frame, as a buffer of its own. Empty ones are among them.
#[test]
fn calls_from_many_buffers_are_copied_as_from_one() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for policy in [policy::HEADS, policy::ALL] {
            for (len, buffers) in [(900, 17), (3000, 40), (9000, 400), (40_000, 64)] {
                let (mut client, mut server) = pair();
                server.write_all(b"+").unwrap();
                exactly(&mut client, 1);
                for (conn_id, ..) in lab.seen().opened {
                    lab.verdicts.advise(conn_id, policy);
                }
                let message = [&head(len)[..], &[b'c'; 500]].concat();
                let mut slices: Vec<IoSlice<'_>> =
                    message.chunks(message.len().div_ceil(buffers)).map(IoSlice::new).collect();
                for at in 0..10 {
                    slices.insert(at * 3 % buffers, IoSlice::new(b""));
                }
                let mut rest = vec![0; message.len()];
                std::thread::scope(|scope| {
                    scope.spawn(|| server.read_exact(&mut rest).unwrap());
                    assert_eq!(client.write_vectored(&slices).unwrap(), message.len());
                });
                let what = format!("{door:?}: {len} bytes from {buffers} buffers, {policy}");
                let copied: Vec<u8> =
                    lab.seen().of(Direction::Tx).flat_map(|f| f.head.clone()).collect();
                let wanted = if policy == policy::ALL { message.len() } else { len };
                assert!(copied.len() >= wanted, "{what}: {} are copied", copied.len());
                assert_eq!(copied[..], message[..copied.len()], "{what}");
            }
        }
    }
}

/// They tell what a message is and whether it is the last one, however long the turn was.
#[test]
fn short_edges_of_fragments_are_copied_beyond_the_limit_of_a_turn() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for policy in [policy::EDGES, policy::ALL] {
            let (mut client, mut server) = pair();
            server.write_all(b"+").unwrap();
            exactly(&mut client, 1);
            for (conn_id, ..) in lab.seen().opened {
                lab.verdicts.advise(conn_id, policy);
            }
            let [write, _] = WAYS_TO_SEND;
            let rows = [b'r'; 8000];
            send(write.1, &mut client, &server, &[&rows[..]; 100]);
            lab.seen();
            let last: Vec<u8> = (0..200).collect();
            send(write.1, &mut client, &server, &[&last, &last[..100], &last[..1]]);
            let seen = lab.seen();
            let told: Vec<(u64, &[u8])> =
                seen.of(Direction::Tx).map(|f| (f.total_len, &f.head[..])).collect();
            let expected = [
                (136, &last[..64]),
                (64, &last[136..]),
                (64, &last[..64]),
                (36, &last[64..100]),
                (1, &last[..1]),
            ];
            assert_eq!(told, expected, "{door:?}: policy {policy}");
        }
    }
}

#[test]
fn a_stream_that_nobody_wants_costs_no_record() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, server) = pair();
        let [write, _] = WAYS_TO_SEND;
        let record = [b'r'; 100];
        send(write.1, &mut client, &server, &[&record[..]; 10]);
        for (conn_id, ..) in lab.seen().opened {
            lab.verdicts.advise(conn_id, policy::COUNT);
        }
        send(write.1, &mut client, &server, &[&record[..]; 20_000]);
        assert!(lab.seen().data.is_empty(), "{door:?}");
    }
}

/// Not every kernel lets a program jump that calls functions of its own.
#[test]
fn without_jumps_the_first_bytes_of_a_call_are_copied_and_the_rest_is_counted() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let jumps = Options { doors: vec![door], jumps: false, ..Options::default() };
        let mut lab = Lab::with(&jumps);
        let (mut client, server) = pair();
        let [write, _] = WAYS_TO_SEND;
        send(write.1, &mut client, &server, &[&head(3000), b"content"]);
        let seen = lab.seen();
        let told: Vec<(u64, usize)> = seen
            .of(Direction::Tx)
            .map(|fragment: &Fragment| (fragment.total_len, fragment.head.len()))
            .collect();
        assert_eq!(told, [(1024, 1024), (1976, 0), (7, 7)], "{door:?}");
        assert!(matches!(door, Door::Socket | Door::SysExitRaw));
    }
}
