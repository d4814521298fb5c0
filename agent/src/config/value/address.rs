//! Where to listen and where to send: addresses and URLs.

use std::net::SocketAddr;

use serde_json::Value as Json;

use super::{Setting, text};
use crate::config::shape::Scalar;

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
        let port_only = text.strip_prefix(':').map(|port| format!("127.0.0.1:{port}"));
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

/// A URL to export to: `http://` or `https://`, with a host, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Box<str>);

impl Url {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This URL with `path` appended, one slash between them.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        Self(format!("{}/{path}", self.0.trim_end_matches('/')).into())
    }

    /// The port it names, if it does.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.parse::<http::Uri>().ok()?.port_u16()
    }
}

impl Setting for Url {
    const SAMPLES: &'static [&'static str] = &["http://one:1", "https://two:2", "http://three"];

    fn parse(text: &str) -> Result<Self, String> {
        let uri: Option<http::Uri> = text.parse().ok();
        let valid = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if valid {
            Ok(Self(text.into()))
        } else {
            Err("a URL such as http://localhost:4317".into())
        }
    }

    fn written(&self) -> Json {
        self.0.as_ref().into()
    }

    fn looks() -> Scalar {
        Scalar { pattern: Some("^https?://[^?]+$"), ..text("a URL such as http://localhost:4317") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_with_scheme_and_host() {
        for url in ["http://localhost:4317", "https://[::1]:4318/base", "http://otel"] {
            assert_eq!(Url::parse(url).unwrap().as_str(), url);
        }
        for wrong in ["", "localhost:4317", "ftp://x", "http://", "/v1/traces", "http://x?y=1"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
        let joined = Url::parse("http://h/base/").unwrap().join("v1/traces");
        assert_eq!(joined.as_str(), "http://h/base/v1/traces");
    }

    #[test]
    fn reads_addresses_with_short_forms() {
        for text in ["127.0.0.1:9464", "localhost:9464", ":9464"] {
            assert_eq!(SocketAddr::parse(text), Ok("127.0.0.1:9464".parse().unwrap()), "{text}");
        }
        assert!(SocketAddr::parse("9464").is_err());
    }
}
