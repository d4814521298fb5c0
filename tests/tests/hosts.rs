//! What spans say of the host that they come from, where its provider answers and where it does not.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    nginx::Nginx,
    skip,
};
use serde_json::{Value, json};

/// A metadata server of Google's that nobody has to demand anything of, or one that takes questions and
/// says nothing; until the test ends.
fn server(answers: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            if answers {
                thread::spawn(move || converse(stream.unwrap()));
            } else {
                kept.push(stream);
            }
        }
    });
    address
}

fn converse(stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(first)) = lines.next() {
        let head: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let flavored = head.iter().any(|line| line.eq_ignore_ascii_case("metadata-flavor: Google"));
        let (status, text) = match first.split(' ').nth(1) {
            _ if !flavored => ("403 Forbidden", ""),
            Some("/computeMetadata/v1/instance/id") => ("200 OK", "42"),
            Some("/computeMetadata/v1/instance/zone") => ("200 OK", "projects/1/zones/us-east1-c"),
            _ => ("404 Not Found", ""),
        };
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nmetadata-flavor: Google\r\ncontent-length: {length}\r\n\r\n"
        );
        if (&stream).write_all(format!("{head}{text}").as_bytes()).is_err() {
            return;
        }
    }
}

/// One request to a server of which an agent tells that gives this metadata server that long.
fn observed(metadata: SocketAddr, limit: &str) -> Done {
    let nginx = Nginx::start();
    let detection = json!({
        "cloud": "gcp",
        "cloud_endpoint": format!("http://{metadata}"),
        "cloud_limit": limit,
    });
    let agent = Agent::configured(&nginx.pids(), &json!({ "detection": detection }), &[]);
    Connection::open(nginx.port()).unwrap().get("/small", "").unwrap();
    agent.stop()
}

/// Whether the resource of the one span that there is says so.
fn says(done: &Done, key: &str, value: &str) -> bool {
    assert_eq!(done.spans.len(), 1, "{}", done.log);
    let line = done.file.lines().find(|line| line.starts_with(r#"{"resourceSpans""#)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let attributes = line["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    attributes.contains(&json!({ "key": key, "value": { "stringValue": value } }))
}

#[test]
fn spans_name_the_rented_machine() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let done = observed(server(true), "20s");
    for (key, value) in [
        ("cloud.provider", "gcp"),
        ("cloud.platform", "gcp_compute_engine"),
        ("cloud.region", "us-east1"),
        ("cloud.availability_zone", "us-east1-c"),
        ("host.id", "42"),
        ("os.type", "linux"),
    ] {
        assert!(says(&done, key, value), "{key}: {}", done.file);
    }
}

#[test]
fn a_metadata_server_that_hangs_delays_the_start_by_a_bound_and_costs_no_span() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let done = observed(server(false), "900ms");
    assert!(says(&done, "cloud.provider", "gcp"), "{}", done.file);
    assert!(!says(&done, "host.id", "42"), "{}", done.file);
    assert!(done.log.contains("no answer in time"), "{}", done.log);
}
