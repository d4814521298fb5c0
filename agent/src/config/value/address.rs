//! Where to listen and where to send: addresses and URLs.

use std::{borrow::Cow, net::SocketAddr};

use serde_json::Value as Json;

use super::{Setting, text};
use crate::{
    config::shape::Scalar,
    semantics::redact::{REDACTED, redact_url},
};

/// Whatever `remora status` is given.
///
/// # Errors
/// What was expected.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    Setting::parse(text)
}

impl Setting for SocketAddr {
    const SAMPLES: &'static [&'static str] = &["127.0.0.1:9464", "[::1]:9465", "localhost:9466"];

    fn parse(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let port_only = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
        let text = address.or(port_only).unwrap_or_else(|| text.into());
        text.parse().map_err(|_| "an address and a port such as 127.0.0.1:9464".into())
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        Scalar {
            pattern: Some(":[0-9]{1,5}$"),
            ..text("an address and a port such as 127.0.0.1:9464")
        }
    }
}

/// A URL to export to: `http://` or `https://`, with a host. It may have credentials in userinfo or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Box<str>);

impl Url {
    /// As it is used.
    #[must_use]
    pub fn exact(&self) -> &str {
        &self.0
    }

    /// As it may be shown: without what may be a credential.
    #[must_use]
    pub fn as_str(&self) -> Cow<'_, str> {
        without_credentials(&self.0)
    }

    /// This URL with `path` appended to its own, one slash between them; a query stays behind it.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let (base, query) = self.0.split_at(self.0.find(['?', '#']).unwrap_or(self.0.len()));
        Self(format!("{}/{path}{query}", base.trim_end_matches('/')).into())
    }

    /// The port it names, if it does.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.parse::<http::Uri>().ok()?.port_u16()
    }
}

/// A URL of ours as it may be shown: without userinfo, and without a query, whatever its names say.
#[must_use]
pub fn without_credentials(url: &str) -> Cow<'_, str> {
    match url.split_once('?') {
        Some((before, query)) if !query.is_empty() => {
            Cow::Owned(format!("{}?{REDACTED}", redact_url(before)))
        }
        _ => redact_url(url),
    }
}

impl Setting for Url {
    const SAMPLES: &'static [&'static str] = &["http://one:1", "https://two:2", "http://three"];

    fn parse(text: &str) -> Result<Self, String> {
        let uri: Option<http::Uri> = text.parse().ok();
        let valid = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if valid {
            Ok(Self(text.into()))
        } else if is_without_scheme(text) {
            // Whether it means TLS depends on whom one asks: for the specification it does, for most
            // examples it does not.
            Err(format!("its scheme too: http://{text}, or https://{text} for TLS"))
        } else {
            Err("a URL such as http://localhost:4317".into())
        }
    }

    fn written(&self) -> Json {
        self.0.as_ref().into()
    }

    fn looks() -> Scalar {
        Scalar { pattern: Some("^https?://[^/?#]+"), ..text("a URL such as http://localhost:4317") }
    }
}

/// `host:port`, perhaps with a path.
fn is_without_scheme(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let uri: Option<http::Uri> = authority.parse().ok();
    uri.is_some_and(|uri| uri.port_u16().is_some() && !authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_with_scheme_and_host() {
        for url in ["http://localhost:4317", "https://[::1]:4318/base", "http://otel"] {
            assert_eq!(Url::parse(url).unwrap().as_str(), url);
        }
        for wrong in ["", "collector", "ftp://x", "http://", "/v1/traces", "u:s3cret@h:1"] {
            assert_eq!(
                Url::parse(wrong),
                Err("a URL such as http://localhost:4317".into()),
                "{wrong}"
            );
        }
        for (base, joined) in [
            ("http://h/base/", "http://h/base/v1/traces"),
            ("http://h", "http://h/v1/traces"),
            ("http://h/base?token=x", "http://h/base/v1/traces?token=x"),
        ] {
            assert_eq!(Url::parse(base).unwrap().join("v1/traces").exact(), joined);
        }
    }

    #[test]
    fn a_server_without_a_scheme_is_asked_for_one() {
        for text in ["collector:4317", "10.0.0.1:4318", "[::1]:4317", "collector:4318/v1/traces"] {
            let expected = format!("its scheme too: http://{text}, or https://{text} for TLS");
            assert_eq!(Url::parse(text), Err(expected));
        }
    }

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        for (url, shown) in [
            ("http://h:1/p?x=s3cret&y=s3cret", "http://h:1/p?REDACTED"),
            ("https://u:s3cret@h/p", "https://REDACTED@h/p"),
            ("https://u:s3cret@h?s3cret", "https://REDACTED@h?REDACTED"),
            ("http://h:1/p", "http://h:1/p"),
        ] {
            let read = Url::parse(url).unwrap();
            assert_eq!((read.exact(), &*read.as_str()), (url, shown));
        }
    }

    #[test]
    fn reads_addresses_with_short_forms() {
        for text in ["127.0.0.1:9464", "localhost:9464"] {
            assert_eq!(SocketAddr::parse(text), Ok("127.0.0.1:9464".parse().unwrap()), "{text}");
        }
        // As Prometheus, Collectors and Go have it.
        assert_eq!(SocketAddr::parse(":9464"), Ok("[::]:9464".parse().unwrap()));
        assert!(SocketAddr::parse("9464").is_err());
    }
}
