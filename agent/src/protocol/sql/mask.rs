//! What of SQL a recording may keep: everything but the insides of literals and comments, which are overwritten so that
//! all tokens stay where they are.

use super::{Dialect, Kind, Token, Tokens};
use crate::protocol::Keep;

/// Instead of what stands in quotes or in a comment. It is part of no tag, no escape and no comment's end.
const BLANK: u8 = b'.';
/// Instead of the digits of a number, and the letters in one.
const DIGIT: u8 = b'0';

/// Tells `keep` of the bytes of `text` from `from` on, which stand at `at` in what it is told of: what was told of the
/// bytes before, when they were all there was, holds still. A text may therefore come in pieces.
pub fn mask(text: &[u8], dialect: Dialect, from: usize, at: usize, keep: &mut impl Keep) {
    let mut out = Shifted { from, at, keep };
    let mut told = 0;
    for token in Tokens::new(text, dialect) {
        // A cut text ends a token early, which leaves what is behind it for the next piece.
        let literal = matches!(token.kind, Kind::String | Kind::Number | Kind::Comment);
        if literal && token.to > from {
            out.keep(told, token.from);
            let bytes = &text[token.from..token.to];
            match token.kind {
                Kind::Number => number(bytes, token, &mut out),
                Kind::Comment => comment(bytes, token, &mut out),
                _ => string(bytes, token, dialect, &mut out),
            }
            told = token.to;
        }
    }
    out.keep(told, text.len());
}

/// A [`Keep`] that is told of what is new.
struct Shifted<'a, K> {
    from: usize,
    at: usize,
    keep: &'a mut K,
}

impl<K: Keep> Shifted<'_, K> {
    fn keep(&mut self, from: usize, to: usize) {
        let from = from.max(self.from);
        if from < to {
            self.keep.keep(from - self.from + self.at..to - self.from + self.at);
        }
    }

    fn mask(&mut self, from: usize, to: usize, byte: u8) {
        let from = from.max(self.from);
        if from < to {
            self.keep.mask(from - self.from + self.at..to - self.from + self.at, byte);
        }
    }

    fn one(&mut self, at: usize, kept: bool, byte: u8) {
        if kept { self.keep(at, at + 1) } else { self.mask(at, at + 1, byte) }
    }
}

/// A sign before it and its points stay.
fn number<K: Keep>(bytes: &[u8], token: Token, out: &mut Shifted<'_, K>) {
    for (byte, at) in bytes.iter().zip(token.from..) {
        let sign = at == token.from && matches!(byte, b'+' | b'-');
        out.one(at, sign || *byte == b'.', DIGIT);
    }
}

/// What may begin or end one within it stays.
fn comment<K: Keep>(bytes: &[u8], token: Token, out: &mut Shifted<'_, K>) {
    for (byte, at) in bytes.iter().zip(token.from..) {
        let kept = match at - token.from {
            0 => true,
            1 => bytes[0] != b'#',
            // In MySQL's dialect a dash more and it is no comment.
            2 => bytes[0] == b'-' && *byte <= b' ',
            _ => false,
        } || matches!(byte, b'*' | b'/');
        out.one(at, kept, BLANK);
    }
}

fn string<K: Keep>(bytes: &[u8], token: Token, dialect: Dialect, out: &mut Shifted<'_, K>) {
    if bytes[0] == b'$' {
        return dollar(bytes, token, out);
    }
    let prefix = usize::from(!matches!(bytes[0], b'\'' | b'"'));
    let quote = bytes[prefix];
    let backslashes = dialect == Dialect::MySql || matches!(bytes[0], b'e' | b'E');
    out.keep(token.from, token.from + prefix + 1);
    let mut escaped = false;
    for (&byte, at) in bytes.iter().zip(token.from..).skip(prefix + 1) {
        let kept = byte == quote && !escaped;
        out.one(at, kept, BLANK);
        escaped = backslashes && byte == b'\\' && !escaped;
    }
}

/// The tags, and what looks like the second one as far as it does.
fn dollar<K: Keep>(bytes: &[u8], token: Token, out: &mut Shifted<'_, K>) {
    let Some(end) = bytes[1..].iter().position(|byte| *byte == b'$') else { return };
    let tag = &bytes[..end + 2];
    out.keep(token.from, token.from + tag.len());
    let mut matched = 0;
    for (&byte, at) in bytes.iter().zip(token.from..).skip(tag.len()) {
        // Within a tag there is no other `$`, so that a match that fails can only begin anew at one.
        matched = match byte {
            _ if matched < tag.len() && byte == tag[matched] => matched + 1,
            b'$' => 1,
            _ => 0,
        };
        out.one(at, matched > 0, BLANK);
    }
}
