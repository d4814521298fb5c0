//! URL references (RFC 3986 section 4.1) without credentials: which part of one may hold some.

use std::borrow::Cow;

use super::{super::authority::Authority, REDACTED, nested::DEPTH, query_at, redact_path};

/// A list of `<reference>; parameters` (RFC 8288 section 3). Each reference ends where its bracket does.
pub(super) fn redact_links(value: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, reference)) = rest.split_once('<') {
        let (reference, after) = reference.split_once('>').unwrap_or((reference, ""));
        out.push_str(&redact_url(before));
        out.push('<');
        out.push_str(&redact_url(reference));
        out.push_str(if rest.len() > before.len() + 1 + reference.len() { ">" } else { "" });
        rest = after;
    }
    out.push_str(&redact_url(rest));
    if out == value { Cow::Borrowed(value) } else { Cow::Owned(out) }
}

/// A URL reference without credentials: userinfo, the values of sensitive matrix and query parameters,
/// and the whole fragment, which is where OAuth's implicit grant puts its token (RFC 6749 section
/// 4.2.2). An authority that cannot be one may be userinfo with a delimiter in its password, so it and
/// what follows it are hidden. Text around the reference stays, as far as it does not look like one.
#[must_use]
pub fn redact_url(text: &str) -> Cow<'_, str> {
    url_at(text, DEPTH)
}

/// Looks into URLs that are values of parameters, so deep.
pub(super) fn url_at(text: &str, depth: usize) -> Cow<'_, str> {
    let authority = text.find("//").filter(|at| !text[..*at].contains(['?', '#']));
    if let Some(at) = authority.map(|at| at + 2)
        && let end = text[at..].find(['/', '?', '#']).map_or(text.len(), |len| at + len)
        && !text[at..end].contains('@')
        && text[at..end].contains(':')
        && Authority::parse(text[at..end].trim_end_matches([' ', ',', ';', '\'', '"'])).is_none()
    {
        return Cow::Owned(format!("{}{REDACTED}", &text[..at]));
    }
    let (rest, fragment) = match text.split_once('#') {
        Some((rest, fragment)) => (rest, !fragment.is_empty()),
        None => (text, false),
    };
    let known = format!("#{REDACTED}");
    let fragment = fragment && !text[rest.len()..].eq(&known);
    let shown = path_and_query_at(rest, depth);
    match (redact_userinfo(&shown), fragment) {
        (Cow::Owned(shown), false) => Cow::Owned(shown + &text[rest.len()..]),
        (shown, true) => Cow::Owned(format!("{shown}{known}")),
        (Cow::Borrowed(_), false) => match shown {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(shown) => Cow::Owned(shown + &text[rest.len()..]),
        },
    }
}

pub(super) fn redact_path_and_query(text: &str) -> Cow<'_, str> {
    path_and_query_at(text, DEPTH)
}

fn path_and_query_at(text: &str, depth: usize) -> Cow<'_, str> {
    let (rest, query) = match text.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (text, None),
    };
    match (redact_path(rest), query.map(|query| query_at(query, depth))) {
        (Cow::Borrowed(_), None | Some(Cow::Borrowed(_))) => Cow::Borrowed(text),
        (rest, None) => rest,
        (rest, Some(query)) => Cow::Owned(format!("{rest}?{query}")),
    }
}

/// Hides what is before the last `@` of every authority in `text`: a query may hold further URLs.
pub(super) fn redact_userinfo(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut kept = 0; // text[..kept] is in `out` already
    for (at, _) in text.match_indices("//") {
        let begin = at + 2;
        let authority = &text[begin..];
        let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let Some(len) = authority[..end].rfind('@') else { continue };
        if begin >= kept && len > 0 && authority[..len] != *REDACTED {
            out.push_str(&text[kept..begin]);
            out.push_str(REDACTED);
            kept = begin + len;
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}
