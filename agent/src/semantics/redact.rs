//! Credentials in URLs and header fields never leave the agent: `sig=abc` becomes `sig=REDACTED`. Keys
//! stay, so that one sees that the parameter was there.

mod nested;
mod reference;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::{PoisonError, RwLock},
};

pub use self::reference::redact_url;
use self::{
    nested::{DEPTH, nested},
    reference::{redact_links, redact_path_and_query},
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

/// Words of header names that tell of a URL reference, relative ones included.
const URL_WORDS: &[&str] = &[
    "destination",
    "link",
    "location",
    "origin",
    "path",
    "redirect",
    "referer",
    "referrer",
    "refresh",
    "sourcemap",
    "uri",
    "url",
];

/// Words of header names that tell of an authority without a scheme in front.
const AUTHORITY_WORDS: &[&str] = &["authority", "host", "origin"];

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
    let is_one_of = |words: &[&str]| name.split('-').any(|word| words.contains(&word));
    let authority = name == "forwarded" || is_one_of(AUTHORITY_WORDS);
    if authority && let Some(at) = value.rfind('@') {
        let scheme = value.find("//").filter(|end| !value[..*end].contains(['@', '?', '#']));
        let begin = scheme.filter(|end| end + 2 <= at).map_or(0, |end| end + 2);
        return Cow::Owned(format!("{}{REDACTED}{}", &value[..begin], redact_url(&value[at..])));
    }
    if name == "link" {
        return redact_links(value);
    }
    if is_one_of(URL_WORDS) || value.contains("://") || value.starts_with('/') {
        return redact_url(value);
    }
    redact_path_and_query(value)
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
    /// So often at most is looked at what was changed, before nothing is shown.
    const PASSES: usize = 8;
    let Cow::Owned(mut shown) = query_at(query, DEPTH) else { return Cow::Borrowed(query) };
    // What is shown instead of something deep is looked into again: who reads it next sees nothing else to hide.
    for _ in 0..PASSES {
        let again = query_at(&shown, DEPTH);
        if again == shown.as_str() {
            return Cow::Owned(shown);
        }
        shown = again.into_owned();
    }
    Cow::Borrowed(REDACTED)
}

/// Looks into URLs that are values of parameters, so deep.
fn query_at(query: &str, depth: usize) -> Cow<'_, str> {
    let mut kept = 0; // query[..kept] is in `out` already
    let mut out = String::new();
    for (start, parameter) in parameters(query) {
        let name_end = parameter.find('=');
        let value = start + name_end.map_or(0, |equals| equals + 1);
        // Up to the next `&`: a `;` after a secret may belong to it.
        let end = query[value..].find('&').map_or(query.len(), |len| value + len);
        if start < kept || value == end {
            continue;
        }
        if name_end.is_some_and(|equals| is_sensitive(&parameter[..equals])) {
            out.push_str(&query[kept..value]);
            out.push_str(REDACTED);
            kept = end;
            continue;
        }
        let end = start + parameter.len();
        if let Some(shown) = nested(&query[value..end], depth) {
            out.push_str(&query[kept..value]);
            out.push_str(&shown);
            kept = end;
        }
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
