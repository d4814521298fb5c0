//! Reads OTLP/JSON lines back into something tests can compare.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

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
    /// Of the process; 0 if it is not known.
    pub pid: i64,
    pub attributes: BTreeMap<String, Value>,
    /// Attributes of the resource.
    pub resource: Arc<BTreeMap<String, Value>>,
}

pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;

impl Span {
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// All values of a list of texts; none without one.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<&str> {
        let values = self.attributes.get(key).and_then(|list| list["values"].as_array());
        values.into_iter().flatten().filter_map(|value| value["stringValue"].as_str()).collect()
    }

    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        self.attributes.get(key).and_then(integer)
    }

    /// A text or a number as text.
    #[must_use]
    pub fn text_or_int(&self, key: &str) -> String {
        self.int(key).map_or_else(|| self.text(key).to_owned(), |number| number.to_string())
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
    parse(&fs::read_to_string(file).unwrap_or_default())
}

/// Every span of these lines, in their order.
///
/// # Panics
/// If a line is not what the format demands.
#[must_use]
pub fn parse(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).expect("a JSON object a line");
        for group in array(&request, "resourceSpans") {
            let resource = Arc::new(attributes(&group["resource"]));
            let service = resource.get("service.name").and_then(Value::as_str).unwrap_or("");
            let pid = resource.get("process.pid").and_then(integer).unwrap_or(0);
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
                    pid,
                    attributes: attributes(span),
                    resource: Arc::clone(&resource),
                });
            }
        }
    }
    spans
}

/// Lines of metrics.
///
/// # Panics
/// If a line is not what the format demands.
#[must_use]
pub fn metrics(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with(METRICS));
    lines.map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// How many spans of the file have this `url.path`, quicker than by reading them.
#[must_use]
pub fn with_path(file: &Path, path: &str) -> usize {
    let text = fs::read(file).unwrap_or_default();
    let value = format!(r#""url.path","value":{{"stringValue":"{path}"}}"#);
    memchr::memmem::find_iter(&text, &value).count()
}

const METRICS: &str = r#"{"resourceMetrics""#;

/// How many spans there are in a file that is too long to be read as [`read`] does, and its metrics.
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn count(file: &Path) -> (u64, Vec<Value>) {
    // Only spans have a kind; in a value the quote would be escaped.
    const KIND: &[u8] = br#","kind":"#;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file).expect("a file"));
    let (mut line, mut count, mut metrics) = (Vec::new(), 0, Vec::new());
    while reader.read_until(b'\n', &mut line).expect("readable") > 0 {
        if line.starts_with(METRICS.as_bytes()) {
            metrics.push(serde_json::from_slice(&line).expect("a JSON object a line"));
        } else {
            count += memchr::memmem::find_iter(&line, KIND).count() as u64;
        }
        line.clear();
    }
    (count, metrics)
}

/// How many measurements the histogram `name` has in the last collection that holds it; cumulative.
#[must_use]
pub fn measurements(metrics: &[Value], name: &str) -> u64 {
    let counts = |request: &Value| {
        let mut counts = None;
        for group in array(request, "resourceMetrics") {
            for metric in array(group, "scopeMetrics").flat_map(|scope| array(scope, "metrics")) {
                if metric["name"] == name {
                    let points = ["histogram", "exponentialHistogram"]
                        .map(|kind| array(&metric[kind], "dataPoints"));
                    for point in points.into_iter().flatten() {
                        let count: u64 = string(point, "count").parse().expect("a number");
                        *counts.get_or_insert(0) += count;
                    }
                }
            }
        }
        counts
    };
    metrics.iter().rev().find_map(counts).unwrap_or(0)
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// 64-bit integers are strings in this format.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
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

/// Every span, or every metric with its points, with the resource and scope it stands under, in one form:
/// what is not said and what is zero or empty are the same, the order of attributes means nothing, and
/// numbers are compared to twelve digits. Sorted.
///
/// # Panics
/// If a line is not what the format demands.
#[must_use]
pub fn canonical(lines: &[Value], signal: Signal) -> Vec<String> {
    let [groups, scopes, items] = match signal {
        Signal::Spans => ["resourceSpans", "scopeSpans", "spans"],
        Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
    };
    let mut all = Vec::new();
    for group in lines.iter().flat_map(|line| array(line, groups)) {
        for scope in array(group, scopes) {
            for item in array(scope, items) {
                let one = serde_json::json!({
                    "resource": group["resource"],
                    "scope": scope["scope"],
                    "schema": [group["schemaUrl"], scope["schemaUrl"]],
                    "item": item,
                });
                all.push(plain(&one).to_string());
            }
        }
    }
    all.sort();
    all
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Spans,
    Metrics,
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(members.filter(|(_, value)| !is_default(value)).collect())
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(plain).collect();
            if items.iter().all(|item| item["key"].is_string()) {
                items.sort_by_key(|item| item["key"].as_str().map(str::to_owned));
            }
            Value::Array(items)
        }
        Value::Number(number) => match number.as_f64() {
            Some(0.0) | None => Value::Null,
            Some(number) => format!("{number:.11e}").into(),
        },
        other => other.clone(),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
