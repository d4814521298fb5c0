//! What is in force, key by key, with where it came from; and the keys themselves, for whoever makes
//! something else of them.

use std::fmt;

use serde_json::{Value as Json, json};

use super::{Config, Loaded, Origin, describe::leaves, shape::About};

/// A flag of the command line that sets one key.
#[derive(Clone, Debug)]
pub struct ConfigFlag {
    /// With its dashes.
    pub name: &'static str,
    pub value_name: &'static str,
    pub heading: &'static str,
    pub help: String,
}

/// Every flag that sets one key.
#[must_use]
pub fn flags() -> Vec<ConfigFlag> {
    let mut flags = Vec::new();
    leaves(&mut Config::default(), "", &mut |_, leaf| {
        let about = leaf.about();
        flags.extend(about.flag.map(|flag| ConfigFlag {
            name: flag.name,
            value_name: flag.value_name,
            heading: flag.heading,
            help: help(about),
        }));
    });
    flags
}

/// What the help says of a key's flag: the first sentence of what there is to say.
fn help(about: &About) -> String {
    let first = about.doc.split_once(". ").map_or(&*about.doc, |(first, _)| first);
    let mut help = first.trim_end_matches('.').to_owned();
    if let super::shape::Shape::Scalar(scalar) = &about.shape
        && !scalar.words.is_empty()
        && !scalar.words.iter().any(|word| about.doc.contains(word))
    {
        help.push_str(": ");
        help.push_str(&scalar.words.join(", "));
    }
    if let Some(default) = text(&about.default) {
        help.push_str(&format!(" [default: {default}]"));
    }
    let variables: Vec<&str> = about.variables.iter().rev().map(|variable| variable.name).collect();
    if !variables.is_empty() {
        help.push_str(&format!(" [env: {}]", variables.join(", ")));
    }
    help
}

/// A default as it is told; `None` for nothing.
pub(super) fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::Array(items) if items.is_empty() => None,
        Json::Object(pairs) if pairs.is_empty() => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// One key as it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: String,
    /// `null` if nothing is said; secrets are `REDACTED`.
    pub value: Json,
    pub origin: Origin,
}

/// Every key that holds no further keys.
#[must_use]
pub fn shown(loaded: &Loaded) -> Vec<Shown> {
    let mut shown = Vec::new();
    leaves(&mut loaded.config.clone(), "", &mut |path, leaf| {
        let origin = loaded.origins.get(path).cloned().unwrap_or(Origin::Default);
        shown.push(Shown { key: path.to_owned(), value: leaf.value().shown(false), origin });
    });
    shown
}

/// A key of which two configurations say different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub key: String,
    /// Whether a running agent takes the new value.
    pub live: bool,
}

/// Every such key.
#[must_use]
pub fn changed(before: &Config, after: &Config) -> Vec<Changed> {
    let said = |config: &Config| {
        let mut said = Vec::new();
        leaves(&mut config.clone(), "", &mut |path, leaf| {
            said.push((path.to_owned(), leaf.about().live, leaf.value().shown(true)));
        });
        said
    };
    let pairs = said(before).into_iter().zip(said(after));
    let pairs = pairs.filter(|((_, _, before), (_, _, after))| before != after);
    pairs.map(|((key, live, _), _)| Changed { key, live }).collect()
}

impl Shown {
    #[must_use]
    pub fn to_json(&self) -> Json {
        json!({ "key": self.key, "value": self.value, "origin": self.origin.to_string() })
    }
}

/// `limits.ring: 4MiB  # default`, with the origins in one column where that is possible.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match &self.value {
            Json::Null => "null".to_owned(),
            Json::String(text) if is_plain(text) => text.clone(),
            other => other.to_string(),
        };
        let setting = format!("{}: {value}", self.key);
        write!(f, "{setting:<60}  # {}", self.origin)
    }
}

/// Whether YAML reads it as this text without quotes.
fn is_plain(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    starts && !text.contains(": ") && !text.contains(" #") && !text.ends_with(':')
}
