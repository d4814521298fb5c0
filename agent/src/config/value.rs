//! How the text of one setting becomes its value, and the value text again; the same rules for file,
//! environment and flags.

use std::{borrow::Cow, path::PathBuf};

use serde_json::Value as Json;

use super::{problem::nearest, shape::Scalar};
use crate::{discover::Pattern, log::LogFilter, semantics::route};

mod address;
mod quantity;

pub use address::{Url, address, without_credentials};
pub use quantity::Size;

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
        without_separators(text).parse().map_err(|_| format!("a whole number up to {}", Self::MAX))
    }

    fn written(&self) -> Json {
        (*self).into()
    }

    fn looks() -> Scalar {
        Scalar { expected: "a whole number".into(), types: &["integer"], ..Scalar::default() }
    }
}

/// `100_000`, as YAML 1.1 has whole numbers, without what separates its digits.
fn without_separators(text: &str) -> Cow<'_, str> {
    let parts = text.strip_prefix(['+', '-']).unwrap_or(text).split('_');
    let is_number = parts
        .into_iter()
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if is_number && text.contains('_') { text.replace('_', "").into() } else { text.into() }
}

impl Setting for i64 {
    const SAMPLES: &'static [&'static str] = &["300", "-400", "500"];

    fn parse(text: &str) -> Result<Self, String> {
        without_separators(text).parse().map_err(|_| "a whole number".to_owned())
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

/// An enum that is written as one of a few words: declared here, or by the stage that it is for. Further words
/// for a value stand behind a bar.
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

        $crate::config::value::keywords!(impl $name { $($variant = $word),* });
    };
    (impl $name:ty { $($variant:ident $(($of:path))? = $word:literal $(| $other:literal)*),* $(,)? }) => {
        impl $crate::config::value::Setting for $name {
            const SAMPLES: &'static [&'static str] = &[$($word),*];

            fn parse(text: &str) -> Result<Self, String> {
                // A file's `off` without quotes is the truth value to YAML 1.1.
                let switch = match text {
                    "false" => "off",
                    "true" => "on",
                    text => text,
                };
                match switch {
                    $($word $(| $other)* => Ok(Self::$variant $(($of))?),)*
                    _ => Err($crate::config::value::one_of(text, &[$($word, $($other,)*)*])),
                }
            }

            fn written(&self) -> serde_json::Value {
                match self { $(Self::$variant $(($of))? => $word,)* }.into()
            }

            fn looks() -> $crate::config::shape::Scalar {
                let words = &[$($word, $($other,)*)*];
                $crate::config::shape::Scalar {
                    expected: format!("one of {}", words.join(", ")),
                    types: &["string"],
                    words,
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
    let shown = if text.contains("://") { without_credentials(text) } else { text.into() };
    let found = if T::SECRET { "what cannot be read" } else { &format!("`{shown}`") };
    T::parse(text).map_err(|expected| format!("found {found}, expected {expected}"))
}
