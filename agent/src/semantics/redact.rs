//! Values of query parameters that are credentials never leave the agent: `sig=abc` becomes
//! `sig=REDACTED`. Keys stay, so that one sees that the parameter was there.

use std::{
    borrow::Cow,
    sync::{PoisonError, RwLock},
};

/// What a hidden value is replaced by (semconv `url.query`).
pub const REDACTED: &str = "REDACTED";

/// Names by the conventions, which say that matching is case-sensitive. We match all names without
/// regard to case, which hides more: `SIG` is no other thing than `sig`.
const CONVENTIONAL: &[&str] = &[
    "awsaccesskeyid",
    "sig",
    "signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

/// Ours: credentials of OAuth 2.0 (RFC 6749: `code`, `client_secret`, `refresh_token` ..), OpenID, SAML,
/// and what services call their keys. Compared after `-`, `_`, `.` and case are taken away.
const OURS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "assertion",
    "auth",
    "authkey",
    "authorization",
    "authtoken",
    "clientassertion",
    "clientsecret",
    "code",
    "codeverifier",
    "credential",
    "credentials",
    "csrftoken",
    "idtoken",
    "jsessionid",
    "jwt",
    "key",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "privatekey",
    "pwd",
    "refreshtoken",
    "samlresponse",
    "secret",
    "secretkey",
    "session",
    "sessionid",
    "sessiontoken",
    "sid",
    "token",
    "xapikey",
];

/// Parts of header names that tell of credentials. They hide more than there is to hide, which is the
/// side to be wrong on.
const FIELD_PARTS: &[&str] = &[
    "assertion",
    "auth",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "passw",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];

/// Words of header names that do.
const FIELD_WORDS: &[&str] = &["apikey", "key", "otp", "sid", "sig"];

/// What the configuration names.
struct Configured {
    /// In the same form as [`OURS`].
    query_keys: Vec<String>,
    /// In lower case.
    headers: Vec<String>,
}

static CONFIGURED: RwLock<Configured> =
    RwLock::new(Configured { query_keys: Vec::new(), headers: Vec::new() });

/// Sets what is hidden besides what always is, for the whole process: query parameters, of which case
/// and `-`, `_`, `.` do not matter, and header fields. Returns parameters that are too long ever to
/// match.
pub fn set_sensitive<'a>(
    query_keys: &'a [String],
    headers: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let squeeze = |name: &String| -> String {
        name.to_ascii_lowercase().chars().filter(|c| !"-_. +".contains(*c)).collect()
    };
    let new = Configured {
        query_keys: query_keys.iter().map(squeeze).collect(),
        headers: headers.into_iter().map(str::to_ascii_lowercase).collect(),
    };
    *CONFIGURED.write().unwrap_or_else(PoisonError::into_inner) = new;
    query_keys.iter().filter(|name| name.len() > MAX_NAME_LEN).map(String::as_str).collect()
}

fn is_configured(test: impl FnOnce(&Configured) -> bool) -> bool {
    test(&CONFIGURED.read().unwrap_or_else(PoisonError::into_inner))
}

/// The value of the header field `name` (in lower case) as it may be told: hidden where the name says
/// that it is a credential; without credentials in it where it is a URL.
#[must_use]
pub fn redact_header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_sensitive_field(name) {
        return Cow::Borrowed(REDACTED);
    }
    let (rest, query) = match value.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (value, None),
    };
    let userinfo = rest.find("://").and_then(|scheme| {
        let authority = &rest[scheme + 3..];
        let end = authority.find('/').unwrap_or(authority.len());
        authority[..end].rfind('@').map(|at| (scheme + 3, scheme + 3 + at))
    });
    let rest = match userinfo {
        Some((begin, end)) => Cow::Owned(format!("{}{REDACTED}{}", &rest[..begin], &rest[end..])),
        None => redact_path(rest),
    };
    match (rest, query.map(redact_query)) {
        (Cow::Borrowed(_), None | Some(Cow::Borrowed(_))) => Cow::Borrowed(value),
        (rest, None) => rest,
        (rest, Some(query)) => Cow::Owned(format!("{rest}?{query}")),
    }
}

fn is_sensitive_field(name: &str) -> bool {
    let by_word = || name != "idempotency-key" && name.split('-').any(|w| FIELD_WORDS.contains(&w));
    FIELD_PARTS.iter().any(|part| name.contains(part))
        || by_word()
        || is_sensitive(name)
        || is_configured(|names| names.headers.iter().any(|known| known == name))
}

/// Longest name that is compared; no listed one is longer, and encoded ones are decoded up to it.
const MAX_NAME_LEN: usize = 32;

/// `query` (without `?`) with the values of sensitive parameters replaced; borrowed if there are none.
/// Parameters are separated by `&` or `;`, names may be percent-encoded or carry `[..]` or a prefix
/// `..[name]` as in nested forms.
#[must_use]
pub fn redact_query(query: &str) -> Cow<'_, str> {
    let mut kept = 0; // query[..kept] is in `out` already
    let mut out = String::new();
    for (start, parameter) in parameters(query) {
        let Some(equals) = parameter.find('=') else { continue };
        let value = start + equals + 1;
        // Up to the next `&`: a `;` after a secret may belong to it.
        let end = query[value..].find('&').map_or(query.len(), |len| value + len);
        if start < kept || value == end || !is_sensitive(&parameter[..equals]) {
            continue;
        }
        out.push_str(&query[kept..value]);
        out.push_str(REDACTED);
        kept = end;
    }
    if kept == 0 {
        return Cow::Borrowed(query);
    }
    out.push_str(&query[kept..]);
    Cow::Owned(out)
}

/// `path` with the values of sensitive matrix parameters (`;jsessionid=..`) replaced.
#[must_use]
pub fn redact_path(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut changed = false;
    for segment in path.split_inclusive('/') {
        let (segment, slash) = segment.strip_suffix('/').map_or((segment, ""), |rest| (rest, "/"));
        let mut parameters = segment.split(';');
        out.push_str(parameters.next().unwrap_or_default());
        for parameter in parameters {
            out.push(';');
            match parameter.split_once('=') {
                Some((name, value)) if !value.is_empty() && is_sensitive(name) => {
                    out.push_str(name);
                    out.push('=');
                    out.push_str(REDACTED);
                    changed = true;
                }
                _ => out.push_str(parameter),
            }
        }
        out.push_str(slash);
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(path) }
}

/// Parameters of `query` with their offsets. `;` separates only in front of something that has a name
/// of its own: a value may contain `;`, and its remainder is a secret like its beginning.
fn parameters(query: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at > query.len() {
            return None;
        }
        let rest = &query[at..];
        let mut end = rest.len();
        for (i, _) in rest.match_indices(['&', ';']) {
            let next = &rest[i + 1..];
            let named = next.find(['=', '&', ';']).is_some_and(|j| next.as_bytes()[j] == b'=');
            if rest.as_bytes()[i] == b'&' || named {
                end = i;
                break;
            }
        }
        let start = at;
        at += end + 1;
        Some((start, &rest[..end]))
    })
}

/// Whether a parameter of this (raw) name has a value that must be hidden.
#[must_use]
pub fn is_sensitive(name: &str) -> bool {
    // `user[password]=` and `password[]=`: any of the pieces may be the name.
    name.split(['[', ']']).filter(|piece| !piece.is_empty()).any(is_sensitive_piece)
        || (name.contains('%') && is_sensitive_encoded(name))
}

fn is_sensitive_piece(name: &str) -> bool {
    let mut buffer = [0_u8; MAX_NAME_LEN];
    let mut len = 0;
    for byte in Decoded(name.bytes()) {
        if len == MAX_NAME_LEN {
            return false;
        }
        buffer[len] = byte.to_ascii_lowercase();
        len += 1;
    }
    let name = &buffer[..len];
    if CONVENTIONAL.iter().any(|known| known.as_bytes() == name) {
        return true;
    }
    let mut squeezed = [0_u8; MAX_NAME_LEN];
    let mut squeezed_len = 0;
    for &byte in name.iter().filter(|byte| !b"-_. +".contains(byte)) {
        squeezed[squeezed_len] = byte;
        squeezed_len += 1;
    }
    let squeezed = &squeezed[..squeezed_len];
    OURS.binary_search_by(|known| known.as_bytes().cmp(squeezed)).is_ok()
        || is_configured(|names| names.query_keys.iter().any(|n| n.as_bytes() == squeezed))
}

/// Brackets may be encoded too.
fn is_sensitive_encoded(name: &str) -> bool {
    let decoded: Vec<u8> = Decoded(name.bytes()).collect();
    let decoded = String::from_utf8_lossy(&decoded);
    decoded.split(['[', ']']).filter(|piece| !piece.is_empty()).any(is_sensitive_piece)
}

/// Percent-decoding; a `%` without two digits stays.
struct Decoded<'a>(std::str::Bytes<'a>);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let byte = self.0.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = self.0.clone();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match (ahead.next().and_then(digit), ahead.next().and_then(digit)) {
            (Some(high), Some(low)) => {
                self.0 = ahead;
                u8::try_from(high * 16 + low).ok()
            }
            _ => Some(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn own_names_are_sorted_for_the_search() {
        assert!(OURS.is_sorted());
        assert!(OURS.iter().chain(CONVENTIONAL).all(|name| name.len() <= MAX_NAME_LEN));
    }

    #[test]
    fn sensitive_values_are_replaced_and_the_rest_stays() {
        for (query, expected) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("color=blue&sig=abc", "color=blue&sig=REDACTED"),
            ("sig=abc&color=blue", "sig=REDACTED&color=blue"),
            ("AWSAccessKeyId=A&Signature=S", "AWSAccessKeyId=REDACTED&Signature=REDACTED"),
            (
                "X-Goog-Signature=x&X-Amz-Signature=y",
                "X-Goog-Signature=REDACTED&X-Amz-Signature=REDACTED",
            ),
            ("X-Amz-Security-Token=t", "X-Amz-Security-Token=REDACTED"),
            (
                "access_token=a&accessToken=b&ACCESS-TOKEN=c",
                "access_token=REDACTED&accessToken=REDACTED&ACCESS-TOKEN=REDACTED",
            ),
            ("api_key=1&apikey=2&apiKey=3", "api_key=REDACTED&apikey=REDACTED&apiKey=REDACTED"),
            ("token=a=b==", "token=REDACTED"),
            ("token=", "token="),
            ("token", "token"),
            ("token&x=1", "token&x=1"),
            ("%74oken=secret", "%74oken=REDACTED"),
            ("user[password]=x&a[]=1", "user[password]=REDACTED&a[]=1"),
            ("user%5Bpassword%5D=x", "user%5Bpassword%5D=REDACTED"),
            ("a=1;password=x;b=2", "a=1;password=REDACTED"),
            ("password=x;y", "password=REDACTED"),
            ("password=a&password=b", "password=REDACTED&password=REDACTED"),
            ("tokens=5&keyboard=us&design=1", "tokens=5&keyboard=us&design=1"),
            ("q=token=1", "q=token=1"),
            ("&&sig=1&&", "&&sig=REDACTED&&"),
        ] {
            assert_eq!(redact_query(query), expected, "{query}");
        }
    }

    #[test]
    fn session_ids_in_paths_are_replaced() {
        for (path, expected) in [
            ("/a/b;c=d/e", "/a/b;c=d/e"),
            ("/a;jsessionid=12;v=1/b", "/a;jsessionid=REDACTED;v=1/b"),
            ("/a;JSESSIONID=12", "/a;JSESSIONID=REDACTED"),
            ("/;;/;sid=", "/;;/;sid="),
        ] {
            assert_eq!(redact_path(path), expected);
        }
    }

    #[test]
    fn nothing_is_copied_without_a_secret() {
        assert!(matches!(redact_query("a=1&b=2"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_secret_value_survives(
            before in proptest::collection::vec("[a-z]{1,5}=[a-z0-9 ;%]{0,6}", 0..4),
            name in proptest::sample::select([CONVENTIONAL, OURS].concat()),
            upper in any::<bool>(),
            after in proptest::collection::vec("[a-z]{1,5}=[a-z0-9]{0,6}", 0..4),
            separator in proptest::sample::select(vec!["&", ";"]),
            secret in "[A-Z0-9/+=]{4,40}",
        ) {
            let name = if upper { name.to_uppercase() } else { name.to_owned() };
            let secret = format!("~{secret}~");
            let middle = format!("{name}={secret}");
            let all: Vec<String> = before.iter().cloned().chain([middle]).chain(after).collect();
            let query = all.join(separator);
            let redacted = redact_query(&query);
            prop_assert!(!redacted.contains(&secret), "{query} -> {redacted}");
            let kept = format!("{name}=REDACTED");
            // With `;` an earlier sensitive parameter takes this one with it.
            prop_assert!(separator == ";" || redacted.contains(&kept), "{query} -> {redacted}");
        }

        #[test]
        fn any_text_is_redacted_without_panic_and_once_is_enough(query in "\\PC{0,80}") {
            let once = redact_query(&query).into_owned();
            prop_assert_eq!(redact_query(&once), once.as_str());
        }
    }
}
