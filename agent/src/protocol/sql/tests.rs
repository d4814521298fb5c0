use proptest::prelude::*;

use super::{
    Dialect, Kind, Tokens,
    fuzz::{DIALECTS, recorded, same_tokens},
};

fn tokens(text: &str, dialect: Dialect) -> Vec<(Kind, &str)> {
    let tokens = Tokens::new(text.as_bytes(), dialect);
    tokens
        .map(|token| (token.kind, text.get(token.from..token.to).unwrap_or("(not UTF-8)")))
        .collect()
}

/// The literals of a text, in order.
fn literals(text: &str, dialect: Dialect) -> Vec<&str> {
    let literal = |kind| matches!(kind, Kind::String | Kind::Number);
    tokens(text, dialect)
        .into_iter()
        .filter(|(kind, _)| literal(*kind))
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn strings_end_where_their_dialect_says() {
    use Dialect::{MySql, Other, Postgres, SqlServer};
    for (dialect, text, expected) in [
        (Other, "'a''b' 'c'", &["'a''b'", "'c'"][..]),
        (Other, r"'a\' 'b'", &[r"'a\'", "'b'"]),
        (MySql, r"'a\' ''b' 'c'", &[r"'a\' ''b'", "'c'"]),
        (MySql, r#""a ""b\" c" x"#, &[r#""a ""b\" c""#]),
        (Postgres, r"E'a\' b' e'\\'", &[r"E'a\' b'", r"e'\\'"]),
        (SqlServer, r"N'a\' + E'b'", &[r"N'a\'", "'b'"]),
        (Postgres, "x'1F' B'01'", &["x'1F'", "B'01'"]),
        (Postgres, "$$ it's $$, $a$ $$ $b$ $a$", &["$$ it's $$", "$a$ $$ $b$ $a$"]),
        (Postgres, "$1, $2", &[]),
        (Postgres, "foo$bar$baz", &[]),
        (MySql, "$a$ 'x' $a$", &["'x'"]),
        (Other, "'never ends", &["'never ends"]),
        (Postgres, "$$ never ends $", &["$$ never ends $"]),
        (Postgres, "E'\\", &["E'\\"]),
        (Postgres, "date'2020-01-01'", &["'2020-01-01'"]),
        (Postgres, "\"a 'b' c\" 'd'", &["'d'"]),
        (MySql, "`a 'b' c` 'd'", &["'d'"]),
        (SqlServer, "[a 'b' ]] c] 'd'", &["'d'"]),
    ] {
        assert_eq!(literals(text, dialect), expected, "{dialect:?}: {text}");
    }
}

#[test]
fn numbers_have_signs_only_where_no_operator_can_stand() {
    for (text, expected) in [
        ("1 12.34 .5 1e5 12.34e-56 1E+3", &["1", "12.34", ".5", "1e5", "12.34e-56", "1E+3"][..]),
        ("0xDEAD 0XdeadBEEF 1_000 12ab", &["0xDEAD", "0XdeadBEEF", "1_000", "12ab"]),
        ("SELECT -1, +2, (-3), a-4, b - 5", &["-1", "+2", "-3", "4", "5"]),
        ("99+100", &["99", "+100"]),
        ("limit -1 between -2 and -3", &["-1", "-2", "-3"]),
        ("f(x)-1 $1-2 \"a\"-3 a[4]-5", &["1", "2", "3", "4", "5"]),
        ("t1.c2 t.3", &["3"]),
        ("a::numeric(10,2)", &["10", "2"]),
        ("x[1:2]", &["1", "2"]),
        ("= -.5", &["-.5"]),
        ("1.2.3", &["1.2.3"]),
    ] {
        assert_eq!(literals(text, Dialect::Postgres), expected, "{text}");
    }
}

#[test]
fn parameters_are_no_literals() {
    for (dialect, text) in [
        (Dialect::Postgres, "$1 ?"),
        (Dialect::Other, ":name :1 ? ?2"),
        (Dialect::SqlServer, "@p1 @@rowcount @1"),
        (Dialect::MySql, "@a ?"),
    ] {
        let all = tokens(text, dialect);
        assert!(all.iter().all(|(kind, _)| *kind == Kind::Parameter), "{all:?}");
        assert_eq!(all.len(), text.split(' ').count());
    }
    let cast = tokens("a::int = x.y::text", Dialect::Postgres);
    assert!(cast.iter().all(|(kind, _)| *kind != Kind::Parameter), "{cast:?}");
}

#[test]
fn comments_end_where_their_dialect_says() {
    use Dialect::{MySql, Other, Postgres, SqlServer};
    for (dialect, text, expected) in [
        (Other, "a -- b\nc", &["-- b"][..]),
        (Other, "a --b", &["--b"]),
        (MySql, "a --b", &[]),
        (MySql, "a -- b # c\n# d", &["-- b # c", "# d"]),
        (Postgres, "a #>> b", &[]),
        (SqlServer, "select #t", &[]),
        (Postgres, "/* a /* b */ c */ d", &["/* a /* b */ c */"]),
        (MySql, "/* a /* b */ c", &["/* a /* b */"]),
        (Other, "/*/ a", &["/*/ a"]),
        (Other, "/**/", &["/**/"]),
    ] {
        let comments = tokens(text, dialect).into_iter();
        let comments: Vec<_> =
            comments.filter(|(kind, _)| *kind == Kind::Comment).map(|(_, text)| text).collect();
        assert_eq!(comments, expected, "{dialect:?}: {text}");
    }
}

#[test]
fn words_are_those_of_their_dialect() {
    for (dialect, text) in [
        (Dialect::SqlServer, "#temp ##global a#b"),
        (Dialect::MySql, "$a a$b"),
        (Dialect::Other, "a$b _x \u{e4}\u{1f6d2}"),
    ] {
        let all = tokens(text, dialect);
        assert!(all.iter().all(|(kind, _)| *kind == Kind::Word), "{all:?}");
        assert_eq!(all.len(), text.split(' ').count());
    }
}

#[test]
fn a_recording_holds_no_literal_and_no_comment() {
    let text = "SELECT E'se\\'cret', 42, \"name\", $a$secret$a$ /* secret */ FROM t -- secret\nWHERE a = -1.5e3";
    let masked = recorded(text.as_bytes(), Dialect::Postgres, &[]);
    assert_eq!(
        str::from_utf8(&masked).unwrap(),
        "SELECT E'........', 00, \"name\", $a$......$a$ /*........*/ FROM t -- ......\nWHERE a = -0.000"
    );
    for text in ["'a''b'", "E'\\'", "$a$ $ $a $b$ $a$", "1e+5", "/* / * */", "-- a\n1", "N'x'"] {
        for dialect in DIALECTS {
            let all: Vec<usize> = (0..=text.len()).collect();
            same_tokens(text.as_bytes(), dialect, &all);
        }
    }
}

fn sql() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "SELECT", "a", "t1", " ", "\n", ",", "(", ")", "'", "''", "'x'", "\"", "\\", "`", "[", "]",
        "$", "$$", "$a$", "$1", "--", "-", "+", "/*", "*/", "/", "*", "#", "1", "2.5", ".", "e",
        "E", "x", "0x", "1e", ":", "::", "@", "?", "N", "and", "\u{e4}", ";", "b'", "_",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_recording_has_the_same_tokens(
        text in sql(),
        dialect in prop::sample::select(DIALECTS.to_vec()),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        same_tokens(text.as_bytes(), dialect, &[]);
        same_tokens(text.as_bytes(), dialect, &cuts);
        let every: Vec<usize> = (0..=text.len()).collect();
        same_tokens(text.as_bytes(), dialect, &every);
    }

    #[test]
    fn any_bytes_have_tokens(text in prop::collection::vec(any::<u8>(), 0..100)) {
        for dialect in DIALECTS {
            let mut at = 0;
            for token in Tokens::new(&text, dialect) {
                prop_assert!(at <= token.from && token.from < token.to && token.to <= text.len());
                prop_assert!(text[at..token.from].iter().all(|byte| b" \t\n\r\x0b\x0c".contains(byte)));
                at = token.to;
            }
            same_tokens(&text, dialect, &[]);
        }
    }
}
