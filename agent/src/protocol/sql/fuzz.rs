//! What a recording keeps of a text, whole or in pieces.

use super::{Dialect, Kind, Tokens, mask::mask};
use crate::protocol::replay::Recorder;

pub(crate) const DIALECTS: [Dialect; 4] =
    [Dialect::Other, Dialect::Postgres, Dialect::MySql, Dialect::SqlServer];

pub(crate) fn recorded(text: &[u8], dialect: Dialect, cuts: &[usize]) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let mut recorded = Vec::new();
    for pair in cuts.windows(2) {
        let (piece, mut to) = (&text[pair[0]..pair[1]], vec![0; pair[1] - pair[0]]);
        mask(&text[..pair[1]], dialect, pair[0], 0, &mut Recorder { from: piece, to: &mut to });
        recorded.extend(to);
    }
    recorded
}

pub(crate) fn same_tokens(text: &[u8], dialect: Dialect, cuts: &[usize]) {
    let recorded = recorded(text, dialect, cuts);
    let tokens = Tokens::new(text, dialect);
    let mut again = Tokens::new(&recorded, dialect);
    for token in tokens {
        let same = again.next().is_some_and(|other| {
            let punctuation = token.kind == Kind::Punctuation;
            (token.kind, token.from, token.to) == (other.kind, other.from, other.to)
                && (token.byte == other.byte || !punctuation)
        });
        let (text, recorded) = (text.escape_ascii(), recorded.escape_ascii());
        assert!(same, "{dialect:?} {cuts:?} {text} {recorded}: {token:?}");
    }
    assert_eq!(again.next(), None);
}
