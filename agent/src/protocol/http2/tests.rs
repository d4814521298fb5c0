//! Header blocks of RFC 7541, appendix C, and frames whole, in pieces, with holes.

use proptest::{collection::vec, prelude::*};

use super::{
    Fields, Known, Message, PREFACE, Reader, code_name, frame, frames, fuzz, hpack::Decoder,
    huffman, looks_like_settings, opens,
};
use crate::protocol::{Next, Parse, Unframed, replay::Piece};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn decoded(decoder: &mut Decoder, block: &str) -> String {
    let block = hex(block);
    let mut fields = Fields::default();
    decoder.feed(&block, 0, block.len(), &mut (), &mut fields).unwrap();
    assert!(decoder.ends());
    let line = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    fields.lines().map(line).collect()
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
     custom-key: custom-value\n",
];

#[test]
fn requests_of_the_appendix() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(true);
        for (block, fields) in blocks.into_iter().zip(REQUESTS) {
            assert_eq!(decoded(&mut decoder, block), fields);
        }
    }
}

/// Section C.6, in a table of 256 bytes that has to give up entries.
#[test]
fn responses_of_the_appendix() {
    let mut decoder = Decoder::new(true);
    let first = "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let at = "date: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n";
    assert_eq!(decoded(&mut decoder, first), format!(":status: 302\ncache-control: private\n{at}"));
    let second = decoded(&mut decoder, "4883 640e ffc1 c0bf");
    assert_eq!(second, format!(":status: 307\ncache-control: private\n{at}"));
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d \
                 d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
    assert_eq!(
        decoded(&mut decoder, third),
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
         location: https://www.example.com\ncontent-encoding: gzip\n\
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"
    );
}

#[test]
fn literals_of_the_appendix() {
    let mut decoder = Decoder::new(true);
    let with = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_eq!(decoded(&mut decoder, with), "custom-key: custom-header\n");
    assert_eq!(
        decoded(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468"),
        ":path: /sample/path\n"
    );
    let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    assert_eq!(decoded(&mut decoder, never), "password: secret\n");
    assert_eq!(decoded(&mut decoder, "be"), "custom-key: custom-header\n");
}

/// What an encoder would send: literals that are inserted, with `coded` strings or plain ones.
pub(super) fn literal(name: &str, value: &str, coded: bool) -> Vec<u8> {
    let text = |text: &str| {
        let (bytes, flag) = match coded {
            true => (huffman::encode(text.as_bytes()), 0x80),
            false => (text.as_bytes().to_vec(), 0),
        };
        assert!(bytes.len() < 127, "one byte of length");
        [vec![flag | bytes.len() as u8], bytes].concat()
    };
    [vec![0x40], text(name), text(value)].concat()
}

pub(super) fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn said(reader: Reader, pieces: &[Piece]) -> (Vec<String>, Option<Unframed>) {
    let (said, lost, _) = fuzz::read(reader, pieces);
    (said, lost)
}

fn joined() -> Reader {
    Reader::new(false, false, 1 << 16)
}

/// A request with padding, a priority and a continuation, its content padded, and trailers.
fn request() -> Vec<u8> {
    let block =
        [&[0x83, 0x86][..], &literal(":path", "/a?b=c", true), &literal("x", "y", false)].concat();
    let (first, second) = block.split_at(5);
    let head = [&[3, 0, 0, 0, 0, 16][..], first, &[0; 3]].concat();
    [
        PREFACE.to_vec(),
        framed(frame::SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        framed(frame::HEADERS, 0x28, 1, &head),
        framed(frame::CONTINUATION, 0x4, 1, second),
        framed(frame::DATA, 0x8, 1, b"\x02hello\0\0"),
        framed(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        framed(0xbe, 7, 0, b"something new"),
        framed(frame::DATA, 0, 1, b"more"),
        framed(frame::HEADERS, 0x5, 1, &literal("grpc-status", "0", true)),
        framed(frame::RST_STREAM, 0, 3, &[0, 0, 0, 8]),
        framed(frame::GOAWAY, 0, 0, &[0x80, 0, 0, 9, 0, 0, 0, 11, b'b', b'y', b'e']),
    ]
    .concat()
}

#[test]
fn frames_of_all_kinds() {
    let bytes = request();
    let (said, lost) = said(Reader::new(true, true, 1 << 16), &[Piece::Bytes(bytes.clone())]);
    let expected = [
        "1 false false 19 false Method=POST;Scheme=http;Path=?; false false",
        "(1, 9)",
        "1 true false 12 false GrpcStatus=0; false false",
        "Reset { stream: 3, code: Some(8) }",
        "GoAway { last_stream: Some(9), code: Some(11) }",
    ];
    assert_eq!((&said[..], lost), (&expected.map(str::to_owned)[..], None));
    for cut in 0..bytes.len() {
        fuzz::claims(true, true, &bytes, &[cut], 0..0);
    }
}

#[test]
fn what_breaks_the_rules_is_no_frame() {
    let bad = [
        framed(frame::DATA, 0, 0, b"x"),
        framed(frame::SETTINGS, 0, 1, b""),
        framed(frame::PING, 0, 0, b"short"),
        framed(frame::CONTINUATION, 0, 1, b""),
        [framed(frame::HEADERS, 0, 1, b""), framed(frame::DATA, 0, 1, b"")].concat(),
        [framed(frame::HEADERS, 0, 1, b""), framed(frame::CONTINUATION, 0, 3, b"")].concat(),
        framed(frame::HEADERS, 0x20, 1, b"1234"),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
    ];
    for bytes in bad {
        let (_, lost) = said(joined(), &[Piece::Bytes(bytes.clone())]);
        assert_eq!(lost, Some(Unframed::Malformed), "{bytes:x?}");
    }
}

#[test]
fn holes_in_content_cost_nothing_and_others_what_they_hide() {
    let data = framed(frame::DATA, 1, 1, &[b'x'; 1000]);
    let hole = |from: usize, len: u64| {
        let behind = data.get(from + len as usize..).unwrap_or_default().to_vec();
        [Piece::Bytes(data[..from].to_vec()), Piece::Hole(len), Piece::Bytes(behind)]
    };
    let whole = (vec!["Some((1, 1000)) ended".to_owned()], None);
    for from in [9, 10, 500] {
        assert_eq!(said(joined(), &hole(from, 1009 - from as u64)), whole);
        assert_eq!(said(joined(), &hole(from, 100)), whole);
        let beyond = said(joined(), &hole(from, 1010 - from as u64));
        assert_eq!(beyond, (whole.0.clone(), Some(Unframed::Hole)));
    }
    assert_eq!(said(joined(), &hole(5, 10)).1, Some(Unframed::Hole));
    let head =
        framed(frame::HEADERS, 5, 1, &[&[0x83][..], &literal("user-agent", "me", false)].concat());
    let pieces = [Piece::Bytes(head[..10].to_vec()), Piece::Hole(head.len() as u64 - 10)];
    assert_eq!(
        said(joined(), &pieces),
        (vec!["1 true false 1 false Method=POST; false true".into()], None)
    );
}

/// Behind a block of which bytes are missing only what is inserted later is known.
#[test]
fn a_lost_block_makes_the_table_unknown_and_no_more() {
    let mut reader = Reader::new(false, true, 1 << 16);
    let mut feed = |bytes: &[u8]| {
        let mut used = 0;
        reader.next_piece();
        match reader.next(bytes, &mut used, &mut ()) {
            Next::Message(Message::Head(head)) => {
                (head.fields.get(Known::Path).map(<[u8]>::to_vec), head.fields.has_unknown())
            }
            other => panic!("{other:?}"),
        }
    };
    let head = |block: &[u8]| framed(frame::HEADERS, 5, 1, block);
    assert_eq!(feed(&head(&literal(":path", "/a", true))), (Some(b"/a".to_vec()), false));
    assert_eq!(feed(&head(&[0xbe])), (Some(b"/a".to_vec()), false));
    reader.restart(true);
    let mut feed = |bytes: &[u8]| {
        let mut used = 0;
        match reader.next(bytes, &mut used, &mut ()) {
            Next::Message(Message::Head(head)) => {
                (head.fields.get(Known::Path).map(<[u8]>::to_vec), head.fields.has_unknown())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(feed(&head(&[0xbe])), (None, true));
    assert_eq!(feed(&head(&literal(":path", "/b", true))), (Some(b"/b".to_vec()), false));
    assert_eq!(feed(&head(&[0xbe])), (Some(b"/b".to_vec()), false));
    assert_eq!(feed(&head(&[0xbf])), (None, true));
}

#[test]
fn a_block_that_is_too_long_is_read_up_to_there() {
    let block = [&[0x83][..], &literal("user-agent", &"u".repeat(90), false)].concat();
    let bytes =
        [framed(frame::HEADERS, 0, 1, &block), framed(frame::CONTINUATION, 4, 1, &[0x84; 20])]
            .concat();
    let (said, lost) = said(Reader::new(false, true, block.len() + 10), &[Piece::Bytes(bytes)]);
    let agent = "u".repeat(90);
    assert_eq!(
        said,
        [format!("1 false false 124 false Method=POST;UserAgent={agent}; false true")]
    );
    assert_eq!(lost, None);
}

/// One byte may stand for thousands.
#[test]
fn a_block_that_unfolds_without_end_is_bounded() {
    let mut decoder = Decoder::new(true);
    let mut fields = Fields::default();
    let name = "n".repeat(120);
    let long = literal(&name, &"v".repeat(120), false);
    decoder.feed(&long, 0, long.len(), &mut (), &mut fields).unwrap();
    let bomb = vec![0xbe; 60_000];
    decoder.feed(&bomb, 0, bomb.len(), &mut (), &mut fields).unwrap();
    assert!(fields.is_cut());
    assert!(
        fields.lines().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= 256 << 10
    );
}

#[test]
fn a_recording_has_no_secret_of_a_block() {
    for coded in [true, false] {
        for (name, value, shown) in [
            (":path", "/a?b=c&token=JZJZJZ", "/a?"),
            (":path", "/a;jsessionid=JZJZJZ/b", "/"),
            (":path", "/a?b=c#JZJZJZ", "/a?b=c#"),
            (":path", "/a?b=c", "/a?b=c"),
            (":authority", "me:JZJZJZ@host", ""),
            ("authorization", "Bearer JZJZJZ", ""),
            ("x-JZ-own", "JZJZ", ""),
            ("user-agent", "curl/8", "curl/8"),
        ] {
            let bytes = framed(frame::HEADERS, 5, 1, &literal(name, value, coded));
            let (said, lost, kept) = fuzz::read(joined(), &[Piece::Bytes(bytes.clone())]);
            let again = fuzz::read(joined(), &kept);
            assert_eq!((again.0, again.1), (said, lost), "{name} {value}");
            let Piece::Bytes(kept) = &kept[0] else { panic!() };
            assert_eq!(kept.len(), bytes.len());
            let mut fields = Fields::default();
            let mut decoder = Decoder::new(true);
            decoder.feed(kept, 9, kept.len(), &mut (), &mut fields).unwrap();
            let (name, value) = fields.lines().next().unwrap();
            let value = String::from_utf8_lossy(value);
            assert!(value.starts_with(shown) && !value.contains("JZ"), "{value}");
            assert!(!String::from_utf8_lossy(name).contains("JZ"));
        }
    }
}

#[test]
fn the_protocol_is_told_from_its_first_bytes() {
    for len in 1..PREFACE.len() {
        assert_eq!(opens(&PREFACE[..len]), Parse::NeedMore);
    }
    assert_eq!(opens(PREFACE), Parse::Parsed { value: (), used: 24 });
    assert_eq!(opens(b"PRI * HTTP/2.1\r\n"), Parse::NotThis(()));
    assert_eq!(opens(b""), Parse::NotThis(()));
    let settings = framed(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    assert!(looks_like_settings(&settings));
    assert!(!looks_like_settings(&framed(frame::SETTINGS, 1, 0, &[])));
    for (first, of_client) in
        [(0x83, Some(true)), (0x88, Some(false)), (0xbe, None), (0x48, Some(false))]
    {
        let head = [&settings[..], &framed(frame::HEADERS, 4, 1, &[first])].concat();
        let seen = frames(&head).unwrap();
        assert_eq!((seen.of_client, seen.has_stream), (of_client, true));
        assert!(frames(&head[..head.len() - 1]).is_some());
    }
    for other in [
        &b"\x07\0\0\x02\0\0\0\x02\0\0\0"[..],
        b"\0\0\0\x14\0\x03\0\x07\0\0\0\x01",
        b"Q\0\0\0\x0dSELECT 1\0",
        b"\x01\0\0\0\0\0\x05\0\x0a\0\x0b",
        b"HTTP/1.1 200 OK\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc",
        &settings[..8],
    ] {
        assert_eq!(frames(other), None, "{other:x?}");
    }
    assert_eq!((code_name(8), code_name(14)), (Some("CANCEL"), None));
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just(":path"),
        Just(":method"),
        Just("authorization"),
        Just("traceparent"),
        Just("x-own"),
        Just("host"),
    ];
    let value = prop_oneof!["[a-zJ?=/&@;#]{0,30}", "\\PC{0,8}", Just("/a?token=JZJZ".to_owned())];
    (name, value, any::<bool>()).prop_map(|(name, value, coded)| literal(name, &value, coded))
}

fn block() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => text(),
        2 => (0xbe_u8..0xc4).prop_map(|byte| vec![byte]),
        2 => (0x81_u8..0x90).prop_map(|byte| vec![byte]),
        1 => (0x20_u8..0x40).prop_map(|byte| vec![byte]),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn direction() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        4 => (block(), any::<bool>()).prop_map(|(block, ends)| framed(1, 4 | u8::from(ends), 1, &block)),
        1 => (block(), 0_usize..20).prop_map(|(block, cut)| {
            let (first, second) = block.split_at(cut.min(block.len()));
            [framed(1, 0, 3, first), framed(9, 4, 3, second)].concat()
        }),
        2 => (vec(any::<u8>(), 0..40), 0_u8..10).prop_map(|(data, flags)| framed(0, flags, 1, &data)),
        1 => (vec(any::<u8>(), 0..9), any::<u8>()).prop_map(|(data, kind)| framed(kind, 0, 0, &data)),
        1 => any::<[u8; 4]>().prop_map(|code| framed(3, 0, 1, &code)),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(frame, 0..8).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(crate::properties::config(400))]

    #[test]
    fn however_it_is_cut_the_same_is_said(
        bytes in direction(),
        begins in any::<bool>(),
        cuts in vec(any::<usize>(), 0..6),
        hole in (0_usize..200, 0_usize..60),
    ) {
        fuzz::claims(false, begins, &bytes, &cuts, hole.0..hole.0 + hole.1);
    }

    #[test]
    fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..200)) {
        fuzz::reader(&bytes);
        fuzz::blocks(&bytes);
    }
}
