//! A YAML document as a tree in which every node knows its line and column, so that reading goes on
//! after a mistake and reports the next one too.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// One-based; 0 where the parser does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
    /// The scalar as the file has it, where variables were substituted; they may hold secrets.
    pub(super) written: Option<String>,
}

#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    /// Any scalar, as text in YAML's own spelling.
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// Why a text is not YAML, and where.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) message: String,
}

impl Node {
    /// The tree of one document; an empty document is [`Content::Nothing`].
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error
                .location()
                .map(|at| Place { line: at.line(), column: at.column() })
                .unwrap_or_default();
            let rendered = error.without_snippet().to_string();
            // The place is printed before the message already.
            let at = format!(" at line {}, column {}", place.line, place.column);
            let mut message = rendered.replace(&at, "");
            // Advice for callers of the parser is none for those who write the file.
            message.truncate(message.find(", set DuplicateKeyPolicy").unwrap_or(message.len()));
            SyntaxError { place, message }
        })
    }

    /// What it is, for `found …`.
    pub(super) fn describe(&self) -> String {
        if let Some(written) = &self.written {
            return format!("what `{written}` holds");
        }
        match &self.content {
            Content::Nothing => "nothing".into(),
            Content::Scalar(text) => format!("`{text}`"),
            Content::List(items) => format!("a list of {}", items.len()),
            Content::Mapping(_) => "a mapping".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { place: place(&spanned), content: spanned.value, written: None })
    }
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut mapping = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let place = place(&key);
            mapping.push(Entry { key: key.value, place, value: entries.next_value()? });
        }
        Ok(Content::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_place() {
        let root = Node::parse("a: 1\nb:\n  - x: yes\n  - [true, 2.5]\n").unwrap();
        let Content::Mapping(entries) = &root.content else { panic!("{root:?}") };
        assert_eq!(entries[0].place, Place { line: 1, column: 1 });
        assert_eq!(entries[0].value.place, Place { line: 1, column: 4 });
        assert_eq!(entries[0].value.describe(), "`1`");
        let Content::List(items) = &entries[1].value.content else { panic!("{root:?}") };
        let Content::Mapping(inner) = &items[0].content else { panic!("{root:?}") };
        assert_eq!(inner[0].place, Place { line: 3, column: 5 });
        assert_eq!(inner[0].value.place, Place { line: 3, column: 8 });
        let Content::List(flow) = &items[1].content else { panic!("{root:?}") };
        assert_eq!(flow[1].place, Place { line: 4, column: 12 });
        assert_eq!(flow[1].describe(), "`2.5`");
    }

    #[test]
    fn an_empty_document_is_nothing() {
        assert!(matches!(Node::parse("").unwrap().content, Content::Nothing));
        assert!(matches!(Node::parse("# only this\n").unwrap().content, Content::Nothing));
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Node::parse(&deep).is_err());
    }

    #[test]
    fn a_key_that_occurs_twice_is_an_error_at_the_second() {
        let error = Node::parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.place, Place { line: 3, column: 1 });
        assert_eq!(error.message, "duplicate mapping key: a");
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let error = Node::parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.place.line >= 2, "{error:?}");
        assert!(!error.message.is_empty() && !error.message.contains(" at line"), "{error:?}");
    }
}
