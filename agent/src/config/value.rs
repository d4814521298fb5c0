//! How the text of one setting becomes its value, and the value text again; the same rules for file,
//! environment and flags.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::Value as Json;

use super::{describe::Scalar, problem::nearest};
use crate::{discover::Pattern, log::LogFilter, semantics::route};

/// A value that can be written as one text.
pub(super) trait Setting: Sized + 'static {
    /// Its text may hold credentials and is not repeated in messages.
    const SECRET: bool = false;
    /// Texts that can be read, for tests.
    const SAMPLES: &'static [&'static str];

    /// # Errors
    /// What was expected.
    fn parse(text: &str) -> Result<Self, String>;

    /// As it would stand in a file.
    fn written(&self) -> Json;

    /// What its texts look like.
    fn looks() -> Scalar;
}

/// A text in a file, not an empty one.
fn text(expected: &str) -> Scalar {
    let expected = expected.into();
    Scalar { expected, types: &["string"], pattern: Some("."), ..Scalar::default() }
}

impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;
    const SAMPLES: &'static [&'static str] = T::SAMPLES;

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn written(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::written)
    }

    fn looks() -> Scalar {
        T::looks()
    }
}

impl Setting for String {
    const SAMPLES: &'static [&'static str] = &["one", "two", "three"];

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a text".into()) } else { Ok(text.into()) }
    }

    fn written(&self) -> Json {
        self.as_str().into()
    }

    fn looks() -> Scalar {
        // A number or a truth value is as good as its text.
        Scalar { types: &["string", "number", "boolean"], ..text("a text") }
    }
}

impl Setting for Box<str> {
    const SAMPLES: &'static [&'static str] = String::SAMPLES;

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Into::into)
    }

    fn written(&self) -> Json {
        (&**self).into()
    }

    fn looks() -> Scalar {
        String::looks()
    }
}

impl Setting for PathBuf {
    const SAMPLES: &'static [&'static str] = &["/tmp/one", "two", "/tmp/three"];

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path".into()) } else { Ok(text.into()) }
    }

    fn written(&self) -> Json {
        self.to_string_lossy().into()
    }

    fn looks() -> Scalar {
        text("a path")
    }
}

impl Setting for bool {
    const SAMPLES: &'static [&'static str] = &["true", "false"];

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }

    fn written(&self) -> Json {
        (*self).into()
    }

    fn looks() -> Scalar {
        Scalar { expected: "true or false".into(), types: &["boolean"], ..Scalar::default() }
    }
}

impl Setting for u32 {
    const SAMPLES: &'static [&'static str] = &["300", "400", "500"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("a whole number up to {}", Self::MAX))
    }

    fn written(&self) -> Json {
        (*self).into()
    }

    fn looks() -> Scalar {
        Scalar { expected: "a whole number".into(), types: &["integer"], ..Scalar::default() }
    }
}

impl Setting for f64 {
    const SAMPLES: &'static [&'static str] = &["0.25", "0.5", "0.75"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|value: &Self| value.is_finite()).ok_or("a number".into())
    }

    fn written(&self) -> Json {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        if self.fract() == 0.0 && self.abs() < 9e15 {
            (*self as i64).into()
        } else {
            (*self).into()
        }
    }

    fn looks() -> Scalar {
        Scalar { expected: "a number".into(), types: &["number"], ..Scalar::default() }
    }
}

impl Setting for Pattern {
    const SAMPLES: &'static [&'static str] = &["nginx", "/srv/*", "{a,b}"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<Self>()
            .map_err(|error| format!("a glob such as /srv/*/shop: {}", error.reason()))
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        // `1234` is the name of a program, too.
        Scalar { types: &["string", "number"], ..text("a glob such as /srv/*/shop") }
    }
}

impl Setting for route::Pattern {
    const SAMPLES: &'static [&'static str] = &["/users/{id}", "/files/*", "/"];

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| match error {
            route::PatternError::NoSlash(_) => "a route that begins with /".to_owned(),
            route::PatternError::Segment { segment, .. } => {
                format!("fixed text or {{name}} where `{segment}` is")
            }
            route::PatternError::Star(_) => "* as the last segment only".to_owned(),
        })
    }

    fn written(&self) -> Json {
        self.as_str().into()
    }

    fn looks() -> Scalar {
        Scalar { pattern: Some("^/"), ..text("a route such as /users/{id} or /files/*") }
    }
}

/// The name of a header field, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

impl FieldName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for FieldName {
    const SAMPLES: &'static [&'static str] = &["x-tenant", "Content-Type", "x-request-id"];

    fn parse(text: &str) -> Result<Self, String> {
        let name = text.parse::<http::HeaderName>();
        let name = name.map_err(|_| "the name of a header field such as x-tenant")?;
        Ok(Self(name.as_str().into()))
    }

    fn written(&self) -> Json {
        self.as_str().into()
    }

    fn looks() -> Scalar {
        let pattern = Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$");
        Scalar { pattern, ..text("the name of a header field such as x-tenant") }
    }
}

impl Setting for LogFilter {
    const SAMPLES: &'static [&'static str] = &["debug", "error", "remora::export=trace"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "a level such as debug, or filters such as remora::export=trace".into())
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        text("a level such as debug, or filters such as remora::export=trace")
    }
}

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

/// Bytes: `4096`, `64KiB`, `16MiB`, `1GiB`. Decimal units are refused, for they are mostly meant as
/// binary ones and the ring needs a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl Setting for Size {
    const SAMPLES: &'static [&'static str] = &["64KiB", "128KiB", "262144"];

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => 64,
        };
        count
            .parse::<u64>()
            .ok()
            .filter(|_| shift < 64)
            .and_then(|count| count.checked_mul(1 << shift))
            .map(Self)
            .ok_or("a size such as 4096, 64KiB or 16MiB".into())
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        Scalar {
            types: &["string", "integer"],
            pattern: Some("^[0-9]+ *(B|K|KiB|M|MiB|G|GiB)?$"),
            ..text("a size such as 4096, 64KiB or 16MiB")
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match unit.into_iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Setting for Duration {
    const SAMPLES: &'static [&'static str] = &["2s", "3500ms", "5m"];

    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 5] =
            [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let seconds = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| factor);
        seconds
            .and_then(|factor| Self::try_from_secs_f64(count.parse::<f64>().ok()? * factor).ok())
            .ok_or("a time such as 500ms, 10s or 5m".into())
    }

    fn written(&self) -> Json {
        if self.is_zero() {
            return "0s".into();
        }
        format!("{self:?}").replace('µ', "u").into()
    }

    fn looks() -> Scalar {
        Scalar {
            pattern: Some("^[0-9]+(\\.[0-9]+)? *(us|ms|s|m|h)$"),
            ..text("a time such as 500ms, 10s or 5m")
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

/// An enum that is written as one of a few words.
macro_rules! keywords {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// As it is written in configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::config::value::Setting for $name {
            const SAMPLES: &'static [&'static str] = &[$($word),*];

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::config::value::one_of(text, &[$($word),*])),
                }
            }

            fn written(&self) -> serde_json::Value {
                self.as_str().into()
            }

            fn looks() -> $crate::config::describe::Scalar {
                $crate::config::describe::Scalar {
                    expected: format!("one of {}", [$($word),*].join(", ")),
                    types: &["string"],
                    words: &[$($word),*],
                    pattern: None,
                }
            }
        }
    };
}
pub(super) use keywords;

/// What was expected where one of `words` was.
pub(super) fn one_of(text: &str, words: &[&str]) -> String {
    let list = words.join(", ");
    match nearest(text, words.iter().copied()) {
        Some(word) => format!("one of {list} (did you mean {word}?)"),
        None => format!("one of {list}"),
    }
}

/// The value of `text`; the error says what was found, unless it may be a secret, and what was expected.
pub(super) fn read_one<T: Setting>(text: &str) -> Result<T, String> {
    let found = if T::SECRET { "what cannot be read" } else { &format!("`{text}`") };
    T::parse(text).map_err(|expected| format!("found {found}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_in_binary_units_only() {
        let rows =
            [("0", 0), ("4096", 4096), ("64KiB", 65536), ("16 MiB", 16 << 20), ("1G", 1 << 30)];
        for (text, bytes) in rows {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            [Size(1), Size::kib(64), Size::mib(16)].map(|s| s.to_string()),
            ["1", "64KiB", "16MiB"]
        );
    }

    #[test]
    fn reads_durations_with_a_unit_only() {
        let rows =
            [("500ms", 500), ("10s", 10_000), ("1.5s", 1500), ("5m", 300_000), ("1h", 3_600_000)];
        for (text, millis) in rows {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "10", "s", "10 days", "-1s", "1.2.3s"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }

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
