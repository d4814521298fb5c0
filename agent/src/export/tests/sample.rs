//! A span for tests, and what the reference decoder must make of it.

use std::{borrow::Cow, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value},
    trace::v1 as pt,
};

use crate::{
    attribute::{AttributeSink, Value},
    export::exportable::{Exportable, Kind, Placement, Status},
    resource::Resource,
    trace_context::{SpanId, TraceId},
};

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) ids: (TraceId, SpanId, Option<SpanId>),
    pub(crate) trace_state: String,
    pub(crate) flags: u32,
    pub(crate) times: (u64, u64),
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) error: Option<String>,
    pub(crate) attributes: Vec<(String, Value)>,
    pub(crate) resource: Arc<Resource>,
}

impl Exportable for Sample {
    fn placement(&self) -> Placement<'_> {
        Placement {
            trace_id: self.ids.0,
            span_id: self.ids.1,
            parent_span_id: self.ids.2,
            flags: self.flags,
            trace_state: &self.trace_state,
            start_unix_ns: self.times.0,
            end_unix_ns: self.times.1,
        }
    }

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn status(&self) -> Status<'_> {
        match &self.error {
            None => Status::Unset,
            Some(text) => Status::Error(Cow::Borrowed(text)),
        }
    }

    fn visit_attributes(&self, sink: &mut impl AttributeSink) {
        self.attributes.iter().for_each(|(key, value)| value.visit(key, sink));
    }
}

impl Sample {
    /// What `opentelemetry-proto` must decode.
    pub(crate) fn expected(&self) -> pt::Span {
        pt::Span {
            trace_id: self.ids.0.0.to_vec(),
            span_id: self.ids.1.0.to_vec(),
            trace_state: self.trace_state.clone(),
            parent_span_id: self.ids.2.map_or(Vec::new(), |id| id.0.to_vec()),
            flags: self.flags,
            name: self.name.clone(),
            kind: self.kind as i32,
            start_time_unix_nano: self.times.0,
            end_time_unix_nano: self.times.1,
            attributes: self.attributes.iter().map(|(key, value)| key_value(key, value)).collect(),
            status: self.error.as_ref().map(|text| pt::Status {
                message: text.clone(),
                code: pt::status::StatusCode::Error as i32,
            }),
            ..Default::default()
        }
    }
}

pub(crate) fn any_of(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(crate) fn key_value(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Str(text) => any_value::Value::StringValue(text.to_string()),
        Value::Int(int) => any_value::Value::IntValue(*int),
        Value::Bool(flag) => any_value::Value::BoolValue(*flag),
        Value::Double(double) => any_value::Value::DoubleValue(*double),
        Value::Strs(texts) => any_value::Value::ArrayValue(ArrayValue {
            values: texts
                .iter()
                .map(|text| any_of(any_value::Value::StringValue(text.to_string())))
                .collect(),
        }),
    };
    KeyValue { key: key.to_owned(), value: Some(any_of(value)), ..Default::default() }
}

pub(crate) fn sample(name: &str, resource: &Arc<Resource>) -> Sample {
    Sample {
        ids: (TraceId([1; 16]), SpanId([2; 8]), None),
        trace_state: String::new(),
        flags: 0x101,
        times: (1, 2),
        name: name.into(),
        kind: Kind::Server,
        error: None,
        attributes: vec![("http.request.method".into(), "GET".into())],
        resource: Arc::clone(resource),
    }
}
