//! What is left out of spans and metrics, and which attributes they have, in the configuration.

use serde_json::Value as Json;

use super::{
    describe::{Key, Section},
    node::{Entry, Node},
    reader::Reader,
    section::{keys, section, section_value},
    shape::Scalar,
    value::{Setting, keywords},
};
use crate::{
    discover::{Pattern, PatternError},
    semantics::filter::{Filter, Glob, Instrumented, Rule, Signal, StatusRange},
};

keywords! {
    impl Signal { All = "all", Traces = "traces", Metrics = "metrics" }
}

keywords! {
    impl Instrumented { Defer = "defer", Both = "both" }
}

impl Section for Rule {
    const ABOUT: &'static [&'static str] = &[
        "What an exchange has to be: of different keys all count, of several values of one key any. A value with",
        "`!` before it stands for all others.",
    ];

    fn keys() -> Vec<Key<Self>> {
        keys!(Self:
            /// Paths of HTTP requests, without the query: `/healthz`, `/static/*`, `'!/api/*'`.
            paths, named("path");
            /// Routes of HTTP servers, as `http.route` shows them.
            routes, named("route");
            /// Methods of HTTP requests, as they were sent.
            methods, named("method");
            /// Status codes of HTTP responses: `404`, `200-299`, `5xx`, `'!200'`.
            statuses, named("status");
            /// Other attributes of the span, or of its resource, with globs of their values; all have to be there.
            attributes;
            /// What is left out of, or kept in: spans, metrics, or both.
            signal;
        )
    }

    /// A rule that asks for nothing would match everything.
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, entries: &[Entry], setting: &str) {
        let names = ["path", "route", "method", "status", "attributes"];
        if entries.iter().any(|entry| names.contains(&&*entry.key)) {
            return;
        }
        let found = if node.describe() == "nothing" { "nothing" } else { "no criterion" };
        let message = format!("found {found}, expected at least one of {}", names.join(", "));
        reader.problem(node.place, setting, message);
    }
}

section_value!(Rule);

impl Section for Filter {
    const ABOUT: &'static [&'static str] = &["Which exchanges are left out of spans and metrics."];

    fn keys() -> Vec<Key<Self>> {
        keys!(Self:
            /// What one of these matches is left out, whatever `include` says.
            exclude, live();
            /// Where this names any for a signal, what none of them matches is left out of that signal, too.
            include, live();
            /// Whether exports over OTLP by services and collectors are kept. They are left out otherwise: a collector that is
            /// selected would send a span for each span that it gets.
            telemetry, live();
            /// Of processes that export spans or metrics over OTLP themselves, as an SDK does: defer leaves out that signal here, both keeps
            /// it, too.
            instrumented, live();
        )
    }
}

section_value!(Filter);

section! {
    /// What is left out of one selector's spans and metrics; what is not said is as for all.
    pub struct OwnFilter {
        /// What one of these matches is left out, instead of those for all.
        pub exclude: Option<Vec<Rule>> = None;
        /// Where this names any for a signal, what none of them matches is left out of that signal, too.
        pub include: Option<Vec<Rule>> = None;
        /// Whether exports over OTLP by services and collectors are kept.
        pub telemetry: Option<bool> = None;
        /// Of processes that export spans or metrics over OTLP themselves: defer leaves out that signal here, both keeps it, too.
        pub instrumented: Option<Instrumented> = None;
    }
}

section! {
    /// Which attributes spans and metrics have.
    pub struct Attributes {
        /// Whether spans say `network.local.address` and `network.local.port`.
        pub network_local: bool = false, live();
        /// Which attributes metrics have.
        pub metrics: MetricAttributes = MetricAttributes::default();
    }
}

section! {
    /// Which attributes metrics have.
    pub struct MetricAttributes {
        /// Attributes of spans, as globs, that metrics have besides those that the conventions give them.
        pub include: Vec<Pattern> = vec![], live();
        /// Attributes, as globs, that metrics do not have: `server.port`.
        pub exclude: Vec<Pattern> = vec![], live();
    }
}

section! {
    /// Which attributes one selector's spans and metrics have; what is not said is as for all.
    pub struct OwnAttributes {
        /// Whether spans say `network.local.address` and `network.local.port`.
        pub network_local: Option<bool> = None;
        /// Which attributes metrics have; what is not said is as for all.
        pub metrics: OwnMetricAttributes = OwnMetricAttributes::default();
    }
}

section! {
    /// Which attributes one selector's metrics have; what is not said is as for all.
    pub struct OwnMetricAttributes {
        /// Attributes of spans, as globs, that metrics have besides those that the conventions give them.
        pub include: Option<Vec<Pattern>> = None;
        /// Attributes, as globs, that metrics do not have: `server.port`.
        pub exclude: Option<Vec<Pattern>> = None;
    }
}

/// A text without the `!` before it, and whether there is one.
fn negation(text: &str) -> (bool, &str) {
    text.strip_prefix('!').map_or((false, text), |rest| (true, rest))
}

const EXPECTED_GLOB: &str = "a glob such as /api/*, or !/api/* for all others";

impl Setting for Glob {
    const SAMPLES: &'static [&'static str] = &["/healthz", "/static/*", "!/api/*"];

    fn parse(text: &str) -> Result<Self, String> {
        let (negated, glob) = negation(text);
        let pattern = glob
            .parse()
            .map_err(|error: PatternError| format!("{EXPECTED_GLOB}: {}", error.reason()))?;
        Ok(Self { negated, pattern })
    }

    fn written(&self) -> Json {
        let not = if self.negated { "!" } else { "" };
        format!("{not}{}", self.pattern).into()
    }

    fn looks() -> Scalar {
        Scalar {
            expected: EXPECTED_GLOB.into(),
            // Values of attributes may be numbers or truth values.
            types: &["string", "number", "boolean"],
            words: &[],
            pattern: Some("."),
        }
    }
}

impl Setting for StatusRange {
    const SAMPLES: &'static [&'static str] = &["404", "200-299", "!5xx"];

    fn parse(text: &str) -> Result<Self, String> {
        let expected = "a status code, a range or a class such as 404, 200-299 or 5xx";
        let (negated, range) = negation(text);
        let code = |text: &str| {
            let code = text.trim().parse::<u16>().ok();
            code.filter(|code| (100..=999).contains(code)).ok_or(expected)
        };
        let (first, last) = if let Some(class) = range.strip_suffix("xx") {
            let first = code(&format!("{class}00"))?;
            (first, first + 99)
        } else if let Some((first, last)) = range.split_once('-') {
            (code(first)?, code(last)?)
        } else {
            let one = code(range)?;
            (one, one)
        };
        if first > last {
            return Err(format!("{expected}, the lower one first"));
        }
        Ok(Self { first, last, negated })
    }

    fn written(&self) -> Json {
        let Self { first, last, negated } = *self;
        let not = if negated { "!" } else { "" };
        match last - first {
            0 if !negated => first.into(),
            0 => format!("{not}{first}").into(),
            99 if first % 100 == 0 => format!("{not}{}xx", first / 100).into(),
            _ => format!("{not}{first}-{last}").into(),
        }
    }

    fn looks() -> Scalar {
        Scalar {
            expected: "a status code, a range or a class such as 404, 200-299 or 5xx".into(),
            types: &["string", "integer"],
            words: &[],
            pattern: Some("^!?([1-9][0-9][0-9](-[1-9][0-9][0-9])?|[1-9]xx)$"),
        }
    }
}
