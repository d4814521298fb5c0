use proptest::prelude::*;

use crate::protocol::{
    Next, Unframed,
    redis::{Replies, ReplyKind, Word},
    replay::{self, Piece, claims, pieces, read},
};

/// Kind, code, word, elements and errors of one reply.
fn one(bytes: &[u8]) -> (ReplyKind, Option<String>, Option<Word>, u64, u32) {
    let (mut replies, mut used) = (Replies::default(), 0);
    let reply = match replies.next(bytes, &mut used, &mut ()) {
        Next::Message(reply) => {
            (reply.kind, reply.code.map(str::to_owned), reply.word, reply.elements, reply.errors)
        }
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    };
    assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
    claims::<Replies>(bytes, &(0..bytes.len()).collect::<Vec<_>>(), 3..7);
    reply
}

#[test]
fn every_type_is_told() {
    use ReplyKind as K;
    for (bytes, kind) in [
        (&b"+OK\r\n"[..], K::Simple),
        (b"+\r\n", K::Simple),
        (b"-ERR no\r\n", K::Error),
        (b":-12\r\n", K::Integer),
        (b"$0\r\n\r\n", K::Bulk),
        (b"$2\r\n\r\n\r\n", K::Bulk),
        (b"$-1\r\n", K::Null),
        (b"*-1\r\n", K::Null),
        (b"_\r\n", K::Null),
        (b"*0\r\n", K::Array),
        (b"*2\r\n*1\r\n:1\r\n*0\r\n", K::Array),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", K::Map),
        (b"~1\r\n#t\r\n", K::Set),
        (b">2\r\n+message\r\n+x\r\n", K::Push),
        (b",-1.5e10\r\n", K::Double),
        (b",inf\r\n", K::Double),
        (b"(-349285730\r\n", K::BigNumber),
        (b"#f\r\n", K::Boolean),
        (b"!10\r\nSYNTAX bad\r\n", K::Error),
        (b"=7\r\ntxt:abc\r\n", K::Verbatim),
        (b"|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n", K::Bulk),
        (b"|1\r\n*2\r\n:1\r\n:2\r\n:1\r\n*1\r\n:1\r\n", K::Array),
        (b"*2\r\n|1\r\n+a\r\n:1\r\n:1\r\n:2\r\n", K::Array),
        (b"$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", K::Bulk),
        (b"*?\r\n:1\r\n*2\r\n:1\r\n:2\r\n.\r\n", K::Array),
        (b"*1\r\n*?\r\n*?\r\n.\r\n:1\r\n.\r\n", K::Array),
        (b"%?\r\n+a\r\n:1\r\n.\r\n", K::Map),
        (b"~?\r\n.\r\n", K::Set),
    ] {
        assert_eq!(one(bytes).0, kind, "{}", bytes.escape_ascii());
    }
}

#[test]
fn errors_have_their_code() {
    for (bytes, code, errors) in [
        (&b"-ERR unknown command\r\n"[..], Some("ERR"), 0),
        (b"-WRONGTYPE Operation against\r\n", Some("WRONGTYPE"), 0),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", Some("MOVED"), 0),
        (b"-LOADING\r\n", Some("LOADING"), 0),
        (b"-some text\r\n", None, 0),
        (b"-\r\n", None, 0),
        (b"-AVERYLONGCODETHATNOSERVERHAS x\r\n", None, 0),
        (b"!21\r\nSYNTAX invalid syntax\r\n", Some("SYNTAX"), 0),
        (b"*3\r\n+OK\r\n-WRONGTYPE x\r\n-ERR y\r\n", Some("WRONGTYPE"), 2),
        (b"+ERR\r\n", None, 0),
    ] {
        let (_, found, _, _, count) = one(bytes);
        assert_eq!((found.as_deref(), count), (code, errors), "{}", bytes.escape_ascii());
    }
}

#[test]
fn words_tell_what_a_connection_is() {
    for (bytes, word) in [
        (&b"+OK\r\n"[..], Some(Word::Ok)),
        (b"+OKAY\r\n", None),
        (b"+QUEUED\r\n", Some(Word::Queued)),
        (b"+FULLRESYNC 75 0\r\n", Some(Word::FullResync)),
        (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", Some(Word::Message)),
        (b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Some(Word::Subscribe)),
        (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", Some(Word::Invalidate)),
        (b"*1\r\n$9\r\nmessage x\r\n", None),
        (b"*2\r\n$1\r\na\r\n$7\r\nmessage\r\n", None),
        (b"*1\r\n*1\r\n$7\r\nmessage\r\n", None),
        (b"$7\r\nmessage\r\n", None),
    ] {
        assert_eq!(one(bytes).2, word, "{}", bytes.escape_ascii());
    }
}

#[test]
fn aggregates_are_counted() {
    assert_eq!(one(b"*3\r\n:1\r\n*2\r\n:1\r\n:2\r\n:3\r\n").3, 3);
    assert_eq!(one(b"%1\r\n+a\r\n+b\r\n").3, 2);
    let nested = [b"*1\r\n".repeat(1000), b":1\r\n".to_vec()].concat();
    assert_eq!(one(&nested).3, 1);
}

#[test]
fn rejects_what_is_no_reply() {
    for bytes in [
        &b"PONG\r\n"[..],
        b"\0",
        b"+OK\rx",
        b":\r\n",
        b":1a\r\n",
        b":-\r\n",
        b"#x\r\n",
        b"#tt\r\n",
        b"_x\r\n",
        b"$3\r\nabcd\r\n",
        b"$-2\r\n",
        b"*1\r\n>1\r\n:1\r\n",
        b".\r\n",
        b"*?\r\n*?\r\n*?\r\n*?\r\n*?\r\n",
        b"$?\r\n$1\r\n",
        b"*4294967296\r\n",
    ] {
        let (said, _) = read::<Replies>(&pieces(bytes, &[]));
        assert_eq!(said.lost, Some(Unframed::Malformed), "{}", bytes.escape_ascii());
        claims::<Replies>(bytes, &[1, 2, 3, 4, 5], 1..3);
    }
}

#[test]
fn a_hole_in_data_costs_nothing() {
    let bytes = [&b"*2\r\n$100\r\n"[..], &[b'v'; 100], b"\r\n:1\r\n+OK\r\n"].concat();
    let with_hole =
        [Piece::Bytes(bytes[..20].to_vec()), Piece::Hole(92), Piece::Bytes(bytes[112..].to_vec())];
    assert_eq!(read::<Replies>(&with_hole).0, read::<Replies>(&pieces(&bytes, &[])).0);
    let too_far = [Piece::Bytes(bytes[..20].to_vec()), Piece::Hole(93)];
    assert_eq!(read::<Replies>(&too_far).0.lost, Some(Unframed::Hole));
    let in_a_line = [Piece::Bytes(b"+OK".to_vec()), Piece::Hole(1)];
    assert_eq!(read::<Replies>(&in_a_line).0.lost, Some(Unframed::Hole));
}

#[test]
fn a_recording_holds_no_data() {
    let bytes =
        b"*6\r\n$6\r\nSECRET\r\n+SECRET\r\n:421\r\n,4.21\r\n-ERR SECRET\r\n=10\r\ntxt:SECRET\r\n";
    let (_, kept) = read::<Replies>(&pieces(bytes, &[]));
    let [Piece::Bytes(kept)] = &kept[..] else { panic!("{kept:?}") };
    let told = String::from_utf8_lossy(kept).replace('\0', "");
    assert_eq!(told, "*6\r\n$6\r\n\r\n+\r\n:000\r\n,0000\r\n-ERR \r\n=10\r\n\r\n");
}

#[test]
fn an_open_reply_tells_its_kind() {
    let mut replies = Replies::default();
    let mut used = 0;
    assert!(!replies.is_open());
    assert!(matches!(replies.next(b"+OK\r\n>2\r", &mut used, &mut ()), Next::Message(_)));
    assert!(matches!(replies.next(b"+OK\r\n>2\r", &mut used, &mut ()), Next::More));
    assert_eq!((replies.began(), replies.kind()), (Some(5), Some(ReplyKind::Push)));
    assert!(size_of::<Replies>() <= 256, "{}", size_of::<Replies>());
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(b"+OK\r\n".to_vec()),
        Just(b"+QUEUED\r\n".to_vec()),
        "[A-Za-z ]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        "[A-Z]{1,12}( [a-z]{0,9})?".prop_map(|text| format!("-{text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b",1.5e-3\r\n".to_vec()),
        Just(b"#t\r\n".to_vec()),
        Just(b"$?\r\n;2\r\nab\r\n;0\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| {
            [format!("${}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        }),
        Just(b"$7\r\nmessage\r\n".to_vec()),
        Just(b"!9\r\nERR wrong\r\n".to_vec()),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        (prop::collection::vec(inner, 0..6), 0..6).prop_map(|(values, kind)| {
            let (count, all) = (values.len(), values.concat());
            let pairs = if count % 2 == 0 { all.clone() } else { [&all[..], b":1\r\n"].concat() };
            match kind {
                0 => [format!("*{count}\r\n").as_bytes(), &all].concat(),
                1 => [format!("~{count}\r\n").as_bytes(), &all].concat(),
                2 => [format!("%{}\r\n", count.div_ceil(2)).as_bytes(), &pairs].concat(),
                3 => [b"*?\r\n", &all[..], b".\r\n"].concat(),
                4 => [format!("|{}\r\n", count.div_ceil(2)).as_bytes(), &pairs, b":1\r\n"].concat(),
                _ => [b"%?\r\n", &pairs[..], b".\r\n"].concat(),
            }
        })
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_replies(
        replies in prop::collection::vec(value(), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        hole in any::<(u16, u8)>(),
    ) {
        let bytes = replies.concat();
        let (said, _) = read::<Replies>(&pieces(&bytes, &cuts));
        // Unless aggregates without an announced end are nested too deep.
        if said.lost.is_none() {
            prop_assert_eq!(said.messages.len(), replies.len());
        }
        let from = usize::from(hole.0) % bytes.len();
        claims::<Replies>(&bytes, &cuts, from..from + usize::from(hole.1));
    }

    #[test]
    fn any_bytes_are_read(bytes in "[-+:$*%~>|=!_#,(.;?\r\n0-3OKa]{0,50}", seed in any::<[u8; 5]>()) {
        replay::fuzz::<Replies>(&[&seed[..], bytes.as_bytes()].concat());
    }
}
