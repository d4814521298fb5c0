//! Policies that ask for an attribute of a span or of its resource. A value of another type than the one asked
//! for counts as that type's empty value, as in the Collector: `""`, `0`, `false`.

use std::collections::HashSet;

use regex::{Regex, RegexBuilder};

use super::Trace;
use crate::attribute::AttributeSink;

/// Most bytes of a regular expression that is compiled.
const MAX_REGEX: usize = 1 << 20;

/// Of `string_attribute`, `numeric_attribute` and `boolean_attribute`.
#[derive(Debug)]
pub(super) struct Attribute {
    key: Box<str>,
    test: Test,
    /// No span and no resource may match.
    invert: bool,
}

#[derive(Debug)]
enum Test {
    Among(HashSet<Box<str>>),
    Regexes(Vec<Regex>),
    Between(i64, i64),
    Is(bool),
}

/// A regular expression as a policy has it, which matches a part of a value.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    })
}

impl Attribute {
    pub(super) fn string(key: &str, values: &[Box<str>], regex: bool, invert: bool) -> Self {
        let test = if regex {
            // Those of the configuration were compiled when it was read.
            Test::Regexes(values.iter().filter_map(|value| compile(value).ok()).collect())
        } else {
            Test::Among(values.iter().filter(|value| !value.is_empty()).cloned().collect())
        };
        Self { key: key.into(), test, invert }
    }

    pub(super) fn number(key: &str, min: i64, max: i64, invert: bool) -> Self {
        Self { key: key.into(), test: Test::Between(min, max), invert }
    }

    pub(super) fn bool(key: &str, value: bool, invert: bool) -> Self {
        Self { key: key.into(), test: Test::Is(value), invert }
    }

    /// Whether a resource or a span has such a value; inverted, whether none has.
    pub(super) fn matches(&self, trace: &Trace<'_>) -> bool {
        let found = trace.spans.iter().enumerate().any(|(at, held)| {
            let resource = &held.span.resource;
            let is_new =
                at == 0 || !std::sync::Arc::ptr_eq(resource, &trace.spans[at - 1].span.resource);
            let mut look = Look { attribute: self, of_span: false, found: false };
            if is_new && let Some(value) = resource.find(&self.key) {
                value.visit(&self.key, &mut look);
            }
            if !look.found {
                look.of_span = true;
                held.span.visit_attributes(&mut look);
            }
            look.found
        });
        found != self.invert
    }
}

/// Holds each value of the attribute against the test.
struct Look<'a> {
    attribute: &'a Attribute,
    /// Not of the resource.
    of_span: bool,
    found: bool,
}

impl Look<'_> {
    fn met(&mut self, key: &str, text: &str, int: i64, bool: bool) {
        if *key != *self.attribute.key {
            return;
        }
        self.found |= match &self.attribute.test {
            Test::Among(values) => values.contains(text),
            // Only an empty text of a resource is held against expressions.
            Test::Regexes(_) if text.is_empty() && self.of_span => false,
            Test::Regexes(all) => all.iter().any(|regex| regex.is_match(text)),
            Test::Between(min, max) => (*min..=*max).contains(&int),
            Test::Is(value) => *value == bool,
        };
    }
}

impl AttributeSink for Look<'_> {
    fn str(&mut self, key: &str, value: &str) {
        self.met(key, value, 0, false);
    }

    fn int(&mut self, key: &str, value: i64) {
        self.met(key, "", value, false);
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.met(key, "", 0, value);
    }

    fn double(&mut self, key: &str, _: f64) {
        self.met(key, "", 0, false);
    }

    fn strs(&mut self, key: &str, _: &[&str]) {
        self.met(key, "", 0, false);
    }
}
