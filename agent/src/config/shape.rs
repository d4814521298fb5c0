//! What can be said of a key and of the values it takes: for messages, the schema, the reference and help.

use serde_json::Value as Json;

/// What a value looks like.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// One text, number or truth value.
    Scalar(Scalar),
    /// A list of these, or one of them alone.
    List(Box<Shape>),
    /// Free keys with texts.
    Pairs,
    /// Keys that are known.
    Section(Vec<About>),
}

/// What one value looks like.
#[derive(Clone, Debug, Default)]
pub(super) struct Scalar {
    /// For people: `a size such as 64KiB`.
    pub(super) expected: String,
    /// Its types in JSON Schema.
    pub(super) types: &'static [&'static str],
    /// The only texts there are, if they are few.
    pub(super) words: &'static [&'static str],
    /// A regular expression that texts match.
    pub(super) pattern: Option<&'static str>,
}

/// All that is said of a key.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) doc: String,
    pub(super) shape: Shape,
    pub(super) default: Json,
    /// The least and the most.
    pub(super) bounds: Option<(Json, Json)>,
    /// Variables that set it, the strongest last.
    pub(super) variables: Vec<Variable>,
    pub(super) flag: Option<Flag>,
    /// What else sets it, for documentation.
    pub(super) also: &'static str,
    /// Whether a running agent takes a new value.
    pub(super) live: bool,
    /// Texts that can be read and differ from one another.
    pub(super) samples: &'static [&'static str],
}

/// A variable of the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// From its spelling to that of the file.
    ///
    /// Errors say what was expected.
    pub(super) spelling: fn(&str) -> Result<String, String>,
    /// As [`About::samples`], in its spelling; empty if that is the file's.
    pub(super) samples: &'static [&'static str],
}

/// A flag with one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// With its dashes.
    pub(super) name: &'static str,
    pub(super) value_name: &'static str,
    pub(super) heading: &'static str,
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Lines of a documentation comment as one text.
pub(super) fn sentence(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}
