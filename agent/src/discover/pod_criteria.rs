//! Which pods and containers a selector asks for. Nothing of a pod that is not known (yet) matches.

use std::{fmt, str::FromStr};

use super::{Pattern, PatternError};
use crate::{container::PodMember, kubernetes::Pod};

/// Kinds are combined by *and*, the values of one kind by *or*; of labels and annotations all have to be
/// there. A kind without values asks for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodCriteria {
    pub namespaces: Vec<Pattern>,
    pub pods: Vec<Pattern>,
    pub owners: Vec<OwnerPattern>,
    pub labels: Vec<(Box<str>, Pattern)>,
    pub annotations: Vec<(Box<str>, Pattern)>,
    /// Names of containers.
    pub containers: Vec<Pattern>,
    /// Images as the pod's specification has them.
    pub images: Vec<Pattern>,
}

/// `deployment/web-*`, or a name of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnerPattern {
    kind: Option<Box<str>>,
    name: Pattern,
}

/// What selection knows of a process's pod.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    pub member: &'a PodMember,
    /// What the API server said of it.
    pub pod: Option<&'a Pod>,
}

impl PodCriteria {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the process is to be selected. One that asks for nothing takes every process.
    #[must_use]
    pub fn matches(&self, facts: Option<PodFacts<'_>>) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(PodFacts { member, pod: Some(pod) }) = facts else { return false };
        let any = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches_text(text))
        };
        let all = |asked: &[(Box<str>, Pattern)], find: &dyn Fn(&str) -> Option<Box<str>>| {
            asked
                .iter()
                .all(|(key, pattern)| find(key).is_some_and(|value| pattern.matches_text(&value)))
        };
        let container =
            || pod.container(member.container_id.as_deref(), member.container_name.as_deref());
        let of_container = |patterns: &[Pattern], text: &dyn Fn() -> Option<Box<str>>| {
            patterns.is_empty() || text().is_some_and(|text| any(patterns, &text))
        };
        any(&self.namespaces, &pod.namespace)
            && any(&self.pods, &pod.name)
            && (self.owners.is_empty() || self.owners.iter().any(|asked| asked.matches(pod)))
            && all(&self.labels, &|key| pod.label(key).map(Into::into))
            && all(&self.annotations, &|key| pod.annotation(key).map(Into::into))
            && of_container(&self.containers, &|| {
                member.container_name.clone().or_else(|| Some(container()?.name.clone()))
            })
            && of_container(&self.images, &|| Some(container()?.image.clone()))
    }
}

impl OwnerPattern {
    fn matches(&self, pod: &Pod) -> bool {
        pod.owner.iter().any(|owner| {
            self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&owner.kind))
                && self.name.matches_text(&owner.name)
        })
    }
}

impl FromStr for OwnerPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.split_once('/') {
            Some((kind, name)) if !kind.is_empty() => {
                Ok(Self { kind: Some(kind.into()), name: name.parse()? })
            }
            _ => Ok(Self { kind: None, name: text.parse()? }),
        }
    }
}

impl fmt::Display for OwnerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "{kind}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::pod::tests::{pairs, pod};

    fn matches(criteria: &PodCriteria) -> bool {
        let pod = Pod { annotations: pairs(&[("team", "blue")]), ..pod() };
        let member = PodMember {
            uid: pod.uid.clone(),
            container_id: Some("bb".into()),
            container_name: None,
        };
        criteria.matches(Some(PodFacts { member: &member, pod: Some(&pod) }))
    }

    fn patterns(text: &str) -> Vec<Pattern> {
        vec![text.parse().unwrap()]
    }

    fn pair(key: &str, value: &str) -> Vec<(Box<str>, Pattern)> {
        vec![(key.into(), value.parse().unwrap())]
    }

    #[test]
    fn each_kind_selects_and_refuses() {
        let none = PodCriteria::default;
        let rows: [(PodCriteria, PodCriteria); 7] = [
            (
                PodCriteria { namespaces: patterns("sh*"), ..none() },
                PodCriteria { namespaces: patterns("default"), ..none() },
            ),
            (
                PodCriteria { pods: patterns("web-*"), ..none() },
                PodCriteria { pods: patterns("web"), ..none() },
            ),
            (
                PodCriteria { owners: vec!["deployment/we?".parse().unwrap()], ..none() },
                PodCriteria { owners: vec!["statefulset/web".parse().unwrap()], ..none() },
            ),
            (
                PodCriteria { labels: pair("app", "web"), ..none() },
                PodCriteria { labels: pair("app", "shop"), ..none() },
            ),
            (
                PodCriteria { annotations: pair("team", "*"), ..none() },
                PodCriteria { annotations: pair("tier", "*"), ..none() },
            ),
            (
                PodCriteria { containers: patterns("proxy"), ..none() },
                PodCriteria { containers: patterns("app"), ..none() },
            ),
            (
                PodCriteria { images: patterns("registry.example/*"), ..none() },
                PodCriteria { images: patterns("docker.io/*"), ..none() },
            ),
        ];
        for (taken, left) in rows {
            assert!(matches(&taken), "{taken:?}");
            assert!(!matches(&left), "{left:?}");
        }
    }

    #[test]
    fn kinds_and_labels_must_all_match() {
        let mut both = PodCriteria { labels: pair("app", "web"), ..PodCriteria::default() };
        both.namespaces = patterns("other");
        assert!(!matches(&both));
        both.namespaces = patterns("shop");
        assert!(matches(&both));
        both.labels.extend(pair("none", "*"));
        assert!(!matches(&both));
    }

    #[test]
    fn nothing_is_known_of_a_pod_that_nobody_told_of() {
        let asks = PodCriteria { pods: patterns("*"), ..PodCriteria::default() };
        let member = PodMember::default();
        assert!(!asks.matches(None));
        assert!(!asks.matches(Some(PodFacts { member: &member, pod: None })));
        assert!(PodCriteria::default().matches(None));
    }

    #[test]
    fn an_owner_is_named_with_or_without_its_kind() {
        let any: OwnerPattern = "web".parse().unwrap();
        assert!(any.matches(&pod()));
        let replica_set: OwnerPattern = "ReplicaSet/web-*".parse().unwrap();
        assert!(replica_set.matches(&pod()));
        assert_eq!(replica_set.to_string(), "ReplicaSet/web-*");
        assert!("deployment/".parse::<OwnerPattern>().is_err());
    }
}
