//! Recordings of the end-to-end scenarios, replayed by the real binary as anybody may: what they yield is
//! what `tests/data/recordings/NAME.txt` says. A change of any stage behind the ring shows there.
//!
//! `REMORA_ACCEPT=1` writes the files anew; `cargo xtask record` makes the recordings themselves.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/recordings")
}

fn replay(recording: &Path) -> Output {
    let mut remora = Command::new(env!("CARGO_BIN_EXE_remora"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("OTEL_") || name.starts_with("REMORA_") || name == "RUST_LOG" {
            remora.env_remove(name);
        }
    }
    remora.env("REMORA_LOG", "warn").args(["replay", "--otlp-file", "-"]).arg(recording);
    remora.output().expect("the agent's binary")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn attributes(value: &Value) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value.as_object().and_then(|tagged| tagged.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    list(value, "attributes")
        .map(|attribute| (attribute["key"].as_str().unwrap_or(""), text(&attribute["value"])))
        .collect()
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or(0)
}

/// OTLP/JSON as lines that people can compare: times in microseconds since the first span.
fn told(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut spans = Vec::new();
    let mut metrics = Vec::new();
    for line in &lines {
        for group in list(line, "resourceSpans") {
            let resource = attributes(&group["resource"]);
            for span in list(group, "scopeSpans").flat_map(|scope| list(scope, "spans")) {
                spans.push((
                    number(&span["startTimeUnixNano"]),
                    resource["service.name"].clone(),
                    span,
                ));
            }
        }
        for group in list(line, "resourceMetrics") {
            let service = attributes(&group["resource"])["service.name"].clone();
            for metric in list(group, "scopeMetrics").flat_map(|scope| list(scope, "metrics")) {
                for point in list(&metric["histogram"], "dataPoints") {
                    let (name, count) = (&metric["name"], number(&point["count"]));
                    let sum = &point["sum"];
                    metrics.push(format!(
                        "{service} {} count={count} sum={sum} {:?}",
                        name.as_str().unwrap_or(""),
                        attributes(point)
                    ));
                }
            }
        }
    }
    let begin = spans.iter().map(|(start, ..)| *start).min().unwrap_or(0);
    let mut out = String::new();
    for (start, service, span) in spans {
        let end = number(&span["endTimeUnixNano"]);
        let kind = if span["kind"] == 2 { "SERVER" } else { "CLIENT" };
        let parent = span["parentSpanId"].as_str().unwrap_or("-");
        writeln!(
            out,
            "{kind} {service} {:?} at {} us for {} us, trace {} span {} parent {parent}",
            span["name"].as_str().unwrap_or(""),
            (start - begin) / 1000,
            (end - start) / 1000,
            span["traceId"].as_str().unwrap_or(""),
            span["spanId"].as_str().unwrap_or(""),
        )
        .unwrap();
        for (key, value) in attributes(span) {
            writeln!(out, "    {key} = {value}").unwrap();
        }
    }
    metrics.sort();
    metrics.iter().for_each(|line| writeln!(out, "{line}").unwrap());
    let log = String::from_utf8_lossy(&output.stderr);
    let books = ["remora: records ", "remora: bytes ", "remora: requests "];
    for line in log.lines().filter(|line| books.iter().any(|start| line.starts_with(start))) {
        writeln!(out, "{line}").unwrap();
    }
    out
}

#[test]
fn every_recording_replays_as_it_did() {
    let accept = std::env::var_os("REMORA_ACCEPT").is_some();
    let mut names: Vec<PathBuf> = fs::read_dir(folder())
        .expect("tests/data/recordings")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rec"))
        .collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    let mut wrong = Vec::new();
    for recording in names {
        let first = replay(&recording);
        let log = String::from_utf8_lossy(&first.stderr);
        assert!(first.status.success(), "{}: {log}", recording.display());
        assert!(first.stdout == replay(&recording).stdout, "{}: twice", recording.display());
        let (told, file) = (told(&first), recording.with_extension("txt"));
        if accept {
            fs::write(&file, &told).expect("writable");
        } else if fs::read_to_string(&file).unwrap_or_default() != told {
            wrong.push(format!("{}\n{told}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "REMORA_ACCEPT=1 accepts:\n{}", wrong.join("\n"));
}

#[test]
fn recordings_are_small_and_say_nothing_of_where_they_were_made() {
    for entry in fs::read_dir(folder()).expect("tests/data/recordings") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "rec") {
            continue;
        }
        assert!(fs::metadata(&path).unwrap().len() < 16 << 10, "{}", path.display());
        let reader = remora::recording::read::Reader::open(&path).unwrap();
        assert_eq!(reader.facts().host["host.name"], "host", "{}", path.display());
    }
}
