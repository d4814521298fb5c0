//! The kernel programs walk over frames: what they copy is compared with the same walk in user space. This test process is
//! their target.

use std::{
    io::{IoSlice, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use remora::bpf::Door;
use remora_common::{
    frames::{HTTP2_ROW, MYSQL_ROW, POSTGRES_SERVER},
    policy::{self, FRAMES, TURN_LIMIT},
    record::{Direction, Role, data_flag},
};
use remora_tests::{
    frames::{Walker, message, numbers},
    lab::{Fragment, Lab, doors, exactly, pair, ways},
    skip,
};

const TX: usize = Direction::Tx as usize;

/// A connection of which frames are walked over, and where its server's side is.
struct Framed {
    client: TcpStream,
    server: TcpStream,
    server_id: u64,
    pos: u64,
}

impl Framed {
    fn new(lab: &mut Lab, row: u8) -> Self {
        Self::under(lab, FRAMES + row)
    }

    fn under(lab: &mut Lab, policy: u8) -> Self {
        let (mut client, mut server) = pair();
        server.set_nodelay(true).unwrap();
        client.write_all(b"?").unwrap();
        exactly(&mut server, 1);
        let opened = lab.seen();
        let server_id = opened.connection(Role::Server);
        lab.verdicts.advise(server_id, policy);
        lab.verdicts.advise(opened.connection(Role::Client), policy::COUNT);
        Self { client, server, server_id, pos: 0 }
    }

    /// The server sends `bytes` in one call, from so many buffers.
    fn send(&mut self, bytes: &[u8], buffers: usize) {
        let (mut client, len) = (self.client.try_clone().unwrap(), bytes.len());
        let reader = std::thread::spawn(move || exactly(&mut client, len));
        let slices: Vec<IoSlice<'_>> =
            bytes.chunks(bytes.len().div_ceil(buffers)).map(IoSlice::new).collect();
        let sent = match &slices[..] {
            [one] => self.server.write(one).unwrap(),
            all => self.server.write_vectored(all).unwrap(),
        };
        assert_eq!(sent, len);
        reader.join().unwrap();
    }

    /// What was recorded of it; every byte is counted.
    fn sent(&mut self, lab: &mut Lab) -> Vec<Fragment> {
        let seen = lab.seen();
        let of = |f: &Fragment| f.conn_id == self.server_id && f.direction == Direction::Tx;
        let sent: Vec<Fragment> = seen.data.into_iter().filter(of).collect();
        for fragment in &sent {
            assert_eq!(fragment.pos, self.pos, "{fragment:?}");
            self.pos += fragment.total_len;
        }
        sent
    }
}

/// Bytes copied, by position.
fn copied(sent: &[Fragment]) -> Vec<(usize, u8)> {
    let bytes = |f: &Fragment| (f.pos as usize..).zip(f.head.clone()).collect::<Vec<_>>();
    sent.iter().flat_map(bytes).collect()
}

fn http2(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, 4, 0, 0, 0, 1], payload].concat()
}

fn mysql(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&len[..3], &[sequence], payload].concat()
}

#[test]
fn the_same_bytes_are_wanted_as_in_user_space() {
    if skip::without_root() {
        return;
    }
    let mut number = numbers();
    let ways = ways();
    for door in doors() {
        let rounds = if ways.contains(&door) { 12 } else { 2 };
        let mut lab = Lab::new(door);
        for row in [POSTGRES_SERVER, HTTP2_ROW, MYSQL_ROW] {
            for _ in 0..rounds {
                let mut framed = Framed::new(&mut lab, row);
                let mut frame = || {
                    let len = number() % [4, 30, 300, 6000][number() as usize % 4];
                    let body: Vec<u8> = (0..len).map(|_| number() as u8).collect();
                    match row {
                        HTTP2_ROW => http2([0, 0, 1, 6, 9][number() as usize % 5], &body),
                        MYSQL_ROW => mysql(number() as u8, &body),
                        _ => message(b"DDDCTd"[number() as usize % 6], &body),
                    }
                };
                // An empty one tells nothing.
                let mut first = frame();
                while first.len() < 12 {
                    first = frame();
                }
                let stream: Vec<u8> = (0..60).flat_map(|_| frame()).collect();
                let mut walker = Walker::new(row, TX);
                framed.send(&first, 1);
                assert!(walker.fragment(&first));
                let mut rest = &stream[..];
                while !rest.is_empty() {
                    let len = (1 + number() as usize % 700).min(rest.len());
                    let (bytes, behind) = rest.split_at(len);
                    let buffers = 1 + number() as usize % 9;
                    // Each buffer is walked over by itself.
                    for buffer in bytes.chunks(len.div_ceil(buffers)) {
                        assert!(walker.fragment(buffer));
                    }
                    framed.send(bytes, buffers);
                    rest = behind;
                }
                let sent = framed.sent(&mut lab);
                assert!(walker.copied.len() < TURN_LIMIT as usize, "within what may be copied");
                assert_eq!(copied(&sent), walker.copied, "{door:?}, row {row}");
                assert!(sent.iter().all(|f| f.policy == FRAMES + row), "{door:?}, row {row}");
                let begun = sent.iter().filter(|f| f.flags & data_flag::FRAME != 0);
                assert!(begun.clone().all(|f| walker.begun.contains(&(f.pos as usize))));
                // Behind bytes that were not copied a record begins with a frame.
                let mut hole = false;
                for fragment in sent.iter().filter(|f| f.total_len > 0) {
                    let begins = fragment.flags & data_flag::FRAME != 0;
                    assert!(!hole || fragment.head.is_empty() || begins, "{fragment:?}");
                    hole = (fragment.head.len() as u64) < fragment.total_len;
                }
            }
        }
    }
}

#[test]
fn ten_megabytes_of_one_result_are_counted() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let mut framed = Framed::new(&mut lab, POSTGRES_SERVER);
        framed.send(&message(b'T', b"column"), 1);
        let row = message(b'D', &vec![b'r'; 10 << 20]);
        let calls = row.chunks(60_000);
        let count = calls.len();
        // The first one does not tell that it is one, but where it begins is known.
        calls.for_each(|call| framed.send(call, 1));
        framed.send(&[message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat(), 1);
        let sent = framed.sent(&mut lab);
        assert_eq!(sent.len(), count + 2, "{door:?}: a record for each call");
        let copied: usize = sent.iter().map(|f| f.head.len()).sum();
        assert_eq!(copied, 11 + 14 + 6, "{door:?}");
        assert_eq!(sent.last().map(|f| (f.head.len(), f.flags)), Some((20, data_flag::FRAME)));
    }
}

/// Where frames begin is known once a call begins with one, ends with one, or has another behind it.
#[test]
fn frames_are_walked_over_from_where_one_is_seen_to_begin() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let mut framed = Framed::under(&mut lab, policy::EDGES);
        let row = message(b'D', &[b'r'; 5000]);
        framed.send(&row[..2000], 1);
        lab.verdicts.advise(framed.server_id, FRAMES + POSTGRES_SERVER);
        framed.send(&row[2000..], 1);
        framed.send(&[&row[..], &row[..3]].concat(), 1);
        let lens = |sent: &[Fragment]| sent.iter().map(|f| f.head.len()).collect::<Vec<_>>();
        // At the edges, and then all.
        let sent = framed.sent(&mut lab);
        assert_eq!(lens(&sent), [1024, 64, 1024, 1981, 1024, 3984], "{door:?}");
        let policies: Vec<u8> = sent.iter().map(|f| f.policy).collect();
        let (edges, all) = (policy::EDGES, policy::ALL);
        assert_eq!(policies, [edges, edges, all, all, all, all], "{door:?}");
        framed.send(&row[3..], 1);
        framed.sent(&mut lab);
        framed.send(&[&row[..], &row].concat(), 1);
        assert_eq!(lens(&framed.sent(&mut lab)), [0], "{door:?}");
        // What is no frame is copied whole.
        for no_frame in [&b"no frame, that"[..], b"no frame either"] {
            framed.send(no_frame, 1);
            let sent = framed.sent(&mut lab);
            let told: Vec<_> = sent.iter().map(|f| (f.policy, &f.head[..])).collect();
            assert_eq!(told, [(policy::ALL, no_frame)], "{door:?}");
        }
    }
}

/// A call with too many frames is walked over in part, and the rest is copied whole.
#[test]
fn frames_beyond_the_bound_of_a_call_are_copied_whole() {
    if skip::without_root() {
        return;
    }
    // A completion behind a row: each is a record.
    let pairs = [message(b'C', b"UPDATE 1\0"), message(b'D', b"row")].concat();
    for door in ways() {
        let mut lab = Lab::new(door);
        for (count, buffers) in [(1000, 1), (1000, 7), (2000, 300)] {
            let mut framed = Framed::new(&mut lab, POSTGRES_SERVER);
            let many = pairs.repeat(count);
            framed.send(&many, buffers);
            let sent = framed.sent(&mut lab);
            let (walked, whole): (Vec<_>, Vec<_>) =
                sent.iter().partition(|f| f.policy == FRAMES + POSTGRES_SERVER);
            assert!(walked.len() >= 5, "{door:?}: {} records", walked.len());
            if buffers == 1 {
                assert!(walked.iter().all(|f| f.head == pairs[..14]), "{door:?}");
            }
            assert!(whole.iter().all(|f| f.policy == policy::ALL));
            assert_ne!(whole[0].flags & data_flag::FRAME, 0, "{door:?}: a frame is next");
            let from = whole[0].pos as usize;
            let copied: Vec<u8> = whole.iter().flat_map(|f| f.head.clone()).collect();
            assert!(copied == many[from..], "{door:?}: {buffers} buffers, {}", copied.len());
            // The next one that is seen to begin is known again.
            framed.send(&pairs, 1);
            assert_eq!(framed.sent(&mut lab)[0].flags & data_flag::FRAME, data_flag::FRAME);
        }
    }
}

/// Of content no more is copied than of other turns. Frames that are wanted are copied nevertheless.
#[test]
fn a_turn_of_many_frames_hides_none_that_is_wanted() {
    if skip::without_root() {
        return;
    }
    let call = [
        http2(1, b"head"),
        http2(0, &[b'd'; 900]),
        http2(0, &[b'd'; 9000]),
        http2(9, b"more of it"),
    ];
    for door in ways() {
        let mut lab = Lab::new(door);
        let mut framed = Framed::new(&mut lab, HTTP2_ROW);
        for buffers in 1..=200 {
            framed.send(&call.concat(), 1 + buffers % 40);
        }
        let sent = framed.sent(&mut lab);
        let copied = copied(&sent);
        assert!(sent.iter().all(|f| f.policy == FRAMES + HTTP2_ROW));
        let (mut pos, mut whole) = (0, 0);
        for _ in 0..200 {
            for (frame, wanted) in call.iter().zip([13, 14, 14, 19]) {
                let bytes = |len: usize| {
                    let at = |pos: usize| copied.partition_point(|(at, _)| *at < pos);
                    at(pos + len) - at(pos)
                };
                assert_eq!(bytes(wanted), wanted, "{door:?}: at {pos}");
                whole += usize::from(frame.len() == 909 && bytes(909) == 909);
                assert!(frame.len() < 9000 || bytes(frame.len()) < 32, "{door:?}: at {pos}");
                pos += frame.len();
            }
        }
        assert!((60..=70).contains(&whole), "{door:?}: content of {whole} frames is copied");
    }
}

/// Who speaks first does not matter, nor that nobody has said yet what the connection is.
#[test]
fn http2_is_walked_over_from_its_first_byte() {
    if skip::without_root() {
        return;
    }
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 4, 0, 1, 0, 0]].concat();
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat();
    let long = [http2(1, b"head"), http2(0, &[b'd'; 9000]), http2(1, b"end")].concat();
    for door in ways() {
        let mut lab = Lab::new(door);
        for server_first in [false, true] {
            let (mut client, mut server) = pair();
            let greet = |client: &mut TcpStream, server: &mut TcpStream| {
                server.write_all(&settings).unwrap();
                exactly(client, settings.len());
            };
            if server_first {
                greet(&mut client, &mut server);
            }
            client.write_all(&preface).unwrap();
            exactly(&mut server, preface.len());
            if !server_first {
                greet(&mut client, &mut server);
            }
            client.write_all(&long).unwrap();
            exactly(&mut server, long.len());
            server.write_all(&long).unwrap();
            exactly(&mut client, long.len());
            let seen = lab.seen();
            for (id, role, ..) in &seen.opened {
                for direction in [Direction::Rx, Direction::Tx] {
                    let of: Vec<_> = seen.of(direction).filter(|f| f.conn_id == *id).collect();
                    let lens: Vec<_> = of.iter().map(|f| f.head.len()).collect();
                    let first = match (role, direction) {
                        (Role::Server, Direction::Tx) | (Role::Client, Direction::Rx) => 15,
                        _ => 39,
                    };
                    assert_eq!(lens, [first, 13 + 14, 12], "{door:?}, {role:?} {direction:?}");
                    assert!(of.iter().all(|f| f.policy == FRAMES + HTTP2_ROW), "{door:?}");
                }
            }
            assert_eq!(seen.opened.len(), 2);
        }
    }
}

#[test]
fn of_rows_that_are_not_there_edges_are_copied() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        for policy in [FRAMES + 100, u8::MAX, FRAMES - 1] {
            let mut framed = Framed::under(&mut lab, policy);
            framed.send(&message(b'Z', b"I"), 1);
            assert_eq!(framed.sent(&mut lab)[0].head.len(), 6, "{door:?}: policy {policy}");
        }
    }
}

/// What a policy adds to a server's call that sends a result of PostgreSQL or an answer of HTTP/2: by how much it takes longer
/// than where bytes are counted.
#[test]
#[ignore = "prints timings"]
fn nanoseconds_of_a_result_by_policy() {
    let rows = |count: usize, len: usize| {
        let row = message(b'D', &vec![b'r'; len]);
        let ends = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        [message(b'T', &[b't'; 40]), row.repeat(count), ends].concat()
    };
    let results = [
        ("1 row of 30 bytes", rows(1, 30)),
        ("10 rows of 75 bytes", rows(10, 75)),
        ("100 rows of 75 bytes", rows(100, 75)),
        ("8 rows of 1,000 bytes", rows(8, 1000)),
        ("1 row of 8,000 bytes", rows(1, 8000)),
        ("a prepared statement's answer", {
            let parts = [(b'1', 0), (b'2', 0), (b'D', 30), (b'C', 9), (b'Z', 1)];
            parts.iter().flat_map(|(kind, len)| message(*kind, &vec![0; *len])).collect()
        }),
    ]
    .map(|(what, bytes)| (what, POSTGRES_SERVER, bytes));
    let answer = |len: usize| [http2(1, &[0; 40]), http2(0, &vec![0; len])].concat();
    let answers = [
        ("a call of gRPC", [answer(30), http2(1, &[0; 20])].concat()),
        ("10 calls of gRPC", [answer(30), http2(1, &[0; 20])].concat().repeat(10)),
        ("content of 800 bytes", answer(800)),
        ("content of 8,000 bytes", answer(8000)),
    ]
    .map(|(what, bytes)| (what, HTTP2_ROW, bytes));
    let results = results.into_iter().chain(answers).collect::<Vec<_>>();
    let policies = [
        ("count", policy::COUNT),
        ("edges", policy::EDGES),
        ("frames", FRAMES),
        ("all", policy::ALL),
    ];
    for door in ways() {
        let mut lab = Lab::new(door);
        for (what, row, result) in &results {
            let mut least = [Duration::MAX; 4];
            for _ in 0..40 {
                for ((_, policy), least) in policies.iter().zip(&mut least) {
                    let row = if *policy == FRAMES { *row } else { 0 };
                    let mut framed = Framed::under(&mut lab, *policy + row);
                    framed.server.write_all(result).unwrap();
                    exactly(&mut framed.client, result.len());
                    let mut spent = Duration::ZERO;
                    for _ in 0..200 {
                        // A turn of its own for each.
                        framed.client.write_all(b"?").unwrap();
                        exactly(&mut framed.server, 1);
                        let start = Instant::now();
                        framed.server.write_all(result).unwrap();
                        spent += start.elapsed();
                        exactly(&mut framed.client, result.len());
                    }
                    *least = (*least).min(spent / 200);
                    lab.seen();
                }
            }
            let base = least[0].as_nanos() as i128;
            let added =
                policies.iter().zip(least).skip(1).map(|((name, _), time)| {
                    format!("{name} +{} ns", time.as_nanos() as i128 - base)
                });
            let added: Vec<String> = added.collect();
            println!("{}: {what} ({} bytes): {}", door.as_str(), result.len(), added.join(", "));
        }
    }
    assert!(ways().contains(&Door::SysExitRaw));
}
