//! A text in SQL as a span shows it: `db.query.text` without literals, `db.query.summary`, operation and targets
//! (OpenTelemetry semantic conventions, "database client spans", on sanitizing and on summaries).
//!
//! This is read for every query, so there is one pass, no tree, and no memory but what a [`Query`] keeps from one text
//! to the next.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod keyword;
mod outline;
mod summary;
#[cfg(test)]
mod tests;

use self::{
    keyword::Keyword,
    outline::Outline,
    summary::{Before, Summary},
};
pub use crate::protocol::sql::Dialect;
use crate::protocol::sql::{Kind, Token, Tokens};

/// More of a text is not looked at.
const MAX_TEXT: usize = 16 * 1024;
/// Stands for what is left out at the end.
const CUT: &[u8] = b"...";

/// What was read of a text; to be used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct Query {
    text: String,
    outline: Outline,
}

impl Query {
    /// Reads a text; `cut` says that there was more of it.
    ///
    /// Literals become `?`, of a list behind `IN` one for all. Parameters are as they are, names and everything else,
    /// too; comments are left out.
    pub fn read(&mut self, text: &[u8], cut: bool, dialect: Dialect) {
        let (text, cut) = match text.get(..MAX_TEXT) {
            Some(first) if text.len() > MAX_TEXT => (first, true),
            _ => (text, cut),
        };
        let mut out = std::mem::take(&mut self.text).into_bytes();
        out.clear();
        self.outline.clear();
        let mut summary = Summary::new(text, dialect);
        let mut sanitizer = Sanitizer { text, out: &mut out, copied: 0, list: None };
        let mut before = Before::default();
        for token in Tokens::new(text, dialect) {
            if token.kind == Kind::Comment {
                sanitizer.leave_out(token.from, token.to);
                continue;
            }
            let keyword = match token.kind {
                Kind::Word => Keyword::of(&text[token.from..token.to]),
                _ => None,
            };
            let literal = match token.kind {
                Kind::String | Kind::Number => true,
                Kind::Word => is_boolean(keyword, before),
                _ => false,
            };
            let may_be_list = token.is(b'(') && before.word == Some(Keyword::In);
            if literal || may_be_list || sanitizer.list.is_some() {
                sanitizer.token(token, literal, may_be_list);
            }
            summary.token(token, keyword, before, &mut self.outline);
            before = before.next(token, keyword);
        }
        sanitizer.end(cut);
        summary.end(cut, &mut self.outline);
        self.text = String::from_utf8(out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    }

    /// `db.query.text`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `db.query.summary`: at most 255 bytes, empty if nothing is known of the query.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.outline.text()
    }

    /// What the first statement does, as it is written there: `SELECT`, `create table`.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.outline.first_operation()
    }

    /// Statements whose operation is known.
    #[must_use]
    pub fn statements(&self) -> u32 {
        self.outline.statements()
    }

    /// Whether they all do the same.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        !self.outline.is_mixed()
    }

    /// Tables and other targets in the order in which they occur, as they are written, up to eight.
    pub fn collections(&self) -> impl ExactSizeIterator<Item = &str> {
        self.outline.collections()
    }

    /// The first procedure that is called.
    #[must_use]
    pub fn procedure(&self) -> Option<&str> {
        self.outline.procedure()
    }
}

/// `TRUE` is a value, but not in `IS NOT TRUE`.
fn is_boolean(keyword: Option<Keyword>, before: Before) -> bool {
    matches!(keyword, Some(Keyword::True | Keyword::False))
        && !matches!(
            (before.word, before.second),
            (Some(Keyword::Is), _) | (Some(Keyword::Not), Some(Keyword::Is))
        )
}

/// A list behind `IN`, as long as it holds nothing but literals.
struct List {
    /// Where in the output its first element stands.
    from: usize,
    literals: u32,
}

struct Sanitizer<'a> {
    text: &'a [u8],
    out: &'a mut Vec<u8>,
    /// As much of the text is done.
    copied: usize,
    list: Option<List>,
}

impl Sanitizer<'_> {
    fn copy(&mut self, to: usize) {
        self.out.extend_from_slice(&self.text[self.copied..to]);
        self.copied = to;
    }

    fn leave_out(&mut self, from: usize, to: usize) {
        self.copy(from);
        self.copied = to;
    }

    fn token(&mut self, token: Token, literal: bool, may_be_list: bool) {
        match &mut self.list {
            None if may_be_list => {
                self.copy(token.to);
                self.list = Some(List { from: self.out.len(), literals: 0 });
            }
            None => {}
            Some(list) if literal => list.literals += 1,
            Some(_) if token.is(b',') => {}
            Some(_) if token.is(b')') => {
                let done = if self.end_list() { token.from } else { self.copied };
                self.copied = done;
            }
            Some(_) => self.list = None,
        }
        if literal {
            self.leave_out(token.from, token.to);
            self.out.push(b'?');
        }
    }

    /// One placeholder for all, if there are several.
    fn end_list(&mut self) -> bool {
        let Some(list) = self.list.take().filter(|list| list.literals > 1) else { return false };
        self.out.truncate(list.from);
        self.out.push(b'?');
        true
    }

    fn end(mut self, cut: bool) {
        if !self.end_list() {
            self.copy(self.text.len());
        }
        if cut {
            self.out.extend_from_slice(CUT);
        }
    }
}
