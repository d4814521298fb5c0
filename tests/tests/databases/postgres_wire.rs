//! PostgreSQL: messages that libraries rarely send, or in other pieces than usual.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use remora_tests::{
    agent::{Agent, Done},
    database_clients::SECRET,
    postgres::Postgres,
    process::patience,
    spans::Span,
};

use crate::{all_is_told, is_error, postgres::missing};

/// A frontend over the Unix socket, whose messages are ours.
struct Frontend(UnixStream);

/// A message with its type and length.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(content.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Binds `portal` of a statement to one text parameter, or none.
fn bind(portal: &str, statement: &str, parameter: Option<&str>) -> Vec<u8> {
    let mut content = format!("{portal}\0{statement}\0\0\0").into_bytes();
    content.extend_from_slice(&(parameter.iter().len() as u16).to_be_bytes());
    if let Some(parameter) = parameter {
        content.extend_from_slice(&(parameter.len() as u32).to_be_bytes());
        content.extend_from_slice(parameter.as_bytes());
    }
    content.extend_from_slice(&[0, 0]);
    message(b'B', &content)
}

fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut content = format!("{portal}\0").into_bytes();
    content.extend_from_slice(&rows.to_be_bytes());
    message(b'E', &content)
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

impl Frontend {
    /// Connected as the superuser to `shop`, and ready.
    fn connect(server: &Postgres) -> Self {
        let socket = server.folder().join(format!(".s.PGSQL.{}", server.port()));
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        let mut frontend = Self(stream);
        let content = b"\0\x03\0\0user\0postgres\0database\0shop\0\0";
        let mut startup = (content.len() as u32 + 4).to_be_bytes().to_vec();
        startup.extend_from_slice(content);
        frontend.send(&startup);
        frontend.ready(1);
        frontend
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads messages until so many `ReadyForQuery` have come; returns the types of all.
    fn ready(&mut self, mut count: usize) -> String {
        let mut kinds = String::new();
        while count > 0 {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut content = vec![0; length as usize - 4];
            self.0.read_exact(&mut content).unwrap();
            kinds.push(char::from(head[0]));
            count -= usize::from(head[0] == b'Z');
        }
        kinds
    }

    /// Ends the session; afterwards the server's process has ended, too.
    fn end(mut self) {
        self.send(&message(b'X', &[]));
        self.0.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// What a frontend does, connected before (`joined`) or after the agent came.
fn seen(
    joined: bool,
    prepare: impl FnOnce(&mut Frontend),
    talk: impl FnOnce(&mut Frontend),
) -> Done {
    let server = Postgres::start();
    let connect = || Frontend::connect(&server);
    let mut early = joined.then(connect);
    if let Some(frontend) = &mut early {
        prepare(frontend);
    }
    let agent = Agent::on(&server.pids(), &[]);
    let mut frontend = early.unwrap_or_else(connect);
    talk(&mut frontend);
    frontend.end();
    let done = agent.stop();
    all_is_told(&done);
    done
}

fn in_order(done: &Done) -> Vec<&Span> {
    let mut spans: Vec<&Span> = done.spans.iter().collect();
    spans.sort_by_key(|span| span.start_ns);
    spans
}

#[test]
fn a_statement_prepared_before_is_known_by_its_completion_only() {
    if missing() {
        return;
    }
    let sql = "SELECT name FROM items WHERE id <= $1";
    let done = seen(
        true,
        |frontend| {
            frontend.send(&[parse("early", sql), sync()].concat());
            assert_eq!(frontend.ready(1), "1Z");
        },
        |frontend| {
            frontend.send(&[bind("", "early", Some("3")), execute("", 0), sync()].concat());
            assert_eq!(frontend.ready(1), "2DDDCZ");
            frontend.send(
                &[parse("late", sql), bind("", "late", Some("4")), execute("", 0), sync()].concat(),
            );
            assert_eq!(frontend.ready(1), "12DDDDCZ");
        },
    );
    let spans = in_order(&done);
    assert_eq!(spans.len(), 2, "{spans:?}\n{}", done.log);
    assert_eq!(spans[0].text("db.operation.name"), "SELECT", "{:?}", spans[0]);
    assert!(!spans[0].attributes.contains_key("db.query.text"), "{:?}", spans[0]);
    assert_eq!(spans[0].int("db.response.returned_rows"), Some(3));
    assert_eq!(spans[1].text("db.query.text"), sql);
    assert_eq!(spans[1].int("db.response.returned_rows"), Some(4));
    assert!(spans.iter().all(|span| span.attributes.contains_key("remora.joined")), "{spans:?}");
}

#[test]
fn what_follows_an_error_in_a_pipeline_is_not_carried_out() {
    if missing() {
        return;
    }
    let done = seen(
        false,
        |_| {},
        |frontend| {
            let one = |sql| [parse("", sql), bind("", "", None), execute("", 0)].concat();
            let mut all = [one("SELECT 11"), one("SELECT 1/0"), one("SELECT 12"), sync()].concat();
            all.extend([one("SELECT 13"), sync()].concat());
            frontend.send(&all);
            // It is found while the statement is bound, for its values are known then.
            assert_eq!(frontend.ready(2), "12DC1EZ12DCZ");
        },
    );
    let errors: Vec<_> = done.spans.iter().filter(|span| is_error(span, "22012")).collect();
    assert_eq!(errors.len(), 1, "{:?}\n{}", done.spans, done.log);
    let rows: i64 =
        done.spans.iter().filter_map(|span| span.int("db.response.returned_rows")).sum();
    assert_eq!(rows, 2, "{:?}", done.spans);
}

#[test]
fn a_portal_that_is_read_in_parts_has_all_of_its_rows() {
    if missing() {
        return;
    }
    let done = seen(
        false,
        |_| {},
        |frontend| {
            frontend.send(&query("BEGIN"));
            frontend.ready(1);
            let sql = "SELECT id FROM items WHERE id <= 10";
            frontend.send(
                &[parse("", sql), bind("cursor", "", None), execute("cursor", 4), sync()].concat(),
            );
            assert_eq!(frontend.ready(1), "12DDDDsZ");
            for kinds in ["DDDDsZ", "DDCZ"] {
                frontend.send(&[execute("cursor", 4), sync()].concat());
                assert_eq!(frontend.ready(1), kinds);
            }
            frontend.send(&query("COMMIT"));
            frontend.ready(1);
        },
    );
    let rows: i64 =
        done.spans.iter().filter_map(|span| span.int("db.response.returned_rows")).sum();
    assert_eq!(rows, 10, "{:?}\n{}", done.spans, done.log);
}

#[test]
fn notifications_are_no_answers_and_bytes_come_one_by_one() {
    if missing() {
        return;
    }
    let done = seen(
        false,
        |_| {},
        |frontend| {
            frontend.send(&query("LISTEN news"));
            frontend.ready(1);
            // To itself: the notification comes before it is ready again.
            frontend.send(&query(&format!("NOTIFY news, '{SECRET}'")));
            assert!(frontend.ready(1).contains('A'));
            for byte in query(&format!("SELECT '{SECRET}' AS slow")) {
                frontend.send(&[byte]);
                std::thread::sleep(Duration::from_micros(300));
            }
            assert_eq!(frontend.ready(1), "TDCZ");
            // Several in one message are one request.
            frontend.send(&query("SELECT 1; SELECT 2; SELECT 3"));
            assert_eq!(frontend.ready(1), "TDCTDCTDCZ");
            frontend.send(&query(""));
            assert_eq!(frontend.ready(1), "IZ");
        },
    );
    let spans = in_order(&done);
    let texts: Vec<&str> = spans.iter().map(|span| span.text("db.query.text")).collect();
    assert_eq!(texts[..3], ["LISTEN news", "NOTIFY news, ?", "SELECT ? AS slow"], "{spans:?}");
    assert_eq!(texts[3], "SELECT ?; SELECT ?; SELECT ?", "{spans:?}");
    assert_eq!(spans[3].int("db.response.returned_rows"), Some(3), "{spans:?}");
}

#[test]
fn a_result_of_ten_megabytes_is_counted_and_not_copied() {
    if missing() {
        return;
    }
    let done = seen(
        false,
        |_| {},
        |frontend| {
            frontend.send(&query(&format!(
                "SELECT repeat('{SECRET}', 131072) FROM generate_series(1, 10)"
            )));
            assert_eq!(frontend.ready(1), format!("T{}CZ", "D".repeat(10)));
            frontend.send(&query("SELECT id FROM items"));
            assert_eq!(frontend.ready(1), format!("T{}CZ", "D".repeat(100)));
        },
    );
    let spans = in_order(&done);
    let rows: Vec<_> = spans.iter().map(|span| span.int("db.response.returned_rows")).collect();
    assert_eq!(rows, [Some(10), Some(100)], "{spans:?}\n{}", done.log);
    // What is not copied is known by where it ends.
    let books = done.books();
    assert!(books.bytes + books.gap_bytes > 10 << 20, "{}", done.log);
}
