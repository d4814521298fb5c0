//! Who a span speaks for: the OpenTelemetry resource of one target process.

use crate::attribute::{AttributeSink, Value};

/// Attributes of one process, ordered by key, without duplicates. Shared by all of its spans
/// (`Arc<Resource>`); two exporters may compare the pointer to group by resource.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Resource {
    attributes: Vec<(Box<str>, Value)>,
}

impl Resource {
    /// A resource of `attributes`; where a key occurs twice, the first one stays.
    #[must_use]
    pub fn new(attributes: impl IntoIterator<Item = (Box<str>, Value)>) -> Self {
        let mut attributes: Vec<_> = attributes.into_iter().collect();
        attributes.sort_by(|(a, _), (b, _)| a.cmp(b)); // stable: the first of equals stays first
        attributes.dedup_by(|(later, _), (first, _)| later == first);
        Self { attributes }
    }

    /// Of a process that nothing is known of.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new([("service.name".into(), "unknown_service".into())])
    }

    /// The value under `key`.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Value> {
        let at = self.attributes.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.attributes[at].1)
    }

    /// Every attribute, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.attributes.iter().map(|(key, value)| (&**key, value))
    }

    /// `service.name`, which every resource that discovery makes has.
    #[must_use]
    pub fn service_name(&self) -> &str {
        match self.find("service.name") {
            Some(Value::Str(name)) => name,
            _ => "unknown_service",
        }
    }

    /// Hands every attribute to `sink`.
    pub fn visit(&self, sink: &mut impl AttributeSink) {
        for (key, value) in &self.attributes {
            value.visit(key, sink);
        }
    }
}
