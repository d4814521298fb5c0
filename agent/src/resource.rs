//! Who a span speaks for: the OpenTelemetry resource of one target process.

use std::sync::Arc;

use crate::attribute::{AttributeSink, Value};

/// Attributes of one process, ordered by key, without duplicates. Shared by all of its spans
/// (`Arc<Resource>`); two exporters may compare the pointer to group by resource.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Resource {
    attributes: Vec<(Box<str>, Value)>,
    /// Whether several processes are one service instance: those of a container, of which Kubernetes knows
    /// no more than its name.
    shared: bool,
}

impl Resource {
    /// A resource of `attributes`; where a key occurs twice, the first one stays.
    #[must_use]
    pub fn new(attributes: impl IntoIterator<Item = (Box<str>, Value)>) -> Self {
        let mut attributes: Vec<_> = attributes.into_iter().collect();
        attributes.sort_by(|(a, _), (b, _)| a.cmp(b)); // stable: the first of equals stays first
        attributes.dedup_by(|(later, _), (first, _)| later == first);
        Self { attributes, shared: false }
    }

    /// The same, of a process that is not a service instance by itself.
    #[must_use]
    pub fn of_shared_instance(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Whether other processes may be the same service instance.
    #[must_use]
    pub const fn is_shared_instance(&self) -> bool {
        self.shared
    }

    /// What tells its service instance from all others; `None` where it does not say which it is. Two resources with the
    /// same are one instance: processes of a container, or a process that became another program.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        self.find("service.instance.id")?;
        let mut identity = String::new();
        for key in ["service.namespace", "service.name", "service.instance.id"] {
            if let Some(Value::Str(value)) = self.find(key) {
                identity.push_str(value);
            }
            identity.push('\0');
        }
        Some(identity)
    }

    /// What is true of all processes of the instance, now and after they were restarted: the resource of
    /// its metrics, which must not be told twice for one instance. `None` if it is a process's own.
    #[must_use]
    pub fn instance(&self) -> Option<Self> {
        let own = |key: &str| {
            key.starts_with("process.")
                || matches!(key, "container.id" | "k8s.container.restart_count")
        };
        self.shared.then(|| Self {
            attributes: self.attributes.iter().filter(|(key, _)| !own(key)).cloned().collect(),
            shared: true,
        })
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

    /// Whether the process runs Ruby.
    #[must_use]
    pub fn is_ruby(&self) -> bool {
        let name = self.find("process.executable.name");
        matches!(name, Some(Value::Str(name)) if name.starts_with("ruby"))
    }

    /// Hands every attribute to `sink`.
    pub fn visit(&self, sink: &mut impl AttributeSink) {
        for (key, value) in &self.attributes {
            value.visit(key, sink);
        }
    }
}

/// Whose an exchange is.
#[derive(Clone, Debug)]
pub enum Whose {
    Known(Arc<Resource>),
    /// More will be known soon: ask again.
    Provisional(Arc<Resource>),
    /// Nobody's who wants to be watched: the pod has opted out.
    OptedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(pid: i64, instance: &str) -> Resource {
        Resource::new([
            ("service.name".into(), "web".into()),
            ("service.instance.id".into(), instance.into()),
            ("container.id".into(), format!("id of {pid}").into()),
            ("process.pid".into(), pid.into()),
        ])
    }

    #[test]
    fn processes_of_one_instance_share_what_is_true_of_all() {
        let [one, two] = [1, 2].map(|pid| resource(pid, "shop.web.app").of_shared_instance());
        assert_eq!(one.identity(), two.identity());
        assert_eq!(one.instance(), two.instance());
        assert_eq!(one.instance().unwrap().find("process.pid"), None);
        assert_ne!(one.identity(), resource(1, "shop.web.proxy").identity());
        assert!(resource(1, "shop.web.app").instance().is_none());
        assert_eq!(Resource::unknown().identity(), None);
    }
}
