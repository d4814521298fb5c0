//! Which exchanges become no span, or are not measured, because the configuration says so: a pure function
//! of a span. Rules are held against what a span says; a value that a span does not have matches no rule.

use std::borrow::Cow;

use super::{Convention, Form, Target};
use crate::{attribute::AttributeSink, discover::Pattern, span::Span};

/// A glob, or everything that it does not match.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob {
    pub pattern: Pattern,
    /// Written with a `!` before it.
    pub negated: bool,
}

/// Status codes from `first` to `last`, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
    /// Written with a `!` before it.
    pub negated: bool,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Signal {
    #[default]
    All,
    Traces,
    Metrics,
}

/// What an exchange has to be. Of different fields all count, of several values of one field any, and none of
/// those that are negated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Of the request target, without its query.
    pub paths: Vec<Glob>,
    pub routes: Vec<Glob>,
    /// As sent.
    pub methods: Vec<Glob>,
    pub statuses: Vec<StatusRange>,
    /// Attributes of the span, or else of its resource.
    pub attributes: Vec<(Box<str>, Glob)>,
    pub signal: Signal,
}

/// Rules for one signal or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What one of these matches is left out.
    pub exclude: Vec<Rule>,
    /// Where there are some, what none of them matches is left out, too.
    pub include: Vec<Rule>,
    /// Whether exports of telemetry are kept that others than agents send.
    pub telemetry: bool,
    /// What becomes of a signal that a process exports itself.
    pub instrumented: Instrumented,
}

/// What becomes of a signal that a process exports itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instrumented {
    /// It is left out here.
    #[default]
    Defer,
    /// There are both.
    Both,
}

/// What is left of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub traces: bool,
    pub metrics: bool,
}

impl Filter {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.include.is_empty()
    }

    /// What is kept of the exchange of `span`.
    #[must_use]
    pub fn keeps(&self, span: &Span) -> Kept {
        if self.is_empty() {
            return Kept { traces: true, metrics: true };
        }
        let keeps = |signal: Signal| {
            let of = |rules: &[Rule]| {
                let mut rules = rules.iter().filter(|rule| rule.is_about(signal)).peekable();
                let any = rules.peek().is_some();
                (any, rules.any(|rule| rule.matches(span)))
            };
            let (_, excluded) = of(&self.exclude);
            let (asks, included) = if excluded { (true, false) } else { of(&self.include) };
            !excluded && (included || !asks)
        };
        Kept { traces: keeps(Signal::Traces), metrics: keeps(Signal::Metrics) }
    }
}

impl Rule {
    fn is_about(&self, signal: Signal) -> bool {
        self.signal == Signal::All || self.signal == signal
    }

    /// Whether the exchange is what the rule says.
    fn matches(&self, span: &Span) -> bool {
        let http = match Convention::of(span) {
            Convention::Http(http) => Some(http),
            Convention::Rpc(rpc) => Some(&rpc.http),
            Convention::Db(..) => None,
        };
        let path = || {
            let target = Target::parse(&http?.method, &http?.target);
            (target.form != Form::Authority).then_some(target.path)
        };
        let status = || http.map(|http| http.status).filter(|status| *status != 0);
        statuses(&self.statuses, status)
            && texts(&self.methods, || Some(&http?.method))
            && texts(&self.paths, path)
            && texts(&self.routes, || span.route.as_deref())
            && self.attributes.iter().all(|(key, glob)| has(span, key, glob))
    }
}

/// Whether a value is among those that are asked for: one of the plain ones if there are any, and none of
/// the negated ones.
fn asked<T>(list: &[T], is_negated: impl Fn(&T) -> bool, is: impl Fn(&T) -> bool) -> bool {
    let mut plain = list.iter().filter(|item| !is_negated(item)).peekable();
    (plain.peek().is_none() || plain.any(&is))
        && !list.iter().any(|item| is_negated(item) && is(item))
}

fn texts<'a>(globs: &[Glob], value: impl FnOnce() -> Option<&'a str>) -> bool {
    globs.is_empty()
        || value().is_some_and(|text| {
            asked(globs, |glob| glob.negated, |glob| glob.pattern.matches_text(text))
        })
}

fn statuses(ranges: &[StatusRange], value: impl FnOnce() -> Option<u16>) -> bool {
    ranges.is_empty()
        || value().is_some_and(|status| {
            asked(
                ranges,
                |range| range.negated,
                |range| (range.first..=range.last).contains(&status),
            )
        })
}

/// Whether the span, or else its resource, has the attribute with such a value. Of a list of values one is
/// enough; with a negated glob none may match.
fn has(span: &Span, key: &str, glob: &Glob) -> bool {
    let mut look = Look { key, pattern: &glob.pattern, found: None };
    span.visit_attributes(&mut look);
    if look.found.is_none()
        && let Some(value) = span.resource.find(key)
    {
        value.visit(key, &mut look);
    }
    look.found.is_some_and(|matches| matches != glob.negated)
}

/// Looks for one attribute.
struct Look<'a> {
    key: &'a str,
    pattern: &'a Pattern,
    /// Whether its value matches, once it was met.
    found: Option<bool>,
}

impl Look<'_> {
    fn met<'t>(&mut self, key: &str, texts: impl FnOnce() -> Vec<Cow<'t, str>>) {
        if key == self.key {
            self.found = Some(texts().iter().any(|text| self.pattern.matches_text(text)));
        }
    }
}

impl AttributeSink for Look<'_> {
    fn str(&mut self, key: &str, value: &str) {
        self.met(key, || vec![value.into()]);
    }

    fn int(&mut self, key: &str, value: i64) {
        self.met(key, || vec![value.to_string().into()]);
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.met(key, || vec![value.to_string().into()]);
    }

    fn double(&mut self, key: &str, value: f64) {
        self.met(key, || vec![value.to_string().into()]);
    }

    fn strs(&mut self, key: &str, values: &[&str]) {
        self.met(key, || values.iter().map(|value| (*value).into()).collect());
    }
}

#[cfg(test)]
mod tests;
