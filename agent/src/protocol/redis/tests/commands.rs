use std::ops::Range;

use proptest::prelude::*;

use super::{command, encode};
use crate::protocol::{
    Next, Unframed,
    redis::{Commands, Kind, table},
    replay::{self, Piece, claims, pieces, read},
};

/// The text of one command.
fn text(bytes: &[u8]) -> String {
    let (mut commands, mut used) = (Commands::default(), 0);
    let Next::Message(command) = commands.next(bytes, &mut used, &mut ()) else {
        panic!("{}: no command", bytes.escape_ascii());
    };
    assert_eq!(used, bytes.len());
    let mut text = String::new();
    command.query_text(&mut text);
    text
}

#[test]
fn keys_stay_and_values_do_not() {
    for (line, expected) in [
        ("SET mykey hello", "SET mykey ?"),
        ("set mykey hello EX 10", "SET mykey ? ? ?"),
        ("GET user:1", "GET user:1"),
        ("DEL a b c", "DEL a b c"),
        ("MSET a 1 b 2", "MSET a ? b ?"),
        ("HSET h field value", "HSET h ? ?"),
        ("BITOP AND dest a b", "BITOP ? dest a b"),
        ("BLPOP a b 0", "BLPOP a b ?"),
        ("BLMPOP 0 2 a b LEFT", "BLMPOP ? 2 a b ?"),
        ("EVAL return(1) 2 k1 k2 v1 v2", "EVAL ? 2 k1 k2 ? ?"),
        ("EVALSHA 0123abcd 1 k v", "EVALSHA 0123abcd 1 k ?"),
        ("FCALL fn 0 v", "FCALL fn 0 ?"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZUNIONSTORE d 2 a b ? ? ?"),
        ("ZINTER 2 a b WITHSCORES", "ZINTER 2 a b ?"),
        ("XREAD COUNT 2 STREAMS s1 s2 0-0 0-0", "XREAD ? ? STREAMS s1 s2 ? ?"),
        ("XREADGROUP GROUP g c streams s >", "XREADGROUP ? ? ? streams s ?"),
        ("SORT list BY w_* STORE dest", "SORT list ? ? STORE dest"),
        ("GEORADIUS k 15 37 1 km STOREDIST d", "GEORADIUS k ? ? ? ? STOREDIST d"),
        ("MIGRATE h 6379 k 0 100 AUTH pw", "MIGRATE ? ? k ? ? ? ?"),
        ("JSON.MGET a b $.x", "JSON.MGET a b ?"),
        ("SELECT 3", "SELECT 3"),
        ("OBJECT encoding k", "OBJECT ENCODING k"),
        ("XGROUP CREATE s g $", "XGROUP CREATE s ? ?"),
        ("CLIENT SETNAME me", "CLIENT SETNAME ?"),
        ("CLIENT REPLY OFF", "CLIENT REPLY OFF"),
        ("CLIENT secret word", "CLIENT ? ?"),
        ("PUBLISH channel message", "PUBLISH ? ?"),
        ("SUBSCRIBE channel", "SUBSCRIBE ?"),
        ("AUTH hunter2", "AUTH ?"),
        ("HELLO 3 AUTH user hunter2 SETNAME me", "HELLO 3 ? ? ? ? ?"),
        ("ACL SETUSER bob >hunter2", "ACL SETUSER ? ?"),
        ("CONFIG SET requirepass hunter2", "CONFIG SET ? ?"),
        ("NO.SUCH key value", "NO.SUCH ? ?"),
        ("N\0O! key", "N?O? ?"),
        ("PING", "PING"),
    ] {
        assert_eq!(text(&command(line)), expected, "{line}");
    }
    let migrate = encode(&[b"MIGRATE", b"h", b"1", b"", b"0", b"9", b"COPY", b"KEYS", b"a", b"b"]);
    assert_eq!(text(&migrate), "MIGRATE ? ? \"\" ? ? ? KEYS a b");
}

#[test]
fn a_text_is_bounded_and_printable() {
    let long = "k".repeat(200);
    assert_eq!(text(&command(&format!("GET {long}"))), format!("GET {}...", "k".repeat(128)));
    let many = format!("DEL{}", " key".repeat(100));
    assert_eq!(text(&command(&many)), format!("DEL{} ...", " key".repeat(16)));
    let wide = format!("DEL{}", format!(" {long}").repeat(100));
    assert!(text(&command(&wide)).len() < 1200);
    for (key, expected) in [
        (&b"a b"[..], "\"a b\""),
        (b"?", "\"?\""),
        (b"a\r\n\xff\"", "\"a\\r\\n\\xff\\\"\""),
        ("\u{1f6d2}".as_bytes(), "\u{1f6d2}"),
    ] {
        assert_eq!(text(&encode(&[b"GET", key])), format!("GET {expected}"));
    }
    // A character that the bound cuts in two.
    let cut = format!("{}\u{1f6d2}", "k".repeat(126));
    assert_eq!(text(&encode(&[b"GET", cut.as_bytes()])), format!("GET {}...", "k".repeat(126)));
}

#[test]
fn what_a_conversation_asks_for_is_told() {
    let mut commands = Commands::default();
    let mut one = |line: &str| {
        let (bytes, mut used) = (command(line), 0);
        match commands.next(&bytes, &mut used, &mut ()) {
            Next::Message(command) => {
                let script = command.script().map(str::to_owned);
                (command.kind(), command.operation().to_owned(), command.database(), script)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(one("SELECT 12"), (Kind::Select, "SELECT".into(), Some(12), None));
    assert_eq!(one("EVALSHA ab 0"), (Kind::Script, "EVALSHA".into(), None, Some("ab".into())));
    assert_eq!(one("EVAL src 0"), (Kind::Script, "EVAL".into(), None, None));
    assert_eq!(one("config set a b"), (Kind::Plain, "CONFIG SET".into(), None, None));
    assert_eq!(one("client reply skip").0, Kind::Reply);
    assert_eq!(one("acl whoami").0, Kind::Auth);
    assert_eq!(one("hello").0, Kind::Hello);
    assert_eq!(one("PSYNC ? -1").0, Kind::Replication);
}

#[test]
fn pipelined_commands_have_their_places() {
    let bytes =
        [command("GET a"), b"\r\n*0\r\n".to_vec(), command("SET b 1"), b"*2\r".to_vec()].concat();
    let first = command("GET a").len();
    let (mut commands, mut used) = (Commands::default(), 0);
    for (begin, end) in [(0, first), (first + 6, bytes.len() - 3)] {
        match commands.next(&bytes, &mut used, &mut ()) {
            Next::Message(command) => {
                assert_eq!((command.place.begin, command.place.end), (Some(begin), end));
                assert_eq!(command.place.len, (end - begin) as u64);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(commands.next(&bytes, &mut used, &mut ()), Next::More));
    assert_eq!(commands.began(), Some(bytes.len() - 3));
    let mut used = 0;
    assert!(matches!(commands.next(b"\n$4\r\nPING\r\n", &mut used, &mut ()), Next::More));
    assert!(commands.is_open());
    assert_eq!(commands.began(), None);
}

#[test]
fn inline_commands_are_read_as_redis_splits_them() {
    for (line, expected) in [
        ("PING\r\n", "PING"),
        ("get key\n", "GET key"),
        ("SET \"a key\" 'it\\'s' \r\n", "SET \"a key\" ?"),
        ("SET k \"\\\" x\" y\r\n", "SET k ? ?"),
        ("GET 'it\\'s'\r\n", "GET \"it\\\\'s\""),
        ("DEL a b\r\n", "DEL a b"),
        ("BLPOP a b 0\r\n", "BLPOP a ? ?"),
    ] {
        assert_eq!(text(line.as_bytes()), expected, "{line}");
        claims::<Commands>(line.as_bytes(), &[1, 3, 5, 7, 8], 0..0);
    }
    for line in
        ["HELO mail\r\n", "POST / HTTP/1.1\r\n", "\0", " PING\r\n", "\"PING\"\r\n", "GETX a\r\n"]
    {
        let (said, kept) = read::<Commands>(&pieces(line.as_bytes(), &[]));
        assert_eq!(said.lost, Some(Unframed::Malformed), "{line}");
        let [Piece::Bytes(kept)] = &kept[..] else { panic!("{kept:?}") };
        let kept = kept.iter().filter(|byte| **byte != 0).count();
        assert!(kept <= 4, "{line}: only what may be a command's name is kept");
    }
    let endless = [b"GET ".to_vec(), vec![b'a'; 1 << 16]].concat();
    assert_eq!(read::<Commands>(&pieces(&endless, &[])).0.lost, Some(Unframed::Malformed));
}

#[test]
fn rejects_what_is_no_command() {
    for bytes in [
        &b"*1\r\n+PING\r\n"[..],
        b"*-2\r\n",
        b"*01\r\n",
        b"*1\n",
        b"*?\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*99999999999999999999\r\n",
        b"*1\r\n$18446744073709551615\r\n",
    ] {
        let (said, _) = read::<Commands>(&pieces(bytes, &[]));
        assert_eq!(said.lost, Some(Unframed::Malformed), "{}", bytes.escape_ascii());
        claims::<Commands>(bytes, &[1, 2, 3, 4, 5, 6, 7], 2..4);
    }
}

#[test]
fn a_hole_in_a_value_costs_nothing() {
    let value = vec![b'v'; 100_000];
    let bytes = [encode(&[b"SET", b"key", &value]), command("GET key")].concat();
    let begins = bytes.len() - value.len() - command("GET key").len() - 2;
    // The kernel copies the edges of a fragment; the hole may reach to the line end behind the value.
    for (from, to) in [(begins, begins + value.len()), (begins + 5, begins + value.len() + 2)] {
        let with_hole = [
            Piece::Bytes(bytes[..from].to_vec()),
            Piece::Hole((to - from) as u64),
            Piece::Bytes(bytes[to..].to_vec()),
        ];
        let (said, kept) = read::<Commands>(&with_hole);
        assert_eq!(said, read::<Commands>(&pieces(&bytes, &[])).0);
        assert_eq!(read::<Commands>(&kept).0, said);
    }
    let too_far = [Piece::Bytes(bytes[..begins].to_vec()), Piece::Hole(value.len() as u64 + 3)];
    let (said, _) = read::<Commands>(&too_far);
    assert_eq!((said.messages.len(), said.lost), (1, Some(Unframed::Hole)));
}

#[test]
fn a_recording_holds_neither_values_nor_credentials() {
    for line in [
        "SET k SECRET",
        "AUTH SECRET",
        "AUTH SECRET SECRET",
        "HELLO 3 AUTH SECRET SECRET",
        "EVAL SECRET 1 k SECRET",
        "CONFIG SET requirepass SECRET",
        "ACL SETUSER SECRET >SECRET",
        "UNKNOWN SECRET",
        "CLIENT SECRET",
        "MSET k SECRET k SECRET",
        "HSET k SECRET SECRET",
        "PUBLISH SECRET SECRET",
        "ZUNION SECRET k",
    ] {
        for bytes in [command(line), format!("{line}\r\n").into_bytes()] {
            let (_, kept) = read::<Commands>(&pieces(&bytes, &[]));
            let [Piece::Bytes(kept)] = &kept[..] else { panic!("{kept:?}") };
            // The first byte of an unknown subcommand may be that of a known one.
            let told = String::from_utf8_lossy(kept).replace('\0', "");
            assert!(!told.contains("SEC"), "{line}: {told}");
        }
    }
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Commands>() <= 512, "{}", size_of::<Commands>());
    let key = [b'k'; 128];
    let words: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain([&key[..]; 16]).collect();
    let (bytes, mut used) = (encode(&words), 0);
    let mut commands = Commands::default();
    assert!(matches!(commands.next(&bytes, &mut used, &mut ()), Next::Message(_)));
    assert!(commands.arguments.capacity() >= 2048);
    assert!(matches!(commands.next(&bytes, &mut used, &mut ()), Next::More));
    assert!(commands.arguments.capacity() <= 256);
}

/// Redis 7.0.15 said so; `subcommands` are those of containers.
#[test]
fn the_table_agrees_with_a_server() {
    let rows = include_str!("commands.tsv").lines().filter(|row| !row.starts_with('#'));
    let mut rows_read = 0;
    for row in rows {
        let [name, first, last, step] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let spec = table::find(name.as_bytes()).unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!(spec.name, name);
        let first: u8 = first.parse().unwrap();
        let (last, step): (i8, u8) = (last.parse().unwrap(), step.parse().unwrap());
        let expected = match name {
            // A destination and the sources.
            "BITOP" => table::Keys::Range { first: 2, last: -1, step: 1 },
            // A key all the same.
            "CLUSTER KEYSLOT" => table::Keys::Range { first: 2, last: 2, step: 1 },
            // Channels are no keys.
            "SSUBSCRIBE" | "SUNSUBSCRIBE" | "SPUBLISH" => table::Keys::None,
            _ if first == 0 => table::Keys::None,
            _ => table::Keys::Range { first, last, step },
        };
        match spec.keys {
            // What `COMMAND` calls movable it does not say.
            table::Keys::Counted { .. } | table::Keys::Streams { .. } => {
                assert!(first <= 1, "{name}")
            }
            table::Keys::Store | table::Keys::Migrate => assert!(first > 0, "{name}"),
            keys => assert_eq!(keys, expected, "{name}"),
        }
        rows_read += 1;
    }
    assert!(rows_read > 300, "{rows_read}");
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z:]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::sample::select(vec!["STREAMS", "store", "KEYS", "1", "2", "ENCODING", "*1\r\n$"])
            .prop_map(|word| word.as_bytes().to_vec()),
    ]
}

fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = prop::sample::select(vec![
        "GET",
        "set",
        "MSET",
        "EVAL",
        "ZUNIONSTORE",
        "XREAD",
        "SORT",
        "MIGRATE",
        "OBJECT",
        "AUTH",
        "NOSUCH",
        "BLPOP",
        "HELLO",
        "CONFIG",
        "",
    ]);
    (name, prop::collection::vec(word(), 0..20)).prop_map(|(name, mut words)| {
        words.insert(0, name.as_bytes().to_vec());
        words
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_commands(
        commands in prop::collection::vec(words(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        hole in any::<(u16, u8)>(),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| {
            encode(&words.iter().map(|word| &word[..]).collect::<Vec<_>>())
        }).collect();
        let (said, _) = read::<Commands>(&pieces(&bytes, &cuts));
        prop_assert_eq!(said.messages.len(), commands.len());
        let from = usize::from(hole.0) % bytes.len();
        claims::<Commands>(&bytes, &cuts, from..from + usize::from(hole.1));
    }

    /// A value that is not captured, wholly or in part, is a value all the same.
    #[test]
    fn any_hole_in_a_value_gives_the_same_commands(
        value in prop::collection::vec(any::<u8>(), 1..300),
        hole in any::<(usize, usize)>(),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        let before = [command("GET a"), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$".to_vec()].concat();
        let before = [before, format!("{}\r\n", value.len()).into_bytes()].concat();
        let after = [b"\r\n".to_vec(), command("GET b")].concat();
        let (from, len) = (hole.0 % value.len(), 1 + hole.1 % value.len());
        let to = (from + len).min(value.len());
        let bytes = [&before[..], &value, &after].concat();
        let range: Range<usize> = before.len() + from..before.len() + to;
        let mut with_hole = pieces(&bytes[..range.start], &cuts);
        with_hole.push(Piece::Hole(range.len() as u64));
        with_hole.extend(pieces(&bytes[range.end..], &cuts));
        let whole = read::<Commands>(&pieces(&bytes, &[])).0;
        let (said, kept) = read::<Commands>(&with_hole);
        prop_assert_eq!(&said, &whole);
        prop_assert_eq!(read::<Commands>(&kept).0, whole);
    }

    #[test]
    fn any_bytes_are_read(bytes in "[*$\r\n0-9A-C\"' ]{0,60}", seed in any::<[u8; 5]>()) {
        replay::fuzz::<Commands>(&[&seed[..], bytes.as_bytes()].concat());
        replay::fuzz::<Commands>(&[&seed[..], b"*2\r\n$3\r\nGET\r\n$2\r\n", bytes.as_bytes()].concat());
        replay::fuzz::<Commands>(&[&seed[..], b"GET ", bytes.as_bytes()].concat());
    }
}
