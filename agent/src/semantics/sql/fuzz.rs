//! What holds for any text that is taken for SQL.

use super::{Dialect, Query};
use crate::protocol::sql::fuzz::{DIALECTS, recorded, same_tokens};

/// The first byte says which dialect, the second where the text is cut.
pub(crate) fn sql(bytes: &[u8]) {
    let [dialect, cut, text @ ..] = bytes else { return };
    let dialect = DIALECTS[usize::from(*dialect) % DIALECTS.len()];
    read(text, dialect, cut % 2 == 1);
    same_tokens(text, dialect, &[(*cut).into()]);
}

pub(super) fn read(text: &[u8], dialect: Dialect, cut: bool) {
    let mut query = Query::default();
    query.read(text, cut, dialect);
    assert!(query.summary().len() <= 255);
    // A byte that is no UTF-8 becomes a character of three.
    assert!(query.text().len() <= text.len() * 3 + 3);
    assert!(query.operation().is_none_or(|operation| !operation.is_empty()));
    assert!(query.collections().chain(query.procedure()).all(|name| !name.is_empty()));
    let first = query.clone();
    query.read(text, cut, dialect);
    assert_eq!((query.text(), query.summary()), (first.text(), first.summary()), "read again");
    let recorded = recorded(text, dialect, &[]);
    query.read(&recorded, cut, dialect);
    assert_eq!((query.text(), query.summary()), (first.text(), first.summary()), "as recorded");
}
