//! PostgreSQL: which answers belong to which queries, however the bytes are cut and whatever is missing.

use proptest::{collection::vec, prelude::*, sample::Index};
use remora_common::{
    policy,
    record::{CloseCause, Direction},
};

use super::*;
use crate::exchange::{DbExchange, Detail, Failure, Role as End};

fn db(exchange: &Exchange) -> &DbExchange {
    match &exchange.detail {
        Detail::Postgres(db) => db,
        other => panic!("{other:?}"),
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &len.to_be_bytes()[..], body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(statement: &str, value: &[u8]) -> Vec<u8> {
    let len = u32::try_from(value.len()).unwrap().to_be_bytes();
    let head = format!("\0{statement}\0\0\0\0\x01");
    message(b'B', &[head.as_bytes(), &len, value, b"\0\0"].concat())
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn row(value: &[u8]) -> Vec<u8> {
    let len = u32::try_from(value.len()).unwrap().to_be_bytes();
    message(b'D', &[b"\0\x01", &len[..], value].concat())
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn error(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0MJZ secret\0\0").as_bytes())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn selected(rows: usize) -> Vec<u8> {
    let mut bytes = message(b'T', b"\0\x01id\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    for at in 0..rows {
        bytes.extend(row(format!("{at:06}").as_bytes()));
    }
    [bytes, complete(&format!("SELECT {rows}")), ready()].concat()
}

/// A session as the kernel side copies it once the agent has said so; `requests` is where the client's bytes go.
fn session(requests: Direction) -> Kernel {
    let mut kernel = if requests == Direction::Tx { client() } else { server() };
    kernel.capture = policy::EDGES;
    log_in(&mut kernel, requests);
    kernel
}

fn log_in(kernel: &mut Kernel, requests: Direction) {
    let parameters = b"\0\x03\0\0user\0me\0database\0shop\0application_name\0psql\0\0";
    let len = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes();
    kernel.moved(requests, &[&len[..], parameters].concat());
    kernel.moved(requests.flip(), &message(b'R', &[0, 0, 0, 10]));
    kernel.moved(requests, &message(b'p', b"SCRAM-SHA-256\0JZ"));
    let welcome = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0015.1\0"),
        message(b'K', &[7; 8]),
        ready(),
    ];
    kernel.moved(requests.flip(), &welcome.concat());
}

fn texts(exchanges: &[Exchange]) -> Vec<(&str, &str)> {
    let text = |exchange| db(exchange).query_text.as_deref().unwrap_or("-");
    exchanges.iter().map(|exchange| (&*db(exchange).operation, text(exchange))).collect()
}

#[test]
fn tells_a_simple_query_at_either_end() {
    for (requests, role) in [(Direction::Tx, End::Client), (Direction::Rx, End::Server)] {
        let mut kernel = session(requests);
        kernel.moved(requests, &query("SELECT id FROM orders WHERE id = 42"));
        kernel.now_ns += 5_000_000;
        kernel.moved(requests.flip(), &selected(3));
        let exchange = one(&kernel);
        assert_eq!(exchange.role, role);
        let db = db(&exchange);
        assert_eq!(db.query_text.as_deref(), Some("SELECT id FROM orders WHERE id = ?"));
        assert_eq!(db.summary.as_deref(), Some("SELECT orders"));
        assert_eq!((&*db.operation, db.namespace.as_deref()), ("SELECT", Some("shop")));
        assert_eq!((db.returned_rows, db.failed, db.batch_size), (Some(3), false, 0));
        assert!((5_000_000..5_003_000).contains(&(exchange.end_mono_ns - exchange.start_mono_ns)));
    }
}

#[test]
fn errors_have_their_sqlstate() {
    let mut kernel = session(Direction::Tx);
    kernel.tx(&query("SELECT * FROM nowhere")).rx(&[error("42P01"), ready()].concat());
    kernel.tx(&query("INSERT INTO a VALUES (1)")).rx(&[complete("INSERT 0 1"), ready()].concat());
    let exchanges = all(&kernel);
    assert_eq!(db(&exchanges[0]).status_code.as_deref(), Some("42P01"));
    assert!(db(&exchanges[0]).failed && !db(&exchanges[1]).failed);
    assert_eq!(db(&exchanges[1]).returned_rows, None);
}

#[test]
fn prepared_statements_are_known_by_name() {
    let mut kernel = session(Direction::Tx);
    let text = "SELECT v FROM t WHERE k = $1";
    kernel.tx(&[parse("s1", text), message(b'D', b"Ss1\0"), sync()].concat());
    kernel.rx(&[message(b'1', b""), message(b't', b"\0\0"), message(b'n', b""), ready()].concat());
    for _ in 0..2 {
        kernel.tx(&[bind("s1", b"JZ secret"), execute(), sync()].concat());
        kernel.rx(&[message(b'2', b""), row(b"1"), complete("SELECT 1"), ready()].concat());
    }
    kernel
        .tx(&[message(b'C', b"Ss1\0"), sync()].concat())
        .rx(&[message(b'3', b""), ready()].concat());
    let exchanges = all(&kernel);
    assert_eq!(texts(&exchanges), [("PREPARE", text), ("SELECT", text), ("SELECT", text)]);
    assert_eq!(db(&exchanges[1]).returned_rows, Some(1));
}

#[test]
fn a_statement_that_was_prepared_before_is_told_by_its_tag() {
    let mut kernel = Kernel::opened(Role::Unknown, open_flag::JOINED);
    kernel.capture = policy::EDGES;
    kernel.tx(&[bind("old", b"1"), execute(), sync()].concat());
    kernel.rx(&[message(b'2', b""), complete("UPDATE 7"), ready()].concat());
    let exchange = one(&kernel);
    let db = db(&exchange);
    assert_eq!((&*db.operation, db.query_text.as_deref(), db.text_unknown), ("UPDATE", None, true));
    assert_eq!((exchange.role, db.namespace.as_deref()), (End::Client, None));
}

#[test]
fn executions_up_to_a_sync_are_a_batch() {
    let mut kernel = session(Direction::Tx);
    let insert = "INSERT INTO t VALUES ($1)";
    let mut calls = parse("", insert);
    let mut answers = message(b'1', b"");
    for _ in 0..3 {
        calls.extend([bind("", b"x"), execute()].concat());
        answers.extend([message(b'2', b""), complete("INSERT 0 1")].concat());
    }
    kernel.tx(&[calls, sync()].concat()).rx(&[answers, ready()].concat());
    let exchange = one(&kernel);
    let db = db(&exchange);
    assert_eq!(
        (&*db.operation, db.query_text.as_deref(), db.batch_size),
        ("BATCH INSERT", Some(insert), 3)
    );
}

#[test]
fn copies_are_one_exchange() {
    let mut kernel = session(Direction::Tx);
    kernel.tx(&query("COPY t FROM STDIN")).rx(&message(b'G', b"\0\0\x01\0\0"));
    for _ in 0..20 {
        kernel.tx(&message(b'd', &[b'v'; 5000]));
        // As many short rows as libpq sends at once.
        kernel.tx(&message(b'd', &[b'v'; 77]).repeat(100));
    }
    kernel.tx(&message(b'c', b"")).rx(&[complete("COPY 20"), ready()].concat());
    kernel.tx(&query("COPY t TO STDOUT"));
    kernel
        .rx(&[message(b'H', b"\0\0\x01\0\0"), message(b'd', b"1\n"), message(b'c', b"")].concat());
    kernel.rx(&[complete("COPY 1"), ready()].concat());
    let told = all(&kernel);
    assert_eq!(texts(&told), [("COPY", "COPY t FROM STDIN"), ("COPY", "COPY t TO STDOUT")]);
}

#[test]
fn encryption_that_is_refused_changes_nothing() {
    let mut kernel = client();
    kernel.capture = policy::EDGES;
    kernel.tx(&[0, 0, 0, 8, 4, 210, 22, 47]).rx(b"N");
    log_in(&mut kernel, Direction::Tx);
    kernel.tx(&query("SELECT 1")).rx(&selected(1));
    assert_eq!(all(&kernel).len(), 1);
    let mut kernel = client();
    kernel.tx(&[0, 0, 0, 8, 4, 210, 22, 47]).rx(b"S").tx(b"\x16\x03\x01\x02\0\x01");
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.captures.last(), Some(&(7, policy::CIPHERTEXT)));
    assert!(out.started.is_empty());
}

#[test]
fn the_end_of_a_long_result_is_told_by_its_last_bytes() {
    for cut in [0, 1, 3, 6, 12, 30] {
        let mut kernel = session(Direction::Tx);
        kernel.tx(&query("SELECT id FROM big"));
        let result = selected(2000);
        let (front, back) = result.split_at(result.len() - cut);
        for piece in front.chunks(8192) {
            kernel.rx(piece);
        }
        if !back.is_empty() {
            kernel.rx(back);
        }
        let last_ns = kernel.now_ns;
        kernel.now_ns += 900_000;
        kernel.tx(&query("SELECT 1")).rx(&[error("57014"), ready()].concat());
        let exchanges = all(&kernel);
        assert_eq!(exchanges.len(), 2, "{cut}");
        assert_eq!(exchanges[0].end_mono_ns, last_ns, "{cut}");
        assert!(!exchanges[0].marks.end_inferred);
        assert_eq!((db(&exchanges[0]).failed, db(&exchanges[1]).failed), (false, true));
        assert_eq!(db(&exchanges[0]).returned_rows, Some(2000), "{cut}");
    }
}

#[test]
fn what_is_open_fails_with_the_connection() {
    let mut kernel = session(Direction::Tx);
    kernel.tx(&query("SELECT pg_sleep(9)")).close(CloseCause::Error, libc::ECONNRESET).gone();
    assert_eq!(one(&kernel).failure, Some(Failure::Reset));
    let mut kernel = session(Direction::Tx);
    kernel.tx(&query("SELECT pg_sleep(9)"));
    kernel.rx(&message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0")).gone();
    let exchange = one(&kernel);
    assert_eq!((exchange.failure, db(&exchange).status_code.as_deref()), (None, Some("57P01")));
}

#[test]
fn replication_and_cancel_requests_are_no_sessions() {
    let mut kernel = client();
    let cancel = [&[0, 0, 0, 16, 4, 210, 22, 46][..], &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
    kernel.tx(&cancel).gone();
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert!(out.started.is_empty() && out.lost.is_empty());
}

#[test]
fn recordings_hold_no_parameters_rows_literals_or_passwords() {
    let mut kernel = session(Direction::Tx);
    kernel.tx(&query("SELECT * FROM users WHERE name = 'JZ secret' AND id = 77777"));
    kernel.rx(&[row(b"JZ secret"), complete("SELECT 1"), ready()].concat());
    kernel
        .tx(&[parse("s", "SELECT $1, 'JZ'"), bind("s", b"JZ secret"), execute(), sync()].concat());
    kernel.rx(&[message(b'1', b""), message(b'2', b""), error("22P02"), ready()].concat());
    for owned in kept::as_kept(Limits::default(), &kernel.records) {
        if let Owned::Data(_, head) = owned {
            let text = String::from_utf8_lossy(&head).into_owned();
            assert!(!text.contains("JZ") && !text.contains("77777"), "{}", head.escape_ascii());
        }
    }
    assert_eq!(all(&kernel).len(), 2);
}

/// The `id`th query, and its answer, an error for every third.
fn numbered(id: usize, rows: usize) -> (Vec<u8>, Vec<u8>) {
    let text = format!("SELECT id FROM t{id}");
    let request = match id % 2 {
        0 => query(&text),
        _ => [parse("", &text), bind("", b"v"), execute(), sync()].concat(),
    };
    let answer =
        if id.is_multiple_of(3) { [error("23505"), ready()].concat() } else { selected(rows) };
    (request, answer)
}

fn assert_pairs(out: &Collector) {
    for exchange in &out.finished {
        let db = db(exchange);
        let Some(text) = db.query_text.as_deref() else { continue };
        let id: usize = text.rsplit('t').next().unwrap().parse().unwrap();
        if exchange.failure.is_none() {
            assert_eq!(db.failed, id.is_multiple_of(3), "{text}: {:?}", db.status_code);
        }
    }
}

proptest! {
    #![proptest_config(crate::properties::config(200))]

    #[test]
    fn any_split_gives_the_same_exchanges(
        rows in vec(prop_oneof![0_usize..5, 100_usize..600], 1..10),
        cuts in vec(prop_oneof![1_usize..20, 200_usize..9000], 1..8),
    ) {
        let mut kernel = session(Direction::Tx);
        let mut cuts = cuts.iter().cycle();
        let mut ends = Vec::new();
        for (id, &rows) in rows.iter().enumerate() {
            let (request, answer) = numbered(id, rows);
            for (direction, bytes) in [(Direction::Tx, request), (Direction::Rx, answer)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let len = rest.len().min(*cuts.next().unwrap());
                    kernel.moved(direction, &rest[..len]);
                    rest = &rest[len..];
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
        rows in vec(prop_oneof![0_usize..5, 100_usize..600], 2..16),
        drops in vec(any::<Index>(), 1..6),
        burst in 1_usize..4,
    ) {
        let mut kernel = session(Direction::Tx);
        for (id, &rows) in rows.iter().enumerate() {
            let (request, answer) = numbered(id, rows);
            kernel.tx(&request);
            for piece in answer.chunks(8192) {
                kernel.rx(piece);
            }
        }
        kernel.gone();
        for drop in drops {
            let at = drop.index(kernel.records.len());
            let end = (at + burst).min(kernel.records.len() - 1);
            if at > 1 && at < end {
                kernel.records.drain(at..end);
            }
        }
        let (out, _) = assemble(Limits::default(), &kernel.records);
        assert_pairs(&out);
    }

    #[test]
    fn any_bytes_behind_a_startup_are_settled(pieces in vec((any::<bool>(), vec(any::<u8>(), 1..60)), 1..20)) {
        let mut kernel = session(Direction::Tx);
        for (received, bytes) in &pieces {
            kernel.moved(if *received { Direction::Rx } else { Direction::Tx }, bytes);
        }
        kernel.gone();
        assemble(Limits::default(), &kernel.records);
    }
}
