//! PostgreSQL: statements by their text, as `pg_stat_statements` counts them, and errors as the server logs them.

use std::{collections::BTreeMap, time::Duration};

use remora_tests::{
    agent::{Agent, Done},
    database_clients::{Language, SECRET, go, waiting},
    postgres::{Count, Postgres, missing as no_postgres, normal},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

use crate::{all_is_told, is_error, of_kind, recording_tells_the_same, sections};

/// Workers, first one and then many; and how many that is altogether.
const WORKERS: &str = "1,64";
const ALL: u64 = 65;
const ROUNDS: u64 = 3;

pub fn missing() -> bool {
    skip::without_root() || no_postgres()
}

type Statements = BTreeMap<String, Count>;

/// What succeeded, by its text: calls, and rows that came back. A batch counts for what is in it, and what was only
/// prepared does not.
fn succeeded(spans: &[Span], kind: u64) -> Statements {
    let mut statements = Statements::new();
    for span in spans.iter().filter(|span| span.kind == kind) {
        let operation = span.text("db.operation.name");
        if !span.text("db.response.status_code").is_empty() || operation == "PREPARE" {
            continue;
        }
        let size = span.int("db.operation.batch.size").unwrap_or(1) as u64;
        let rows = span.int("db.response.returned_rows").unwrap_or(0) as u64;
        let text = span.text("db.query.text");
        let mut add = |text: &str, calls, rows| {
            let count = statements.entry(normal(text)).or_default();
            count.calls += calls;
            count.rows += rows;
        };
        if operation == "BATCH" {
            let all: Vec<&str> = text.split("; ").collect();
            assert_eq!(all.len() as u64, size, "{span:?}");
            // They are of whichever returns any.
            let selects = |text: &&&str| text.starts_with("SELECT");
            assert!(all.iter().filter(selects).count() <= 1, "{span:?}");
            all.iter().for_each(|text| add(text, 1, if selects(&text) { rows } else { 0 }));
        } else {
            add(text, size, rows);
        }
    }
    statements
}

fn failed(spans: &[Span], kind: u64) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    for span in spans.iter().filter(|span| span.kind == kind) {
        let code = span.text("db.response.status_code");
        if !code.is_empty() {
            assert_eq!(span.text("error.type"), code, "{span:?}");
            *errors.entry(code.to_owned()).or_default() += 1;
        }
    }
    errors
}

/// Rows that a statement only changes do not come back.
fn without_changes(mut statements: Statements) -> Statements {
    for (text, count) in &mut statements {
        if !text.starts_with("SELECT") {
            count.rows = 0;
        }
    }
    statements
}

/// Both ends have a span for each statement that the server counted or refused.
fn both_ends_agree(done: &Done, server: &Postgres, log: usize) {
    let expected = without_changes(server.statements(log));
    let refused = server.errors(log);
    for kind in [SERVER, CLIENT] {
        let seen = without_changes(succeeded(&done.spans, kind));
        assert_eq!(seen, expected, "of kind {kind}\n{}", done.log);
        assert_eq!(failed(&done.spans, kind), refused, "of kind {kind}\n{}", done.log);
        for span in of_kind(&done.spans, kind) {
            assert_eq!(span.text("db.system.name"), "postgresql");
            assert_eq!(span.text("db.namespace"), "shop", "{span:?}");
        }
    }
}

fn library_agrees(language: Language) {
    if missing() || language.missing() {
        return;
    }
    let server = Postgres::start();
    let client = waiting(&language.client("postgres", server.port(), WORKERS, ROUNDS));
    let log = server.forget();
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    go(client, "");
    let done = agent.stop();
    let counted = server.statements(log);
    let rows = counted["SELECT name FROM items WHERE id <= ?"];
    assert_eq!(rows, Count { calls: ALL * ROUNDS, rows: 3 * ALL * ROUNDS }, "{counted:?}");
    assert_eq!(server.errors(log), BTreeMap::from([("22012".to_owned(), ALL * ROUNDS)]));
    both_ends_agree(&done, &server, log);
    all_is_told(&done);
}

#[test]
fn psycopg_agrees_with_the_servers_statistics() {
    library_agrees(Language::Python);
}

#[test]
fn pgx_agrees_with_the_servers_statistics() {
    library_agrees(Language::Go);
}

#[test]
fn node_postgres_agrees_with_the_servers_statistics() {
    library_agrees(Language::Node);
}

#[test]
fn jdbc_agrees_with_the_servers_statistics() {
    library_agrees(Language::Java);
}

#[test]
fn tokio_postgres_agrees_with_the_servers_statistics() {
    library_agrees(Language::Rust);
}

#[test]
fn pgbench_has_what_it_counts_in_every_protocol() {
    if missing() {
        return;
    }
    let server = Postgres::start();
    server.run("shop", "GRANT CREATE ON SCHEMA public TO clerk");
    remora_tests::process::output(server.pgbench().args(["-i", "-s", "1", "-q"]));
    let modes = ["simple", "extended", "prepared"];
    let runs = modes.iter().flat_map(|mode| {
        [("1", "200"), ("16", "50")].map(|(clients, transactions)| {
            let mut bench = server.pgbench();
            bench.args(["-n", "-M", mode, "-c", clients, "-t", transactions]);
            waiting(&bench)
        })
    });
    let runs: Vec<_> = runs.collect();
    let log = server.forget();
    let mut pids: Vec<u32> = runs.iter().map(|run| run.pid()).collect();
    pids.push(server.pid());
    let agent = Agent::on(&pids, &["--ring-size", "64MiB"]);
    let transactions = 3 * (200 + 16 * 50);
    for run in runs {
        let said = go(run, "");
        assert!(said.contains("number of failed transactions: 0"), "{said}");
    }
    let done = agent.stop();
    let counted = server.statements(log);
    let branches = "UPDATE pgbench_branches SET bbalance = bbalance + ? WHERE bid = ?";
    assert_eq!(counted[branches].calls, transactions, "{counted:?}");
    both_ends_agree(&done, &server, log);
    all_is_told(&done);
}

#[test]
fn psql_is_seen_on_a_unix_socket_with_errors_copies_and_notices() {
    if missing() {
        return;
    }
    let server = Postgres::start();
    let psql = waiting(&server.psql("shop", "clerk"));
    let log = server.forget();
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let agent = Agent::on(&[server.pid(), psql.pid()], &["--record", recording.to_str().unwrap()]);
    let script = format!(
        "SELECT name FROM items WHERE id < 11 AND name <> '{SECRET}';\n\
         INSERT INTO orders (worker, note) VALUES (7, '{SECRET}'), (8, E'it''s {SECRET}'), (9, $tag${SECRET}$tag$);\n\
         SELECT 1/0;\nSELECT * FROM nowhere WHERE a = '{SECRET}';\n\
         INSERT INTO items VALUES (1, '{SECRET}', 0);\nBEGIN;\nUPDATE items SET stock = 5 WHERE id = 3;\nROLLBACK;\n\
         COPY notes FROM STDIN;\n1\t{SECRET}\n2\t{SECRET}\n\\.\nCOPY notes TO STDOUT;\n\
         DO $$ BEGIN RAISE NOTICE '{SECRET}'; END $$;\nSET application_name = 'mine';\nDELETE FROM notes;\n\
         \\connect shop clerk 127.0.0.1\nSELECT 1 AS scram;\n\\connect shop teller 127.0.0.1\nSELECT 2 AS plain;\n"
    );
    let said = go(psql, &script);
    assert_eq!(said.matches("item ").count(), 10, "{said}");
    let done = agent.stop();
    recording_tells_the_same(&recording, &done);
    // What proves a password could be tried against it.
    let proof = |bytes: &[u8]| memchr::memmem::find(bytes, b",p=").is_some();
    assert!(
        !sections(&recording).iter().any(|bytes| proof(bytes)),
        "a proof of a password is recorded"
    );
    all_is_told(&done);
    let refused = server.errors(log);
    let codes: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(codes, ["22012", "23505", "42P01"]);
    for kind in [SERVER, CLIENT] {
        assert_eq!(failed(&done.spans, kind), refused, "of kind {kind}\n{}", done.log);
        let spans = of_kind(&done.spans, kind);
        assert_eq!(spans.len(), 15, "of kind {kind}: {spans:?}\n{}", done.log);
        let of = |text: &str| -> &Span {
            let found = spans.iter().find(|span| span.text("db.query.text").starts_with(text));
            found.unwrap_or_else(|| panic!("no {text}: {spans:?}"))
        };
        let select = of("SELECT name");
        assert_eq!(
            select.text("db.query.text"),
            "SELECT name FROM items WHERE id < ? AND name <> ?;"
        );
        assert_eq!(select.text("db.query.summary"), "SELECT items");
        assert_eq!(select.text("db.operation.name"), "SELECT");
        assert_eq!(select.name, "SELECT items");
        assert_eq!(select.int("db.response.returned_rows"), Some(10));
        assert_eq!(select.text("network.transport"), "unix");
        assert!(is_error(of("SELECT * FROM nowhere"), "42P01"), "{spans:?}");
        assert!(is_error(of("INSERT INTO items"), "23505"), "{spans:?}");
        assert_eq!(of("COPY notes FROM").text("db.operation.name"), "COPY");
        let texts = [
            "UPDATE items SET stock = ? WHERE id = ?",
            "DELETE FROM notes",
            "SET application_name = ?",
        ];
        for text in texts {
            assert_eq!(normal(of(text).text("db.query.text")), text);
        }
    }
}

#[test]
fn a_statement_that_is_cancelled_is_an_error_of_as_long_as_it_ran() {
    if missing() || skip::without(&["timeout"]) {
        return;
    }
    let server = Postgres::start();
    let psql = server.psql_by_port("shop", "clerk");
    let mut cancelled = std::process::Command::new("timeout");
    cancelled.args(["--signal=INT", "0.7"]).arg(psql.get_program()).args(psql.get_args());
    cancelled.args(["-c", "SELECT pg_sleep(20)"]);
    for (name, value) in psql.get_envs() {
        cancelled.env(name, value.unwrap());
    }
    // It ends with an error, as it must.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "\"$@\" || true", "sh"]).arg("timeout").args(cancelled.get_args());
    shell.envs(cancelled.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let client = waiting(&shell);
    let log = server.forget();
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    go(client, "");
    let done = agent.stop();
    all_is_told(&done);
    assert_eq!(server.errors(log), BTreeMap::from([("57014".to_owned(), 1)]));
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done.spans, kind);
        assert_eq!(spans.len(), 1, "the request to cancel is none: {spans:?}\n{}", done.log);
        assert!(is_error(spans[0], "57014"), "{spans:?}");
        let lasted = Duration::from_nanos(spans[0].duration_ns());
        assert!(
            lasted >= Duration::from_millis(300) && lasted < Duration::from_secs(15),
            "{lasted:?}"
        );
    }
}

#[test]
fn plaintext_of_tls_is_seen_behind_the_request_for_it() {
    if missing() || skip::without(&["openssl"]) {
        return;
    }
    let server = Postgres::with_tls();
    let mut psql = server.psql_by_port("shop", "clerk");
    let psql = waiting(psql.env("PGSSLMODE", "require"));
    let log = server.forget();
    let agent = Agent::on(&[server.pid(), psql.pid()], &[]);
    let script = format!(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n\
         SELECT name FROM items WHERE id < 5 AND name <> '{SECRET}';\nSELECT 1/0;\n"
    );
    let said = go(psql, &script);
    assert!(said.starts_with("t\n") && said.matches("item ").count() == 4, "{said}");
    let done = agent.stop();
    both_ends_agree(&done, &server, log);
    all_is_told(&done);
}
