//! Reads OTLP/JSON lines back into something tests can compare.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// A span with its resource's service.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent: Option<String>,
    pub name: String,
    /// 2 SERVER, 3 CLIENT.
    pub kind: u64,
    pub start_ns: u64,
    pub end_ns: u64,
    pub service: String,
    pub attributes: BTreeMap<String, Value>,
}

pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;

impl Span {
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or("")
    }

    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        let value = self.attributes.get(key)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }

    /// `GET /path 200`, of either kind.
    #[must_use]
    pub fn line(&self) -> String {
        let path = match self.kind {
            SERVER => self.text("url.path").to_owned(),
            _ => {
                let url = self.text("url.full");
                let from = url.find("://").map_or(0, |at| at + 3);
                let path = url[from..].find('/').map_or("/", |at| &url[from + at..]);
                path.split('?').next().unwrap_or_default().to_owned()
            }
        };
        let status = self.int("http.response.status_code").unwrap_or(0);
        format!("{} {path} {status}", self.text("http.request.method"))
    }

    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// Every span of the file, in its order.
///
/// # Panics
/// If a line is not what the format demands.
#[must_use]
pub fn read(file: &Path) -> Vec<Span> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut spans = Vec::new();
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).expect("a JSON object a line");
        for group in array(&request, "resourceSpans") {
            let resource = attributes(&group["resource"]);
            let service = resource.get("service.name").and_then(Value::as_str).unwrap_or("");
            for span in array(group, "scopeSpans").flat_map(|scope| array(scope, "spans")) {
                spans.push(Span {
                    trace_id: string(span, "traceId"),
                    span_id: string(span, "spanId"),
                    parent: Some(string(span, "parentSpanId")).filter(|id| !id.is_empty()),
                    name: string(span, "name"),
                    kind: span["kind"].as_u64().expect("a number"),
                    start_ns: string(span, "startTimeUnixNano").parse().expect("a number"),
                    end_ns: string(span, "endTimeUnixNano").parse().expect("a number"),
                    service: service.to_owned(),
                    attributes: attributes(span),
                });
            }
        }
    }
    spans
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Values without their type tags; 64-bit integers are strings in this format.
fn attributes(value: &Value) -> BTreeMap<String, Value> {
    array(value, "attributes")
        .map(|attribute| {
            let tagged = attribute["value"].as_object().expect("a tagged value");
            let value = tagged.values().next().expect("one value").clone();
            (string(attribute, "key"), value)
        })
        .collect()
}
