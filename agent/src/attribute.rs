//! The seam between "which attributes does this have" and "how are attributes written": one function
//! names them, any number of sinks (protobuf, JSON, terminal, metric keys) take them, none allocates.

use std::fmt::{self, Display};

/// Takes the attributes of a span, a resource or a metric point, in order.
pub trait AttributeSink {
    fn str(&mut self, key: &str, value: &str);
    fn int(&mut self, key: &str, value: i64);
    fn bool(&mut self, key: &str, value: bool);
    fn double(&mut self, key: &str, value: f64);
    fn strs(&mut self, key: &str, values: &[&str]);

    /// A count, where attributes have signed numbers.
    fn count(&mut self, key: &str, value: u64) {
        self.int(key, i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// Attributes that the conventions leave to the user's choice (opt-in) and that cost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AttributeOptions {
    /// `network.local.address` and `network.local.port`.
    pub network_local: bool,
}

/// An owned attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Str(Box<str>),
    Int(i64),
    Bool(bool),
    Double(f64),
    Strs(Vec<Box<str>>),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(value) => f.write_str(value),
            Self::Int(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Strs(values) => f.write_str(&values.join(", ")),
        }
    }
}

impl Value {
    /// Hands the value to `sink` under `key`.
    pub fn visit(&self, key: &str, sink: &mut impl AttributeSink) {
        match self {
            Self::Str(value) => sink.str(key, value),
            Self::Int(value) => sink.int(key, *value),
            Self::Bool(value) => sink.bool(key, *value),
            Self::Double(value) => sink.double(key, *value),
            Self::Strs(values) => {
                let values: Vec<&str> = values.iter().map(|value| &**value).collect();
                sink.strs(key, &values);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
