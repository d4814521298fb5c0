//! Which attributes series have, where the configuration adds some to those of the conventions or leaves
//! some out.

use opentelemetry_semantic_conventions::attribute as key;

use super::{metrics, rpc};
use crate::{
    attribute::{AttributeSink, Value},
    discover::Pattern,
    span::Span,
};

/// The attributes that conventions give to metrics, each with a bit of its own in [`LeftOut`].
const KEYS: [&str; 21] = [
    key::HTTP_REQUEST_METHOD,
    key::URL_SCHEME,
    key::NETWORK_PROTOCOL_NAME,
    key::NETWORK_PROTOCOL_VERSION,
    key::HTTP_ROUTE,
    key::HTTP_RESPONSE_STATUS_CODE,
    key::ERROR_TYPE,
    key::SERVER_ADDRESS,
    key::SERVER_PORT,
    key::SERVICE_PEER_NAME,
    key::SERVICE_PEER_NAMESPACE,
    key::DB_SYSTEM_NAME,
    key::DB_OPERATION_NAME,
    key::DB_COLLECTION_NAME,
    key::DB_NAMESPACE,
    key::DB_QUERY_SUMMARY,
    key::DB_STORED_PROCEDURE_NAME,
    key::DB_RESPONSE_STATUS_CODE,
    key::RPC_SYSTEM_NAME,
    key::RPC_METHOD,
    rpc::STATUS_CODE,
];

/// Those of [`KEYS`] that a series does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct LeftOut(u32);

/// The bit of one of [`KEYS`]; for constants, where any other is a mistake that the compiler finds.
pub(super) const fn bit(key: &str) -> u32 {
    let mut at = 0;
    while at < KEYS.len() {
        let (known, asked) = (KEYS[at].as_bytes(), key.as_bytes());
        let mut same = 0;
        while same < known.len() && same < asked.len() && known[same] == asked[same] {
            same += 1;
        }
        if same == known.len() && same == asked.len() {
            return 1 << at;
        }
        at += 1;
    }
    panic!("no attribute of metrics")
}

impl LeftOut {
    /// Whether it is none.
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// Whether the attribute is left out.
    pub(super) fn has_key(self, key: &str) -> bool {
        KEYS.iter().position(|known| *known == key).is_some_and(|at| self.has(1 << at))
    }
}

/// Which attributes metrics have, besides those of the conventions and without some of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricAttributes {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    left_out: LeftOut,
}

impl MetricAttributes {
    /// `include` are attributes of spans that series have, too; none has those of `exclude`.
    #[must_use]
    pub fn new(include: Vec<Pattern>, exclude: Vec<Pattern>) -> Self {
        let mut new = Self { include, exclude, left_out: LeftOut::default() };
        for (at, key) in KEYS.into_iter().enumerate() {
            new.left_out.0 |= u32::from(new.leaves_out(key)) << at;
        }
        new
    }

    /// Whether series are what the conventions say.
    #[must_use]
    pub fn is_conventional(&self) -> bool {
        self.include.is_empty() && self.left_out.is_empty()
    }

    pub(super) const fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn leaves_out(&self, key: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches_text(key))
    }

    /// What the series of `span` has besides the attributes of the conventions.
    ///
    /// Of a series that has one of these by the conventions, [`metrics::Key::attributes`] names it once.
    #[must_use]
    pub fn added(&self, span: &Span) -> Vec<metrics::Added> {
        let mut added = Added { chosen: self, list: Vec::new() };
        if !self.include.is_empty() {
            span.visit_attributes(&mut added);
        }
        added.list
    }
}

struct Added<'a> {
    chosen: &'a MetricAttributes,
    list: Vec<metrics::Added>,
}

impl Added<'_> {
    fn add(&mut self, key: &str, value: impl FnOnce() -> Value) {
        let asked = self.chosen.include.iter().any(|pattern| pattern.matches_text(key));
        if asked && !self.chosen.leaves_out(key) {
            self.list.push((key.into(), value()));
        }
    }
}

impl AttributeSink for Added<'_> {
    fn str(&mut self, key: &str, value: &str) {
        self.add(key, || value.into());
    }

    fn int(&mut self, key: &str, value: i64) {
        self.add(key, || value.into());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.add(key, || value.into());
    }

    fn double(&mut self, key: &str, value: f64) {
        self.add(key, || Value::Double(value));
    }

    fn strs(&mut self, key: &str, values: &[&str]) {
        self.add(key, || Value::Strs(values.iter().map(|value| (*value).into()).collect()));
    }
}
