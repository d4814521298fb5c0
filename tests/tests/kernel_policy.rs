//! What the kernel programs copy of a connection under each policy, and that the agent's advice replaces it: this test
//! process is their target.

use std::{io::Write, net::TcpStream};

use remora_common::{
    policy::{self, EDGE_FIRST, EDGE_LAST, UNDECIDED_LIMIT, UNDECIDED_RECORD},
    record::{Direction, Role, data_flag},
};
use remora_tests::{
    lab::{Fragment, Lab, Seen, exactly, pair, ways},
    skip,
};

/// A request of Redis and its response.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

fn ping(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(PING).unwrap();
    exactly(server, PING.len());
    server.write_all(PONG).unwrap();
    exactly(client, PONG.len());
}

/// What the client's end sent: position, bytes of the call, bytes copied.
fn sent(seen: &Seen) -> Vec<(u64, u64, usize)> {
    seen.of(Direction::Tx).map(|f| (f.pos, f.total_len, f.head.len())).collect()
}

#[test]
fn ciphertext_is_only_counted() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        client.write_all(b"\x16\x03\x01\x00\x20secret hello").unwrap();
        exactly(&mut server, 17);
        assert!(lab.seen().data.is_empty());
    }
}

#[test]
fn a_connection_that_nobody_recognises_is_copied_up_to_a_limit_and_by_its_edges_from_then_on() {
    if skip::without_root() {
        return;
    }
    const LEN: usize = 1000;
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let copied = UNDECIDED_LIMIT.div_ceil(LEN as u32 + UNDECIDED_RECORD) as usize;
        for _ in 0..copied {
            client.write_all(&[b'p'; LEN]).unwrap();
            exactly(&mut server, LEN);
            server.write_all(&[b'q'; LEN]).unwrap();
            exactly(&mut client, LEN);
        }
        let seen = lab.seen();
        for role in [Role::Client, Role::Server] {
            let conn_id = seen.connection(role);
            let of: Vec<&Fragment> = seen.data.iter().filter(|f| f.conn_id == conn_id).collect();
            let whole = of.iter().take_while(|f| f.head.len() == LEN).count();
            assert!((copied - 1..=copied + 1).contains(&whole), "{whole} of {copied}");
            // Two records for each call from then on.
            assert_eq!(of.len() - whole, 2 * (2 * copied - whole));
            assert!(of[whole..].iter().all(|f| f.head.len() == EDGE_LAST as usize));
            let bytes: u64 = of.iter().map(|f| f.total_len).sum();
            assert_eq!(bytes, (2 * copied * LEN) as u64);
        }
    }
}

#[test]
fn a_message_of_http_is_recognised_before_the_agent_says_so() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        ping(&mut client, &mut server);
        client.write_all(b"PUT / HTTP/1.1\r\ncontent-length: 500\r\n\r\n").unwrap();
        client.write_all(&[b'c'; 500]).unwrap();
        exactly(&mut server, 39 + 500);
        let seen = lab.seen();
        let conn_id = seen.connection(Role::Client);
        let sent: Vec<&Fragment> =
            seen.of(Direction::Tx).filter(|f| f.conn_id == conn_id).collect();
        assert_eq!(sent.iter().map(|f| f.head.len()).collect::<Vec<_>>(), [PING.len(), 39, 0]);
        assert_eq!(sent[2].flags & data_flag::TAIL, data_flag::TAIL);
    }
}

/// A value of a database may begin with capital letters, as methods do, and a read may begin with it.
#[test]
fn capital_letters_alone_are_no_message_of_http() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        ping(&mut client, &mut server);
        let value = b"VALUE IN CAPITALS\r\n\r\n*3\r\n$3\r\nSET\r\n";
        client.write_all(value).unwrap();
        exactly(&mut server, value.len());
        let seen = lab.seen();
        let conn_id = seen.connection(Role::Client);
        let sent: Vec<&Fragment> =
            seen.of(Direction::Tx).filter(|f| f.conn_id == conn_id).collect();
        assert_eq!(
            sent.iter().map(|f| f.head.len()).collect::<Vec<_>>(),
            [PING.len(), value.len()]
        );
    }
}

/// A turn that never ends hears of it too.
#[test]
fn advice_is_heeded_on_every_fragment_and_may_be_taken_back() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let mut stream = |lab: &mut Lab| {
            client.write_all(&[b's'; 100]).unwrap();
            exactly(&mut server, 100);
            lab.seen()
        };
        let first = stream(&mut lab);
        assert_eq!(sent(&first), [(0, 100, 100)]);
        let (client, server) = (first.connection(Role::Client), first.connection(Role::Server));
        let advise = |lab: &Lab, policy| {
            lab.verdicts.advise(client, policy);
            lab.verdicts.advise(server, policy);
        };
        let copies = |head| move |pos| vec![(pos, 100, head)];
        let nothing = |_| Vec::new();
        let steps: [(u8, &dyn Fn(u64) -> Vec<_>); 8] = [
            (policy::COUNT, &nothing),
            (policy::COUNT, &nothing),
            (policy::EDGES, &copies(100)),
            (policy::CIPHERTEXT, &nothing),
            // No head begins in it.
            (policy::HEADS, &copies(0)),
            (policy::ALL, &copies(100)),
            (policy::COUNT, &nothing),
            (policy::UNDECIDED, &copies(100)),
        ];
        for (step, (policy, expected)) in steps.into_iter().enumerate() {
            advise(&lab, policy);
            let seen = stream(&mut lab);
            assert_eq!(sent(&seen), expected(100 * (step as u64 + 1)), "{door:?}: step {step}");
            assert_eq!(seen.data.len(), 2 * sent(&seen).len(), "{door:?}: step {step}");
        }
        // What the kernel side finds out by itself stands until the agent says something else.
        advise(&lab, policy::UNDECIDED);
        assert_eq!(sent(&stream(&mut lab)), [(900, 100, 100)]);
    }
}

/// The agent may recognise a connection by its first request when the second one is on its way.
#[test]
fn a_head_in_progress_is_copied_to_its_end_when_the_agent_says_what_it_is() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        let mut send = |bytes: &[u8]| {
            client.write_all(bytes).unwrap();
            exactly(&mut server, bytes.len());
        };
        send(b"GE");
        let seen = lab.seen();
        for role in [Role::Client, Role::Server] {
            lab.verdicts.advise(seen.connection(role), policy::HEADS);
        }
        for piece in [&b"T / HTTP/1.1\r\n"[..], b"host: h\r\n\r", b"\n", &[b'c'; 500]] {
            send(piece);
        }
        let expected = [(2, 14, 14), (16, 10, 10), (26, 1, 1), (27, 500, 0)];
        assert_eq!(sent(&lab.seen()), expected, "{door:?}");
    }
}

#[test]
fn edges_are_the_first_and_the_last_bytes_of_every_fragment() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut server) = pair();
        ping(&mut client, &mut server);
        let seen = lab.seen();
        for (conn_id, ..) in seen.opened {
            lab.verdicts.advise(conn_id, policy::EDGES);
        }
        let (first, last) = (EDGE_FIRST as usize, EDGE_LAST as usize);
        let mut pos = PING.len() as u64;
        for (len, expected) in [
            (1, vec![(1, 1)]),
            (first, vec![(first, first)]),
            (first + 1, vec![(first, first), (1, 1)]),
            (first + last, vec![(first, first), (last, last)]),
            (first + last + 1, vec![(first + 1, first), (last, last)]),
            (50_000, vec![(50_000 - last, first), (last, last)]),
        ] {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            client.write_all(&bytes).unwrap();
            exactly(&mut server, len);
            let seen = lab.seen();
            let mut at = 0;
            let mut told = Vec::new();
            for fragment in seen.of(Direction::Tx) {
                assert_eq!(fragment.pos, pos + at as u64);
                assert_eq!(fragment.head, bytes[at..at + fragment.head.len()], "{len} bytes");
                assert_eq!(fragment.flags & data_flag::CONTINUED != 0, at > 0);
                at += fragment.total_len as usize;
                told.push((fragment.total_len as usize, fragment.head.len()));
            }
            assert_eq!(told, expected, "{door:?}: {len} bytes");
            pos += len as u64;
        }
    }
}
