//! The walk over frames, for each row: whatever the fragments, the same bytes are wanted.

#[path = "../../tests/src/frames.rs"]
mod frames;

use remora_common::{
    frames::{
        HTTP2_ROW, MYSQL_ROW, POSTGRES_CLIENT, POSTGRES_SERVER, ROWS, Walk, frame, may_begin, pass,
    },
    record::Direction,
};

use frames::{Walker, message, numbers, word};

const RX: usize = Direction::Rx as usize;
const TX: usize = Direction::Tx as usize;

/// What is wanted of whole frames: where they begin, and so many of their bytes.
fn wanted(frames: &[(Vec<u8>, usize)]) -> Vec<(usize, u8)> {
    let mut wanted = Vec::new();
    let mut pos = 0;
    for (bytes, copied) in frames {
        wanted.extend((pos..).zip(bytes[..*copied].iter().copied()));
        pos += bytes.len();
    }
    wanted
}

/// With every cut of `frames` into up to three fragments, and byte by byte.
fn holds_for_every_cut(row: u8, side: usize, frames: &[(Vec<u8>, usize)]) {
    let stream: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let expected = wanted(frames);
    let starts: Vec<usize> = frames
        .iter()
        .scan(0, |pos, (bytes, _)| Some(std::mem::replace(pos, *pos + bytes.len())))
        .collect();
    let check = |fragments: &[&[u8]]| {
        let mut walker = Walker::new(row, side);
        let mut cuts = Vec::new();
        for fragment in fragments {
            assert!(walker.fragment(fragment));
            cuts.push(walker.pos);
        }
        assert_eq!(walker.pos, stream.len());
        assert_eq!(walker.walk, Walk::START, "all frames have ended");
        // Beyond what is wanted only heads that were cut.
        let head = usize::from(ROWS[usize::from(row)].head);
        let cut_head = |pos: usize| {
            let start = starts.iter().rev().find(|&&start| start <= pos).unwrap();
            pos < start + head && cuts.iter().any(|cut| (start + 1..start + head).contains(cut))
        };
        let more = walker.copied.iter().filter(|byte| !expected.contains(byte));
        assert!(
            more.clone().all(|(pos, _)| cut_head(*pos)),
            "{more:?}",
            more = more.clone().collect::<Vec<_>>()
        );
        assert!(expected.iter().all(|byte| walker.copied.contains(byte)));
        assert!(walker.begun.iter().all(|pos| starts.contains(pos)));
    };
    check(&[&stream]);
    for first in 1..stream.len() {
        check(&[&stream[..first], &stream[first..]]);
        for second in (first + 1..stream.len()).step_by(3) {
            check(&[&stream[..first], &stream[first..second], &stream[second..]]);
        }
    }
    check(&stream.chunks(1).collect::<Vec<_>>());
}

fn all(bytes: Vec<u8>) -> (Vec<u8>, usize) {
    let len = bytes.len();
    (bytes, len)
}

#[test]
fn of_postgres_rows_are_counted_and_passwords_never_copied() {
    let client = [
        (message(b'p', b"secret\0"), 0),
        all(message(b'Q', b"select 1\0")),
        all(message(b'S', b"")),
        (message(b'd', b"1,2\n"), 0),
        all(message(b'X', b"")),
    ];
    let server = [
        all(message(b'R', &[0; 4])),
        all(message(b'T', b"column")),
        (message(b'D', b"\0\x01\0\0\0\x051234"), 0),
        (message(b'D', b"\0\x01\0\0\0\x055678"), 0),
        all(message(b'C', b"SELECT 2\0")),
        all(message(b'Z', b"I")),
    ];
    // The same two directions, seen from both ends.
    holds_for_every_cut(POSTGRES_CLIENT, TX, &client);
    holds_for_every_cut(POSTGRES_CLIENT, RX, &server);
    holds_for_every_cut(POSTGRES_SERVER, RX, &client);
    holds_for_every_cut(POSTGRES_SERVER, TX, &server);
}

#[test]
fn of_http2_all_short_frames_are_copied() {
    let frame = |kind: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, 4, 0, 0, 0, 1], payload].concat()
    };
    let frames = [
        all(frame(4, &[0; 6])),
        all(frame(1, b"headers")),
        all(frame(0, b"\0\0\0\0\x0amessage   ")),
        all(frame(0, b"\0\0")),
        all(frame(0, b"")),
        all(frame(6, &[0; 8])),
        all(frame(9, b"more")),
        all(frame(8, &[0; 4])),
        all(frame(7, &[0; 8])),
    ];
    holds_for_every_cut(HTTP2_ROW, RX, &frames);
    holds_for_every_cut(HTTP2_ROW, TX, &frames);
    // Content that is longer is counted behind its first bytes, and any if much was copied of the turn.
    for (len, spent, copied) in
        [(1015, false, 1024), (1016, false, 14), (1015, true, 14), (5, true, 14), (2, true, 11)]
    {
        let mut walker = Walker::new(HTTP2_ROW, RX);
        walker.spent = spent;
        assert!(walker.fragment(&[frame(0, &vec![b'a'; len]), frame(1, b"head")].concat()));
        assert_eq!(walker.copied.len(), copied + 13, "{len}");
    }
}

#[test]
fn of_mysql_the_first_bytes_of_each_packet_are_copied() {
    let packet = |sequence: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&len[..3], &[sequence], payload].concat()
    };
    let frames = [
        all(packet(0, b"\x03select 1")),
        (packet(1, &[b'r'; 100]), 64),
        all(packet(2, b"")),
        (packet(3, &[b'r'; 61]), 64),
    ];
    holds_for_every_cut(MYSQL_ROW, RX, &frames);
}

#[test]
fn ten_megabytes_of_one_result_take_a_step_a_fragment_and_no_copy() {
    let row = message(b'D', &vec![b'r'; 10 << 20]);
    let end = message(b'C', b"SELECT 1\0");
    let stream = [&row[..], &end].concat();
    let mut walker = Walker::new(POSTGRES_CLIENT, RX);
    let mut fragments = 0;
    for fragment in stream.chunks(64 << 10) {
        assert!(walker.fragment(fragment));
        fragments += 1;
    }
    assert_eq!(walker.steps, fragments + 1);
    let copied: Vec<u8> = walker.copied.iter().map(|(_, byte)| *byte).collect();
    assert_eq!((copied, walker.begun), (end, vec![row.len()]));
}

#[test]
fn what_is_no_frame_is_not_guessed_over() {
    for (row, side, bytes) in [
        (POSTGRES_CLIENT, TX, &b"hello, world"[..]),
        // A type that there is, and a length that counts less than itself; or too much.
        (POSTGRES_CLIENT, TX, b"Q\0\0\0\x03select 1\0"),
        (POSTGRES_CLIENT, TX, b"Q\x7f\0\0\0select 1\0"),
        // The startup packet.
        (POSTGRES_CLIENT, TX, b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (HTTP2_ROW, RX, b"PRI * HTTP/2.0\r\n\r\n"),
        (HTTP2_ROW, RX, b"\0\0\x01\x0b\0\0\0\0\x01x"),
    ] {
        let mut walker = Walker::new(row, side);
        assert!(!walker.fragment(bytes), "{}", bytes.escape_ascii());
        assert!(may_begin(walker.row, side, word(bytes), bytes.len() as u32).is_none());
    }
}

#[test]
fn a_frame_is_taken_to_begin_where_another_follows_it() {
    let row = &ROWS[usize::from(POSTGRES_CLIENT)];
    let (sync, query) = (message(b'S', b""), message(b'Q', b"select 1\0"));
    let begins =
        |bytes: &[u8]| may_begin(row, TX, word(bytes), u32::try_from(bytes.len()).unwrap());
    assert_eq!(begins(&query), Some(14));
    let both = [&query[..], &sync].concat();
    assert_eq!(begins(&both), Some(14));
    assert_eq!(frame(row, TX, word(&both[14..]), false), Some((5, 5)));
    // Where its end is not seen it cannot be told.
    assert_eq!(begins(&query[..13]), None);
    assert_eq!(begins(&query[..4]), None);
    assert_eq!(begins(b"Q\0\0\0\x04elect"), Some(5));
    assert_eq!(frame(row, TX, word(b"elect"), false), None);
}

#[test]
fn bytes_that_pass_unseen_are_of_the_frame_in_progress_or_end_the_walk() {
    let row = message(b'D', &[b'r'; 1000]);
    for (unseen, known) in [(905, true), (500, true), (906, false), (5000, false)] {
        let mut walker = Walker::new(POSTGRES_CLIENT, RX);
        assert!(walker.fragment(&row[..100]));
        pass(&mut walker.walk, unseen);
        assert_eq!(walker.walk.state != Walk::UNKNOWN, known);
        if known {
            walker.pos += usize::try_from(unseen).unwrap();
            let rest = [&row[walker.pos..], &message(b'Z', b"I")].concat();
            assert!(walker.fragment(&rest));
            assert_eq!(walker.begun, [1005]);
        }
    }
    // In the middle of a head nothing is known of what follows.
    let mut walker = Walker::new(POSTGRES_CLIENT, RX);
    assert!(walker.fragment(&row[..3]));
    pass(&mut walker.walk, 1);
    assert_eq!(walker.walk, Walk::NOWHERE);
}

/// Against a plain reading of whole frames, with numbers drawn.
#[test]
fn random_frames_in_random_fragments_are_walked_alike() {
    let mut number = numbers();
    for _ in 0..2000 {
        let kinds = b"123ACDETZds";
        let frames: Vec<(Vec<u8>, usize)> = (0..number() % 40)
            .map(|_| {
                let kind = kinds[number() as usize % kinds.len()];
                let len = number() % [4, 40, 400, 4000][number() as usize % 4];
                let body: Vec<u8> = (0..len).map(|_| number() as u8).collect();
                let bytes = message(kind, &body);
                if matches!(kind, b'D' | b'd') { (bytes, 0) } else { all(bytes) }
            })
            .collect();
        let stream: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut walker = Walker::new(POSTGRES_SERVER, TX);
        let (mut rest, mut fragments) = (&stream[..], 0);
        while !rest.is_empty() {
            let len = (1 + number() as usize % 3000).min(rest.len());
            assert!(walker.fragment(&rest[..len]));
            rest = &rest[len..];
            fragments += 1;
        }
        let mut copied = walker.copied.iter();
        for byte in wanted(&frames) {
            assert!(copied.any(|other| *other == byte), "{byte:?} was not copied");
        }
        let wanted_len = wanted(&frames).len();
        // And the head that each fragment may have cut.
        assert!(walker.copied.len() <= wanted_len + 5 * fragments);
    }
}
