//! The YAML file: which keys there are, and what they set.

use std::sync::Arc;

use super::{
    Origin,
    load::{Draft, Notes},
    node::{Content, Entry, Node, Place},
    otlp::{Headers, SignalSettings},
    problem::nearest,
    value::Setting,
};
use crate::discover::{Criteria, Ports, Selector};

/// Sets what the file `path` with this `text` says.
pub(super) fn apply(draft: &mut Draft, path: &str, text: &str) {
    let path: Arc<str> = path.into();
    let Draft { config, otlp, notes, .. } = draft;
    let mut reader = Reader { path, notes };
    let root = match Node::parse(text) {
        Ok(root) => root,
        Err(error) => {
            return reader.problem(error.place, "", format!("not YAML: {}", error.message));
        }
    };
    let mut root = reader.mapping(&root, "");

    if let Some(list) = root.take("selectors") {
        let selectors = reader.items(list, "selectors", Reader::selector);
        config.selection.selectors = selectors;
    }
    if let Some(list) = root.take("exclude") {
        config.selection.exclude = reader.items(list, "exclude", Reader::exclusion);
    }

    let mut capture = root.section("capture", &mut reader);
    capture.set("max_head", &mut config.capture.max_head, &mut reader);
    capture.finish(&mut reader);

    let mut routes = root.section("routes", &mut reader);
    routes.set("mode", &mut config.routes.mode, &mut reader);
    routes.list("patterns", &mut config.routes.patterns, &mut reader);
    routes.set("max", &mut config.routes.max, &mut reader);
    routes.finish(&mut reader);

    let mut redaction = root.section("redaction", &mut reader);
    redaction.list("query_keys", &mut config.redaction.query_keys, &mut reader);
    redaction.finish(&mut reader);

    let mut output = root.section("output", &mut reader);
    let mut section = output.section("otlp", &mut reader);
    reader.signal(&mut section, &mut otlp.both);
    let mut traces = section.section("traces", &mut reader);
    reader.signal(&mut traces, &mut otlp.traces);
    traces.finish(&mut reader);
    let mut metrics = section.section("metrics", &mut reader);
    reader.signal(&mut metrics, &mut otlp.metrics);
    metrics.finish(&mut reader);
    section.finish(&mut reader);
    output.set("otlp_file", &mut config.output.otlp_file, &mut reader);
    output.set("record", &mut config.output.record, &mut reader);
    output.set("print", &mut config.output.print, &mut reader);
    output.set("prometheus", &mut config.output.prometheus, &mut reader);
    let mut batch = output.section("batch", &mut reader);
    batch.set("delay", &mut config.output.batch.delay, &mut reader);
    batch.set("max_spans", &mut config.output.batch.max_spans, &mut reader);
    batch.finish(&mut reader);
    output.finish(&mut reader);

    let mut limits = root.section("limits", &mut reader);
    limits.set("queue", &mut config.limits.queue, &mut reader);
    limits.set("connections", &mut config.limits.connections, &mut reader);
    limits.set("ring", &mut config.limits.ring, &mut reader);
    limits.finish(&mut reader);

    let mut metrics = root.section("metrics", &mut reader);
    metrics.set("histogram", &mut config.metrics.histogram, &mut reader);
    metrics.set("temporality", &mut config.metrics.temporality, &mut reader);
    metrics.set("interval", &mut config.metrics.interval, &mut reader);
    metrics.set("exemplars", &mut config.metrics.exemplars, &mut reader);
    metrics.set("max_series", &mut config.metrics.max_series, &mut reader);
    metrics.set("idle", &mut config.metrics.idle, &mut reader);
    metrics.finish(&mut reader);

    let mut traces = root.section("traces", &mut reader);
    traces.set("sampler", &mut config.traces.sampler, &mut reader);
    traces.set("ratio", &mut config.traces.ratio, &mut reader);
    traces.finish(&mut reader);

    let mut kernel = root.section("kernel", &mut reader);
    kernel.set("door", &mut config.kernel.door, &mut reader);
    kernel.set("run_time", &mut config.kernel.run_time, &mut reader);
    kernel.finish(&mut reader);

    if let Some(node) = root.take("resource") {
        config.resource = reader.pairs(node, "resource");
    }
    root.set("log_level", &mut config.log_level, &mut reader);
    root.finish(&mut reader);
}

/// Reads nodes and notes what is wrong with them.
struct Reader<'a> {
    path: Arc<str>,
    notes: &'a mut Notes,
}

/// The entries of one mapping, and the keys that were asked for.
struct Mapping<'n> {
    entries: &'n [Entry],
    path: String,
    known: Vec<&'static str>,
}

impl Reader<'_> {
    fn origin(&self, Place { line, column }: Place) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line, column }
    }

    fn problem(&mut self, place: Place, setting: &str, message: String) {
        self.notes.problem(self.origin(place), setting, message);
    }

    fn unexpected(&mut self, node: &Node, setting: &str, expected: &str) {
        self.problem(
            node.place,
            setting,
            format!("found {}, expected {expected}", node.describe()),
        );
    }

    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Mapping<'n> {
        let entries = match &node.content {
            Content::Mapping(entries) => &**entries,
            Content::Nothing => &[],
            _ => {
                self.unexpected(node, path, "a mapping of settings");
                &[]
            }
        };
        Mapping { entries, path: path.to_owned(), known: Vec::new() }
    }

    fn scalar<T: Setting>(&mut self, node: &Node, setting: &str) -> Option<T> {
        match &node.content {
            Content::Scalar(text) => self.notes.parse(setting, self.origin(node.place), text),
            _ => {
                // What a value looks like is best said by refusing an impossible one.
                let expected = T::parse("").err().unwrap_or_else(|| "one value".into());
                self.unexpected(node, setting, &expected);
                None
            }
        }
    }

    /// The items of a list, or the one item that stands for a list of one.
    fn items<T>(
        &mut self,
        node: &Node,
        setting: &str,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Vec<T> {
        match &node.content {
            Content::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| read(self, item, &format!("{setting}[{at}]")))
                .collect(),
            Content::Nothing => {
                self.unexpected(node, setting, "a list");
                Vec::new()
            }
            _ => read(self, node, setting).into_iter().collect(),
        }
    }

    fn selector(&mut self, node: &Node, setting: &str) -> Option<Selector> {
        let mut mapping = self.mapping(node, setting);
        let mut selector = Selector::default();
        mapping.set("name", &mut selector.name, self);
        if let Some(list) = mapping.take("exclude") {
            let setting = mapping.setting("exclude");
            selector.exclude = self.items(list, &setting, Reader::exclusion);
        }
        selector.criteria = self.criteria(&mut mapping);
        let said = !mapping.is_empty_of(&["pid", "exe", "cmd", "port", "cgroup", "all"]);
        mapping.finish(self);
        if !said && matches!(node.content, Content::Mapping(_) | Content::Nothing) {
            let found = if node.describe() == "nothing" { "nothing" } else { "no criterion" };
            let expected = "at least one of exe, cmd, port, pid, cgroup, all";
            self.problem(node.place, setting, format!("found {found}, expected {expected}"));
        }
        said.then_some(selector)
    }

    fn exclusion(&mut self, node: &Node, setting: &str) -> Option<Criteria> {
        let mut mapping = self.mapping(node, setting);
        let criteria = self.criteria(&mut mapping);
        mapping.finish(self);
        Some(criteria)
    }

    fn criteria(&mut self, mapping: &mut Mapping<'_>) -> Criteria {
        let mut criteria = Criteria::default();
        mapping.list("pid", &mut criteria.pids, self);
        mapping.list("exe", &mut criteria.exe, self);
        mapping.list("cmd", &mut criteria.comm, self);
        mapping.list("cgroup", &mut criteria.cgroups, self);
        mapping.set("all", &mut criteria.all, self);
        let mut ports: Vec<Ports> = Vec::new();
        mapping.list("port", &mut ports, self);
        ports.into_iter().for_each(|more| criteria.ports.extend(more));
        criteria
    }

    fn signal(&mut self, mapping: &mut Mapping<'_>, settings: &mut SignalSettings) {
        mapping.set("endpoint", &mut settings.endpoint, self);
        mapping.set("protocol", &mut settings.protocol, self);
        mapping.set("timeout", &mut settings.timeout, self);
        mapping.set("compression", &mut settings.compression, self);
        mapping.set("certificate", &mut settings.certificate, self);
        mapping.set("client_certificate", &mut settings.client_certificate, self);
        mapping.set("client_key", &mut settings.client_key, self);
        if let Some(node) = mapping.take("headers") {
            let pairs = self.pairs(node, &mapping.setting("headers"));
            settings.headers = Some(Headers(pairs));
        }
    }

    /// A mapping of free keys to texts.
    fn pairs(&mut self, node: &Node, setting: &str) -> Vec<(String, String)> {
        let mapping = self.mapping(node, setting);
        let pair = |entry: &Entry| {
            let value = self.scalar(&entry.value, &format!("{setting}.{}", entry.key))?;
            Some((entry.key.clone(), value))
        };
        mapping.entries.iter().filter_map(pair).collect()
    }
}

impl<'n> Mapping<'n> {
    fn setting(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    fn set<T: Setting>(&mut self, key: &'static str, slot: &mut T, reader: &mut Reader<'_>) {
        if let Some(node) = self.take(key)
            && let Some(value) = reader.scalar(node, &self.setting(key))
        {
            *slot = value;
        }
    }

    fn list<T: Setting>(&mut self, key: &'static str, slot: &mut Vec<T>, reader: &mut Reader<'_>) {
        if let Some(node) = self.take(key) {
            *slot = reader.items(node, &self.setting(key), Reader::scalar);
        }
    }

    fn section(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Self {
        let path = self.setting(key);
        match self.take(key) {
            Some(node) => reader.mapping(node, &path),
            None => Mapping { entries: &[], path, known: Vec::new() },
        }
    }

    fn is_empty_of(&self, keys: &[&str]) -> bool {
        !self.entries.iter().any(|entry| keys.contains(&&*entry.key))
    }

    /// Whatever was not asked for is a mistake: most likely a misspelt setting.
    fn finish(self, reader: &mut Reader<'_>) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&&*entry.key)) {
            let hint = match nearest(&entry.key, self.known.iter().copied()) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("expected one of {}", self.known.join(", ")),
            };
            let message = format!("unknown setting, {hint}");
            reader.problem(entry.place, &self.setting(&entry.key), message);
        }
    }
}
