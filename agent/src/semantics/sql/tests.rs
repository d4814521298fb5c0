use proptest::prelude::*;
use serde_json::Value;

use super::{Dialect, Query};
use crate::protocol::sql::fuzz::DIALECTS;

fn read(text: &str, dialect: Dialect) -> Query {
    let mut query = Query::default();
    query.read(text.as_bytes(), false, dialect);
    query
}

/// OpenTelemetry's own, which hold for every dialect.
#[test]
fn agrees_with_the_vectors_of_opentelemetry() {
    let vectors = include_str!("../../../../tests/data/sql/db-sql-test-cases.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    assert_eq!(vectors.len(), 24);
    for vector in &vectors {
        assert_eq!(vector["input"]["db.system.name"], "other_sql");
        let input = vector["input"]["query"].as_str().unwrap();
        for dialect in DIALECTS {
            let query = read(input, dialect);
            let texts = vector["expected"]["db.query.text"].as_array().unwrap();
            let agrees = texts.iter().any(|text| text == query.text());
            assert!(agrees, "{dialect:?} {}: {}", vector["name"], query.text());
            assert_eq!(query.summary(), vector["expected"]["db.query.summary"], "{dialect:?}");
        }
    }
}

#[test]
fn literals_are_hidden_and_nothing_else() {
    for (text, expected) in [
        ("SELECT * FROM t WHERE a = 'x' AND b > 12.5", "SELECT * FROM t WHERE a = ? AND b > ?"),
        (
            "SELECT * FROM t WHERE id = $1 AND n = :name",
            "SELECT * FROM t WHERE id = $1 AND n = :name",
        ),
        ("SELECT a::int, b - 1, -1 FROM t", "SELECT a::int, b - ?, ? FROM t"),
        ("IN (1)", "IN (?)"),
        ("a in ( 1, 'b' ,3 ) and b", "a in (?) and b"),
        ("IN (1, x, 2)", "IN (?, x, ?)"),
        ("IN ( 1 )", "IN ( ? )"),
        ("IN ($1, $2)", "IN ($1, $2)"),
        ("IN (1 + 2, 3)", "IN (? + ?, ?)"),
        ("IN (SELECT 1)", "IN (SELECT ?)"),
        ("IN ((1, 2), (3, 4))", "IN ((?, ?), (?, ?))"),
        ("IN (1 /* one */, 2)", "IN (?)"),
        ("VALUES (1, TRUE), (NULL, false)", "VALUES (?, ?), (NULL, ?)"),
        ("a IS NOT TRUE AND b IS FALSE AND NOT TRUE", "a IS NOT TRUE AND b IS FALSE AND NOT ?"),
        ("DATE '2020-01-01' + INTERVAL '1 day'", "DATE ? + INTERVAL ?"),
        ("DO $$ BEGIN PERFORM 1; END $$", "DO ?"),
        ("SELECT \"a b\", t1.c2 -- why\n, 3", "SELECT \"a b\", t1.c2 \n, ?"),
        ("\u{e4} = '\u{e4}'", "\u{e4} = ?"),
        ("", ""),
    ] {
        assert_eq!(read(text, Dialect::Postgres).text(), expected);
    }
    let my_sql = r#"SELECT `a` FROM t WHERE b = "it\"s" # secret"#;
    assert_eq!(read(my_sql, Dialect::MySql).text(), "SELECT `a` FROM t WHERE b = ? ");
    let t_sql = "SELECT TOP (5) [a b] FROM #t WHERE n = N'x' AND p = @p1";
    assert_eq!(
        read(t_sql, Dialect::SqlServer).text(),
        "SELECT TOP (?) [a b] FROM #t WHERE n = ? AND p = @p1"
    );
}

#[test]
fn summaries_name_operations_and_targets_in_order() {
    for (text, expected) in [
        ("WITH x AS (SELECT a FROM t) SELECT * FROM x JOIN u ON TRUE", "SELECT t SELECT u"),
        (
            "WITH RECURSIVE a(n) AS (VALUES (1) UNION SELECT n FROM a), b AS (SELECT 1) INSERT INTO t SELECT * FROM b",
            "SELECT SELECT INSERT t SELECT",
        ),
        (
            "WITH d AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM d",
            "DELETE t INSERT u SELECT",
        ),
        ("SELECT * FROM a WHERE id IN (SELECT id FROM b) ORDER BY c, d", "SELECT a SELECT b"),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u"),
        ("SELECT EXTRACT(year FROM ts), x IS DISTINCT FROM y FROM t", "SELECT t"),
        ("SELECT * FROM generate_series(1, 10) g, t", "SELECT t"),
        (
            "SELECT * FROM (a JOIN b USING (id)) LEFT JOIN \"c d\".e ON x, f",
            "SELECT a b \"c d\".e f",
        ),
        ("SELECT * FROM ONLY a, LATERAL f(x), LATERAL (SELECT 1 FROM b) q", "SELECT a SELECT b"),
        ("SELECT * FROM t FOR UPDATE", "SELECT t"),
        ("SELECT $1", "SELECT"),
        ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u"),
        (
            "UPDATE ONLY t SET a = (SELECT max(b) FROM u), c = 1 FROM v WHERE d = 2",
            "UPDATE t SELECT u v",
        ),
        ("DELETE FROM t USING u WHERE a = b", "DELETE t u"),
        (
            "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = 1 RETURNING a",
            "INSERT t",
        ),
        ("INSERT INTO s.t DEFAULT VALUES", "INSERT s.t"),
        (
            "MERGE INTO t USING u ON a = b WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)",
            "MERGE t u",
        ),
        ("CREATE TABLE IF NOT EXISTS t AS SELECT * FROM u", "CREATE TABLE t SELECT u"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
        ("CREATE INDEX ON t (a)", "CREATE INDEX t"),
        (
            "CREATE OR REPLACE FUNCTION f(a int) RETURNS int AS $$ SELECT 1 FROM x $$",
            "CREATE FUNCTION f",
        ),
        ("CREATE USER bob PASSWORD 'secret'", "CREATE USER"),
        ("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b"),
        ("TRUNCATE TABLE a, b", "TRUNCATE a b"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION"),
        ("COMMIT; BEGIN; SELECT 1", "COMMIT BEGIN SELECT"),
        ("SET search_path TO x; SHOW y", "SET SHOW"),
        ("COPY t (a, b) FROM STDIN", "COPY t"),
        ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"),
        ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t", "EXPLAIN SELECT t"),
        ("EXPLAIN ANALYZE VERBOSE UPDATE t SET a = 1", "EXPLAIN UPDATE t"),
        ("VACUUM (FULL) t", "VACUUM t"),
        ("ANALYZE VERBOSE t", "ANALYZE t"),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", "REFRESH v"),
        ("LOCK TABLE t IN EXCLUSIVE MODE", "LOCK t"),
        ("GRANT SELECT, INSERT ON t TO bob", "GRANT"),
        ("PREPARE p (int) AS INSERT INTO t VALUES ($1)", "PREPARE INSERT t"),
        ("EXECUTE p(1)", "EXECUTE"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"),
        ("CALL s.p(1, 2)", "CALL s.p"),
        ("VALUES (1), (2)", "VALUES"),
        ("TABLE t", "TABLE t"),
        ("hello world", ""),
        ("", ""),
    ] {
        assert_eq!(read(text, Dialect::Postgres).summary(), expected, "{text}");
    }
    for (dialect, text, expected) in [
        (
            Dialect::MySql,
            "INSERT IGNORE INTO `t` VALUES (1) ON DUPLICATE KEY UPDATE a = 2",
            "INSERT `t`",
        ),
        (Dialect::MySql, "REPLACE INTO t SET a = 1", "REPLACE t"),
        (Dialect::MySql, "UPDATE a, b SET a.x = b.y", "UPDATE a b"),
        (Dialect::MySql, "DELETE a FROM a JOIN b", "DELETE a a b"),
        (Dialect::MySql, "SHOW TABLES FROM db", "SHOW"),
        (Dialect::MySql, "USE db", "USE db"),
        (Dialect::SqlServer, "EXEC @r = dbo.p @a = 1", "EXEC dbo.p"),
        (Dialect::SqlServer, "SELECT * INTO #t FROM [a b]..c (NOLOCK)", "SELECT #t"),
        (Dialect::SqlServer, "DELETE TOP (5) FROM t", "DELETE t"),
        (Dialect::Other, "{ ? = call p(?) }", "call p"),
    ] {
        assert_eq!(read(text, dialect).summary(), expected, "{text}");
    }
}

#[test]
fn parts_of_a_summary_are_told_apart() {
    let query = read("select * from a join s.b on true", Dialect::Postgres);
    assert_eq!(query.operation(), Some("select"));
    assert_eq!(query.collections().collect::<Vec<_>>(), ["a", "s.b"]);
    assert_eq!((query.statements(), query.is_uniform()), (1, true));

    let query = read("CREATE  TABLE t (a int)", Dialect::Postgres);
    assert_eq!(query.operation(), Some("CREATE TABLE"));

    let query = read("WITH x AS (SELECT 1) DELETE FROM t", Dialect::Postgres);
    assert_eq!(query.operation(), Some("DELETE"));

    let query = read("insert into t values (1); INSERT INTO t VALUES (2);", Dialect::Postgres);
    assert_eq!((query.statements(), query.is_uniform()), (2, true));
    let query = read("INSERT INTO t VALUES (1); SELECT 2", Dialect::Postgres);
    assert_eq!((query.statements(), query.is_uniform()), (2, false));

    let query = read("CALL s.p(1)", Dialect::Postgres);
    assert_eq!(query.procedure(), Some("s.p"));
    assert_eq!(query.collections().len(), 0);
}

#[test]
fn a_cut_text_says_so_and_guesses_no_name() {
    let mut query = Query::default();
    for (text, expected, summary) in [
        ("SELECT * FROM ord", "SELECT * FROM ord...", "SELECT"),
        (
            "SELECT * FROM orders WHERE a = 'secr",
            "SELECT * FROM orders WHERE a = ?...",
            "SELECT orders",
        ),
        ("SELECT a IN (1, 2, ", "SELECT a IN (?...", "SELECT"),
        ("SELECT a IN (1", "SELECT a IN (?...", "SELECT"),
        ("SELECT 1 /* secr", "SELECT ? ...", "SELECT"),
    ] {
        query.read(text.as_bytes(), true, Dialect::Postgres);
        assert_eq!((query.text(), query.summary()), (expected, summary));
    }
    let long = format!("SELECT {}", "a, ".repeat(10_000));
    query.read(long.as_bytes(), false, Dialect::Postgres);
    assert_eq!(query.text().len(), 16 * 1024 + 3);
}

#[test]
fn a_summary_is_bounded_and_cuts_no_name() {
    let many = format!("SELECT * FROM {}", vec!["a_table"; 100].join(", "));
    let query = read(&many, Dialect::Postgres);
    assert_eq!(query.summary(), format!("SELECT{}", " a_table".repeat(31)));
    assert_eq!(query.collections().len(), 8);
    let long = format!("SELECT * FROM {}, t", "a".repeat(300));
    assert_eq!(read(&long, Dialect::Postgres).summary(), "SELECT");
}

#[test]
fn deep_parentheses_do_no_harm() {
    let deep = format!("SELECT {}1{} FROM t", "(".repeat(5000), ")".repeat(5000));
    assert!(read(&deep, Dialect::Postgres).summary().starts_with("SELECT"));
    assert_eq!(read(&")".repeat(100), Dialect::Postgres).summary(), "");
}

fn sql() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "SELECT ",
        " FROM ",
        "t",
        " a",
        ",",
        "(",
        ")",
        " JOIN ",
        "'x'",
        "1",
        " IN (",
        "WITH ",
        " AS ",
        ";",
        "INSERT INTO ",
        "UPDATE ",
        " SET ",
        "DELETE ",
        ".",
        "\"q\"",
        "CREATE ",
        " TABLE ",
        " -- c\n",
        "/* c */",
        "$1",
        "TRUE",
        " IS ",
        "EXPLAIN ",
        "CALL ",
        "`",
        "\u{e4}",
        "'",
        "[",
        "]",
        " USING ",
        "MERGE ",
        "x",
        " INTO ",
    ]);
    prop::collection::vec(parts, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_is_read(
        text in sql(),
        dialect in prop::sample::select(DIALECTS.to_vec()),
        cut in any::<bool>(),
    ) {
        super::fuzz::read(text.as_bytes(), dialect, cut);
    }

    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..100)) {
        for dialect in DIALECTS {
            super::fuzz::read(&text, dialect, false);
        }
    }

    /// No word of a literal comes through, whatever stands around it.
    #[test]
    fn no_literal_is_told(
        before in prop::collection::vec(sql_without_quotes(), 0..20),
        secret in "[a-z]{8}",
        quotes in prop::sample::select(vec![("'", "'"), ("E'\\'", "'"), ("$$", "$$"), ("$a$'", "$a$"), ("", "1")]),
    ) {
        let before = before.concat();
        prop_assume!(!before.contains(&secret));
        let (open, close) = quotes;
        // A number, too: letters behind digits belong to it.
        let literal = match open {
            "" => format!("1{secret}{close}"),
            _ => format!("{open}{secret}{close}"),
        };
        let query = read(&format!("{before} {literal} a"), Dialect::Postgres);
        prop_assert!(!query.text().contains(&secret), "{}", query.text());
        prop_assert!(!query.summary().contains(&secret));
    }
}

fn sql_without_quotes() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SELECT ",
        " FROM ",
        "t",
        " a",
        ",",
        "(",
        ")",
        " JOIN ",
        "'x'",
        "1",
        " IN (",
        "WITH ",
        " AS ",
        ";",
        "INSERT INTO ",
        "UPDATE ",
        "\"q\"",
        "CREATE ",
        " TABLE ",
        " -- c\n",
        "/* c */",
        "$1",
        "TRUE",
        "CALL ",
        "= ",
        " USING ",
        " INTO ",
    ])
}
