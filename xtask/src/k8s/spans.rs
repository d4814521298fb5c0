//! What has the Collector got? Its file is read on from where it was read to.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Values as texts: lists between brackets.
pub(super) type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) resource: Attributes,
    pub(super) attributes: Attributes,
    /// 2: server, 3: client.
    pub(super) kind: i64,
}

pub(super) struct Received {
    path: PathBuf,
    read: u64,
    spans: Vec<Span>,
}

impl Span {
    pub(super) fn is_server(&self) -> bool {
        self.kind == 2
    }

    /// What the request was for.
    pub(super) fn target(&self) -> &str {
        let full = self.attributes.get("url.full");
        let of_full = |full: &String| {
            let behind = full.find("://").map_or(0, |at| at + 3);
            full[behind..].find('/').map(|at| behind + at)
        };
        match (self.attributes.get("url.path"), full) {
            (Some(path), _) => path,
            (None, Some(full)) => of_full(full).map_or("", |at| &full[at..]),
            (None, None) => "",
        }
    }
}

impl Received {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, spans: Vec::new() }
    }

    /// All spans so far.
    pub(super) fn spans(&mut self) -> Result<&[Span]> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        // The last line may be on its way.
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        for line in new[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(
                &serde_json::from_slice(line).context("a line of the Collector")?,
                &mut self.spans,
            );
        }
        Ok(&self.spans)
    }
}

fn take(line: &Value, spans: &mut Vec<Span>) {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for of_resource in list(line, "resourceSpans") {
        let resource = attributes(&of_resource["resource"]);
        for scope in list(&of_resource, "scopeSpans") {
            for span in list(&scope, "spans") {
                let kind = span["kind"].as_i64().unwrap_or(0);
                let attributes = attributes(&span);
                spans.push(Span { resource: resource.clone(), attributes, kind });
            }
        }
    }
}

fn attributes(of: &Value) -> Attributes {
    let all = of["attributes"].as_array().cloned().unwrap_or_default();
    let pair = |one: Value| Some((one["key"].as_str()?.to_owned(), text(&one["value"])));
    all.into_iter().filter_map(pair).collect()
}

fn text(value: &Value) -> String {
    let Some((kind, content)) = value.as_object().and_then(|one| one.iter().next()) else {
        return String::new();
    };
    match (&**kind, content) {
        ("arrayValue", list) => {
            let items =
                list["values"].as_array().map(|all| all.iter().map(text).collect::<Vec<_>>());
            format!("[{}]", items.unwrap_or_default().join(", "))
        }
        (_, Value::String(content)) => content.clone(),
        (_, content) => content.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_the_collector_is_spans_with_their_resource() {
        let line = json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "k8s.pod.name", "value": {"stringValue": "web-1"}},
                {"key": "k8s.container.restart_count", "value": {"intValue": "2"}},
                {"key": "container.image.tags", "value": {"arrayValue": {"values": [{"stringValue": "1.0"}]}}},
            ]},
            "scopeSpans": [{"spans": [
                {"kind": 2, "attributes": [{"key": "url.path", "value": {"stringValue": "/1"}}]},
                {"kind": 3, "attributes": [{"key": "url.full", "value": {"stringValue": "http://10.0.0.1:80/2"}}]},
            ]}],
        }]});
        let mut spans = Vec::new();
        take(&line, &mut spans);
        let targets: Vec<_> = spans.iter().map(Span::target).collect();
        assert_eq!(targets, ["/1", "/2"]);
        assert!(spans[0].is_server() && !spans[1].is_server());
        let said: Vec<_> = spans[1].resource.values().map(|text| &**text).collect();
        assert_eq!(said, ["[1.0]", "2", "web-1"]);
    }
}
