//! The words of SQL, of any dialect: total, in one pass, without allocation. What they mean is told elsewhere
//! (`semantics::sql`); here is only where a literal, a name or a comment begins and ends.
//!
//! Where dialects differ and the dialect is not known, the side to be wrong on is to take more for a literal.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod mask;
#[cfg(test)]
mod tests;

use memchr::{memchr, memchr2, memmem};

/// Whose SQL it is, as far as its words differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Any that is not listed.
    #[default]
    Other,
    /// `E''`, `$$`, nested comments.
    Postgres,
    /// And MariaDB: backslashes in strings, `"strings"`, `#` comments.
    MySql,
    /// `[names]`, `#tables`, `@variables`.
    SqlServer,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name.
    Word,
    /// A name in quotes, with them.
    Quoted,
    /// With its prefix, as in `E'\n'`.
    String,
    /// With its sign, where that cannot be an operator.
    Number,
    /// `$1`, `?`, `:name`; a variable.
    Parameter,
    Comment,
    /// One byte of anything else.
    Punctuation,
}

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// The first of its bytes: of punctuation, what it is.
    pub byte: u8,
    pub from: usize,
    pub to: usize,
}

/// The tokens of a text. Between them is nothing but whitespace.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    text: &'a [u8],
    dialect: Dialect,
    /// Bits of [`IN_WORD`].
    in_word: u8,
    at: usize,
    /// The token before, comments aside; at the beginning an empty comment.
    before: Token,
}

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Word,
    Digit,
    Single,
    Double,
    Backtick,
    Bracket,
    Dollar,
    Sign,
    Dot,
    Slash,
    Hash,
    Colon,
    At,
    Question,
    Other,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Word,
            b'0'..=b'9' => Class::Digit,
            b'\'' => Class::Single,
            b'"' => Class::Double,
            b'`' => Class::Backtick,
            b'[' => Class::Bracket,
            b'$' => Class::Dollar,
            b'+' | b'-' => Class::Sign,
            b'.' => Class::Dot,
            b'/' => Class::Slash,
            b'#' => Class::Hash,
            b':' => Class::Colon,
            b'@' => Class::At,
            b'?' => Class::Question,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Bytes of a string that are looked at one by one.
const SHORT: usize = 16;
/// Which bytes go on with a word: bit 0 in every dialect, bit 1 in some.
static IN_WORD: [u8; 256] = {
    let mut bits = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bits[byte] = match CLASSES[byte] {
            Class::Word | Class::Digit | Class::Dollar => 1,
            Class::Hash | Class::At => 2,
            _ => 0,
        };
        byte += 1;
    }
    bits
};

/// PostgreSQL has no longer ones.
const MAX_TAG: usize = 63;

impl Token {
    /// Whether it is this one byte of punctuation, which begins no other token.
    #[inline]
    #[must_use]
    pub fn is(&self, byte: u8) -> bool {
        self.byte == byte && self.kind == Kind::Punctuation
    }
}

impl<'a> Tokens<'a> {
    #[must_use]
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        let in_word = if dialect == Dialect::SqlServer { 3 } else { 1 };
        let before = Token { kind: Kind::Comment, byte: 0, from: 0, to: 0 };
        Self { text, dialect, in_word, at: 0, before }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn class(&self, at: usize) -> Class {
        self.byte(at).map_or(Class::Other, |byte| CLASSES[usize::from(byte)])
    }

    /// The kind of the token that begins at `from`, and where it ends.
    fn token(&self, class: Class, from: usize) -> (Kind, usize) {
        use Dialect as D;
        let next = self.byte(from + 1);
        match class {
            Class::Word => self.word(from),
            Class::Digit => (Kind::Number, self.number(from)),
            Class::Single => (Kind::String, self.string(from + 1, b'\'', self.dialect == D::MySql)),
            Class::Double if self.dialect == D::MySql => {
                (Kind::String, self.string(from + 1, b'"', true))
            }
            Class::Double => (Kind::Quoted, self.string(from + 1, b'"', false)),
            Class::Backtick if matches!(self.dialect, D::MySql | D::Other) => {
                (Kind::Quoted, self.string(from + 1, b'`', false))
            }
            Class::Bracket if self.dialect == D::SqlServer => {
                (Kind::Quoted, self.string(from + 1, b']', false))
            }
            Class::Dollar => self.dollar(from),
            Class::Sign => self.sign(from),
            Class::Dot if self.class(from + 1) == Class::Digit && !self.adjoins_name(from) => {
                (Kind::Number, self.number(from + 1))
            }
            Class::Slash if next == Some(b'*') => (Kind::Comment, self.block_comment(from + 2)),
            Class::Hash if self.dialect == D::MySql => (Kind::Comment, self.line_end(from)),
            // A temporary table.
            Class::Hash if self.dialect == D::SqlServer => (Kind::Word, self.word_end(from + 1)),
            Class::Colon => self.colon(from),
            Class::At if self.dialect != D::Postgres => match self.class(from + 1) {
                Class::At => (Kind::Parameter, self.word_end(from + 2)),
                Class::Word | Class::Digit => (Kind::Parameter, self.word_end(from + 1)),
                _ => (Kind::Punctuation, from + 1),
            },
            Class::Question => (Kind::Parameter, self.digits_end(from + 1)),
            _ => (Kind::Punctuation, from + 1),
        }
    }

    /// A word, or a string whose prefix it is.
    #[inline]
    fn word(&self, from: usize) -> (Kind, usize) {
        let to = self.word_end(from + 1);
        if self.byte(to) == Some(b'\'') && to - from == 1 {
            match self.text[from] | 0x20 {
                b'e' if matches!(self.dialect, Dialect::Postgres | Dialect::Other) => {
                    return (Kind::String, self.string(to + 1, b'\'', true));
                }
                b'b' | b'n' | b'x' => {
                    let backslashes = self.dialect == Dialect::MySql;
                    return (Kind::String, self.string(to + 1, b'\'', backslashes));
                }
                _ => {}
            }
        }
        (Kind::Word, to)
    }

    #[inline]
    fn word_end(&self, from: usize) -> usize {
        let Some(rest) = self.text.get(from..) else { return self.text.len() };
        let ends = |byte: &u8| IN_WORD[usize::from(*byte)] & self.in_word == 0;
        rest.iter().position(ends).map_or(self.text.len(), |len| from + len)
    }

    fn digits_end(&self, mut at: usize) -> usize {
        while self.class(at) == Class::Digit {
            at += 1;
        }
        at
    }

    /// Behind the quote that ends a string; one that is doubled does not.
    fn string(&self, mut at: usize, quote: u8, backslashes: bool) -> usize {
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let ends = |byte: &u8| *byte == quote || backslashes && *byte == b'\\';
            // Most are short.
            let found = rest.iter().take(SHORT).position(ends).or_else(|| {
                let rest = rest.get(SHORT..)?;
                let found =
                    if backslashes { memchr2(quote, b'\\', rest) } else { memchr(quote, rest) };
                found.map(|at| at + SHORT)
            });
            let Some(found) = found else { return self.text.len() };
            at += found;
            if self.text[at] == b'\\' || self.byte(at + 1) == Some(quote) {
                at += 2;
            } else {
                return at + 1;
            }
        }
    }

    /// Whatever begins with a digit: `12.34e-56`, `0xff`, `1_000`, also what no database takes (`1.2.3`, `12ab`).
    fn number(&self, from: usize) -> usize {
        let mut at = from;
        let mut decimal = true;
        while let Some(byte) = self.byte(at) {
            match byte {
                b'0'..=b'9' | b'.' | b'_' => {}
                b'e' | b'E' if decimal => {
                    decimal = false;
                    if matches!(self.byte(at + 1), Some(b'+' | b'-')) {
                        at += 1;
                    }
                }
                _ if CLASSES[usize::from(byte)] == Class::Word || byte == b'$' => decimal = false,
                _ => break,
            }
            at += 1;
        }
        at.min(self.text.len())
    }

    /// `$1`, `$name`, or a string between two equal `$tag$`.
    fn dollar(&self, from: usize) -> (Kind, usize) {
        match self.class(from + 1) {
            Class::Digit => return (Kind::Parameter, self.digits_end(from + 1)),
            Class::Word if self.dialect == Dialect::MySql => {
                return (Kind::Word, self.word_end(from + 1));
            }
            Class::Word | Class::Dollar => {}
            _ => return (Kind::Punctuation, from + 1),
        }
        let mut to = from + 1;
        while matches!(self.class(to), Class::Word | Class::Digit) {
            to += 1;
        }
        let quotes = matches!(self.dialect, Dialect::Postgres | Dialect::Other);
        if quotes && self.byte(to) == Some(b'$') && to - from - 1 <= MAX_TAG {
            let (tag, body) = (&self.text[from..=to], &self.text[to + 1..]);
            let end = memmem::find(body, tag).map_or(self.text.len(), |at| to + 1 + at + tag.len());
            return (Kind::String, end);
        }
        match to - from {
            1 => (Kind::Punctuation, to),
            _ => (Kind::Parameter, to),
        }
    }

    /// A comment, the sign of a number, or an operator.
    fn sign(&self, from: usize) -> (Kind, usize) {
        let sign = self.text[from];
        if sign == b'-' && self.byte(from + 1) == Some(b'-') {
            let comment = match self.dialect {
                // Else `5--3` would be one.
                Dialect::MySql => matches!(self.byte(from + 2), None | Some(..=b' ')),
                _ => true,
            };
            if comment {
                return (Kind::Comment, self.line_end(from));
            }
        }
        let digits = match self.class(from + 1) {
            Class::Digit => from + 1,
            Class::Dot if self.class(from + 2) == Class::Digit => from + 2,
            _ => return (Kind::Punctuation, from + 1),
        };
        if self.follows_operand() {
            return (Kind::Punctuation, from + 1);
        }
        (Kind::Number, self.number(digits))
    }

    /// Whether an operator may stand here. Behind a number a sign is the next one's, as OpenTelemetry wants it.
    fn follows_operand(&self) -> bool {
        match self.before.kind {
            Kind::Word => !is_before_operand(&self.text[self.before.from..self.before.to]),
            Kind::Quoted | Kind::Parameter => true,
            Kind::Punctuation => matches!(self.before.byte, b')' | b']'),
            _ => false,
        }
    }

    /// Whether the token before ends here and is a name.
    fn adjoins_name(&self, at: usize) -> bool {
        self.before.to == at && matches!(self.before.kind, Kind::Word | Kind::Quoted)
    }

    /// `::`, `:=`, the bounds of a slice, or a parameter.
    fn colon(&self, from: usize) -> (Kind, usize) {
        let adjoins = self.before.to == from
            && match self.before.kind {
                Kind::Punctuation => matches!(self.before.byte, b')' | b']' | b':'),
                kind => kind != Kind::Comment,
            };
        match self.class(from + 1) {
            Class::Word if !adjoins => (Kind::Parameter, self.word_end(from + 1)),
            Class::Digit if !adjoins => (Kind::Parameter, self.digits_end(from + 1)),
            _ => (Kind::Punctuation, from + 1),
        }
    }

    fn line_end(&self, from: usize) -> usize {
        memchr2(b'\n', b'\r', &self.text[from..]).map_or(self.text.len(), |at| from + at)
    }

    fn block_comment(&self, mut at: usize) -> usize {
        let nests = self.dialect != Dialect::MySql;
        let mut depth = 1_u32;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'*', b'/', rest) else { return self.text.len() };
            at += found;
            match (self.text[at], self.byte(at + 1)) {
                (b'*', Some(b'/')) => {
                    at += 2;
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                (b'/', Some(b'*')) if nests => {
                    at += 2;
                    depth = depth.saturating_add(1);
                }
                _ => at += 1,
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let mut from = self.at;
        let (byte, class) = loop {
            let byte = *self.text.get(from)?;
            let class = CLASSES[usize::from(byte)];
            if class != Class::Space {
                break (byte, class);
            }
            from += 1;
        };
        let (kind, to) = match class {
            Class::Word => self.word(from),
            Class::Other => (Kind::Punctuation, from + 1),
            _ => self.token(class, from),
        };
        // What the end of the text cuts ends there.
        let to = to.min(self.text.len());
        self.at = to;
        let token = Token { kind, byte, from, to };
        if kind != Kind::Comment {
            self.before = token;
        }
        Some(token)
    }
}

/// Keywords behind which a sign belongs to a number.
fn is_before_operand(word: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"ALL",
        b"AND",
        b"AS",
        b"BETWEEN",
        b"BY",
        b"CASE",
        b"DEFAULT",
        b"DISTINCT",
        b"ELSE",
        b"FETCH",
        b"HAVING",
        b"IN",
        b"IS",
        b"LIKE",
        b"LIMIT",
        b"NOT",
        b"OFFSET",
        b"ON",
        b"OR",
        b"RETURN",
        b"RETURNING",
        b"SELECT",
        b"SET",
        b"THEN",
        b"TO",
        b"TOP",
        b"VALUES",
        b"WHEN",
        b"WHERE",
        b"WITH",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}
