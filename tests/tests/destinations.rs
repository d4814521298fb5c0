//! Destinations as people write them in variables, and a collector that is selected itself.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use remora_tests::{
    address,
    agent::{Agent, Done},
    client::Connection,
    config_file::ConfigFile,
    curl,
    nginx::Nginx,
    process::{Running, until},
    skip,
    spans::Span,
};

/// Heads of the requests that came, each answered with 200 after `delay`.
fn receiver(delay: Duration) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let (listener, address) = address::listener();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heads = Arc::clone(&shared);
            thread::spawn(move || while answer(&stream, delay, &heads).is_some() {});
        }
    });
    (address, heads)
}

fn answer(stream: &TcpStream, delay: Duration, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let length = head.to_ascii_lowercase();
    let length = length.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    heads.lock().expect("nobody panics").push(head);
    thread::sleep(delay);
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}

/// One span by an agent with these variables.
fn with(variables: &[(&str, &str)], heads: Option<&Mutex<Vec<String>>>) -> Done {
    let nginx = Nginx::start();
    let variables: Vec<String> =
        variables.iter().map(|(name, value)| format!("OTEL_{name}={value}")).collect();
    let mut wrapper = vec!["env", "OTEL_BSP_SCHEDULE_DELAY=20"];
    wrapper.extend(variables.iter().map(String::as_str));
    let agent = Agent::under(&wrapper, &nginx.pids());
    let answer = Connection::open(nginx.port()).unwrap().get("/small", "");
    assert_eq!(answer.unwrap().status, 200);
    if let Some(heads) = heads {
        until("an export", || !heads.lock().unwrap().is_empty());
    }
    drop(nginx);
    agent.stop()
}

#[test]
fn an_endpoint_of_a_signal_is_used_as_it_is_with_its_query() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (address, heads) = receiver(Duration::ZERO);
    let endpoint = format!("http://{address}/p?token=s3cret");
    let variables = [
        ("EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
        ("EXPORTER_OTLP_TRACES_HEADERS", "bad name=1,x-good=2"),
    ];
    let done = with(&variables, Some(&heads));
    assert_eq!(done.exported_to("otlp"), [1, 1, 0], "{}", done.log);
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /p?token=s3cret HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-good: 2\r\n"), "{head}");
    assert!(done.log.contains("OTEL_EXPORTER_OTLP_TRACES_HEADERS: found what"), "{}", done.log);
    assert!(!done.log.contains("s3cret"), "{}", done.log);
}

#[test]
fn a_timeout_of_zero_waits_for_the_answer() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let (address, heads) = receiver(Duration::from_secs(2));
    let endpoint = format!("http://{address}");
    let variables = [
        ("EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("EXPORTER_OTLP_TIMEOUT", "0"),
        ("METRICS_EXPORTER", "none"),
    ];
    let done = with(&variables, Some(&heads));
    assert_eq!(done.exported_to("otlp"), [1, 1, 0], "{}", done.log);
    assert_eq!(heads.lock().unwrap().len(), 1, "asked once");
}

#[test]
fn an_endpoint_without_a_scheme_is_one_clear_warning() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let done = with(&[("EXPORTER_OTLP_ENDPOINT", "collector:4317")], None);
    let warning = "found `collector:4317`, expected its scheme too: http://collector:4317";
    assert_eq!(done.log.matches(warning).count(), 1, "{}", done.log);
    assert_eq!(done.spans.len(), 1);
}

#[test]
fn exports_to_a_collector_that_is_selected_become_no_spans() {
    if skip::without_root() {
        return;
    }
    let mut collector =
        Running::start(Command::new(env!("CARGO_BIN_EXE_collector")).arg("http/protobuf"));
    let endpoint = collector.line();
    let config = ConfigFile::new("metrics: {interval: 100ms}\noutput: {batch: {delay: 20ms}}\n");
    let flags = config.flags();
    let arguments = [&flags[..], &["--otlp-endpoint", &endpoint]].concat();
    let agent = Agent::on(&[collector.pid()], &arguments);
    let address = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    Connection::to(address).unwrap().get("/mine", "").unwrap();
    thread::sleep(Duration::from_secs(2));
    let done = agent.stop();
    let paths: Vec<_> = done.spans.iter().map(|span| span.text("url.path")).collect();
    assert_eq!(paths, ["/mine"], "{}", done.log);
    let books = done.books();
    assert!(books.filtered >= 10 && books.filtered == books.unmeasured, "{}", done.log);
    let said = "takes exports of this agent or another one";
    assert_eq!(done.log.matches(said).count(), 1, "{}", done.log);
}

const EXPORTER: &str = "OTel-OTLP-Exporter-Python/1.38.0";

/// A service that exports by itself to a collector; both are selected.
#[test]
fn telemetry_of_a_service_becomes_spans_only_if_asked_for() {
    if skip::without_root() || skip::without(&["curl"]) {
        return;
    }
    for (settings, kept) in
        [("filter: {instrumented: both}", 0), ("filter: {telemetry: true, instrumented: both}", 2)]
    {
        let mut collector =
            Running::start(Command::new(env!("CARGO_BIN_EXE_collector")).arg("http/protobuf"));
        let endpoint = collector.line();
        let mut client = Running::start(curl::command().stdin(Stdio::piped()));
        let config = ConfigFile::new(settings);
        let flags = config.flags();
        let agent = Agent::on(&[collector.pid(), client.pid()], &flags);
        let requests = ["/v1/traces", "/shop"].map(|target| {
            format!(
                "url = \"{endpoint}{target}\"\ndata-binary = \"\"\nuser-agent = \"{EXPORTER}\"\n"
            )
        });
        client.give(&requests.join("next\n"));
        client.finish();
        drop(collector);
        let done = agent.stop();
        let exports = |span: &&Span| span.line().contains("/v1/traces");
        assert_eq!(done.spans.iter().filter(exports).count(), kept, "{}", done.log);
        assert_eq!(done.spans.len(), 2 + kept, "{}", done.log);
        let said = "sends or takes telemetry over OTLP";
        assert_eq!(done.log.matches(said).count(), usize::from(kept == 0), "{}", done.log);
        assert_eq!(done.books().unmeasured, 2 - kept as u64, "{}", done.log);
    }
}
