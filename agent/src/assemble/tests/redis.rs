//! Redis: which replies belong to which commands, however the bytes are cut and whatever is missing.

use proptest::{collection::vec, prelude::*, sample::Index};
use remora_common::{
    policy,
    record::{CloseCause, Direction},
};

use super::*;
use crate::exchange::{DbExchange, Detail, Failure, Role as End};

fn db(exchange: &Exchange) -> &DbExchange {
    match &exchange.detail {
        Detail::Redis(db) => db,
        other => panic!("{other:?}"),
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// A client's connection as the kernel side copies it once the agent has said so.
fn redis_client() -> Kernel {
    let mut kernel = client();
    kernel.capture = policy::EDGES;
    kernel
}

/// `operation` and `db.query.text` of each.
fn texts(exchanges: &[Exchange]) -> Vec<(&str, &str)> {
    exchanges
        .iter()
        .map(|exchange| {
            (&*db(exchange).operation, db(exchange).query_text.as_deref().unwrap_or("-"))
        })
        .collect()
}

#[test]
fn tells_a_command_and_its_reply_at_either_end() {
    for (kernel, role) in [(client(), End::Client), (server(), End::Server)] {
        let mut kernel = kernel;
        kernel.capture = policy::EDGES;
        let requests = if role == End::Client { Direction::Tx } else { Direction::Rx };
        kernel.moved(requests, &command(&["SET", "key", "secret"]));
        kernel.now_ns += 5_000_000;
        kernel.moved(requests.flip(), b"+OK\r\n");
        let exchange = one(&kernel);
        assert_eq!(exchange.role, role);
        assert_eq!(texts(std::slice::from_ref(&exchange)), [("SET", "SET key ?")]);
        assert_eq!(db(&exchange).namespace.as_deref(), Some("0"));
        assert!((5_000_000..5_003_000).contains(&(exchange.end_mono_ns - exchange.start_mono_ns)));
        assert_eq!((exchange.failure, db(&exchange).failed), (None, false));
    }
}

#[test]
fn asks_for_all_bytes_as_soon_as_it_is_recognised() {
    let mut kernel = redis_client();
    kernel.tx(&command(&["GET", "a"])).rx(b"$-1\r\n");
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.captures, [(7, policy::ALL)]);
}

#[test]
fn a_line_is_a_command_once_it_is_answered_like_one() {
    let mut kernel = redis_client();
    kernel.tx(b"PING\r\n").rx(b"+PONG\r\n");
    assert_eq!(texts(&all(&kernel)), [("PING", "PING")]);
    // NATS begins with INFO of the server, and PING means something else there.
    let mut other = redis_client();
    other.rx(b"INFO {\"server_id\":\"x\"}\r\n").tx(b"PING\r\n").rx(b"PONG\r\n");
    let (out, _) = assemble(Limits::default(), &other.records);
    assert!(out.started.is_empty() && out.lost.is_empty());
}

#[test]
fn commands_of_one_call_are_a_pipeline() {
    let mut kernel = redis_client();
    let pipeline = [command(&["GET", "a"]), command(&["GET", "b"]), command(&["GET", "c"])];
    kernel.tx(&pipeline.concat()).rx(b"$1\r\nx\r\n$-1\r\n").rx(b"$2\r\nyz\r\n");
    kernel.tx(&[command(&["GET", "a"]), command(&["INCR", "n"])].concat()).rx(b"$-1\r\n:1\r\n");
    let exchanges = all(&kernel);
    assert_eq!(
        texts(&exchanges),
        [("PIPELINE GET", "GET a; GET b; GET c"), ("PIPELINE", "GET a; INCR n")]
    );
    let sizes: Vec<_> = exchanges.iter().map(|exchange| db(exchange).batch_size).collect();
    assert_eq!(sizes, [3, 2]);
}

#[test]
fn a_transaction_is_one_exchange_in_one_call_or_in_many() {
    let steps: [(&[&str], &str); 4] = [
        (&["MULTI"], "+OK\r\n"),
        (&["SET", "a", "1"], "+QUEUED\r\n"),
        (&["SET", "b", "2"], "+QUEUED\r\n"),
        (&["EXEC"], "*2\r\n+OK\r\n+OK\r\n"),
    ];
    let mut at_once = redis_client();
    at_once.tx(&steps.map(|(words, _)| command(words)).concat());
    at_once.rx(steps.map(|(_, reply)| reply).concat().as_bytes());
    let mut by_turns = redis_client();
    for (words, reply) in steps {
        by_turns.tx(&command(words)).rx(reply.as_bytes());
    }
    for mut kernel in [at_once, by_turns] {
        kernel.tx(&command(&["GET", "a"])).rx(b"$1\r\n1\r\n");
        let exchanges = all(&kernel);
        assert_eq!(texts(&exchanges), [("MULTI SET", "SET a ?; SET b ?"), ("GET", "GET a")]);
        assert_eq!(db(&exchanges[0]).batch_size, 2);
    }
}

#[test]
fn errors_have_their_code() {
    let mut kernel = redis_client();
    kernel.tx(&command(&["INCR", "a"])).rx(b"-WRONGTYPE Operation against a key\r\n");
    kernel.tx(&command(&["SELECT", "99"])).rx(b"-ERR DB index is out of range\r\n");
    kernel.tx(&command(&["SELECT", "5"])).rx(b"+OK\r\n");
    kernel.tx(&command(&["GET", "a"])).rx(b"$-1\r\n");
    let exchanges = all(&kernel);
    let told: Vec<_> = exchanges
        .iter()
        .map(|exchange| (db(exchange).status_code.as_deref(), db(exchange).namespace.as_deref()))
        .collect();
    assert_eq!(told[0], (Some("WRONGTYPE"), Some("0")));
    assert_eq!(told[1].0, Some("ERR"));
    assert_eq!(told[3], (None, Some("5")));
}

#[test]
fn messages_of_subscriptions_are_no_exchanges() {
    let mut kernel = redis_client();
    kernel.tx(&command(&["SUBSCRIBE", "a", "b"]));
    kernel.rx(
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    );
    for _ in 0..3 {
        kernel.rx(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
    }
    kernel.tx(&command(&["PING"])).rx(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(all(&kernel).len(), 2);
    // The third version of the protocol has a type for them.
    let mut kernel = redis_client();
    kernel.tx(&command(&["SUBSCRIBE", "a"])).rx(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    kernel.rx(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
    kernel.tx(&command(&["GET", "x"])).rx(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n_\r\n");
    assert_eq!(all(&kernel).len(), 2);
}

#[test]
fn a_monitor_and_a_replica_are_counted_only_from_then_on() {
    for (words, reply) in
        [(&["MONITOR"][..], "+OK\r\n"), (&["PSYNC", "?", "-1"], "+FULLRESYNC x 0\r\n")]
    {
        let mut kernel = redis_client();
        kernel.tx(&command(words)).rx(reply.as_bytes()).rx(b"+1 [0 127.0.0.1:1] \"GET\" \"a\"\r\n");
        let (out, _) = assemble(Limits::default(), &kernel.records);
        assert_eq!(out.finished.len(), 1, "{words:?}");
        assert_eq!(out.captures.last(), Some(&(7, policy::COUNT)), "{words:?}");
    }
}

#[test]
fn a_command_that_wants_no_reply_has_none() {
    let mut kernel = redis_client();
    kernel.tx(&command(&["CLIENT", "REPLY", "OFF"])).tx(&command(&["SET", "a", "b"]));
    kernel.tx(&command(&["CLIENT", "REPLY", "ON"])).rx(b"+OK\r\n");
    kernel.tx(&command(&["GET", "a"])).rx(b"$1\r\nb\r\n");
    assert_eq!(all(&kernel).len(), 4);
}

#[test]
fn values_are_followed_by_their_length() {
    let mut kernel = redis_client();
    let value = "v".repeat(3 << 20);
    for piece in command(&["SET", "k", &value]).chunks(60_000) {
        kernel.tx(piece);
    }
    kernel.rx(b"+OK\r\n").tx(&command(&["GET", "k"]));
    let reply = format!("${}\r\n{value}\r\n", value.len());
    for piece in reply.as_bytes().chunks(16 << 10) {
        kernel.rx(piece);
    }
    let last_ns = kernel.now_ns;
    kernel.tx(&command(&["DEL", "k"])).rx(b":1\r\n");
    let exchanges = all(&kernel);
    assert_eq!(texts(&exchanges), [("SET", "SET k ?"), ("GET", "GET k"), ("DEL", "DEL k")]);
    assert_eq!(exchanges[1].end_mono_ns, last_ns);
    assert!(exchanges.iter().all(|exchange| exchange.marks == Default::default()));
}

#[test]
fn edges_will_do_where_long_values_come_one_at_a_time() {
    let mut kernel = redis_client();
    let value = "v".repeat(5000);
    for _ in 0..20 {
        kernel
            .tx(&command(&["GET", "k"]))
            .rx(format!("${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    kernel.tx(&[command(&["GET", "a"]), command(&["GET", "b"])].concat()).rx(b"$-1\r\n$-1\r\n");
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.captures, [(7, policy::ALL), (7, policy::EDGES), (7, policy::ALL)]);
    assert_eq!((out.finished.len(), out.lost.len()), (21, 0));
}

#[test]
fn a_pipeline_longer_than_what_is_copied_is_counted_by_its_replies() {
    let mut kernel = redis_client();
    let (calls, replies) = (command(&["SET", "k", "v"]).repeat(300), b"+OK\r\n".repeat(300));
    kernel
        .tx(&calls[..calls.len() / 2])
        .tx(&calls[calls.len() / 2..])
        .rx(&replies[..1000])
        .rx(&replies[1000..]);
    let last_ns = kernel.now_ns;
    kernel.tx(&command(&["GET", "a"])).rx(b"-ERR no\r\n");
    let exchanges = all(&kernel);
    assert_eq!(exchanges.len(), 2);
    let (pipeline, get) = (db(&exchanges[0]), db(&exchanges[1]));
    assert_eq!(
        (&*pipeline.operation, pipeline.batch_size, pipeline.text_cut),
        ("PIPELINE", 300, true)
    );
    assert_eq!((exchanges[0].end_mono_ns, get.failed), (last_ns, true));
}

#[test]
fn the_next_command_ends_a_reply_whose_end_is_not_seen() {
    let mut kernel = redis_client();
    let list: String = (0..600).map(|at| format!("$6\r\n{at:06}\r\n")).collect();
    kernel.tx(&command(&["LRANGE", "l", "0", "599"]));
    kernel.rx(format!("*600\r\n{list}").as_bytes());
    let last_ns = kernel.now_ns;
    kernel.now_ns += 3_000_000;
    kernel.tx(&command(&["GET", "a"])).rx(b"-ERR no\r\n");
    let exchanges = all(&kernel);
    assert_eq!(exchanges.len(), 2);
    assert_eq!(exchanges[0].end_mono_ns, last_ns);
    assert_eq!((db(&exchanges[0]).failed, db(&exchanges[1]).failed), (false, true));
}

#[test]
fn silence_ends_a_reply_whose_end_is_not_seen_and_says_so() {
    let mut kernel = redis_client();
    let list: String = (0..600).map(|at| format!("$6\r\n{at:06}\r\n")).collect();
    kernel.tx(&command(&["LRANGE", "l", "0", "599"])).rx(format!("*600\r\n{list}").as_bytes());
    let mut assembler = Assembler::new(Limits::default());
    let mut out = Collector::default();
    for owned in &kernel.records {
        assembler.record(&owned.record(), &mut out);
    }
    assembler.tick(kernel.now_ns + 5_000_000_000, &mut out);
    let [exchange] = &*out.finished else { panic!("{:?}", out.finished) };
    assert_eq!((exchange.end_mono_ns, exchange.marks.end_inferred), (kernel.now_ns, true));
}

#[test]
fn what_is_open_fails_with_the_connection() {
    let mut kernel = redis_client();
    kernel.tx(&command(&["BLPOP", "l", "0"])).close(CloseCause::Error, libc::ECONNRESET).gone();
    let exchange = one(&kernel);
    assert_eq!(exchange.failure, Some(Failure::Reset));
}

#[test]
fn a_connection_that_was_open_before_is_told_from_its_first_command_on() {
    let mut kernel = Kernel::opened(Role::Unknown, open_flag::JOINED);
    kernel.capture = policy::EDGES;
    kernel.rx(b"llo\r\n$3\r\nabc\r\n").tx(&command(&["GET", "a"])).rx(b"$-1\r\n");
    let exchanges = all(&kernel);
    assert_eq!(texts(&exchanges), [("GET", "GET a")]);
    assert_eq!((exchanges[0].role, exchanges[0].marks.joined), (End::Client, true));
    assert_eq!(db(&exchanges[0]).namespace, None);
}

#[test]
fn recordings_hold_neither_values_nor_credentials() {
    let mut kernel = redis_client();
    kernel
        .tx(&command(&["HELLO", "3", "AUTH", "user", "JZpassword"]))
        .rx(b"%1\r\n$3\r\nJZx\r\n:3\r\n");
    kernel.tx(&command(&["AUTH", "JZpassword"])).rx(b"+OK\r\n");
    kernel.tx(&command(&["SET", "key", "JZvalue"])).rx(b"+OK\r\n");
    kernel.tx(&command(&["GET", "key"])).rx(b"$7\r\nJZvalue\r\n");
    kernel.tx(&command(&["EVAL", "return 'JZ'", "1", "key", "JZ"])).rx(b"-ERR JZ wrong\r\n");
    kernel.tx(&command(&["UNHEARD", "JZ"])).rx(b":1\r\n");
    for owned in kept::as_kept(Limits::default(), &kernel.records) {
        if let Owned::Data(_, head) = owned {
            assert!(!String::from_utf8_lossy(&head).contains("JZ"), "{}", head.escape_ascii());
        }
    }
    assert_eq!(all(&kernel).len(), 6);
}

/// The `id`th command, and its reply, which tells the id again where it is an error.
fn numbered(id: usize, value: usize) -> (Vec<u8>, Vec<u8>) {
    let key = format!("k{id}");
    let code: String = format!("E{id:04}")
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => char::from(byte - b'0' + b'A'),
            other => char::from(other),
        })
        .collect();
    let reply = match id % 3 {
        0 => format!("-{code} wrong\r\n"),
        1 => format!("${value}\r\n{}\r\n", "v".repeat(value)),
        _ => "+OK\r\n".to_owned(),
    };
    (command(&["SET", &key, &"x".repeat(value)]), reply.into_bytes())
}

fn assert_pairs(out: &Collector) {
    for exchange in &out.finished {
        let db = db(exchange);
        if db.batch_size > 1 {
            continue;
        }
        let text = db.query_text.as_deref().unwrap();
        let id: usize = text.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        if exchange.failure.is_none() && exchange.first_byte_mono_ns != 0 {
            assert_eq!(db.failed, id.is_multiple_of(3), "{text}: {:?}", db.status_code);
        }
    }
}

proptest! {
    #![proptest_config(crate::properties::config(200))]

    #[test]
    fn any_split_gives_the_same_exchanges(
        values in vec(prop_oneof![0_usize..20, 900_usize..3000], 1..12),
        cuts in vec(prop_oneof![1_usize..20, 200_usize..5000], 1..8),
    ) {
        let mut kernel = redis_client();
        let mut cuts = cuts.iter().cycle();
        let mut ends = Vec::new();
        for (id, &value) in values.iter().enumerate() {
            let (command, reply) = numbered(id, value);
            for (direction, bytes) in [(Direction::Tx, command), (Direction::Rx, reply)] {
                let mut rest = &bytes[..];
                // An opening of a few bytes is nobody's.
                let mut least = if id == 0 { 20 } else { 1 };
                while !rest.is_empty() {
                    let len = rest.len().min((*cuts.next().unwrap()).max(least));
                    kernel.moved(direction, &rest[..len]);
                    rest = &rest[len..];
                    least = 1;
                }
            }
            ends.push(kernel.now_ns);
        }
        let (out, stats) = assemble(Limits::default(), &kernel.records);
        prop_assert_eq!(&out.lost, &[]);
        prop_assert_eq!(stats.gaps, 0);
        let told: Vec<_> = out.finished.iter().map(|exchange| exchange.end_mono_ns).collect();
        prop_assert_eq!(told, ends);
        assert_pairs(&out);
    }

    #[test]
    fn dropped_records_never_give_a_wrong_pair(
        values in vec(prop_oneof![0_usize..20, 900_usize..3000], 2..20),
        drops in vec(any::<Index>(), 1..6),
        burst in 1_usize..4,
    ) {
        let mut kernel = redis_client();
        for (id, &value) in values.iter().enumerate() {
            let (command, reply) = numbered(id, value);
            kernel.tx(&command).rx(&reply);
        }
        kernel.gone();
        for drop in drops {
            let at = drop.index(kernel.records.len());
            let end = (at + burst).min(kernel.records.len() - 1);
            if at > 0 && at < end {
                kernel.records.drain(at..end);
            }
        }
        let (out, _) = assemble(Limits::default(), &kernel.records);
        assert_pairs(&out);
    }

    #[test]
    fn any_bytes_behind_a_command_are_settled(pieces in vec((any::<bool>(), vec(any::<u8>(), 1..60)), 1..20)) {
        let mut kernel = redis_client();
        kernel.tx(&command(&["GET", "a"]));
        for (received, bytes) in &pieces {
            kernel.moved(if *received { Direction::Rx } else { Direction::Tx }, bytes);
        }
        kernel.gone();
        assemble(Limits::default(), &kernel.records);
    }
}
