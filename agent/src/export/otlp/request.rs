//! An export request in the making: encoded spans (or metrics) collected by resource and put together
//! as one `ExportTraceServiceRequest` (or `ExportMetricsServiceRequest`) without encoding them again.
//!
//! ```text
//! ResourceSpans { resource = 1, scope_spans = 2 { scope = 1, spans = 2 .., schema_url = 3 }, schema_url = 3 }
//! ```
//! Metrics have the same field numbers at every level, so one assembly serves both; only JSON's keys
//! differ. A protobuf request is a repeated field and nothing else: two requests in a row are one
//! request. A JSON request's inside has the same property with a comma between; it is kept without its
//! envelope until it is sent ([`join`]).

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hashbrown::HashMap;
use opentelemetry_semantic_conventions::SCHEMA_URL;

use super::{
    Format, Signal,
    json::Json,
    wire::{self, Attributes},
};
use crate::resource::Resource;

/// Name of the instrumentation scope.
const SCOPE: &str = "remora";
/// Version of the instrumentation scope.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Encoded items of one resource.
struct Group {
    resource: Arc<Resource>,
    /// Everything before the items, the resource included; for protobuf only the resource field.
    head: Vec<u8>,
    items: Vec<u8>,
    count: u64,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Encoded {
    /// Without an envelope: see [`join`].
    pub(crate) body: Bytes,
    /// Spans, or metric data points.
    pub(crate) items: u64,
}

/// What became of an item.
#[derive(Debug, PartialEq)]
pub(crate) enum Pushed {
    Fits,
    /// The request was full: here it is, without the item; the item opened the next one.
    Sealed(Encoded),
    /// The item alone is longer than a request may be; it was left out.
    TooLarge,
}

/// Takes items until it is sealed; then starts over, with its buffers and encoded resources kept.
pub(crate) struct Request {
    signal: Signal,
    format: Format,
    max_bytes: usize,
    groups: Vec<Group>,
    /// By the address of the resource.
    by_resource: HashMap<usize, usize, foldhash::fast::RandomState>,
    /// Where the last item went: one process's spans tend to come in a row.
    last: usize,
    /// Upper bound of the sealed length.
    len: usize,
    count: u64,
}

/// Parts that are the same in every request.
struct Constants {
    /// `scope = 1` of `ScopeSpans`.
    scope: Vec<u8>,
    /// `schema_url = 3`, the same at both levels.
    schema: Vec<u8>,
    /// What stands between a resource's object and its items in JSON, per signal; and after them.
    json_head: [Vec<u8>; 2],
    json_tail: Vec<u8>,
}

static CONSTANTS: LazyLock<Constants> = LazyLock::new(|| {
    let mut scope = Vec::new();
    wire::message(&mut scope, 1, |out| {
        wire::bytes(out, 1, SCOPE.as_bytes());
        wire::bytes(out, 2, VERSION.as_bytes());
    });
    let mut schema = Vec::new();
    wire::bytes(&mut schema, 3, SCHEMA_URL.as_bytes());
    let json_head =
        [("scopeSpans", "spans"), ("scopeMetrics", "metrics")].map(|(scopes, items)| {
            format!(
                r#","{scopes}":[{{"scope":{{"name":"{SCOPE}","version":"{VERSION}"}},"{items}":["#
            )
            .into_bytes()
        });
    let json_tail =
        format!(r#"],"schemaUrl":"{SCHEMA_URL}"}}],"schemaUrl":"{SCHEMA_URL}"}}"#).into_bytes();
    Constants { scope, schema, json_head, json_tail }
});

/// Tag and length of the two messages around a group (lengths of at most five bytes); in JSON a brace
/// and a comma.
const SLACK: usize = 2 * 6;
/// What [`join`] puts around a request.
const ENVELOPE: usize = r#"{"resourceMetrics":[]}"#.len();

impl Request {
    /// `max_bytes` bounds a request's uncompressed length, envelope included.
    pub(crate) fn new(signal: Signal, format: Format, max_bytes: usize) -> Self {
        Self {
            signal,
            format,
            max_bytes,
            groups: Vec::new(),
            by_resource: HashMap::default(),
            last: usize::MAX,
            len: ENVELOPE,
            count: 0,
        }
    }

    /// Spans or data points inside.
    pub(crate) fn items(&self) -> u64 {
        self.count
    }

    /// Appends what `encode` writes, which stands for `count` spans or data points of `resource`.
    pub(crate) fn push(
        &mut self,
        resource: &Arc<Resource>,
        count: u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Pushed {
        let index = self.group(resource);
        let group = &mut self.groups[index];
        let opening = if group.count == 0 { overhead(self.format, &group.head) } else { 0 };
        let before = group.items.len();
        encode(&mut group.items);
        let added = opening + group.items.len() - before;
        if self.len + added <= self.max_bytes {
            group.count += count;
            self.len += added;
            self.count += count;
            return Pushed::Fits;
        }
        // Rare: take the item out again, seal what was before it.
        let mut item = group.items.split_off(before);
        if item.first() == Some(&b',') && self.format == Format::Json {
            item.remove(0);
        }
        let alone = ENVELOPE + overhead(self.format, &group.head) + item.len();
        if alone > self.max_bytes {
            return Pushed::TooLarge;
        }
        let sealed = self.seal();
        let index = self.group(resource);
        let group = &mut self.groups[index];
        group.items = item;
        group.count = count;
        self.len = alone;
        self.count = count;
        sealed.map_or(Pushed::Fits, Pushed::Sealed)
    }

    /// The request, unless nothing is in it.
    pub(crate) fn seal(&mut self) -> Option<Encoded> {
        if self.count == 0 {
            return None;
        }
        let mut body = Vec::with_capacity(self.len);
        for group in self.groups.iter().filter(|group| group.count != 0) {
            match self.format {
                Format::Protobuf => assemble_protobuf(&mut body, group),
                Format::Json => assemble_json(&mut body, self.signal, group),
            }
        }
        body.shrink_to_fit();
        let sealed = Encoded { body: body.into(), items: self.count };
        self.reset();
        Some(sealed)
    }

    /// Starts over. A resource that had nothing in this round is forgotten with its buffers.
    fn reset(&mut self) {
        self.groups.retain(|group| group.count != 0);
        self.by_resource.clear();
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.items.clear();
            group.count = 0;
            self.by_resource.insert(Arc::as_ptr(&group.resource).addr(), index);
        }
        self.last = usize::MAX;
        self.len = ENVELOPE;
        self.count = 0;
    }

    fn group(&mut self, resource: &Arc<Resource>) -> usize {
        if let Some(group) = self.groups.get(self.last)
            && Arc::ptr_eq(&group.resource, resource)
        {
            return self.last;
        }
        // The group holds the Arc, so its address is not used again while it is a key.
        let groups = &mut self.groups;
        self.last = *self.by_resource.entry(Arc::as_ptr(resource).addr()).or_insert_with(|| {
            let head = encode_resource(self.format, resource);
            groups.push(Group {
                resource: Arc::clone(resource),
                head,
                items: Vec::new(),
                count: 0,
            });
            groups.len() - 1
        });
        self.last
    }
}

fn encode_resource(format: Format, resource: &Resource) -> Vec<u8> {
    let mut head = Vec::new();
    match format {
        Format::Protobuf => {
            wire::message(&mut head, 1, |out| resource.visit(&mut Attributes::new(out, 1)));
        }
        Format::Json => {
            Json(&mut head)
                .object("resource", |json| json.array("attributes", |json| resource.visit(json)));
        }
    }
    head
}

/// Upper bound of what a group adds to a request besides its items.
fn overhead(format: Format, head: &[u8]) -> usize {
    let constants = &*CONSTANTS;
    SLACK
        + head.len()
        + match format {
            Format::Protobuf => constants.scope.len() + 2 * constants.schema.len(),
            Format::Json => constants.json_head[1].len() + constants.json_tail.len(),
        }
}

fn assemble_protobuf(out: &mut Vec<u8>, group: &Group) {
    let Constants { scope, schema, .. } = &*CONSTANTS;
    let scope_len = scope.len() + group.items.len() + schema.len();
    wire::header(out, 1, group.head.len() + wire::field_len(2, scope_len) + schema.len());
    out.extend_from_slice(&group.head);
    wire::header(out, 2, scope_len);
    out.extend_from_slice(scope);
    out.extend_from_slice(&group.items);
    out.extend_from_slice(schema);
    out.extend_from_slice(schema);
}

fn assemble_json(out: &mut Vec<u8>, signal: Signal, group: &Group) {
    let Constants { json_head, json_tail, .. } = &*CONSTANTS;
    if !out.is_empty() {
        out.push(b',');
    }
    out.push(b'{');
    out.extend_from_slice(&group.head);
    out.extend_from_slice(&json_head[signal as usize]);
    out.extend_from_slice(&group.items);
    out.extend_from_slice(json_tail);
}

/// Sealed requests of one signal and format as one message, ready to be sent.
pub(crate) fn join(format: Format, signal: Signal, bodies: &[Bytes]) -> Bytes {
    match (format, bodies) {
        (Format::Protobuf, [one]) => one.clone(),
        (Format::Protobuf, several) => several.concat().into(),
        (Format::Json, bodies) => {
            let open: &[u8] = match signal {
                Signal::Traces => br#"{"resourceSpans":["#,
                Signal::Metrics => br#"{"resourceMetrics":["#,
            };
            let len = ENVELOPE + bodies.iter().map(|body| body.len() + 1).sum::<usize>();
            let mut out = Vec::with_capacity(len);
            out.extend_from_slice(open);
            for (index, body) in bodies.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(body);
            }
            out.extend_from_slice(b"]}");
            out.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Value;

    fn resource(name: &str) -> Arc<Resource> {
        Arc::new(Resource::new([("service.name".into(), Value::from(name))]))
    }

    fn push(request: &mut Request, resource: &Arc<Resource>, len: usize) -> Pushed {
        let format = request.format;
        request.push(resource, 1, |out| match format {
            Format::Protobuf => wire::bytes(out, 2, &vec![b'x'; len]),
            Format::Json => Json(out).element(|json| json.str("name", &"x".repeat(len))),
        })
    }

    #[test]
    fn no_request_is_longer_than_the_limit() {
        for format in [Format::Protobuf, Format::Json] {
            let (a, b) = (resource("a"), resource("b"));
            let mut request = Request::new(Signal::Traces, format, 2000);
            let mut sealed = Vec::new();
            for i in 0..200 {
                match push(&mut request, if i % 3 == 0 { &a } else { &b }, i) {
                    Pushed::Fits => {}
                    Pushed::Sealed(encoded) => sealed.push(encoded),
                    Pushed::TooLarge => panic!("{i} bytes do fit"),
                }
            }
            sealed.extend(request.seal());
            assert_eq!(sealed.iter().map(|encoded| encoded.items).sum::<u64>(), 200);
            assert!(sealed.len() > 5, "{}", sealed.len());
            for encoded in sealed {
                let whole = join(format, Signal::Traces, &[encoded.body]);
                assert!(whole.len() <= 2000, "{}", whole.len());
                if format == Format::Json {
                    serde_json::from_slice::<serde_json::Value>(&whole).unwrap();
                }
            }
        }
    }

    #[test]
    fn an_item_longer_than_a_request_is_left_out_and_the_rest_goes_on() {
        for format in [Format::Protobuf, Format::Json] {
            let a = resource("a");
            let mut request = Request::new(Signal::Traces, format, 1000);
            assert_eq!(push(&mut request, &a, 10), Pushed::Fits);
            assert_eq!(push(&mut request, &a, 1000), Pushed::TooLarge);
            assert_eq!(push(&mut request, &a, 10), Pushed::Fits);
            assert_eq!(request.seal().unwrap().items, 2);
        }
    }

    #[test]
    fn resources_are_encoded_once_and_forgotten_when_idle() {
        let (a, b) = (resource("a"), resource("b"));
        let mut request = Request::new(Signal::Traces, Format::Protobuf, 1000);
        push(&mut request, &a, 10);
        push(&mut request, &b, 10);
        request.seal();
        push(&mut request, &a, 10);
        assert_eq!(request.groups.len(), 2);
        request.seal();
        assert_eq!((request.groups.len(), request.by_resource.len()), (1, 1));
        assert_eq!(Arc::strong_count(&b), 1);
    }
}
