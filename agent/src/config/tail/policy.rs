//! Policies: each with a name, a type, and settings under the name of that type. There are three kinds of them, as in the
//! Collector: those at the top, those within `and`, `not` and `drop`, and those within `composite`.

use super::{
    check,
    simple::{Simple, SimpleType, policy_types},
};
use crate::{
    config::{
        describe::{Key, Section},
        node::{Entry, Node},
        reader::Reader,
        section::{keys, section, section_value},
        value::Setting,
    },
    tail::{Definition, Policy},
};

policy_types! {
    /// What a policy is.
    pub enum PolicyType { And = "and", Not = "not", Drop = "drop", Composite = "composite" }
}

policy_types! {
    /// What a policy within `composite` is.
    pub enum CompositeSubPolicyType { And = "and" }
}

section! {
    /// Samples a trace that all of these sample.
    pub struct And {
        /// The policies.
        pub and_sub_policy: Vec<SubPolicy> = vec![];
    }
}

section! {
    /// Samples a trace that the other policy does not sample.
    pub struct Not {
        /// The other policy.
        pub not_sub_policy: SubPolicy = SubPolicy::default();
    }
}

section! {
    /// Leaves out a trace that all of these sample, whatever other policies say.
    pub struct Drop {
        /// The policies.
        pub drop_sub_policy: Vec<SubPolicy> = vec![];
    }
}

section! {
    /// Gives each of several policies a share of the spans. The first that samples a trace decides on it.
    pub struct Composite {
        /// Spans in each second that shares are of.
        pub max_total_spans_per_second: u32 = 0;
        /// Names of the policies in their order. As in the Collector, the order of `composite_sub_policy` is the one that counts.
        pub policy_order: Vec<Box<str>> = vec![];
        /// The policies.
        pub composite_sub_policy: Vec<CompositeSubPolicy> = vec![];
        /// Shares. As in the Collector, a policy without one samples nothing.
        pub rate_allocation: Vec<RateAllocation> = vec![];
    }
}

section! {
    /// The share of one policy.
    pub struct RateAllocation {
        /// Its name.
        pub policy: Option<Box<str>> = None;
        /// The share in percent; 0: as much as others.
        pub percent: u32 = 0, within(0, 100);
    }
}

/// Declares a kind of policy: the type, and what it may be made of.
macro_rules! policy {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident of $type:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident : $section:ty $(, $option:ident ( $arg:expr ) )?; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            pub name: Option<Box<str>>,
            pub kind: Option<$type>,
            pub simple: Simple,
            $( $(#[doc = $doc])+ pub $field: $section, )*
        }

        impl Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];

            fn keys() -> Vec<Key<Self>> {
                let mut keys = keys!(Self:
                    /// What it is called in the books.
                    name;
                    /// What it asks; its settings stand under this name.
                    kind, named("type");
                );
                let simple = Simple::keys().into_iter();
                keys.extend(simple.map(|key| key.lift(|policy: &mut Self| &mut policy.simple)));
                $( keys.extend(keys!(Self: $(#[doc = $doc])+ $field $(, $option($arg))?;)); )*
                keys
            }

            fn read(
                &mut self,
                reader: &mut Reader<'_>,
                node: &Node,
                entries: &[Entry],
                setting: &str,
            ) {
                check::policy(reader, node, entries, setting, self.kind.map($type::as_str));
            }
        }

        section_value!($name);
    };
}

policy! {
    /// A policy.
    pub struct TailPolicy of PolicyType {
        /// Samples a trace that all of these sample.
        pub and: And;
        /// Samples a trace that the other policy does not sample.
        pub not: Not;
        /// Leaves out a trace that all of these sample, whatever other policies say.
        pub drop: Drop;
        /// Gives each of several policies a share of the spans. The first that samples a trace decides on it.
        pub composite: Composite, rule(names_known);
    }
}

policy! {
    /// A policy within another one.
    pub struct SubPolicy of SimpleType {}
}

policy! {
    /// A policy within `composite`.
    pub struct CompositeSubPolicy of CompositeSubPolicyType {
        /// Samples a trace that all of these sample.
        pub and: And;
    }
}

/// Names of policies tell them apart in the books.
pub(super) fn names_differ(policies: &[TailPolicy]) -> Result<(), String> {
    let mut names: Vec<_> = policies.iter().filter_map(|policy| policy.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(format!("found two policies with the name `{}`, expected another", pair[0]))
        }
        None => Ok(()),
    }
}

/// What refers to policies by their names names them.
fn names_known(composite: &Composite) -> Result<(), String> {
    let parts = || composite.composite_sub_policy.iter().filter_map(|part| part.name.as_deref());
    let ordered = composite.policy_order.iter().map(|name| ("policy_order", &**name));
    let shares = composite.rate_allocation.iter();
    let shares = shares.map(|one| ("rate_allocation", one.policy.as_deref().unwrap_or_default()));
    match ordered.chain(shares).find(|(_, name)| !parts().any(|part| part == *name)) {
        None => Ok(()),
        Some((key, name)) => {
            let parts = parts().collect::<Vec<_>>().join(", ");
            Err(format!("found `{name}` in {key}, expected one of composite_sub_policy: {parts}"))
        }
    }
}

impl TailPolicy {
    /// For the stage. What is missing here was a mistake when it was read.
    pub(super) fn definition(&self) -> Definition {
        let Self { name, kind, simple, and, not, drop, composite } = self;
        let policy = match kind {
            Some(PolicyType::And) => and.policy(),
            Some(PolicyType::Not) => Policy::Not(Box::new(not.not_sub_policy.policy())),
            Some(PolicyType::Drop) => {
                Policy::Drop(drop.drop_sub_policy.iter().map(SubPolicy::policy).collect())
            }
            Some(PolicyType::Composite) => composite.policy(),
            kind => simple.policy(kind.and_then(|kind| SimpleType::parse(kind.as_str()).ok())),
        };
        Definition { name: name.clone().unwrap_or_default(), policy }
    }
}

impl And {
    fn policy(&self) -> Policy {
        Policy::And(self.and_sub_policy.iter().map(SubPolicy::policy).collect())
    }
}

impl SubPolicy {
    fn policy(&self) -> Policy {
        self.simple.policy(self.kind)
    }
}

impl CompositeSubPolicy {
    fn policy(&self) -> Policy {
        match self.kind {
            Some(CompositeSubPolicyType::And) => self.and.policy(),
            kind => self.simple.policy(kind.and_then(|kind| SimpleType::parse(kind.as_str()).ok())),
        }
    }
}

impl Composite {
    /// What a part may sample is calculated as the Collector does.
    fn policy(&self) -> Policy {
        let max = self.max_total_spans_per_second;
        let share = |name: Option<&str>| {
            let said =
                self.rate_allocation.iter().rev().find(|said| said.policy.as_deref() == name);
            match said.map(|said| said.percent) {
                None => 0,
                Some(0) => f64_to_u32(f64::from(max) / self.composite_sub_policy.len() as f64),
                Some(percent) => f64_to_u32(f64::from(percent) / 100.0 * f64::from(max)),
            }
        };
        let part = |part: &CompositeSubPolicy| (part.policy(), share(part.name.as_deref()));
        Policy::Composite {
            max_spans_per_second: max,
            parts: self.composite_sub_policy.iter().map(part).collect(),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down")]
fn f64_to_u32(value: f64) -> u32 {
    value as u32
}
