//! What Jaeger and Tempo show of a trace through three services of ours and a client that has an SDK: each
//! service passes on the `traceparent` it was given.
//!
//! The client's own span is sent by the test, as the SDK would. Below it are a SERVER span of each
//! service, for that is what the field says, and below those of all but the last service a CLIENT span.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use remora_tests::{
    agent::{Agent, Done},
    backends::{self, TraceStore, jaeger, tempo},
    client::Connection,
    process::Running,
    programs::target,
    skip,
    spans::{self, CLIENT, SERVER, Signal, Span},
};
use serde_json::{Value, json};

const SERVICES: [&str; 3] = ["front", "middle", "back"];
const TRACES: usize = 12;
/// Its own span, and in a trace three SERVER and two CLIENT spans.
const SPANS: usize = 1 + 5;

fn trace_id(number: usize) -> String {
    format!("{:032x}", ((number as u128 + 1) << 64) | 0xabcd)
}

fn caller(number: usize) -> String {
    format!("{:016x}", number + 0x1000)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Runs the services and the client, with an agent that sends to `endpoint` over `protocol` and a client
/// that sends to `http`. Every third request ends in a 500.
fn watch(endpoint: &str, protocol: &str, http: &str) -> Done {
    let mut services: Vec<(Running, u16)> = Vec::new();
    for _ in SERVICES {
        let mut python = Command::new("python3");
        python.arg(target("tiers.py")).stdin(Stdio::piped());
        python.args(services.last().map(|(_, port)| port.to_string()));
        let mut service = Running::start(&mut python);
        let port = service.line().parse().unwrap();
        services.push((service, port));
    }
    services.reverse();
    let selectors: Vec<Value> = SERVICES
        .iter()
        .zip(&services)
        .map(|(name, (service, _))| json!({ "name": name, "pid": [service.pid()] }))
        .collect();
    let config = json!({
        "selectors": selectors,
        "output": {
            "otlp": { "traces": { "endpoint": endpoint, "protocol": protocol } },
            "batch": { "delay": "100ms" },
        },
        "resource": { "deployment.environment.name": "test" },
    });
    let agent = Agent::configured(&[], &config, &[]);
    let mut own = Vec::new();
    for number in 0..TRACES {
        let (trace, span) = (trace_id(number), caller(number));
        let path =
            format!("/orders/{number}{}", if number.is_multiple_of(3) { "/broken" } else { "" });
        let begin = now();
        let mut connection = Connection::open(services[0].1).unwrap();
        let fields = format!("traceparent: 00-{trace}-{span}-01\r\n");
        let status = connection.get(&path, &fields).unwrap().status;
        assert_eq!(status, if number.is_multiple_of(3) { 500 } else { 200 });
        own.push(json!({
            "traceId": trace, "spanId": span, "name": "GET", "kind": CLIENT,
            "startTimeUnixNano": begin.to_string(), "endTimeUnixNano": now().to_string(),
        }));
    }
    let resource = json!({
        "attributes": [{ "key": "service.name", "value": { "stringValue": "shopper" } }],
    });
    let request = json!({
        "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": own }] }],
    });
    let (status, answer) = backends::post(&format!("{http}/v1/traces"), &request).unwrap();
    assert_eq!(status, 200, "{answer}");
    drop(services);
    let done = agent.stop();
    let all = (TRACES * 5) as u64;
    assert_eq!(done.requests(), [all, all, 0, 0], "{}", done.log);
    assert_eq!(done.exported_to("otlp"), [all, all, 0], "{}", done.log);
    done
}

/// As it should be by the programs' own rules: `service kind < parent's service kind`.
fn is_whole(number: usize, spans: &[Span]) {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    let name = |span: &Span| {
        let kind = if span.kind == SERVER { "server" } else { "client" };
        format!("{} {kind}", span.service)
    };
    let mut lines: Vec<String> = spans
        .iter()
        .map(|span| match &span.parent {
            Some(parent) => format!("{} < {}", name(span), name(by_id[&**parent])),
            None => name(span),
        })
        .collect();
    lines.sort();
    let expected = [
        "back server < shopper client",
        "front client < front server",
        "front server < shopper client",
        "middle client < middle server",
        "middle server < shopper client",
        "shopper client",
    ];
    assert_eq!(lines, expected, "of trace {number}");
}

#[test]
fn jaeger_shows_whole_traces_with_types_and_no_warning() {
    if skip::without_root() || skip::without(&["python3"]) || backends::without(&["jaeger"]) {
        return;
    }
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        let jaeger = jaeger::start();
        let endpoint = match protocol {
            "grpc" => jaeger.grpc(),
            // A signal's own endpoint is used as it is.
            _ => format!("{}/v1/traces", jaeger.http()),
        };
        let done = watch(&endpoint, protocol, &jaeger.http());
        for number in 0..TRACES {
            jaeger_trace(&jaeger, number, &done);
        }
        jaeger_index(&jaeger);
    }
}

fn jaeger_trace(jaeger: &TraceStore, number: usize, done: &Done) {
    let trace = trace_id(number);
    // As OTLP: all that was sent, unchanged.
    let path = format!("/api/v3/traces/{trace}");
    let mut otlp = jaeger.wait_for("whole trace", || {
        let answer = jaeger.ask(&path)?["result"].clone();
        let spans = spans::parse(&answer.to_string());
        (spans.len() >= SPANS).then_some(answer)
    });
    let spans = spans::parse(&otlp.to_string());
    is_whole(number, &spans);
    let ours = |lines: &[Value]| {
        let all = spans::canonical(lines, Signal::Spans);
        all.into_iter()
            .filter(|one| one.contains(&trace) && one.contains("telemetry.distro.name"))
            .collect::<Vec<_>>()
    };
    let mut sent: Vec<Value> =
        done.file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    sent.iter_mut().chain([&mut otlp]).for_each(reduce);
    assert_eq!(ours(&[otlp]), ours(&sent));

    // As its own pages show it.
    let answer = jaeger.ask(&format!("/api/traces/{trace}")).unwrap();
    let data = &answer["data"][0];
    no_warning(data);
    let processes = &data["processes"];
    let mut kinds = Vec::new();
    for span in data["spans"].as_array().unwrap() {
        no_warning(span);
        let service = processes[span["processID"].as_str().unwrap()]["serviceName"].as_str();
        if service == Some("shopper") {
            continue;
        }
        let tags = span["tags"].as_array().unwrap();
        let tag = |key: &str| tags.iter().find(|tag| tag["key"] == key);
        let status = tag("http.response.status_code").unwrap();
        assert_eq!(status["type"], "int64", "{status}");
        assert_eq!(status["value"], if number.is_multiple_of(3) { 500 } else { 200 });
        assert_eq!(tag("http.request.method").unwrap()["type"], "string");
        assert_eq!(tag("error").is_some(), number.is_multiple_of(3), "{tags:?}");
        assert_eq!(span["references"][0]["refType"], "CHILD_OF");
        kinds.push(format!(
            "{} {}",
            span["operationName"].as_str().unwrap(),
            tag("span.kind").unwrap()["value"].as_str().unwrap()
        ));
    }
    kinds.sort();
    let route = if number.is_multiple_of(3) { "/orders/{id}/broken" } else { "/orders/{id}" };
    let server = format!("GET {route} server");
    let mut expected = ["GET client", "GET client", &server, &server, &server];
    expected.sort_unstable();
    assert_eq!(kinds, expected);
}

/// But that of clocks: the client may have the answer, and have read its clock, before the server's call
/// returns, which is when a span of ours ends.
fn no_warning(value: &Value) {
    let warnings = value["warnings"].as_array().into_iter().flatten();
    for warning in warnings.map(|warning| warning.as_str().unwrap()) {
        assert!(warning.starts_with("clock skew adjustment disabled"), "{value:#}");
    }
}

/// Leaves out schemas, which Jaeger's memory does not keep, and its warnings.
fn reduce(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("schemaUrl");
            members.values_mut().for_each(reduce);
        }
        Value::Array(items) => {
            items.retain(|item| item["key"] != "@jaeger@warnings");
            items.iter_mut().for_each(reduce);
        }
        _ => {}
    }
}

fn jaeger_index(jaeger: &TraceStore) {
    let mut services: Vec<String> = jaeger.ask("/api/services").unwrap()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    services.sort();
    assert_eq!(services, ["back", "front", "middle", "shopper"]);
    let tags = backends::encoded(r#"{"http.response.status_code":"500"}"#);
    let failed = jaeger.ask(&format!("/api/traces?service=back&limit=100&tags={tags}")).unwrap();
    assert_eq!(failed["data"].as_array().unwrap().len(), TRACES / 3);
    // Who calls whom: by parents, so by the field that was passed on.
    let end = now() / 1_000_000 + 60_000;
    let answer = jaeger.ask(&format!("/api/dependencies?endTs={end}&lookback=600000")).unwrap();
    let mut edges: Vec<String> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| format!("{} {} {}", edge["parent"], edge["child"], edge["callCount"]))
        .collect();
    edges.sort();
    let callers = [
        ["front", "front"],
        ["middle", "middle"],
        ["shopper", "back"],
        ["shopper", "front"],
        ["shopper", "middle"],
    ];
    let expected = callers.map(|[from, to]| format!("\"{from}\" \"{to}\" {TRACES}"));

    assert_eq!(edges, expected);
}

#[test]
fn tempo_shows_whole_traces_and_finds_them_by_typed_attributes() {
    if skip::without_root() || skip::without(&["python3"]) || backends::without(&["tempo"]) {
        return;
    }
    let tempo = tempo::start();
    let done = watch(&tempo.grpc(), "grpc", &tempo.http());
    for number in 0..TRACES {
        let path = format!("/api/v2/traces/{}", trace_id(number));
        let spans = tempo.wait_for("whole trace", || {
            let spans = spans::parse(&with_hex_ids(tempo.ask(&path)?["trace"].clone()).to_string());
            (spans.len() >= SPANS).then_some(spans)
        });
        is_whole(number, &spans);
        for sent in done.spans.iter().filter(|span| span.trace_id == trace_id(number)) {
            let found = spans.iter().find(|span| span.span_id == sent.span_id).unwrap();
            assert_eq!(found.attributes, sent.attributes);
            assert_eq!(
                (&found.name, found.kind, found.start_ns, found.end_ns),
                (&sent.name, sent.kind, sent.start_ns, sent.end_ns)
            );
        }
    }
    for (query, traces) in [
        ("{ resource.service.name = \"back\" && kind = server }", TRACES),
        ("{ span.http.response.status_code = 500 && kind = client }", TRACES / 3),
        ("{ span.http.response.status_code = \"500\" }", 0),
        ("{ status = error && span.http.route = \"/orders/{id}/broken\" }", TRACES / 3),
        (
            "{ name = \"GET /orders/{id}\" } && { resource.service.name = \"shopper\" }",
            TRACES / 3 * 2,
        ),
        (
            "{ resource.service.name = \"shopper\" } > { resource.service.name = \"middle\" }",
            TRACES,
        ),
    ] {
        let path = format!("/api/search?limit=100&q={}", backends::encoded(query));
        let found = tempo.wait_for(query, || {
            let answer = tempo.ask(&path)?;
            let found = answer["traces"].as_array().map_or(0, Vec::len);
            (found >= traces).then_some(found)
        });
        assert_eq!(found, traces, "{query}");
    }
}

/// Tempo says ids in base64, as protobuf's JSON does, and kinds by name; OTLP says them otherwise.
fn with_hex_ids(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    match (key.as_str(), &*member) {
                        ("traceId" | "spanId" | "parentSpanId", Value::String(text)) => {
                            *member = hex(text).into();
                        }
                        ("kind", Value::String(kind)) => {
                            let kind = match kind.as_str() {
                                "SPAN_KIND_SERVER" => SERVER,
                                "SPAN_KIND_CLIENT" => CLIENT,
                                other => panic!("kind {other}"),
                            };
                            *member = kind.into();
                        }
                        _ => walk(member),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

fn hex(base64: &str) -> String {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut out = String::new();
    for byte in base64.bytes().filter(|&byte| byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("not base64: {other}"),
        };
        (bits, count) = (bits << 6 | u32::from(digit), count + 6);
        if count >= 8 {
            count -= 8;
            out.push_str(&format!("{:02x}", (bits >> count) & 0xff));
        }
    }
    out
}
