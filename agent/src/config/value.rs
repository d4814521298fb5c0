//! How the text of one setting becomes its value; the same rules for file, environment and flags.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use super::problem::nearest;
use crate::{
    discover::{Pattern, Ports},
    log::LogFilter,
};

/// A value that can be written as one text. The error says what was expected.
pub(super) trait Setting: Sized {
    /// Its text may hold credentials and is not repeated in messages.
    const SECRET: bool = false;

    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a text".into()) } else { Ok(text.into()) }
    }
}

impl Setting for Box<str> {
    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Into::into)
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path".into()) } else { Ok(text.into()) }
    }
}

impl Setting for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
}

impl Setting for u32 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("a whole number up to {}", Self::MAX))
    }
}

impl Setting for f64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|value: &Self| value.is_finite()).ok_or("a number".into())
    }
}

impl Setting for Ports {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "ports and ranges such as 80,8000-8099 (1 to 65535)".into())
    }
}

impl Setting for Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<Self>()
            .map_err(|error| format!("a glob such as /srv/*/shop: {}", error.reason()))
    }
}

impl Setting for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "a level such as debug, or filters such as remora::export=trace".into())
    }
}

impl Setting for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let port_only = text.strip_prefix(':').map(|port| format!("127.0.0.1:{port}"));
        let text = address.or(port_only).unwrap_or_else(|| text.into());
        text.parse().map_err(|_| "an address and a port such as 127.0.0.1:9464".into())
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
}

/// A duration in whole milliseconds, as `OTEL_*` variables give it.
pub(super) struct Millis(pub(super) Duration);

impl Setting for Millis {
    fn parse(text: &str) -> Result<Self, String> {
        let millis = text.parse().map_err(|_| "whole milliseconds")?;
        Ok(Self(Duration::from_millis(millis)))
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
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::config::value::one_of(text, &[$($word),*])),
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
