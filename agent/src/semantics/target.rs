//! The four forms of an HTTP request target (RFC 9112 section 3.2), split into the parts that
//! attributes want. Total: any text is some form.

/// Which form a request target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`, to a proxy.
    Absolute,
    /// `host:port`, with `CONNECT`.
    Authority,
    /// `*`, with `OPTIONS`.
    Asterisk,
    /// None of them, taken for a path.
    Other,
}

/// A request target in its parts; nothing is decoded or redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub form: Form,
    /// Absolute form only.
    pub scheme: Option<&'a str>,
    /// Absolute and authority form; may contain userinfo.
    pub authority: Option<&'a str>,
    /// `/` for an absolute form without one; empty in authority form.
    pub path: &'a str,
    /// After the first `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes `text` apart. A fragment is not allowed in a target, and is cut off where one is sent.
    #[must_use]
    pub fn parse(method: &str, text: &'a str) -> Self {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        // With `:protocol` (RFC 8441) it has a path, as other methods have.
        if method == "CONNECT" && !text.starts_with('/') {
            let form = Form::Authority;
            return Self { form, scheme: None, authority: Some(text), path: "", query: None };
        }
        if text == "*" {
            let form = Form::Asterisk;
            return Self { form, scheme: None, authority: None, path: text, query: None };
        }
        // What most targets begin with is asked first: the search is the dearest part of all this.
        if !text.starts_with('/')
            && let Some((scheme, rest)) = text.split_once("://")
            && is_scheme(scheme)
        {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            let (path, query) = split_query(rest);
            let path = if path.is_empty() { "/" } else { path };
            let form = Form::Absolute;
            return Self { form, scheme: Some(scheme), authority: Some(authority), path, query };
        }
        let (path, query) = split_query(text);
        let form = if path.starts_with('/') { Form::Origin } else { Form::Other };
        Self { form, scheme: None, authority: None, path, query }
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_told_apart() {
        type Row = (&'static str, &'static str, Form, Option<&'static str>, &'static str);
        let rows: [Row; 11] = [
            ("GET", "/", Form::Origin, None, "/"),
            ("GET", "/a/b?c=/d?e", Form::Origin, None, "/a/b"),
            ("GET", "/a#frag?x", Form::Origin, None, "/a"),
            ("GET", "/redirect?to=http://x/", Form::Origin, None, "/redirect"),
            ("GET", "http://h:81/p?q", Form::Absolute, Some("h:81"), "/p"),
            ("GET", "http://h?q", Form::Absolute, Some("h"), "/"),
            ("GET", "HTTPS://u:p@h", Form::Absolute, Some("u:p@h"), "/"),
            ("OPTIONS", "*", Form::Asterisk, None, "*"),
            ("CONNECT", "h:443", Form::Authority, Some("h:443"), ""),
            ("GET", "path", Form::Other, None, "path"),
            ("GET", "", Form::Other, None, ""),
        ];
        for (method, text, form, authority, path) in rows {
            let target = Target::parse(method, text);
            assert_eq!(target.form, form, "{text}");
            assert_eq!(target.authority, authority, "{text}");
            assert_eq!(target.path, path, "{text}");
        }
        assert_eq!(Target::parse("GET", "/a?b?c").query, Some("b?c"));
        assert_eq!(Target::parse("GET", "/a?").query, Some(""));
        assert_eq!(Target::parse("GET", "/a").query, None);
    }
}
