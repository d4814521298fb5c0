//! Values of header fields that were asked for, as they may leave the agent.
//!
//! [`IDENTIFIERS`]: crate::protocol::http1::IDENTIFIERS

use std::sync::Arc;

use super::describe::value;
use crate::{exchange::HeaderValues, semantics::redact::redact_header, trace_context::Propagation};

/// Values of one field that are kept; there is no bound to how often a client repeats it.
const MAX_VALUES: usize = 16;

/// A header field that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHeader {
    /// In lower case.
    name: Box<str>,
    /// The attribute that it becomes.
    key: Arc<str>,
}

impl KeptHeader {
    /// The field `name` (in lower case) as the attribute `prefix` with that name.
    #[must_use]
    pub fn new(prefix: &str, name: &str) -> Self {
        Self { name: name.into(), key: format!("{prefix}{name}").into() }
    }
}

/// What is kept of requests and of responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptHeaders {
    /// Those of [`IDENTIFIERS`] among them.
    pub request: Vec<KeptHeader>,
    /// Others than these are among them.
    pub asks_more: bool,
    pub response: Vec<KeptHeader>,
    /// What is read of what requests carry.
    pub propagation: Propagation,
}

impl KeptHeaders {
    /// Of a request with these field `lines`; whether one of [`IDENTIFIERS`] is among them.
    pub(in crate::assemble) fn of_request<'a>(
        &self,
        has_identifier: bool,
        lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Vec<HeaderValues> {
        // Most requests have none, and need not be looked through.
        if has_identifier || self.asks_more { kept(&self.request, lines) } else { Vec::new() }
    }
}

/// The values of those of the field `lines` that are in the list, in the order of their first lines. Credentials are
/// hidden here, whatever was asked for.
pub(in crate::assemble) fn kept<'a>(
    list: &[KeptHeader],
    lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<HeaderValues> {
    let mut kept: Vec<HeaderValues> = Vec::new();
    if list.is_empty() {
        return kept;
    }
    for (name, bytes) in lines {
        let known = list.iter().find(|header| name.eq_ignore_ascii_case(header.name.as_bytes()));
        let Some(KeptHeader { name, key }) = known else { continue };
        // What is cut first may have lost the mark of a credential, such as the `@` behind userinfo.
        let text = value(redact_header(name, &String::from_utf8_lossy(bytes)).as_bytes());
        match kept.iter_mut().find(|header| header.key == *key) {
            Some(header) if header.values.len() < MAX_VALUES => header.values.push(text),
            Some(_) => {}
            None => kept.push(HeaderValues { key: Arc::clone(key), values: vec![text] }),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Parse, http1};

    #[test]
    fn listed_fields_are_kept_with_all_their_values_and_credentials_are_hidden() {
        let names = ["x-tenant", "authorization", "cookie", "referer", "x-absent"];
        let list = names.map(|name| KeptHeader::new("http.request.header.", name));
        let head = b"GET / HTTP/1.1\r\nX-Tenant: a\r\nX-Other: no\r\nx-tenant:  b \r\n\
                     Authorization: Bearer s3cret\r\nCookie: id=s3cret\r\n\
                     Referer: https://me:s3cret@h/p?a=1&token=s3cret\r\n\r\n";
        let Parse::Parsed { value, .. } = http1::request(head) else { panic!("no head") };
        let found: Vec<String> = kept(&list, value.fields.lines())
            .iter()
            .map(|header| format!("{}={}", header.key, header.values.join("|")))
            .collect();
        let expected = [
            "http.request.header.x-tenant=a|b",
            "http.request.header.authorization=REDACTED",
            "http.request.header.cookie=REDACTED",
            "http.request.header.referer=https://REDACTED@h/p?a=1&token=REDACTED",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_credential_that_is_longer_than_what_is_kept_is_hidden() {
        let list = [KeptHeader::new("http.response.header.", "location")];
        let long = "s3cret".repeat(400);
        for value in [format!("https://{long}@h/"), format!("https://h/a#{long}")] {
            let head = format!("GET / HTTP/1.1\r\nLocation: {value}\r\n\r\n");
            let Parse::Parsed { value, .. } = http1::request(head.as_bytes()) else {
                panic!("no head")
            };
            let kept = kept(&list, value.fields.lines());
            assert!(!kept[0].values[0].contains("s3cret"), "{kept:?}");
        }
    }
}
