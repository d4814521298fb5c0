//! `[userinfo@]host[:port]` (RFC 3986 section 3.2) taken apart without allocating.

/// Longest host; names have 253 bytes at most (RFC 1035). Longer text may be userinfo that was cut.
const MAX_HOST_LEN: usize = 255;

/// An authority without its userinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Without the brackets of an IPv6 literal.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    /// There was a userinfo part, which is never shown.
    pub(super) userinfo: bool,
}

impl<'a> Authority<'a> {
    /// `None` if there is no host, or what follows it is not a port.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        // The last one: an unescaped `@` belongs to the password, and showing too little is safe.
        let (userinfo, rest) = match text.bytes().rposition(|byte| byte == b'@') {
            Some(at) => (true, &text[at + 1..]),
            None => (false, text),
        };
        let (host, port) = if let Some(literal) = rest.strip_prefix('[') {
            let (host, after) = literal.split_once(']')?;
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return None,
            }
        } else {
            match rest.split_once(':') {
                // Two colons and no brackets: an IPv6 address as it must not be written, but is.
                Some((_, port)) if port.contains(':') => (rest, ""),
                Some((host, port)) => (host, port),
                None => (rest, ""),
            }
        };
        if host.is_empty()
            || host.len() > MAX_HOST_LEN
            || !host.bytes().all(may_be_in_host)
            || (!host.is_ascii() && host.contains(is_c1_control))
        {
            return None;
        }
        // `host:` is a valid authority with the default port.
        let port = if port.is_empty() { None } else { Some(decimal(port)?) };
        Some(Self { host, port, userinfo })
    }

    /// Whether the host must stand in brackets within a URL.
    pub(super) fn is_ipv6(&self) -> bool {
        self.host.contains(':')
    }
}

fn may_be_in_host(byte: u8) -> bool {
    !byte.is_ascii_control() && !matches!(byte, b' ' | b'/' | b'?' | b'#' | b'\\')
}

/// A control character beyond ASCII.
fn is_c1_control(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}')
}

/// A port: digits only, `u16::from_str` would take a sign.
fn decimal(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The host of one node of `Forwarded: for=` or `X-Forwarded-For` (RFC 7239 section 6): quotes,
/// brackets fall away, and a port that is obfuscated; `unknown` and obfuscated identifiers (`_hidden`)
/// stay as they are.
pub(super) fn forwarded_node(text: &str) -> (&str, Option<u16>) {
    let text = text.trim_matches([' ', '\t', '"']);
    match Authority::parse(text) {
        Some(authority) => (authority.host, authority.port),
        None => match text.split_once(":_") {
            Some((node, _)) => (node.trim_matches(['[', ']']), None),
            None => (text, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_apart() {
        for (text, expected) in [
            ("example.com", Some(("example.com", None, false))),
            ("example.com:8080", Some(("example.com", Some(8080), false))),
            ("example.com:", Some(("example.com", None, false))),
            (" example.com\t", Some(("example.com", None, false))),
            ("user:pass@example.com:1", Some(("example.com", Some(1), true))),
            ("us@er:p@ss@example.com", Some(("example.com", None, true))),
            ("[::1]:443", Some(("::1", Some(443), false))),
            ("[::1]", Some(("::1", None, false))),
            ("fe80::1", Some(("fe80::1", None, false))),
            ("10.0.0.1:80", Some(("10.0.0.1", Some(80), false))),
            ("", None),
            (":80", None),
            ("[::1", None),
            ("[::1]x", None),
            ("host:port", None),
            ("host:+80", None),
            ("host:65536", None),
            ("a b", None),
            ("a/b", None),
            ("a\\b", None),
            ("a\u{7f}b", None),
            ("a\u{85}b", None),
            ("bücher.example", Some(("bücher.example", None, false))),
        ] {
            let found = Authority::parse(text).map(|a| (a.host, a.port, a.userinfo));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn forwarded_nodes_lose_their_wrapping() {
        for (text, expected) in [
            ("192.0.2.43", ("192.0.2.43", None)),
            ("192.0.2.43:47011", ("192.0.2.43", Some(47011))),
            ("\"[2001:db8::17]:4711\"", ("2001:db8::17", Some(4711))),
            ("2001:db8::17", ("2001:db8::17", None)),
            ("1.2.3.4:_port", ("1.2.3.4", None)),
            ("[2001:db8::17]:_x", ("2001:db8::17", None)),
            ("unknown", ("unknown", None)),
            ("unknown:80", ("unknown", Some(80))),
            ("_hidden", ("_hidden", None)),
        ] {
            assert_eq!(forwarded_node(text), expected, "{text:?}");
        }
    }
}
