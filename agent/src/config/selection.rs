//! Selectors in the configuration: which processes are captured, and what holds for each.

use serde_json::Value as Json;

use super::{
    Sampler,
    describe::{Key, Samples, Section, Value},
    filter::{OwnAttributes, OwnFilter},
    node::{Entry, Node},
    reader::Reader,
    section::{keys, section, section_value},
    shape::{Scalar, Shape},
    value::{FieldName, Setting},
};
use crate::{
    discover::{self, Criteria, Ports},
    semantics::route,
};

impl Section for Criteria {
    const ABOUT: &'static [&'static str] = &[
        "What a process has to be: of different keys all count, of several values of one key any.",
    ];

    fn keys() -> Vec<Key<Self>> {
        keys!(Self:
            /// Process ids, as `/proc` of the agent shows them; with the children that they have.
            pids, named("pid");
            /// Executables by file name (`nginx`), or by path if the pattern has a `/` (`/srv/*`).
            exe;
            /// Command names, as `ps -o comm` shows them.
            comm, named("cmd");
            /// TCP ports the process listens on: `80,8000-8099`.
            ports, named("port");
            /// Control groups, with those below them: `/system.slice/shop.service`.
            cgroups, named("cgroup");
            /// Ids of containers, or how they begin.
            container_ids, named("container_id");
            /// Pods and containers of Kubernetes.
            pod, named("kubernetes");
            /// Every process.
            all;
        )
    }

    /// What asks for nothing would match nothing.
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, entries: &[Entry], setting: &str) {
        if entries.is_empty() {
            asks_for_something(reader, node, entries, setting);
        }
    }
}

fn asks_for_something(reader: &mut Reader<'_>, node: &Node, entries: &[Entry], setting: &str) {
    let names: Vec<&str> = Criteria::keys().iter().map(|key| key.about.name).collect();
    if entries.iter().any(|entry| names.contains(&&*entry.key)) {
        return;
    }
    let found = if node.describe() == "nothing" { "nothing" } else { "no criterion" };
    let message = format!("found {found}, expected at least one of {}", names.join(", "));
    reader.problem(node.place, setting, message);
}

/// A selector with what holds for the processes it takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// Which processes, and what they are called.
    pub takes: discover::Selector,
    pub traces: OwnTraces,
    pub routes: OwnRoutes,
    pub headers: OwnHeaders,
    pub filter: OwnFilter,
    pub attributes: OwnAttributes,
}

section! {
    /// Sampling of one selector's traces; what is not said is as for all.
    pub struct OwnTraces {
        /// What decides on a trace that begins here; `parentbased_` ones follow what a request carries.
        pub sampler: Option<Sampler> = None;
        /// Share of traces that a ratio sampler keeps.
        pub ratio: Option<f64> = None, rule(share);
    }
}

fn share(ratio: &Option<f64>) -> Result<(), String> {
    match ratio {
        Some(ratio) if !(0.0..=1.0).contains(ratio) => {
            Err(format!("found {ratio}, expected 0 to 1"))
        }
        _ => Ok(()),
    }
}

section! {
    /// Routes of one selector's services; what is not said is as for all.
    pub struct OwnRoutes {
        /// heuristic: patterns first, then a guess; patterns: patterns only; off: never.
        pub mode: Option<route::Mode> = None;
        /// Templates such as `/users/{id}`, instead of those for all.
        pub patterns: Option<Vec<route::Pattern>> = None;
    }
}

section! {
    /// Header fields that become attributes of one selector's spans, instead of those for all.
    pub struct OwnHeaders {
        /// Of requests: `http.request.header.<name>`.
        pub request: Option<Vec<FieldName>> = None;
        /// Of responses: `http.response.header.<name>`.
        pub response: Option<Vec<FieldName>> = None;
    }
}

impl Section for Selector {
    const ABOUT: &'static [&'static str] =
        &["Takes processes, and says what holds for them. The first that matches counts."];

    fn keys() -> Vec<Key<Self>> {
        // `service.name` and criteria stand beside what holds for the processes.
        let takes = discover::Selector::keys().into_iter();
        let takes = takes.map(|key| key.lift(|selector: &mut Self| &mut selector.takes));
        let own = keys!(Self:
            /// Sampling of their traces; what is not said is as for all.
            traces;
            /// How `http.route` is found for them; what is not said is as for all.
            routes;
            /// Header fields that become attributes of their spans, instead of those for all.
            headers;
            /// What is left out of their spans and metrics; what is not said is as for all.
            filter;
            /// Which attributes their spans and metrics have; what is not said is as for all.
            attributes;
        );
        takes.chain(own).collect()
    }

    /// A selector that asks for nothing would take nothing.
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, entries: &[Entry], setting: &str) {
        asks_for_something(reader, node, entries, setting);
    }
}

impl Section for discover::Selector {
    const ABOUT: &'static [&'static str] = &["Which processes, and what they are called."];

    fn keys() -> Vec<Key<Self>> {
        let mut keys = keys!(Self:
            /// `service.name` of what it takes; without one each process decides.
            name;
            /// `service.namespace` of what it takes.
            namespace;
            /// `service.version` of what it takes.
            version;
        );
        let criteria = Criteria::keys().into_iter();
        keys.extend(criteria.map(|key| key.lift(|selector: &mut Self| &mut selector.criteria)));
        keys.extend(keys!(Self:
            /// What it leaves to later selectors although it matches.
            exclude;
        ));
        keys
    }
}

section_value!(Criteria);
section_value!(Selector);

/// One text of ports.
pub(super) struct PortList(pub(super) Ports);

impl Setting for PortList {
    const SAMPLES: &'static [&'static str] = &["80", "8000-8099", "80,443"];

    fn parse(text: &str) -> Result<Self, String> {
        let ports = text.parse().map(Self);
        ports.map_err(|_| "ports and ranges such as 80,8000-8099 (1 to 65535)".into())
    }

    fn written(&self) -> Json {
        self.0.to_string().into()
    }

    fn looks() -> Scalar {
        Scalar {
            expected: "ports and ranges such as 80,8000-8099 (1 to 65535)".into(),
            types: &["string", "integer"],
            words: &[],
            pattern: Some("^ *[0-9]+ *(- *[0-9]+ *)?(, *[0-9]+ *(- *[0-9]+ *)?)*$"),
        }
    }
}

/// Ports of all items together.
impl Value for Ports {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        let Some(items) = reader.items(node, setting, Reader::scalar) else { return false };
        *self = Self::default();
        items.into_iter().for_each(|PortList(more)| self.extend(more));
        true
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        super::value::read_one(text).map(|PortList(ports)| *self = ports)
    }

    fn shown(&self, _: bool) -> Json {
        if self.is_empty() { Json::Null } else { self.to_string().into() }
    }

    fn shape(&self) -> Shape {
        Shape::List(Box::new(Shape::Scalar(PortList::looks())))
    }
}

impl Samples for Ports {}
