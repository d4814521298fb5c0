//! Spans by table: what each rule of the conventions makes of an exchange.

use std::{net::IpAddr, sync::Arc};

use remora_common::record::Source;

use crate::{
    attribute::{AttributeOptions, AttributeSink, Value},
    exchange::{Connection, Detail, Endpoint, Exchange, Failure, HttpExchange, Marks, Role},
    resource::Resource,
    span::{ParentFrom, Peer, Span, SpanKind, Status},
    trace_context::{SpanId, TraceContext, TraceFlags, TraceId},
};

mod ends;
mod marks;

/// Attributes as a list, in the order they came.
#[derive(Default, Debug)]
pub(crate) struct Collected(pub(crate) Vec<(String, Value)>);

impl AttributeSink for Collected {
    fn str(&mut self, key: &str, value: &str) {
        self.0.push((key.into(), value.into()));
    }
    fn int(&mut self, key: &str, value: i64) {
        self.0.push((key.into(), Value::Int(value)));
    }
    fn bool(&mut self, key: &str, value: bool) {
        self.0.push((key.into(), Value::Bool(value)));
    }
    fn double(&mut self, key: &str, value: f64) {
        self.0.push((key.into(), Value::Double(value)));
    }
    fn strs(&mut self, key: &str, values: &[&str]) {
        let values = values.iter().map(|&value| value.into()).collect();
        self.0.push((key.into(), Value::Strs(values)));
    }
}

impl Collected {
    pub(crate) fn of(span: &Span) -> Self {
        let mut collected = Self::default();
        span.visit_attributes(&mut collected);
        collected
    }

    /// The value under `key`, as text; `-` if there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        match self.0.iter().find(|(found, _)| found == key) {
            Some((_, Value::Str(text))) => text.to_string(),
            Some((_, Value::Int(value))) => value.to_string(),
            Some((_, Value::Bool(value))) => value.to_string(),
            Some((_, other)) => format!("{other:?}"),
            None => "-".into(),
        }
    }
}

pub(crate) fn inet(text: &str) -> Endpoint {
    let addr: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::Inet { addr: addr.ip(), port: addr.port() }
}

/// `GET /users/7?q=1` for example.com over HTTP/1.1, answered with 200 after 5 ms.
pub(crate) fn exchange(role: Role) -> Exchange {
    let (local, remote) = match role {
        Role::Server => (inet("10.0.0.2:8080"), inet("10.0.0.1:50000")),
        Role::Client => (inet("10.0.0.1:50000"), inet("10.0.0.2:8080")),
    };
    Exchange {
        connection: Arc::new(Connection {
            id: 1,
            tgid: 100,
            local,
            remote,
            source: Source::Socket,
            netns: 0,
            joined: false,
        }),
        role,
        tid: 100,
        context: 0,
        response_tid: 100,
        answer_tid: 100,
        start_mono_ns: 1_000_000,
        first_byte_mono_ns: 4_000_000,
        end_mono_ns: 6_000_000,
        serial: 1,
        failure: None,
        marks: Marks::default(),
        trace: TraceContext::default(),
        detail: Detail::Http(Box::new(HttpExchange {
            method: "GET".into(),
            target: "/users/7?q=1".into(),
            version: (1, 1),
            host: Some("example.com".into()),
            user_agent: Some("curl/8".into()),
            status: 200,
            response_content_len: 12,
            ..HttpExchange::default()
        })),
    }
}

pub(crate) fn http(exchange: &mut Exchange) -> &mut HttpExchange {
    exchange.detail.http_mut().expect("the exchange is HTTP's")
}

pub(crate) fn span(exchange: Exchange) -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: None,
        parent_from: ParentFrom::Root,
        flags: TraceFlags::SAMPLED,
        sampled_state: None,
        start_unix_ns: exchange.start_mono_ns,
        end_unix_ns: exchange.end_mono_ns,
        route: None,
        peer: None,
        options: AttributeOptions::default(),
        resource: Arc::new(Resource::default()),
        exchange,
    }
}

fn made(role: Role, change: impl FnOnce(&mut Exchange)) -> Collected {
    let mut exchange = exchange(role);
    change(&mut exchange);
    Collected::of(&span(exchange))
}

fn on(exchange: &mut Exchange, change: impl FnOnce(&mut Connection)) {
    change(Arc::make_mut(&mut exchange.connection));
}

#[test]
fn server_span_has_the_required_and_recommended_attributes() {
    let mut span = span(exchange(Role::Server));
    span.route = Some("/users/{id}".into());
    assert_eq!(span.name(), "GET /users/{id}");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(span.status(), Status::Unset);
    let found = Collected::of(&span);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.request.method_original", "-"),
        ("url.scheme", "http"),
        ("url.path", "/users/7"),
        ("url.query", "q=1"),
        ("url.full", "-"),
        ("http.route", "/users/{id}"),
        ("http.response.status_code", "200"),
        ("error.type", "-"),
        ("server.address", "example.com"),
        ("server.port", "80"),
        ("client.address", "10.0.0.1"),
        ("client.port", "50000"),
        ("network.peer.address", "10.0.0.1"),
        ("network.peer.port", "50000"),
        ("network.local.address", "-"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "1.1"),
        ("network.transport", "tcp"),
        ("user_agent.original", "curl/8"),
        ("http.request.body.size", "0"),
        ("http.response.body.size", "12"),
        ("remora.parent", "none"),
        ("remora.http.time_to_first_byte_ns", "3000000"),
    ] {
        assert_eq!(found.text(key), expected, "{key}");
    }
}

#[test]
fn client_span_names_its_peer_and_the_server_stays_what_http_says() {
    let mut span = span(exchange(Role::Client));
    for key in ["service.peer.name", "service.peer.namespace"] {
        assert_eq!(Collected::of(&span).text(key), "-", "{key}");
    }
    let peer = Peer { name: "web".into(), namespace: "shop".into(), is_pod: false };
    span.peer = Some(Arc::new(peer));
    let found = Collected::of(&span);
    for (key, expected) in [
        ("service.peer.name", "web"),
        ("service.peer.namespace", "shop"),
        ("server.address", "example.com"),
        ("peer.service", "-"),
    ] {
        assert_eq!(found.text(key), expected, "{key}");
    }
}

#[test]
fn client_span_has_the_required_and_recommended_attributes() {
    let span = span(exchange(Role::Client));
    assert_eq!(span.name(), "GET");
    assert_eq!(span.kind(), SpanKind::Client);
    let found = Collected::of(&span);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("url.full", "http://example.com/users/7?q=1"),
        ("url.scheme", "http"),
        ("url.path", "-"),
        ("server.address", "example.com"),
        ("server.port", "80"),
        ("client.address", "-"),
        ("network.peer.address", "10.0.0.2"),
        ("network.peer.port", "8080"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(found.text(key), expected, "{key}");
    }
}

#[test]
fn every_key_is_given_once() {
    for role in [Role::Server, Role::Client] {
        let mut exchange = exchange(role);
        exchange.failure = Some(Failure::Reset);
        let options = AttributeOptions { network_local: true };
        let span = Span { options, ..span(exchange) };
        let mut found = Collected::default();
        span.visit_attributes(&mut found);
        let mut keys: Vec<_> = found.0.iter().map(|(key, _)| key).collect();
        keys.sort();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert_ne!(found.text("network.local.port"), "-");
    }
}

#[test]
fn status_and_error_type_depend_on_kind_status_and_failure() {
    use Failure::*;
    for (role, status, failure, expected) in [
        (Role::Server, 200, None, "-"),
        (Role::Server, 101, None, "-"),
        (Role::Server, 404, None, "-"),
        (Role::Server, 499, None, "-"),
        (Role::Server, 500, None, "500"),
        (Role::Server, 503, Some(Reset), "503"),
        (Role::Server, 200, Some(Reset), "connection_reset"),
        (Role::Server, 404, Some(Closed), "connection_closed"),
        (Role::Client, 399, None, "-"),
        (Role::Client, 400, None, "400"),
        (Role::Client, 404, None, "404"),
        (Role::Client, 500, None, "500"),
        (Role::Client, 999, None, "999"),
        (Role::Client, 0, Some(TimedOut), "timeout"),
        (Role::Client, 0, Some(Errno(libc::EHOSTUNREACH)), "host_unreachable"),
        (Role::Client, 0, Some(Errno(9999)), "_OTHER"),
    ] {
        let mut exchange = exchange(role);
        http(&mut exchange).status = status;
        exchange.failure = failure;
        let span = span(exchange);
        let what = format!("{role:?} {status} {failure:?}");
        assert_eq!(Collected::of(&span).text("error.type"), expected, "{what}");
        assert_eq!(span.status() == Status::Error, expected != "-", "{what}");
        let code = if status == 0 { "-".to_owned() } else { status.to_string() };
        assert_eq!(Collected::of(&span).text("http.response.status_code"), code);
    }
}

#[test]
fn unknown_methods_are_other_and_keep_the_original() {
    for (method, expected, original, name) in [
        ("QUERY", "QUERY", "-", "QUERY"),
        ("get", "_OTHER", "get", "HTTP"),
        ("PROPFIND", "_OTHER", "PROPFIND", "HTTP"),
    ] {
        let mut exchange = exchange(Role::Client);
        http(&mut exchange).method = method.into();
        let span = span(exchange);
        let found = Collected::of(&span);
        assert_eq!(found.text("http.request.method"), expected);
        assert_eq!(found.text("http.request.method_original"), original);
        assert_eq!(span.name(), name);
    }
}

#[test]
fn full_url_is_put_together_and_hides_credentials() {
    let ipv6 = Endpoint::Inet { addr: "::1".parse::<IpAddr>().unwrap(), port: 8080 };
    for (method, target, host, remote, tls, expected) in [
        ("GET", "/a?b=c", Some("h"), None, false, "http://h/a?b=c"),
        ("GET", "/a", Some("h:8443"), None, true, "https://h:8443/a"),
        ("GET", "/a", Some("[::1]:81"), None, false, "http://[::1]:81/a"),
        ("GET", "/a", None, None, false, "http://10.0.0.2:8080/a"),
        ("GET", "/a", None, Some(ipv6), false, "http://[::1]:8080/a"),
        ("GET", "/a?token=t", Some("h"), None, false, "http://h/a?token=REDACTED"),
        (
            "GET",
            "http://u:p@h/a?sig=1",
            Some("x"),
            None,
            false,
            "http://REDACTED:REDACTED@h/a?sig=REDACTED",
        ),
        ("GET", "/a", Some("u:p@h"), None, false, "http://REDACTED:REDACTED@h/a"),
        ("GET", "https://h", None, None, false, "https://h/"),
        ("OPTIONS", "*", Some("h"), None, false, "http://h"),
        ("CONNECT", "h:443", Some("x"), None, false, "//h:443"),
        ("GET", "a b", Some("h"), None, false, "http://h/a b"),
        ("GET", "/a", None, Some(Endpoint::Unknown), false, "/a"),
        ("GET", "/a;jsessionid=1", Some("h"), None, false, "http://h/a;jsessionid=REDACTED"),
        ("GET", "/a#access_token=S", Some("h"), None, false, "http://h/a"),
        (
            "GET",
            "http://u:S@h/a;sid=S?b=1#S",
            None,
            None,
            false,
            "http://REDACTED:REDACTED@h/a;sid=REDACTED?b=1",
        ),
    ] {
        let found = made(Role::Client, |exchange| {
            on(exchange, |connection| {
                connection.source = if tls { Source::CLibrary } else { Source::Socket };
                if let Some(remote) = remote {
                    connection.remote = remote;
                }
            });
            let http = http(exchange);
            http.method = method.into();
            http.target = target.into();
            http.host = host.map(Into::into);
        });
        assert_eq!(found.text("url.full"), expected);
    }
}

#[test]
fn paths_and_queries_are_redacted_on_servers() {
    let found = made(Role::Server, |e| http(e).target = "/a;sid=1/b?password=x&y=1".into());
    assert_eq!(found.text("url.path"), "/a;sid=REDACTED/b");
    assert_eq!(found.text("url.query"), "password=REDACTED&y=1");
}
