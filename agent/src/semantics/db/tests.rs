//! Spans and series of databases by table: what each rule of the conventions makes of an exchange.

use std::hash::{BuildHasher, RandomState};

use super::*;
use crate::{
    attribute::{AttributeOptions, Value},
    exchange::{Detail, Protocol},
    semantics::{
        Tone,
        metrics::{Family, Key, OwnedKey, overflow},
        tests::{Collected, exchange, inet, span},
    },
    span::{Span, SpanKind, Status},
};

/// `SELECT name FROM orders WHERE id = 7` on `shop`, answered with two rows after 5 ms.
fn select() -> DbExchange {
    DbExchange {
        operation: "SELECT".into(),
        namespace: Some("shop".into()),
        query_text: Some("SELECT name FROM orders WHERE id = ?".into()),
        summary: Some("SELECT orders".into()),
        returned_rows: Some(2),
        ..DbExchange::default()
    }
}

/// `SET cart:7 x` on database 1.
fn set() -> DbExchange {
    DbExchange {
        operation: "SET".into(),
        namespace: Some("1".into()),
        query_text: Some("SET cart:7 ?".into()),
        ..DbExchange::default()
    }
}

fn of(protocol: Protocol, role: Role, db: DbExchange) -> Span {
    let mut exchange = exchange(role);
    exchange.detail = match protocol {
        Protocol::Redis => Detail::Redis(Box::new(db)),
        Protocol::Postgres => Detail::Postgres(Box::new(db)),
        Protocol::Http | Protocol::Grpc => panic!("that is no database"),
    };
    assert_eq!(exchange.detail.protocol(), protocol);
    span(exchange)
}

fn list(attributes: &[(impl AsRef<str>, Value)], key: &str) -> String {
    let found = attributes.iter().find(|(found, _)| found.as_ref() == key);
    found.map_or_else(|| "-".into(), |(_, value)| value.to_string())
}

#[test]
fn postgres_spans_have_the_conventional_attributes_on_both_sides() {
    for (role, kind, peer) in
        [(Role::Client, SpanKind::Client, "8080"), (Role::Server, SpanKind::Server, "50000")]
    {
        let span = of(Protocol::Postgres, role, select());
        assert_eq!((&*span.name(), span.kind()), ("SELECT orders", kind));
        assert_eq!((span.status(), span.error_type()), (Status::Unset, None));
        let found = Collected::of(&span);
        for (key, expected) in [
            ("db.system.name", "postgresql"),
            ("db.operation.name", "SELECT"),
            ("db.collection.name", "-"),
            ("db.namespace", "shop"),
            ("db.query.text", "SELECT name FROM orders WHERE id = ?"),
            ("db.query.summary", "SELECT orders"),
            ("db.response.status_code", "-"),
            ("db.response.returned_rows", "2"),
            ("db.operation.batch.size", "-"),
            ("db.stored_procedure.name", "-"),
            ("error.type", "-"),
            ("server.address", "10.0.0.2"),
            ("server.port", "8080"),
            ("network.peer.port", peer),
            ("network.transport", "tcp"),
            ("http.request.method", "-"),
            ("remora.parent", "none"),
            ("remora.db.query.text.unknown", "-"),
            ("remora.db.query.text.cut", "-"),
        ] {
            assert_eq!(found.text(key), expected, "{role:?} {key}");
        }
    }
}

#[test]
fn redis_spans_are_called_by_their_command_alone() {
    let batch = DbExchange { operation: "PIPELINE SET".into(), batch_size: 16, ..set() };
    let script = DbExchange {
        operation: "EVALSHA".into(),
        stored_procedure: Some("6b1bf486".into()),
        ..set()
    };
    for (db, name, size, procedure) in [
        (set(), "SET", "-", "-"),
        (batch, "PIPELINE SET", "16", "-"),
        (script, "EVALSHA", "-", "6b1bf486"),
    ] {
        for role in [Role::Client, Role::Server] {
            let span = of(Protocol::Redis, role, db.clone());
            assert_eq!(span.name(), name);
            let found = Collected::of(&span);
            for (key, expected) in [
                ("db.system.name", "redis"),
                ("db.operation.name", name),
                ("db.namespace", "1"),
                ("db.query.text", "SET cart:7 ?"),
                ("db.operation.batch.size", size),
                ("db.stored_procedure.name", procedure),
                ("db.response.returned_rows", "-"),
                ("server.address", "10.0.0.2"),
            ] {
                assert_eq!(found.text(key), expected, "{role:?} {key}");
            }
        }
    }
}

#[test]
fn names_are_the_summary_else_operation_and_target_else_what_there_is() {
    use Protocol::{Postgres, Redis};
    let none = || DbExchange { summary: None, namespace: None, ..select() };
    let nothing = || DbExchange { operation: "".into(), ..none() };
    let orders = || Some("orders".into());
    let shop = || Some("shop".into());
    for (protocol, db, expected) in [
        (Postgres, select(), "SELECT orders"),
        (
            Postgres,
            DbExchange { collection: orders(), namespace: shop(), ..none() },
            "SELECT orders",
        ),
        (Postgres, DbExchange { namespace: shop(), ..none() }, "SELECT shop"),
        (Postgres, none(), "SELECT 10.0.0.2:8080"),
        (Postgres, DbExchange { namespace: shop(), ..nothing() }, "shop"),
        (Postgres, nothing(), "10.0.0.2:8080"),
        (Postgres, DbExchange { summary: Some("".into()), ..none() }, "SELECT 10.0.0.2:8080"),
        (Redis, DbExchange { namespace: shop(), ..none() }, "SELECT"),
        (Redis, nothing(), "redis"),
    ] {
        assert_eq!(of(protocol, Role::Client, db.clone()).name(), expected, "{db:?}");
    }
    let mut unknown = of(Postgres, Role::Client, nothing());
    let connection = std::sync::Arc::make_mut(&mut unknown.exchange.connection);
    connection.remote = Endpoint::Unknown;
    assert_eq!(unknown.name(), "postgresql");
    connection_of(&mut unknown).remote = Endpoint::Unix { path: "/run/.s.PGSQL.5432".into() };
    assert_eq!(unknown.name(), "/run/.s.PGSQL.5432");
    let found = Collected::of(&unknown);
    assert_eq!(found.text("server.address"), "/run/.s.PGSQL.5432");
    assert_eq!(
        (found.text("server.port"), found.text("network.transport")),
        ("-".into(), "unix".into())
    );
}

fn connection_of(span: &mut Span) -> &mut crate::exchange::Connection {
    std::sync::Arc::make_mut(&mut span.exchange.connection)
}

#[test]
fn what_the_server_refuses_is_an_error_on_both_sides_and_a_warning_is_none() {
    use Failure::{Closed, Reset, TimedOut};
    for (status_code, failed, failure, error, outcome) in [
        (None, false, None, "-", "ok"),
        (Some("23505"), true, None, "23505", "err"),
        (Some("WRONGTYPE"), true, None, "WRONGTYPE", "err"),
        (Some("57P01"), true, Some(Closed), "57P01", "err"),
        (Some("01000"), false, None, "-", "ok"),
        (Some("01000"), false, Some(Reset), "connection_reset", "-"),
        (None, true, None, "_OTHER", "err"),
        (None, false, Some(TimedOut), "timeout", "-"),
    ] {
        for role in [Role::Client, Role::Server] {
            let db = DbExchange { status_code: status_code.map(Into::into), failed, ..select() };
            let mut span = of(Protocol::Postgres, role, db);
            span.exchange.failure = failure;
            let what = format!("{role:?} {status_code:?} {failed} {failure:?}");
            let found = Collected::of(&span);
            assert_eq!(found.text("error.type"), error, "{what}");
            assert_eq!(found.text("db.response.status_code"), status_code.unwrap_or("-"), "{what}");
            assert_eq!(span.status() == Status::Error, error != "-", "{what}");
            assert_eq!(span.error_type().as_deref().unwrap_or("-"), error, "{what}");
            assert_eq!(span.outcome().text, outcome, "{what}");
            assert_eq!(list(&Key::of(&span).attributes(), "error.type"), error, "{what}");
        }
    }
    let ok = of(Protocol::Redis, Role::Client, set());
    assert_eq!(ok.outcome().tone, Tone::Good);
}

#[test]
fn texts_are_bounded_at_whole_characters() {
    let long = "é".repeat(MAX_TEXT);
    let name = || Some(long.as_str().into());
    let db = DbExchange {
        operation: long.clone().into(),
        collection: name(),
        summary: name(),
        query_text: name(),
        stored_procedure: name(),
        status_code: name(),
        namespace: Some(long.as_str().into()),
        ..DbExchange::default()
    };
    let span = of(Protocol::Postgres, Role::Client, db);
    assert_eq!(span.name().len(), MAX_NAME - 1);
    let found = Collected::of(&span);
    assert_eq!(found.text("db.query.text").len(), MAX_TEXT);
    assert_eq!(found.text("remora.db.query.text.cut"), "true");
    for key in ["operation.name", "collection.name", "namespace", "query.summary"] {
        assert_eq!(found.text(&format!("db.{key}")).len(), MAX_NAME - 1, "{key}");
    }
    for (_, value) in Key::of(&span).attributes() {
        assert!(value.to_string().len() < MAX_NAME);
    }
}

#[test]
fn what_is_not_known_of_the_text_is_marked() {
    let db = DbExchange { text_unknown: true, text_cut: true, query_text: None, ..select() };
    let found = Collected::of(&of(Protocol::Postgres, Role::Client, db));
    for (key, expected) in [
        ("db.query.text", "-"),
        ("remora.db.query.text.unknown", "true"),
        ("remora.db.query.text.cut", "true"),
    ] {
        assert_eq!(found.text(key), expected, "{key}");
    }
}

#[test]
fn one_line_names_query_and_table_but_no_server() {
    let collection = DbExchange { summary: None, collection: Some("orders".into()), ..select() };
    let unnamed = DbExchange { operation: "".into(), ..set() };
    for (protocol, db, expected) in [
        (Protocol::Postgres, select(), "SELECT orders"),
        (Protocol::Postgres, collection, "SELECT orders"),
        (Protocol::Postgres, DbExchange { summary: None, ..select() }, "SELECT"),
        (Protocol::Redis, set(), "SET"),
        (Protocol::Redis, unnamed, "redis"),
    ] {
        assert_eq!(of(protocol, Role::Server, db).summary(), expected);
    }
}

#[test]
fn every_key_is_given_once() {
    let db = DbExchange {
        collection: Some("orders".into()),
        stored_procedure: Some("f".into()),
        batch_size: 2,
        status_code: Some("23505".into()),
        failed: true,
        text_cut: true,
        text_unknown: true,
        ..select()
    };
    let options = AttributeOptions { network_local: true };
    let span = Span { options, ..of(Protocol::Postgres, Role::Client, db) };
    let mut found = Collected::default();
    span.visit_attributes(&mut found);
    let mut keys: Vec<_> = found.0.iter().map(|(key, _)| key.as_str()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
    assert_eq!(all, 21, "{keys:?}");
}

#[test]
fn series_have_the_conventional_attributes_and_no_text() {
    let db = DbExchange { collection: Some("orders".into()), ..select() };
    for role in [Role::Client, Role::Server] {
        let span = of(Protocol::Postgres, role, db.clone());
        let found = Key::of(&span).attributes();
        for (key, expected) in [
            ("db.system.name", "postgresql"),
            ("db.operation.name", "SELECT"),
            ("db.collection.name", "orders"),
            ("db.namespace", "shop"),
            ("db.query.summary", "SELECT orders"),
            ("db.query.text", "-"),
            ("db.response.status_code", "-"),
            ("db.stored_procedure.name", "-"),
            ("server.address", "10.0.0.2"),
            ("server.port", "8080"),
            ("network.peer.address", "-"),
        ] {
            assert_eq!(list(&found, key), expected, "{role:?} {key}");
        }
    }
}

#[test]
fn keys_that_stay_are_equal_to_those_they_were_made_of() {
    let hasher = RandomState::new();
    let failed = DbExchange { status_code: Some("23505".into()), failed: true, ..select() };
    let elsewhere = DbExchange { namespace: Some("crm".into()), ..select() };
    let mut spans = vec![
        of(Protocol::Postgres, Role::Client, select()),
        of(Protocol::Redis, Role::Client, select()),
        of(Protocol::Postgres, Role::Client, failed.clone()),
        of(Protocol::Postgres, Role::Client, elsewhere),
        of(Protocol::Redis, Role::Client, set()),
    ];
    let mut reset = of(Protocol::Postgres, Role::Client, select());
    reset.exchange.failure = Some(Failure::Reset);
    spans.push(reset);
    let mut other_port = of(Protocol::Postgres, Role::Client, select());
    connection_of(&mut other_port).remote = inet("10.0.0.2:5433");
    spans.push(other_port);
    let owned: Vec<_> = spans.iter().map(|span| OwnedKey::of(&Key::of(span))).collect();
    for (at, span) in spans.iter().enumerate() {
        for (other, owned) in owned.iter().enumerate() {
            let (key, kept) = (Key::of(span), owned.borrow());
            assert_eq!(key == kept, at == other, "{at} {other}");
            assert_eq!(owned.is(&key), at == other, "{at} {other}");
            if at == other {
                assert_eq!(hasher.hash_one(key), hasher.hash_one(kept));
                assert_eq!(key.attributes(), kept.attributes());
            }
        }
    }
    // An error of the server is one series, whatever became of the connection.
    let mut closed = of(Protocol::Postgres, Role::Client, failed);
    closed.exchange.failure = Some(Failure::Closed);
    assert_eq!(Key::of(&closed), owned[2].borrow());
}

#[test]
fn rows_are_named_as_spans_with_the_server_of_clients() {
    let row = |protocol, role, db| {
        let span = of(protocol, role, db);
        let key = Key::of(&span);
        let instrument = &key.family().instruments(role)[0];
        let (family, kind) = Family::of_durations(instrument.name).expect("it is a duration");
        let attributes = key.attributes();
        family.row(kind, &|key| {
            let found = attributes.iter().find(|(found, _)| found.as_ref() == key);
            found.map(|(_, value): &(_, Value)| value.to_string())
        })
    };
    let failed = DbExchange { status_code: Some("ERR".into()), failed: true, ..set() };
    for (protocol, role, db, expected, fails) in [
        (Protocol::Postgres, Role::Client, select(), "SELECT orders 10.0.0.2:8080", false),
        (Protocol::Postgres, Role::Server, select(), "SELECT orders", false),
        (Protocol::Redis, Role::Client, set(), "SET 10.0.0.2:8080", false),
        (Protocol::Redis, Role::Server, failed, "SET", true),
    ] {
        let row = row(protocol, role, db);
        assert_eq!((row.request.as_deref(), row.failed), (Some(expected), fails));
    }
    let overflow = overflow();
    let find = |key: &str| (list(&overflow, key) != "-").then(|| list(&overflow, key));
    assert_eq!(Family::Db.row(SpanKind::Client, &find).request, None);
    assert_eq!(Family::of_durations("http.server.request.body.size"), None);
}
