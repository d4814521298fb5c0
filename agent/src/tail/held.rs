//! A span that waits for the decision on its trace, and how much memory it takes meanwhile.

use crate::{
    exchange::{Connection, DbExchange, Detail, Endpoint, HeaderValues, HttpExchange, RpcExchange},
    resource::Resource,
    span::Span,
};

/// What the allocator takes beside each piece of memory: a word before it, and what rounding to 16 bytes costs on average.
const BESIDE: usize = 16;

/// A span that waits.
#[derive(Debug)]
pub struct Held {
    pub span: Span,
    /// Position of the selector that took its process when the span came.
    pub selector: Option<usize>,
    /// It is part of metrics.
    pub measured: bool,
}

impl Held {
    /// Bytes that it has allocated for itself. What it shares with others (its resource, routes, names of peers) is
    /// not among them.
    pub(super) fn heap_bytes(&self) -> usize {
        let exchange = &self.span.exchange;
        let state = exchange.trace.state.0.len();
        piece(state) + connection(&exchange.connection) + detail(&exchange.detail)
    }
}

/// Bytes of memory that `len` bytes take.
const fn piece(len: usize) -> usize {
    if len == 0 { 0 } else { len + BESIDE }
}

fn text(text: Option<&str>) -> usize {
    piece(text.map_or(0, str::len))
}

/// As if nobody shared it: a connection may have one request only.
fn connection(connection: &Connection) -> usize {
    let path = |end: &Endpoint| match end {
        Endpoint::Unix { path } => piece(path.len()),
        Endpoint::Unknown | Endpoint::Inet { .. } => 0,
    };
    let counts = 2 * size_of::<usize>();
    piece(size_of::<Connection>() + counts) + path(&connection.local) + path(&connection.remote)
}

fn detail(detail: &Detail) -> usize {
    match detail {
        Detail::Http(one) => piece(size_of::<HttpExchange>()) + http(one),
        Detail::Grpc(one) => piece(size_of::<RpcExchange>()) + http(&one.http),
        Detail::Redis(one) | Detail::Postgres(one) => piece(size_of::<DbExchange>()) + db(one),
    }
}

fn http(http: &HttpExchange) -> usize {
    let texts = [&http.host, &http.user_agent, &http.forwarded_for, &http.forwarded_proto];
    let fields = http.request_headers.iter().chain(&http.response_headers).map(|field| {
        let values = field.values.iter().map(|value| piece(value.len())).sum::<usize>();
        values + piece(field.values.capacity() * size_of::<Box<str>>())
    });
    let lists = [&http.request_headers, &http.response_headers];
    piece(http.method.len())
        + piece(http.target.len())
        + texts.into_iter().map(|one| text(one.as_deref())).sum::<usize>()
        + fields.sum::<usize>()
        + lists.map(|list| piece(list.capacity() * size_of::<HeaderValues>())).iter().sum::<usize>()
}

fn db(db: &DbExchange) -> usize {
    let operation = match &db.operation {
        std::borrow::Cow::Borrowed(_) => 0,
        std::borrow::Cow::Owned(text) => piece(text.capacity()),
    };
    let texts =
        [&db.collection, &db.query_text, &db.summary, &db.stored_procedure, &db.status_code];
    operation + texts.into_iter().map(|one| text(one.as_deref())).sum::<usize>()
}

/// Bytes of a resource, which the spans of its process share.
pub(super) fn resource_bytes(resource: &Resource) -> usize {
    use crate::attribute::Value;
    let value = |value: &Value| match value {
        Value::Str(value) => piece(value.len()),
        Value::Int(_) | Value::Bool(_) | Value::Double(_) => 0,
        Value::Strs(values) => {
            let texts = values.iter().map(|value| piece(value.len())).sum::<usize>();
            texts + piece(values.capacity() * size_of::<Box<str>>())
        }
    };
    let slot = size_of::<(Box<str>, Value)>();
    let attributes = resource.iter().map(|(key, one)| slot + piece(key.len()) + value(one));
    piece(size_of::<Resource>()) + attributes.sum::<usize>()
}
