//! What a query does, in the order in which it says so: operations and their targets, by OpenTelemetry's rules for
//! `db.query.summary`. No grammar is needed for that, only which word stands where a name has to follow.

use super::{
    keyword::{Keyword, Operation},
    outline::{Outline, Role},
};
use crate::protocol::sql::{Dialect, Kind, Token};

/// Parentheses deeper than this are all one.
const MAX_DEPTH: u32 = 31;
/// Names of `WITH` that are known to be none of tables.
const MAX_LOCAL: usize = 8;
/// Words between `CREATE` and what is created.
const MAX_MODIFIERS: u8 = 6;

/// What the next token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Nothing,
    /// The first word of a statement.
    Statement,
    /// Behind a parenthesis: a query.
    Query,
    /// Behind a parenthesis where a table may stand: that, or a query.
    QueryOrTable,
    /// A table in a list; a function is none.
    Table,
    /// The target of an operation.
    Target,
    /// What is created.
    Object,
    /// Its name.
    Named,
    Procedure,
    /// A name that `WITH` gives to a query.
    Local,
}

/// A name in progress: `schema.table`.
#[derive(Clone, Copy, Debug)]
struct Name {
    from: usize,
    to: usize,
    expected: Expect,
    /// It ends with a point.
    open: bool,
}

/// What stands before a token, comments aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// The token before, if it is a keyword.
    pub(super) word: Option<Keyword>,
    /// The one before that.
    pub(super) second: Option<Keyword>,
    /// The token before ends a parenthesis.
    pub(super) parenthesis: bool,
}

impl Before {
    #[inline]
    pub(super) fn next(self, token: Token, keyword: Option<Keyword>) -> Self {
        Self { word: keyword, second: self.word, parenthesis: token.is(b')') }
    }
}

/// One bit for each depth of parentheses.
type Depths = u32;

#[derive(Debug)]
pub(super) struct Summary<'a> {
    text: &'a [u8],
    dialect: Dialect,
    expect: Expect,
    /// What is expected again once the parenthesis at this depth ends.
    resume: Option<(u32, Expect)>,
    name: Option<Name>,
    /// Words between an operation and its object so far.
    modifiers: u8,
    depth: u32,
    /// Where a statement has tables that follow `FROM`.
    queries: Depths,
    /// Where a comma is followed by another table.
    lists: Depths,
    /// Where a comma is followed by another name of `WITH`.
    withs: Depths,
    /// `USING` is followed by a table.
    using: bool,
    /// `AS` is followed by a statement.
    prepares: bool,
    /// Behind `EXPLAIN`.
    explains: bool,
    /// What follows names operations that are not done: `GRANT SELECT`.
    only_names: bool,
    local: [(usize, usize); MAX_LOCAL],
    local_len: usize,
}

impl<'a> Summary<'a> {
    pub(super) fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self {
            text,
            dialect,
            expect: Expect::Statement,
            resume: None,
            name: None,
            modifiers: 0,
            depth: 0,
            queries: 0,
            lists: 0,
            withs: 0,
            using: false,
            prepares: false,
            explains: false,
            only_names: false,
            local: [(0, 0); MAX_LOCAL],
            local_len: 0,
        }
    }

    /// Goes on by a token, which is no comment; `keyword` if it is one, and what stands before it.
    #[inline]
    pub(super) fn token(
        &mut self,
        token: Token,
        keyword: Option<Keyword>,
        before: Before,
        out: &mut Outline,
    ) {
        let idle = self.expect == Expect::Nothing && self.name.is_none();
        let passes = match token.kind {
            Kind::Punctuation => !matches!(token.byte, b'(' | b')' | b',' | b';'),
            _ => keyword.is_none(),
        };
        if !(idle && passes) {
            self.heed(token, keyword, before, out);
        }
    }

    fn heed(&mut self, token: Token, keyword: Option<Keyword>, before: Before, out: &mut Outline) {
        if self.name.is_some() && self.goes_on(token, out) {
            return;
        }
        match token.kind {
            Kind::Word => self.word(token, keyword, before, out),
            Kind::Quoted => self.quoted(token),
            Kind::Punctuation => self.punctuation(token.byte, out),
            Kind::Parameter => {
                if !matches!(self.expect, Expect::Statement | Expect::Procedure) {
                    self.expect = Expect::Nothing;
                }
            }
            Kind::String | Kind::Number | Kind::Comment => self.expect = Expect::Nothing,
        }
    }

    /// The text is at its end; `cut`: there was more of it.
    pub(super) fn end(&mut self, cut: bool, out: &mut Outline) {
        if self.name.is_some_and(|name| !cut || name.to < self.text.len()) {
            self.end_name(false, out);
        }
        out.end_statement();
    }

    /// Whether the token is one more part of the name in progress.
    fn goes_on(&mut self, token: Token, out: &mut Outline) -> bool {
        let Some(name) = &mut self.name else { return false };
        let part = token.from == name.to
            && match token.kind {
                Kind::Punctuation => token.byte == b'.',
                Kind::Word | Kind::Quoted => name.open,
                _ => false,
            };
        if part {
            (name.to, name.open) = (token.to, token.is(b'.'));
        } else {
            self.end_name(token.is(b'('), out);
        }
        part
    }

    fn begin_name(&mut self, token: Token, expected: Expect) {
        self.name = Some(Name { from: token.from, to: token.to, expected, open: false });
        self.expect = Expect::Nothing;
    }

    /// `called`: a parenthesis follows it.
    fn end_name(&mut self, called: bool, out: &mut Outline) {
        let Some(name) = self.name.take() else { return };
        let to = name.to - usize::from(name.open);
        let bytes = &self.text[name.from..to];
        match name.expected {
            Expect::Table if called || self.is_local(bytes) => {}
            Expect::Local => {
                if let Some(room) = self.local.get_mut(self.local_len) {
                    *room = (name.from, to);
                    self.local_len += 1;
                }
            }
            Expect::Procedure => out.target(bytes, Role::Procedure),
            _ => out.target(bytes, Role::Collection),
        }
    }

    fn is_local(&self, name: &[u8]) -> bool {
        let mut names = self.local[..self.local_len].iter();
        names.any(|(from, to)| self.text[*from..*to].eq_ignore_ascii_case(name))
    }

    fn bit(&self) -> Depths {
        1 << self.depth.min(MAX_DEPTH)
    }

    fn word(&mut self, token: Token, keyword: Option<Keyword>, before: Before, out: &mut Outline) {
        match (self.expect, keyword) {
            (Expect::Statement | Expect::Query | Expect::QueryOrTable, Some(Keyword::With)) => {
                self.withs |= self.bit();
                self.expect = Expect::Local;
            }
            (Expect::Statement, Some(Keyword::Analyze | Keyword::Verbose)) if self.explains => {}
            (Expect::Statement | Expect::Query | Expect::QueryOrTable, Some(keyword))
                if self.begins(keyword) =>
            {
                self.operation(token, keyword, out);
            }
            (Expect::QueryOrTable, None) => self.begin_name(token, Expect::Table),
            (Expect::Statement | Expect::Query | Expect::QueryOrTable, _) => {
                self.expect = Expect::Nothing;
                self.anywhere(token, keyword, before, out);
            }
            (Expect::Table, Some(Keyword::Only | Keyword::Lateral)) => {}
            (Expect::Local, Some(Keyword::Recursive)) => {}
            (Expect::Target, Some(Keyword::From)) => {
                self.expect = Expect::Table;
                self.lists |= self.bit();
            }
            (Expect::Target, Some(Keyword::To | Keyword::Outfile | Keyword::Dumpfile)) => {
                self.expect = Expect::Nothing;
            }
            (Expect::Target | Expect::Named, Some(keyword)) if keyword.is_before_target() => {}
            (Expect::Named, Some(Keyword::On)) => self.expect = Expect::Target,
            (Expect::Object, keyword) => match keyword {
                Some(keyword) if keyword.is_object() => {
                    out.extend_operation(&self.text[token.from..token.to]);
                    let named = !keyword.is_nameless_object();
                    self.expect = if named { Expect::Named } else { Expect::Nothing };
                }
                _ if self.modifiers < MAX_MODIFIERS => self.modifiers += 1,
                _ => self.expect = Expect::Nothing,
            },
            (Expect::Table | Expect::Target, Some(keyword)) if keyword.ends_tables() => {
                self.expect = Expect::Nothing;
                self.anywhere(token, Some(keyword), before, out);
            }
            (Expect::Nothing, keyword) => self.anywhere(token, keyword, before, out),
            (expected, _) => self.begin_name(token, expected),
        }
    }

    /// Whether a statement may begin with the word here.
    fn begins(&self, keyword: Keyword) -> bool {
        match (self.expect, keyword.operation()) {
            (_, Some(Operation::Select)) => true,
            (Expect::Statement, operation) => operation.is_some(),
            (
                _,
                Some(Operation::Insert | Operation::Update | Operation::Delete | Operation::Merge),
            ) => self.depth > 0 && self.withs & (self.bit() >> 1) != 0,
            _ => false,
        }
    }

    fn operation(&mut self, token: Token, keyword: Keyword, out: &mut Outline) {
        let Some(operation) = keyword.operation() else { return };
        let bit = self.bit();
        out.operation(&self.text[token.from..token.to], self.depth);
        self.queries &= !bit;
        self.lists &= !bit;
        self.withs &= !bit;
        self.using = false;
        self.explains = keyword == Keyword::Explain;
        self.only_names = matches!(keyword, Keyword::Grant | Keyword::Revoke | Keyword::Comment);
        self.expect = match operation {
            Operation::Select => {
                self.queries |= bit;
                Expect::Nothing
            }
            Operation::Insert | Operation::One => Expect::Target,
            Operation::Update => {
                self.queries |= bit;
                self.lists |= bit;
                Expect::Target
            }
            Operation::Delete => {
                self.queries |= bit;
                self.using = true;
                Expect::Target
            }
            Operation::Merge => {
                self.using = true;
                Expect::Target
            }
            Operation::Define => {
                if keyword == Keyword::Drop {
                    self.lists |= bit;
                }
                self.modifiers = 0;
                Expect::Object
            }
            Operation::Tables => {
                self.lists |= bit;
                Expect::Target
            }
            Operation::Call => Expect::Procedure,
            // Elsewhere it is a prepared statement that is executed.
            Operation::Execute if matches!(self.dialect, Dialect::SqlServer | Dialect::Other) => {
                Expect::Procedure
            }
            Operation::Before => Expect::Statement,
            Operation::Prepare => {
                self.prepares = true;
                Expect::Nothing
            }
            Operation::Execute | Operation::Alone => Expect::Nothing,
        };
    }

    /// A word where nothing special is expected.
    fn anywhere(
        &mut self,
        token: Token,
        keyword: Option<Keyword>,
        before: Before,
        out: &mut Outline,
    ) {
        let Some(keyword) = keyword.filter(|_| !self.only_names) else { return };
        let bit = self.bit();
        match keyword {
            Keyword::Select => self.operation(token, keyword, out),
            Keyword::Insert | Keyword::Update | Keyword::Delete | Keyword::Merge
                if before.parenthesis || before.word == Some(Keyword::Else) =>
            {
                self.operation(token, keyword, out);
            }
            // `IS DISTINCT FROM` compares.
            Keyword::From
                if self.queries & bit != 0
                    && !(before.word == Some(Keyword::Distinct)
                        && matches!(before.second, Some(Keyword::Is | Keyword::Not))) =>
            {
                self.lists |= bit;
                self.expect = Expect::Table;
            }
            Keyword::Join | Keyword::StraightJoin => self.expect = Expect::Table,
            Keyword::Into if self.queries & bit != 0 => self.expect = Expect::Target,
            Keyword::Using if std::mem::take(&mut self.using) => {
                self.lists |= bit;
                self.expect = Expect::Table;
            }
            Keyword::As if std::mem::take(&mut self.prepares) => self.expect = Expect::Statement,
            _ if keyword.ends_tables() => self.lists &= !bit,
            _ => {}
        }
    }

    fn quoted(&mut self, token: Token) {
        match self.expect {
            Expect::QueryOrTable => self.begin_name(token, Expect::Table),
            Expect::Table | Expect::Target | Expect::Named | Expect::Procedure | Expect::Local => {
                self.begin_name(token, self.expect)
            }
            Expect::Nothing | Expect::Statement | Expect::Query | Expect::Object => {
                self.expect = Expect::Nothing;
            }
        }
    }

    fn punctuation(&mut self, byte: u8, out: &mut Outline) {
        match byte {
            b'(' => {
                if matches!(self.expect, Expect::Target | Expect::Statement)
                    && self.resume.is_none()
                {
                    self.resume = Some((self.depth, self.expect));
                }
                let table = self.expect == Expect::Table;
                self.depth = self.depth.saturating_add(1);
                if self.depth <= MAX_DEPTH {
                    self.queries &= !self.bit();
                    self.lists &= !self.bit();
                    self.withs &= !self.bit();
                }
                self.expect = if table { Expect::QueryOrTable } else { Expect::Query };
            }
            b')' => {
                self.depth = self.depth.saturating_sub(1);
                self.expect = Expect::Nothing;
                if let Some((depth, expect)) = self.resume
                    && depth >= self.depth
                {
                    self.resume = None;
                    self.expect = expect;
                }
            }
            b',' if self.lists & self.bit() != 0 => self.expect = Expect::Table,
            b',' if self.withs & self.bit() != 0 => self.expect = Expect::Local,
            b';' => {
                out.end_statement();
                self.restart();
            }
            _ if matches!(self.expect, Expect::Statement | Expect::Procedure) => {}
            _ => self.expect = Expect::Nothing,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.text, self.dialect);
    }
}
